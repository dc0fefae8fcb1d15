//! Holds the layering of ARCHITECTURE.md against the code, and the habits that a reader relies on: what a module may
//! use, that `domain/` is pure, that nothing in `src/` unwraps, that files stay small and say what they are for.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines that a file of `src/` may have.
const LINES_MAX: usize = 600;

/// The modules at the root of the crate, and those that each may use with `crate::…`.
///
/// `main → startup → http → actors │ infra │ jobs → ports → protocol │ domain → ids, refusal, entry, limits`; `auth`, `config`,
/// `metrics` and `telemetry` serve from `actors`/`infra` up. Siblings don't see each other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("refusal", &[]),
    ("limits", &[]),
    // Only with a feature that no release has: whoever has a seeded bug asks here whether it is on.
    ("seeded_bug", &[]),
    // Clients of a running server, which use nothing of it.
    ("health", &[]),
    ("smoke", &[]),
    ("entry", &["ids"]),
    ("domain", FLOOR),
    ("protocol", FLOOR),
    ("ports", &["ids", "refusal", "entry", "limits", "domain", "protocol"]),
    ("config", &["ids", "refusal", "entry", "limits"]),
    ("metrics", &["ids", "refusal", "entry", "limits", "config"]),
    // Commands that work on the store beside the server, with its settings alone.
    ("backup", &["config", "infra"]),
    ("migration", &["domain", "ports", "backup", "config", "infra"]),
    ("telemetry", &["ids", "refusal", "entry", "limits", "domain", "config", "metrics"]),
    ("outgoing", &["ids", "refusal", "entry", "limits", "domain", "protocol", "config", "metrics"]),
    ("auth", &["ids", "refusal", "entry", "limits", "domain", "protocol", "ports", "config", "metrics", "telemetry"]),
    (
        "actors",
        &[
            "ids",
            "refusal",
            "entry",
            "limits",
            "domain",
            "protocol",
            "ports",
            "auth",
            "config",
            "metrics",
            "outgoing",
            "telemetry",
            "seeded_bug",
        ],
    ),
    (
        "infra",
        &[
            "ids",
            "refusal",
            "entry",
            "limits",
            "domain",
            "protocol",
            "ports",
            "auth",
            "config",
            "metrics",
            "outgoing",
            "telemetry",
            "seeded_bug",
        ],
    ),
    // Serves from `jobs` and `http` up.
    ("blobs", &["ids", "config"]),
    (
        "jobs",
        &[
            "ids",
            "refusal",
            "entry",
            "limits",
            "domain",
            "protocol",
            "ports",
            "auth",
            "blobs",
            "config",
            "metrics",
            "outgoing",
            "telemetry",
        ],
    ),
    (
        "http",
        &[
            "ids",
            "refusal",
            "entry",
            "limits",
            "domain",
            "protocol",
            "ports",
            "auth",
            "blobs",
            "config",
            "metrics",
            "outgoing",
            "telemetry",
            "actors",
            "infra",
        ],
    ),
    (
        "startup",
        &[
            "ids",
            "refusal",
            "entry",
            "limits",
            "domain",
            "protocol",
            "ports",
            "auth",
            "blobs",
            "config",
            "metrics",
            "outgoing",
            "telemetry",
            "actors",
            "infra",
            "jobs",
            "http",
        ],
    ),
];
const FLOOR: &[&str] = &["ids", "refusal", "entry", "limits"];

/// What no line of `domain/` may name: a clock, randomness, the outside, or a runtime.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "rand::",
    "actix",
    "tokio",
    "async fn",
    ".await",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "println!",
    "tracing::",
];

struct Source {
    path: PathBuf,
    /// Without what stands behind `#[cfg(test)]`, and without comments.
    code: String,
    text: String,
}

impl Source {
    /// `ids` for `src/ids.rs`, `domain` for anything under `src/domain/`.
    fn module(&self) -> String {
        let first = self.path.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    /// A crate of its own in the tree: it shares nothing with the server, so that a mistake in one is not repeated in the other.
    fn is_client(&self) -> bool {
        self.path.starts_with("client")
    }

    /// A file of its own that holds tests: `tests.rs`, or anything under `tests/`.
    fn is_test(&self) -> bool {
        self.path.components().any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == "tests")
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(n, line)| (n + 1, line))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("src can be read").flatten() {
            let path = entry.path();
            // Packages of npm may hold anything.
            if path.is_dir() && !path.ends_with("node_modules") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let relative = path.strip_prefix(&root).expect("under src").to_owned();
                found.push(Source { code: code_of(&text), path: relative, text });
            }
        }
    }
    assert!(found.len() > 10, "only {} files found", found.len());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The lines that run in production: blank from `#[cfg(test)] mod …` on, comments blanked.
fn code_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|two| two[0].trim() == "#[cfg(test)]" && two[1].trim_start().starts_with("mod "))
        .unwrap_or(lines.len());
    let code = lines[..end].iter().map(|line| {
        let comment = line.trim_start().starts_with("//");
        if comment { "" } else { line.split(" // ").next().unwrap_or(line) }
    });
    code.collect::<Vec<_>>().join("\n")
}

/// Roots of `crate::…` paths in a line, also in braces: `use crate::{ids::X, limits};`.
fn used_roots(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name, mut start) = (1, String::new(), true);
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        found.push((line, std::mem::take(&mut name)));
                        start = true;
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && start {
                    if c.is_alphanumeric() || c == '_' {
                        name.push(c);
                    } else if !name.is_empty() {
                        start = false;
                    }
                }
            }
            if !name.is_empty() {
                found.push((line, name));
            }
        } else {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((line, name));
        }
    }
    found
}

