//! Where traces of requests go.

use actix_web::http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

use super::layers::Invalid;
use super::types::Secret;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Empty: nowhere.
    pub otlp_url: String,
    /// `name=value`, comma-separated.
    pub headers: Secret,
    /// Read instead of it.
    pub headers_file: String,
    /// The part of requests that is traced, 0 to 1.
    pub sample: f64,
    pub service_name: String,
}

impl Traces {
    /// Of each request to the collector; checked with the other settings.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.headers.expose().split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim(), value.trim()))
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let fits = |url: &Url| {
            let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && bare
        };
        if !self.otlp_url.is_empty() && !Url::parse(&self.otlp_url).is_ok_and(|url| fits(&url)) {
            let allowed = "empty, or an http:// or https:// URL such as http://collector:4318/v1/traces";
            return Err(Invalid::new("traces.otlp_url", &self.otlp_url, allowed));
        }
        let headers = self.headers.expose();
        let well_formed = |pair: &str| {
            pair.split_once('=').is_some_and(|(name, value)| {
                HeaderName::from_bytes(name.trim().as_bytes()).is_ok() && HeaderValue::from_str(value.trim()).is_ok()
            })
        };
        if !headers.is_empty() && !headers.split(',').all(well_formed) {
            let allowed = "empty, or headers as name=value, comma-separated";
            return Err(Invalid::new("traces.headers", headers, allowed));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(Invalid::new("traces.sample", &self.sample.to_string(), "a number from 0.0 to 1.0"));
        }
        let name = &self.service_name;
        if !(1..=64).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let allowed = "1 to 64 letters, digits and signs, without spaces";
            return Err(Invalid::new("traces.service_name", name, allowed));
        }
        Ok(())
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            otlp_url: String::new(),
            headers: Secret::default(),
            headers_file: String::new(),
            sample: 0.01,
            service_name: "roundtable".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::read;
    use super::*;

    fn checked(key: &str, value: &str) -> Result<Traces, String> {
        let variable = format!("ROUNDTABLE__TRACES__{}", key.to_uppercase());
        let config = read(None, [(variable, value.to_owned())]).map_err(|invalid| invalid.to_string())?;
        config.traces.check().map_err(|invalid| invalid.to_string())?;
        Ok(config.traces)
    }

    #[test]
    fn each_setting_follows_its_rule() {
        for (key, good) in [
            ("otlp_url", ""),
            ("otlp_url", "http://collector:4318/v1/traces"),
            ("otlp_url", "https://o.example.org/v1/traces?tenant=a"),
            ("headers", "authorization=Bearer abc==, x-tenant=a"),
            ("sample", "0"),
            ("sample", "0.25"),
            ("sample", "1.0"),
            ("service_name", "chat"),
        ] {
            assert!(checked(key, good).is_ok(), "{key}: {good}: {:?}", checked(key, good));
        }
        for (key, bad) in [
            ("otlp_url", "collector:4318"),
            ("otlp_url", "http://u:p@collector/"),
            ("headers", "authorization"),
            ("headers", "a b=c"),
            ("headers", "a=b,"),
            ("sample", "1.5"),
            ("sample", "-0.1"),
            ("sample", "NaN"),
            ("sample", "most"),
            ("service_name", ""),
            ("service_name", "a b"),
        ] {
            let said = checked(key, bad).expect_err(bad);
            assert!(said.contains(&format!("traces.{key}")), "{said}");
            assert!(key != "headers" || !said.contains(bad), "a secret is not shown: {said}");
        }
        let given = checked("headers", "authorization=Bearer abc==, x-tenant=a").expect("well-formed");
        assert_eq!(given.headers().collect::<Vec<_>>(), [("authorization", "Bearer abc=="), ("x-tenant", "a")]);
    }
}
