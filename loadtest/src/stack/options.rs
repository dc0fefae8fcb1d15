//! The options that every command which starts a private cluster has, and the look whether its programs are there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::fail::{Fail, Result};

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub roundtable: PathBuf,
    /// The directory of `initdb` and `postgres`; `None`: looked for.
    pub postgres_bin: Option<PathBuf>,
    pub redis: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct StackOptions {
    /// The server's program [default: roundtable beside this one]
    #[arg(long, value_name = "PATH")]
    pub roundtable: Option<PathBuf>,
    /// Directory of initdb and postgres [default: found]
    #[arg(long, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// Redis' program, by its name on the PATH or its place
    #[arg(long, value_name = "PATH", default_value = DEFAULT_REDIS)]
    pub redis: PathBuf,
    /// A setting of the nodes, as in ROUNDTABLE__LIMITS__REPLAY=5
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Something else for the nodes' environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
}

const DEFAULT_REDIS: &str = "redis-server";

fn setting(text: &str) -> std::result::Result<(String, String), String> {
    pair(text)
        .ok()
        .filter(|(name, _)| name.starts_with("ROUNDTABLE__"))
        .ok_or("not ROUNDTABLE__SECTION__KEY=VALUE".into())
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("not NAME=VALUE".into())
}

impl StackOptions {
    /// The programs, each looked for already.
    ///
    /// # Errors
    /// In one line where one is missing or may not be run, with what to do.
    pub fn programs(&self) -> Result<Programs> {
        let roundtable = match &self.roundtable {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("roundtable"),
        };
        let remedy = match &self.roundtable {
            Some(_) => "",
            None if cfg!(debug_assertions) => ": cargo build --workspace",
            None => ": cargo build --release --workspace",
        };
        executable(&roundtable, remedy)?;
        // They run in a directory of their own. Links stay: redis-server may be one whose name is what it goes by.
        let roundtable = std::path::absolute(roundtable)?;
        let mut redis = self.redis.clone();
        if redis.components().count() == 1 {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let found = std::env::split_paths(&path).map(|dir| dir.join(&redis)).find(|path| path.is_file());
            redis = found.ok_or_else(|| {
                Fail::Setup(format!("{} is not on the PATH: install Redis, or --redis PATH", redis.display()))
            })?;
        }
        executable(&redis, "")?;
        Ok(Programs { roundtable, postgres_bin: self.postgres_bin.clone(), redis: std::path::absolute(redis)? })
    }

    /// What a setting of the nodes was given as, where it was.
    ///
    /// # Errors
    /// Where that is no number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let given = self.settings.iter().rev().find(|(name, _)| name == key);
        given
            .map(|(_, value)| value.parse().map_err(|_| Fail::Setup(format!("{key}={value} is no number"))))
            .transpose()
    }

    /// The options that differ from their defaults, as they would be typed.
    pub fn typed(&self) -> Vec<String> {
        let mut words = Vec::new();
        let paths = [
            ("--roundtable", self.roundtable.as_deref()),
            ("--postgres-bin", self.postgres_bin.as_deref()),
            ("--redis", Some(&*self.redis).filter(|path| *path != Path::new(DEFAULT_REDIS))),
        ];
        for (name, path) in paths {
            words.extend(path.into_iter().flat_map(|path| [name.to_owned(), quoted(&path.to_string_lossy())]));
        }
        for (name, pairs) in [("--set", &self.settings), ("--env", &self.env)] {
            words.extend(pairs.iter().flat_map(|(key, value)| [name.to_owned(), quoted(&format!("{key}={value}"))]));
        }
        words
    }
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// # Errors
/// In one line, with `remedy`, where it is not there or may not be run.
pub fn executable(path: &Path, remedy: &str) -> Result<()> {
    let Ok(meta) = path.metadata() else {
        return Err(Fail::Setup(format!("{} is not there{remedy}", path.display())));
    };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(Fail::Setup(format!("{} is not a program that may be run", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        assert_eq!(quoted("ROUNDTABLE__LOG__LEVEL=info"), "ROUNDTABLE__LOG__LEVEL=info");
        assert_eq!(quoted("A=it's $HOME"), r"'A=it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_setting_is_one_of_roundtable() {
        assert!(setting("ROUNDTABLE__A__B=").is_ok());
        assert!(setting("PATH=/").is_err());
        assert!(setting("ROUNDTABLE__A__B").is_err());
    }
}
