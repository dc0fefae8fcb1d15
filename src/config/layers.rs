//! Reads the layers and says in one line what of them is wrong.

use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};

use super::Config;
use super::secret_files::{self, SECRETS};
use super::types::masked;

const PREFIX: &str = "ROUNDTABLE__";

/// A setting that is wrong; its text is one line that names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// `value`: as given; masked here where the key holds secrets.
    pub fn new(key: &str, value: &str, allowed: &str) -> Self {
        let shown = match key {
            "store.url" | "cluster.redis_url" | "attachments.url" => masked(value),
            secret if SECRETS.contains(&secret) => "***".to_owned(),
            _ => value.to_owned(),
        };
        Self::line(format!("{key} = {shown:?} is not allowed: it must be {allowed}"))
    }

    fn line(text: String) -> Self {
        Self(text.replace(['\n', '\r'], " "))
    }
}

/// Defaults, file, environment; types checked, relations not yet.
pub(super) fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Invalid> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Invalid::line(format!("--config {}: can't be read: {error}", path.display())))?;
        figment = figment.merge(Toml::string(&text));
    }
    let defaults = figment_dict(&Figment::from(Serialized::defaults(Config::default())))?;
    let mut overrides = Dict::new();
    let mut environment: Vec<_> = environment.into_iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    environment.sort();
    for (variable, text) in environment {
        let path: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let default = path.iter().try_fold(None, |at: Option<&Value>, step| match at {
            None => defaults.get(step).map(Some),
            Some(value) => value.as_dict().and_then(|dict| dict.get(step)).map(Some),
        });
        let value = match default.flatten() {
            None | Some(Value::Dict(..)) => {
                return Err(Invalid::line(format!(
                    "{variable}: unknown key {}; config/default.toml has the known ones",
                    path.join(".")
                )));
            }
            Some(default) => parse(&path.join("."), &text, default)?,
        };
        insert(&mut overrides, &path, value);
    }
    let figment = figment.merge(Serialized::defaults(overrides));
    let figment = secret_files::read(figment, &Figment::from(Serialized::defaults(Config::default())))?;
    figment.extract().map_err(|error| explain(&error, &figment, file))
}

fn figment_dict(figment: &Figment) -> Result<Dict, Invalid> {
    figment.extract().map_err(|error| Invalid::line(error.to_string()))
}

/// A variable's text as a value of the type that the key has.
fn parse(key: &str, text: &str, default: &Value) -> Result<Value, Invalid> {
    Ok(match default {
        Value::Bool(..) => {
            Value::from(text.trim().parse::<bool>().map_err(|_| Invalid::new(key, text, "true or false"))?)
        }
        Value::Num(_, figment::value::Num::F64(_)) => {
            Value::from(text.trim().parse::<f64>().map_err(|_| Invalid::new(key, text, "a number"))?)
        }
        Value::Num(..) => {
            Value::from(text.trim().parse::<u64>().map_err(|_| Invalid::new(key, text, "an integer from 0 up"))?)
        }
        Value::Array(..) => Value::from(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>(),
        ),
        _ => Value::from(text),
    })
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let inner = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

fn explain(error: &figment::Error, figment: &Figment, file: Option<&Path>) -> Invalid {
    use figment::error::{Actual, Kind};
    // Of an item of a list the list is named.
    let (path, item) = match error.path.split_last() {
        Some((last, list)) if last.parse::<usize>().is_ok() => (list, last.parse::<usize>().ok()),
        _ => (&error.path[..], None),
    };
    let key = path.join(".");
    let shown = |actual: &Actual| match actual {
        Actual::Str(text) => text.clone(),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        other => other.to_string(),
    };
    match &error.kind {
        Kind::UnknownField(field, known) => {
            // The path ends with the field that is unknown, or before it.
            let path = match path.last() {
                None => field.clone(),
                Some(last) if last == field => key,
                Some(_) => format!("{key}.{field}"),
            };
            Invalid::line(format!("{path}: unknown key; known here: {}", known.join(", ")))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            Invalid::new(&key, &shown(actual), article(expected))
        }
        Kind::UnknownVariant(variant, known) => Invalid::new(&key, variant, &format!("one of {}", known.join(", "))),
        Kind::Message(message) if key.is_empty() => {
            let file = file.map_or_else(String::new, |path| format!("--config {}: ", path.display()));
            Invalid::line(format!("{file}{message}"))
        }
        // From a type of ours: the message is the rule.
        Kind::Message(rule) => {
            let mut value = figment.find_value(&key).ok();
            if let Some(item) = item {
                value = value.and_then(|list| list.into_array()).and_then(|list| list.into_iter().nth(item));
            }
            Invalid::new(&key, &value.and_then(Value::into_string).unwrap_or_default(), article(rule))
        }
        _ => Invalid::line(format!("{key}: {error}")),
    }
}

/// What serde or a type of the standard library expects, as a phrase behind "it must be".
fn article(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" | "usize" => "an integer from 0 up",
        "invalid socket address syntax" => "an address with a port, as 0.0.0.0:8080 or [::]:8080",
        other => other,
    }
}
