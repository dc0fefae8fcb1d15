//! Accounts.
//!
//! Invariant: the row of a user stays for ever, so an id has one kind of account and is never given out twice.

use super::pool::Lease;
use crate::ids::UserId;
use crate::infra::codes;
use crate::ports::{AccountKind, Created, StoreError, User};

pub async fn create(lease: &mut Lease, user: &User, password_hash: &str) -> Result<Created, StoreError> {
    let kind = codes::account_kind(AccountKind::Password);
    let made = lease
        .execute(
            "INSERT INTO users (id, kind, name, password_hash) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
            &[&user.id.as_str(), &kind, &user.name, &password_hash],
        )
        .await?;
    Ok(if made == 1 { Created::New } else { Created::Taken })
}

pub async fn password_hash(lease: &mut Lease, user: &UserId) -> Result<Option<(User, String)>, StoreError> {
    let kind = codes::account_kind(AccountKind::Password);
    let sql = "SELECT name, password_hash FROM users \
               WHERE id = $1 AND kind = $2 AND NOT erased AND password_hash IS NOT NULL";
    let row = lease.query_opt(sql, &[&user.as_str(), &kind]).await?;
    Ok(row.map(|row| (User { id: user.clone(), name: row.get(0) }, row.get(1))))
}

pub async fn ensure_jwt_user(lease: &mut Lease, user: &UserId, name: Option<&str>) -> Result<Created, StoreError> {
    let jwt = codes::account_kind(AccountKind::Jwt);
    // Looked at first: nearly always there is nothing to write, and then nothing is.
    let found = lease.query_opt("SELECT kind, erased, name FROM users WHERE id = $1", &[&user.as_str()]).await?;
    if let Some(row) = found {
        let stored: Option<String> = row.get(2);
        if row.get::<_, i16>(0) != jwt || row.get::<_, bool>(1) {
            return Ok(Created::Taken);
        }
        if name.is_none() || name == stored.as_deref() {
            return Ok(Created::New);
        }
    }
    let sql = "INSERT INTO users (id, kind, name) VALUES ($1, $2, $3) \
               ON CONFLICT (id) DO UPDATE SET name = coalesce(excluded.name, users.name) \
               WHERE users.kind = excluded.kind AND NOT users.erased";
    let done = lease.execute(sql, &[&user.as_str(), &jwt, &name]).await?;
    Ok(if done == 1 { Created::New } else { Created::Taken })
}

pub async fn user(lease: &mut Lease, user: &UserId) -> Result<Option<User>, StoreError> {
    let row = lease.query_opt("SELECT name FROM users WHERE id = $1 AND NOT erased", &[&user.as_str()]).await?;
    Ok(row.map(|row| User { id: user.clone(), name: row.get(0) }))
}

pub async fn rename(lease: &mut Lease, user: &UserId, name: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE users SET name = $2 WHERE id = $1 AND NOT erased";
    Ok(lease.execute(sql, &[&user.as_str(), &name]).await? == 1)
}
