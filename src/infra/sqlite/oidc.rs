//! Accounts of people who log in by an OpenID Connect provider.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::threads::store_error;
use crate::ids::UserId;
use crate::infra::{codes, rows};
use crate::ports::{AccountKind, OidcStore, StoreError, Subject, User};

#[async_trait]
impl OidcStore for SqliteStore {
    async fn oidc_user(
        &self,
        person: &Subject,
        wanted: &UserId,
        name: Option<&str>,
    ) -> Result<Option<User>, StoreError> {
        let (person, wanted, name) = (person.clone(), wanted.clone(), name.map(str::to_owned));
        self.writer.run(move |connection| user(connection, &person, &wanted, name.as_deref())).await
    }

    async fn oidc_subject(&self, user: &UserId) -> Result<Option<Subject>, StoreError> {
        let user = user.clone();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT issuer, subject FROM oidc_people WHERE user_id = ?1";
            let subject = |row: &Row<'_>| Ok(Subject { issuer: row.get(0)?, subject: row.get(1)? });
            connection.query_row(sql, [user.as_str()], subject).optional().map_err(store_error)
        };
        self.readers.run(read).await
    }
}

fn user(
    connection: &mut Connection,
    person: &Subject,
    wanted: &UserId,
    name: Option<&str>,
) -> Result<Option<User>, StoreError> {
    let transaction = connection.transaction().map_err(store_error)?;
    let sql = "SELECT u.id, u.name, u.erased FROM oidc_people p JOIN users u ON u.id = p.user_id \
               WHERE p.issuer = ?1 AND p.subject = ?2";
    let known = transaction
        .query_row(sql, params![person.issuer, person.subject], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()
        .map_err(store_error)?;
    let user = match known {
        Some((_, _, true)) => return Ok(None),
        Some((id, stored, false)) => {
            let changed = name.filter(|name| stored.as_deref() != Some(*name));
            if let Some(name) = changed {
                let sql = "UPDATE users SET name = ?2 WHERE id = ?1";
                transaction.execute(sql, params![id, name]).map_err(store_error)?;
            }
            User { id: rows::user_id(&id)?, name: changed.map(str::to_owned).or(stored) }
        }
        None => {
            let kind = codes::account_kind(AccountKind::Oidc);
            let sql = "INSERT INTO users (id, kind, name) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING";
            if transaction.execute(sql, params![wanted.as_str(), kind, name]).map_err(store_error)? == 0 {
                return Ok(None);
            }
            let sql = "INSERT INTO oidc_people (issuer, subject, user_id) VALUES (?1, ?2, ?3)";
            let values = params![person.issuer, person.subject, wanted.as_str()];
            transaction.execute(sql, values).map_err(store_error)?;
            User { id: wanted.clone(), name: name.map(str::to_owned) }
        }
    };
    transaction.commit().map_err(store_error)?;
    Ok(Some(user))
}
