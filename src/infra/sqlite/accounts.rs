//! Accounts.
//!
//! Invariant: the row of a user stays for ever, so an id has one kind of account and is never given out twice.

use rusqlite::{Connection, OptionalExtension, params};

use super::threads::store_error;
use crate::ids::UserId;
use crate::infra::codes;
use crate::ports::{AccountKind, Created, StoreError, User};

fn created(rows: usize) -> Created {
    if rows == 1 { Created::New } else { Created::Taken }
}

/// Runs one statement; the number of rows it changed.
fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
}

pub fn create(connection: &mut Connection, user: &User, password_hash: &str) -> Result<Created, StoreError> {
    let kind = codes::account_kind(AccountKind::Password);
    let sql = "INSERT INTO users (id, kind, name, password_hash) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING";
    execute(connection, sql, params![user.id.as_str(), kind, user.name, password_hash]).map(created)
}

pub fn password_hash(connection: &mut Connection, user: &UserId) -> Result<Option<(User, String)>, StoreError> {
    let kind = codes::account_kind(AccountKind::Password);
    let sql = "SELECT name, password_hash FROM users \
               WHERE id = ?1 AND kind = ?2 AND erased = 0 AND password_hash IS NOT NULL";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let found = statement
        .query_row(params![user.as_str(), kind], |row| Ok((User { id: user.clone(), name: row.get(0)? }, row.get(1)?)));
    found.optional().map_err(store_error)
}

/// `None`: the user is not there yet, or has another name.
pub fn known_jwt_user(
    connection: &mut Connection,
    user: &UserId,
    name: Option<&str>,
) -> Result<Option<Created>, StoreError> {
    let sql = "SELECT kind, erased, name FROM users WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let found = statement
        .query_row([user.as_str()], |row| {
            Ok((row.get::<_, i16>(0)?, row.get::<_, bool>(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()
        .map_err(store_error)?;
    Ok(match found {
        Some((kind, erased, _)) if kind != codes::account_kind(AccountKind::Jwt) || erased => Some(Created::Taken),
        Some((_, _, stored)) if name.is_none() || name == stored.as_deref() => Some(Created::New),
        _ => None,
    })
}

pub fn ensure_jwt_user(connection: &mut Connection, user: &UserId, name: Option<&str>) -> Result<Created, StoreError> {
    let sql = "INSERT INTO users (id, kind, name) VALUES (?1, ?2, ?3) \
               ON CONFLICT (id) DO UPDATE SET name = coalesce(excluded.name, users.name) \
               WHERE users.kind = excluded.kind AND users.erased = 0";
    let kind = codes::account_kind(AccountKind::Jwt);
    execute(connection, sql, params![user.as_str(), kind, name]).map(created)
}

pub fn user(connection: &mut Connection, user: &UserId) -> Result<Option<User>, StoreError> {
    let sql = "SELECT name FROM users WHERE id = ?1 AND erased = 0";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let found = statement.query_row([user.as_str()], |row| Ok(User { id: user.clone(), name: row.get(0)? }));
    found.optional().map_err(store_error)
}

pub fn rename(connection: &mut Connection, user: &UserId, name: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE users SET name = ?2 WHERE id = ?1 AND erased = 0";
    Ok(execute(connection, sql, params![user.as_str(), name])? == 1)
}
