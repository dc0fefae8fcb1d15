//! Login by an OpenID Connect provider.

use serde::{Deserialize, Serialize};

use super::types::{List, Secret};

/// Where browsers come back to, on this server.
pub(super) const CALLBACK: &str = "/api/v1/oidc/callback";

/// Empty issuer: no such login.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oidc {
    /// As the provider writes it, without `/.well-known/…`.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub client_secret_file: String,
    /// Where the provider sends the browser back to; empty: `server.public_url` and the callback's path.
    pub redirect_url: String,
    /// Asked for besides `openid`.
    pub scopes: List<String>,
    /// Which claim becomes the user's id, at their first login.
    pub user_claim: UserClaim,
    /// Which claim becomes the user's name; empty: none.
    pub name_claim: String,
    /// What the client calls this login.
    pub label: String,
}

/// The claim that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserClaim {
    Sub,
    PreferredUsername,
    /// What stands before the @ of an address that the provider says is verified.
    Email,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: Secret::default(),
            client_secret_file: String::new(),
            redirect_url: String::new(),
            scopes: List(vec!["profile".to_owned(), "email".to_owned()]),
            user_claim: UserClaim::PreferredUsername,
            name_claim: "name".to_owned(),
            label: "Single sign-on".to_owned(),
        }
    }
}

impl Oidc {
    pub fn enabled(&self) -> bool {
        !self.issuer.is_empty()
    }
}
