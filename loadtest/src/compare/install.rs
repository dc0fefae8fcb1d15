//! What peers need that a machine may not have: finding programs, saying what is missing, and installing it where that
//! was asked for. Nothing is installed otherwise, and no service of an installed package is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fail::{Fail, Result};
use crate::sys;

/// Something that a row can't do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A package of Debian.
    Debian(&'static str),
    /// The packages of this `package.json`, in this directory.
    Npm { directory: PathBuf, package: &'static str },
    /// A program that no package here has.
    Program(&'static str),
    /// Our own, not built or elsewhere.
    Roundtable(PathBuf),
}

impl Missing {
    /// What it is and how to get it, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::Debian(package) => format!("{package} is not installed: --install, or apt-get install {package}"),
            Self::Npm { directory, .. } => format!("npm packages are not in {}: --install", directory.display()),
            Self::Program(name) => format!("no program {name} on PATH"),
            Self::Roundtable(path) => {
                format!("no server at {}: cargo build --release, or --roundtable", path.display())
            }
        }
    }
}

/// A program on the path, or where Debian has servers, which is not on everybody's path. A name with a slash is itself.
pub fn program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places
        .map(|dir| dir.join(name))
        .find(|path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

/// Where npm's packages go when nothing else is said: the user's cache.
pub fn default_cache() -> PathBuf {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache"))).unwrap_or_else(std::env::temp_dir);
    base.join("roundtable-loadtest")
}

/// Installs all of `missing`, Debian's packages first, since npm may be one of them.
pub fn install(missing: &[Missing]) -> Result<()> {
    let mut debian: Vec<&str> = Vec::new();
    for one in missing {
        match one {
            Missing::Debian(name) if !debian.contains(name) => debian.push(name),
            Missing::Debian(_) | Missing::Npm { .. } => {}
            Missing::Program(_) | Missing::Roundtable(_) => return Err(Fail::Setup(one.remedy())),
        }
    }
    if !debian.is_empty() {
        apt(&debian)?;
    }
    for one in missing {
        if let Missing::Npm { directory, package } = one {
            npm(directory, package)?;
        }
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let apt = program("apt-get").ok_or_else(|| Fail::Setup(format!("no apt-get; install by hand: {list}")))?;
    if !sys::is_root() {
        return Err(Fail::Setup(format!("--install needs root: sudo apt-get install {list}")));
    }
    eprintln!("installing {list}");
    let _policy = NoServices::new()?;
    let mut update = Command::new(&apt);
    update.args(["update", "-qq"]);
    let mut install = Command::new(&apt);
    install.args(["install", "-qq", "-y", "--no-install-recommends"]).args(packages);
    for mut command in [update, install] {
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

/// While it lives, installing a server starts none. A policy that is there already stays as it is.
struct NoServices {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        let made = !Path::new(POLICY).exists();
        if made {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { made })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn npm(directory: &Path, package: &str) -> Result<()> {
    let npm = program("npm").ok_or_else(|| Fail::Setup(Missing::Debian("npm").remedy()))?;
    eprintln!("installing npm packages in {}", directory.display());
    fs::create_dir_all(directory)?;
    // Taken away again where npm fails: that it is there tells that what it lists is.
    let list = directory.join("package.json");
    fs::write(&list, package)?;
    // Add-ons bring their binaries along; no script of a package has to run.
    let mut command = Command::new(npm);
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]).current_dir(directory);
    run(&mut command).inspect_err(|_| {
        let _ = fs::remove_file(&list);
    })
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| Fail::Setup(format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(15)..].join("\n");
    Err(Fail::Setup(format!("{name} ended with {}\n{end}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(program("sh").is_some());
        assert!(program("/bin/sh").is_some());
        assert_eq!(program("no-such-program-at-all"), None);
        assert_eq!(program("/no/such/program"), None);
    }

    #[test]
    fn what_can_not_be_installed_says_so_before_anything_is() {
        let error = install(&[Missing::Debian("nginx"), Missing::Program("centrifugo")]);
        assert!(matches!(error, Err(Fail::Setup(why)) if why.contains("centrifugo")));
    }
}
