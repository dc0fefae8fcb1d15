//! Secrets that stand in files of their own, as orchestrators mount them: for a secret `x` the key `x_file` names one.
//!
//! Invariant: a secret is given in one place; what is read is never shown.

use std::io::Read;

use figment::Figment;
use figment::providers::Serialized;

use super::layers::Invalid;

/// Every setting that may be read from a file named by the key with `_file` behind it; none of them is ever shown whole.
pub(super) const SECRETS: [&str; 10] = [
    "store.url",
    "cluster.redis_url",
    "auth.jwt.secret",
    "auth.oidc.client_secret",
    "attachments.url",
    "attachments.secret",
    "hooks.before_send.secret",
    "encryption.keys",
    "sentry.dsn",
    "traces.headers",
];
/// Longest one read.
const LONGEST: u64 = 64 * 1024;

/// `figment` with the secrets that its `_file` keys name. `defaults`: what stands there where nobody gave anything.
pub(super) fn read(mut figment: Figment, defaults: &Figment) -> Result<Figment, Invalid> {
    for key in SECRETS {
        let file_key = format!("{key}_file");
        let Some(path) = text(&figment, &file_key).filter(|path| !path.is_empty()) else { continue };
        if text(&figment, key) != text(defaults, key) {
            return Err(Invalid::new(
                &file_key,
                &path,
                &format!("empty where {key} is given: only one of the two counts"),
            ));
        }
        let secret = contents(&path).map_err(|why| {
            Invalid::new(&file_key, &path, &format!("empty, or a readable file with the value of {key} ({why})"))
        })?;
        figment = figment.merge(Serialized::default(key, secret));
    }
    Ok(figment)
}

fn text(figment: &Figment, key: &str) -> Option<String> {
    figment.find_value(key).ok()?.into_string()
}

fn contents(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    // Editors end a file with a line.
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() { Err("it is empty".to_owned()) } else { Ok(secret.to_owned()) }
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format, Toml};
    use figment::value::{Dict, Value};

    use super::super::Config;
    use super::*;

    fn from_env(variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment = variables.iter().map(|(key, value)| (format!("ROUNDTABLE__{key}"), (*value).to_owned()));
        Config::from_layers(None, environment).map_err(|invalid| invalid.to_string())
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let path = file.path().display().to_string();
        (file, path)
    }

    #[test]
    fn every_secret_may_stand_in_a_file() {
        let (_a, url) = file("postgres://u:p@h/db\n");
        let (_b, redis) = file("redis://:p@h\r\n");
        let (_c, secret) = file("  with spaces \n\n");
        let (_d, client) = file("s3cret");
        let (_f, blobs) = file("s3://key:geheim@bucket");
        let (_g, hook) = file("hooked");
        let config = from_env(&[
            ("STORE__URL_FILE", &url),
            ("CLUSTER__REDIS_URL_FILE", &redis),
            ("AUTH__JWT__SECRET_FILE", &secret),
            ("AUTH__OIDC__CLIENT_SECRET_FILE", &client),
            ("ATTACHMENTS__URL_FILE", &blobs),
            ("HOOKS__BEFORE_SEND__SECRET_FILE", &hook),
        ])
        .expect("valid");
        assert_eq!(serde_json::to_value(&config.store.url).expect("a text"), "postgres://u:p@h/db");
        assert_eq!(config.cluster.redis_url.urls().collect::<Vec<_>>(), ["redis://:p@h"]);
        assert_eq!(config.auth.jwt.secret.expose(), "  with spaces ");
        assert_eq!(config.auth.oidc.client_secret.expose(), "s3cret");
        assert_eq!(serde_json::to_value(&config.attachments.url).expect("a text"), "s3://key:geheim@bucket");
        assert_eq!(config.hooks.before_send.secret.expose(), "hooked");
        assert!(config.auth.jwt.enabled());
        let shown = format!("{config:?}");
        for hidden in ["u:p@", ":p@h", "with spaces", "s3cret", "geheim", "hooked"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        // A file's keys are those of the settings' file too.
        let (_e, toml) = file(&format!("[auth.jwt]\nsecret_file = {secret:?}"));
        let config = Config::from_layers(Some(std::path::Path::new(&toml)), []).expect("valid");
        assert_eq!(config.auth.jwt.secret.expose(), "  with spaces ");
    }

    /// The keys of all texts there are.
    fn texts(path: &str, dict: &Dict, found: &mut Vec<String>) {
        for (key, value) in dict {
            let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Dict(_, dict) => texts(&key, dict, found),
                Value::String(..) => found.push(key),
                _ => {}
            }
        }
    }

    /// Whether the settings don't show what stands at `key`, found out by trying.
    fn is_hidden(key: &str) -> bool {
        // Of an address the password alone is hidden.
        let tries = ["postgres://u:shown@h/db", "s3://key:shown@bucket", "redis://:shown@h", "shown"];
        tries.into_iter().any(|value| {
            let figment = Figment::from(Serialized::defaults(Config::default())).merge(Serialized::default(key, value));
            figment.extract::<Config>().is_ok_and(|config| !format!("{config:?}").contains("shown"))
        })
    }

    #[test]
    fn every_setting_that_is_hidden_may_be_read_from_a_file() {
        let all = Figment::from(Toml::string(include_str!("../../config/default.toml")));
        let mut keys = Vec::new();
        texts("", &all.extract().expect("valid"), &mut keys);
        let mut hidden: Vec<&str> = keys.iter().map(String::as_str).filter(|key| is_hidden(key)).collect();
        let mut listed = SECRETS.to_vec();
        hidden.sort_unstable();
        listed.sort_unstable();
        assert_eq!(hidden, listed);
        for key in SECRETS {
            assert!(keys.contains(&format!("{key}_file")), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_showing_it() {
        let (_a, empty) = file("\n");
        let (_b, wrong) = file("mysql://u:geheim@h/d\n");
        let (_c, good) = file("geheim");
        let (_d, long) = file(&"x".repeat(70_000));
        for (variables, parts) in [
            (vec![("AUTH__JWT__SECRET_FILE", "/nowhere/s")], ["auth.jwt.secret_file", "/nowhere/s"]),
            (vec![("AUTH__JWT__SECRET_FILE", &*empty)], ["auth.jwt.secret_file", "empty"]),
            (vec![("AUTH__JWT__SECRET_FILE", &*long)], ["auth.jwt.secret_file", "65536"]),
            (vec![("STORE__URL_FILE", &*wrong)], ["store.url", "postgres://"]),
            (
                vec![("AUTH__JWT__SECRET_FILE", &*good), ("AUTH__JWT__SECRET", "geheim2")],
                ["auth.jwt.secret_file", "auth.jwt.secret is given"],
            ),
            (
                vec![("STORE__URL_FILE", &*good), ("STORE__URL", "postgres://u:geheim@h/d")],
                ["store.url_file", "store.url is given"],
            ),
        ] {
            let line = from_env(&variables).expect_err("wrong");
            assert!(!line.contains("geheim") && !line.contains('\n'), "{line}");
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
