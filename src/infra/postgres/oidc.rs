//! Accounts of people who log in by an OpenID Connect provider.

use async_trait::async_trait;

use super::PostgresStore;
use super::pool::Lease;
use crate::ids::UserId;
use crate::infra::{codes, rows};
use crate::ports::{AccountKind, OidcStore, StoreError, Subject, User};

#[async_trait]
impl OidcStore for PostgresStore {
    async fn oidc_user(
        &self,
        person: &Subject,
        wanted: &UserId,
        name: Option<&str>,
    ) -> Result<Option<User>, StoreError> {
        let mut lease = self.lease().await?;
        if let Some(known) = known(&mut lease, person, name).await? {
            return Ok(known);
        }
        let kind = codes::account_kind(AccountKind::Oidc);
        let sql = "WITH made AS ( \
                       INSERT INTO users (id, kind, name) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING RETURNING id \
                   ) INSERT INTO oidc_people (issuer, subject, user_id) SELECT $4, $5, id FROM made";
        let made = lease.execute(sql, &[&wanted.as_str(), &kind, &name, &person.issuer, &person.subject]).await;
        if made == Ok(1) {
            return Ok(Some(User { id: wanted.clone(), name: name.map(str::to_owned) }));
        }
        // Their own first login may have come in between, by another window.
        match known(&mut lease, person, name).await? {
            Some(known) => Ok(known),
            None => made.map(|_| None),
        }
    }

    async fn oidc_subject(&self, user: &UserId) -> Result<Option<Subject>, StoreError> {
        let sql = "SELECT issuer, subject FROM oidc_people WHERE user_id = $1";
        let row = self.lease().await?.query_opt(sql, &[&user.as_str()]).await?;
        Ok(row.map(|row| Subject { issuer: row.get(0), subject: row.get(1) }))
    }
}

/// `None`: the person was never here. `Some(None)`: they were, and are erased.
async fn known(lease: &mut Lease, person: &Subject, name: Option<&str>) -> Result<Option<Option<User>>, StoreError> {
    let sql = "SELECT u.id, u.name, u.erased FROM oidc_people p JOIN users u ON u.id = p.user_id \
               WHERE p.issuer = $1 AND p.subject = $2";
    let Some(row) = lease.query_opt(sql, &[&person.issuer, &person.subject]).await? else { return Ok(None) };
    if row.get(2) {
        return Ok(Some(None));
    }
    let mut user = User { id: rows::user_id(row.get(0))?, name: row.get(1) };
    if let Some(name) = name.filter(|name| user.name.as_deref() != Some(*name)) {
        lease.execute("UPDATE users SET name = $2 WHERE id = $1 AND NOT erased", &[&user.id.as_str(), &name]).await?;
        user.name = Some(name.to_owned());
    }
    Ok(Some(Some(user)))
}
