//! Accounts of people who log in by an OpenID Connect provider.

use async_trait::async_trait;

use super::{StoreError, User};
use crate::ids::UserId;

/// Who somebody is at their provider, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub issuer: String,
    pub subject: String,
}

/// Their accounts: a kind of their own beside passwords and JWTs.
#[async_trait]
pub trait OidcStore: Send + Sync + 'static {
    /// The user that this person is; at their first login one is made, called `wanted`. `name` updates the stored one
    /// where given. `None`: `wanted` is or was somebody else's, or the person's account was erased.
    async fn oidc_user(
        &self,
        person: &Subject,
        wanted: &UserId,
        name: Option<&str>,
    ) -> Result<Option<User>, StoreError>;
}