fn fail_with(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let mut faults = Vec::new();
    for source in sources() {
        let module = source.module();
        if ["main", "lib"].contains(&module.as_str()) || source.is_client() {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("src/{}: not in the list of layers", source.path.display()));
            continue;
        };
        for (line, root) in used_roots(&source.code) {
            let layer = MAY_USE.iter().any(|(name, _)| *name == root);
            if layer && root != module && !allowed.contains(&root.as_str()) {
                faults.push(format!("src/{}:{line}: {module} must not use crate::{root}", source.path.display()));
            }
        }
    }
    fail_with("layers are crossed", &faults);
}

#[test]
fn server_and_client_share_no_code() {
    let mut faults = Vec::new();
    for source in sources() {
        for (n, line) in source.lines() {
            let other = if source.is_client() { "roundtable::" } else { "roundtable_client" };
            let names = line.match_indices(other).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric()));
            if names || (source.is_client() && line.contains("#[path")) {
                faults.push(format!("src/{}:{n}: {other}", source.path.display()));
            }
        }
    }
    let manifest =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a manifest");
    let server = manifest("Cargo.toml");
    let (used, _) = server.split_once("[dev-dependencies]").expect("it has some");
    if used.lines().any(|line| line.starts_with("roundtable-client")) {
        faults.push("Cargo.toml: the server depends on the client".into());
    }
    if manifest("src/client/Cargo.toml").lines().any(|line| line.starts_with("roundtable ")) {
        faults.push("src/client/Cargo.toml: the client depends on the server".into());
    }
    fail_with("a second implementation finds what the first one gets wrong", &faults);
}

#[test]
fn the_core_of_the_client_is_pure() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("client/src/core") && !source.is_test()) {
        for (n, line) in source.lines() {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                faults.push(format!("src/{}:{n}: {word}", source.path.display()));
            }
        }
    }
    fail_with("time and chance come in, frames and events go out", &faults);
}

#[test]
fn the_domain_is_pure() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "domain" && !source.is_test()) {
        for (n, line) in source.lines() {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                faults.push(format!("src/{}:{n}: {word}", source.path.display()));
            }
        }
    }
    fail_with("the domain takes inputs and returns effects, nothing else", &faults);
}

#[test]
fn nothing_unwraps_and_nothing_is_left_open() {
    let mut faults = Vec::new();
    for source in sources() {
        for (n, line) in source.lines() {
            for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "unsafe {"] {
                if line.contains(word) {
                    faults.push(format!("src/{}:{n}: {word}", source.path.display()));
                }
            }
        }
    }
    fail_with("an error is handled, or `expect` says why it can't be", &faults);
}

#[test]
fn everything_that_is_told_is_counted() {
    let sources = sources();
    let told = sources.iter().find(|source| source.path == Path::new("metrics.rs")).expect("the metrics");
    let fields = told.code.lines().filter_map(|line| line.strip_prefix("    pub ")?.strip_suffix(','));
    let fields: Vec<&str> = fields.filter_map(|field| field.split_once(": ").map(|(name, _)| name)).collect();
    assert!(fields.len() > 40, "{fields:?}");
    let used = |field: &&str| {
        let elsewhere = sources.iter().filter(|source| source.path != told.path);
        let ends = |c: char| !c.is_alphanumeric() && c != '_';
        let is = |line: &str| {
            let mut found = line.match_indices(*field);
            found.any(|(at, _)| line[..at].ends_with('.') && line[at + field.len()..].chars().next().is_none_or(ends))
        };
        elsewhere.flat_map(|source| source.text.lines()).any(is)
    };
    let faults: Vec<String> = fields.into_iter().filter(|field| !used(field)).map(str::to_owned).collect();
    fail_with("what nothing counts is always zero, and somebody believes it", &faults);
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("src/{path}: {lines} lines"));
        }
        if !source.text.starts_with("//!") {
            faults.push(format!("src/{path}: does not open with //!"));
        }
        let stem = source.path.file_stem().expect("a name").to_string_lossy();
        if ["utils", "util", "common", "manager", "helpers", "misc"].contains(&&*stem) {
            faults.push(format!("src/{path}: a name that says nothing"));
        }
    }
    fail_with("files that want a concept of their own", &faults);
}

#[test]
fn an_actor_holds_no_other_actor_s_address() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "actors") {
        let mut parts = source.path.components().skip(1);
        let own = parts.next().map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned());
        for (n, line) in source.lines() {
            // Whoever starts an actor is given its address, and may turn it into recipients.
            for (at, _) in line.match_indices("Addr<").filter(|_| !line.contains("-> Addr<")) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !line[..at].ends_with("Weak") {
                    continue;
                }
                let name: String =
                    line[at + 5..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                let target = name.rsplit("::").next().unwrap_or(&name).to_lowercase();
                let same = own.as_ref().is_some_and(|own| target == "self" || target.contains(&own.replace('_', "")));
                if !same {
                    faults.push(format!("src/{}:{n}: Addr<{name}>", source.path.display()));
                }
            }
        }
    }
    fail_with("actors talk through Recipients of messages in actors/messages.rs", &faults);
}

#[test]
fn the_reader_of_paths_reads_them() {
    let code = "use crate::{ids::{A, B}, limits};\nlet x = crate::entry::Entry;\nuse crate::domain;";
    let names: Vec<String> = used_roots(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["ids", "limits", "entry", "domain"]);
    assert_eq!(code_of("a // b\n// c\nd\n#[cfg(test)]\nmod tests {\n.unwrap()"), "a\n\nd");
}
