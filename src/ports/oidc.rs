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
    /// where given. `None`: `wanted` is or was somebody's. Of somebody erased nothing is known: they are
    /// a new person, and the id they had is not given to them again either.
    async fn oidc_user(
        &self,
        person: &Subject,
        wanted: &UserId,
        name: Option<&str>,
    ) -> Result<Option<User>, StoreError>;

    /// Who `user` is at their provider; `None`: they log in otherwise, or are gone.
    async fn oidc_subject(&self, user: &UserId) -> Result<Option<Subject>, StoreError>;
}
