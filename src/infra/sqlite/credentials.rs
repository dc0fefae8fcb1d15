//! Logins, access tokens, and what was revoked of them.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use super::SqliteStore;
use super::threads::store_error;
use crate::domain::revoked::Revoked;
use crate::ids::{Millis, UserId};
use crate::infra::rows;
use crate::ports::{
    Credential, CredentialId, CredentialStore, Device, Keep, Kind, Login, NewCredential, Revocations, RevokedAt,
    SecretHash, StoreError, User,
};

/// Milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
}

fn read<T>(
    connection: &Connection,
    sql: &str,
    params: &[(&str, &dyn ToSql)],
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let rows = statement.query_map(params, row).map_err(store_error)?;
    rows.collect::<rusqlite::Result<_>>().map_err(store_error)
}

/// Ends the logins of `condition`, notes that, and gives their hashes.
fn end(connection: &Connection, condition: &str, params: &[(&str, &dyn ToSql)]) -> Result<Vec<SecretHash>, StoreError> {
    let sql = format!("DELETE FROM logins WHERE {condition} RETURNING secret_hash");
    let gone: Vec<SecretHash> = read(connection, &sql, params, |row| row.get(0))?;
    for hash in &gone {
        execute(connection, "INSERT INTO revocations (secret_hash) VALUES (?1)", [hash])?;
    }
    Ok(gone)
}

fn create(connection: &Connection, new: &NewCredential, most: u32) -> Result<Option<Vec<SecretHash>>, StoreError> {
    let user = new.user.as_str();
    if new.grant.is_some() {
        let sql = "SELECT count(*) FROM logins WHERE user_id = :user AND scopes IS NOT NULL AND expires_at > :now";
        let count = read(connection, sql, named_params! {":user": user, ":now": new.created_at}, |row| row.get(0))?;
        if count.first().is_some_and(|count: &u32| *count >= most) {
            return Ok(None);
        }
    } else {
        let expired = "DELETE FROM logins WHERE user_id = ?1 AND expires_at <= ?2";
        execute(connection, expired, params![user, new.created_at])?;
    }
    let sql = "INSERT INTO logins (secret_hash, user_id, created_at, last_seen_at, expires_at, client, address, scopes, \
                                   name, room) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let grant = new.grant.as_ref();
    let (scopes, room) =
        (grant.map(|grant| grant.scopes.bits()), grant.and_then(|grant| Some(grant.room.as_ref()?.as_str())));
    let Device { client, address } = &new.device;
    let values = params![new.hash, user, new.created_at, new.expires_at, client, address, scopes, new.name, room];
    execute(connection, sql, values)?;
    if grant.is_some() {
        return Ok(Some(Vec::new()));
    }
    let surplus = "secret_hash IN (SELECT secret_hash FROM logins \
                       WHERE user_id = :user AND scopes IS NULL AND secret_hash <> :new \
                       ORDER BY last_seen_at DESC, created_at DESC LIMIT -1 OFFSET :spare)";
    let named = named_params! {":user": user, ":new": new.hash, ":spare": i64::from(most) - 1};
    end(connection, surplus, named).map(Some)
}

fn logins(connection: &Connection, wanted: &[SecretHash], now: Millis) -> Result<Vec<(SecretHash, Login)>, StoreError> {
    let sql = "SELECT u.id, u.name, l.expires_at, l.last_seen_at, l.scopes, l.room \
               FROM logins l JOIN users u ON u.id = l.user_id \
               WHERE l.secret_hash = ?1 AND l.expires_at > ?2 AND u.erased = 0";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut found = Vec::new();
    for hash in wanted {
        let row = statement.query_row(params![hash, now], |row| {
            let (id, name): (String, _) = (row.get(0)?, row.get(1)?);
            let (scopes, room): (_, Option<String>) = (row.get(4)?, row.get(5)?);
            Ok((id, name, row.get(2)?, row.get(3)?, scopes, room))
        });
        let Some((id, name, expires_at, last_seen_at, scopes, room)) = row.optional().map_err(store_error)? else {
            continue;
        };
        let grant = rows::grant(scopes, room.as_deref())?;
        let user = User { id: rows::user_id(&id)?, name };
        found.push((*hash, Login { user, expires_at, last_seen_at, grant }));
    }
    Ok(found)
}

fn credentials(
    connection: &Connection,
    user: &UserId,
    kind: Kind,
    now: Millis,
    cursor: Option<CredentialId>,
    limit: u32,
) -> Result<Vec<Credential>, StoreError> {
    let sql = "SELECT secret_hash, created_at, last_seen_at, expires_at, client, address, scopes, room, name \
               FROM logins WHERE user_id = :user AND (scopes IS NOT NULL) = :token AND expires_at > :now \
               AND (:after IS NULL OR substr(secret_hash, 1, 16) > :after) \
               ORDER BY substr(secret_hash, 1, 16) LIMIT :limit";
    let after = cursor.as_ref().map(|id| id.as_bytes().as_slice());
    let named = named_params! {
        ":user": user.as_str(), ":token": kind == Kind::Token, ":now": now, ":after": after, ":limit": limit,
    };
    let found = read(connection, sql, named, |row| {
        let hash: SecretHash = row.get(0)?;
        let credential = Credential {
            id: CredentialId::of(&hash),
            created_at: row.get(1)?,
            last_seen_at: row.get(2)?,
            expires_at: row.get(3)?,
            device: Device { client: row.get(4)?, address: row.get(5)? },
            grant: None,
            name: row.get(8)?,
        };
        Ok((credential, row.get::<_, Option<i16>>(6)?, row.get::<_, Option<String>>(7)?))
    })?;
    let granted = |(credential, scopes, room): (Credential, _, Option<String>)| {
        Ok(Credential { grant: rows::grant(scopes, room.as_deref())?, ..credential })
    };
    found.into_iter().map(granted).collect()
}

fn revocations(connection: &Connection, after: RevokedAt, limit: u32) -> Result<Revocations, StoreError> {
    let now = read(connection, &format!("SELECT {NOW}"), &[], |row| row.get(0))?;
    let sql = "SELECT at, no, secret_hash, what FROM revocations WHERE (at, no) > (:at, :no) \
               ORDER BY at, no LIMIT :limit";
    let named = named_params! {":at": after.at, ":no": after.no, ":limit": limit};
    let found = read(connection, sql, named, |row| {
        let place = RevokedAt { at: row.get(0)?, no: row.get(1)? };
        Ok((place, row.get::<_, Option<Vec<u8>>>(2)?, row.get::<_, Option<String>>(3)?))
    })?;
    let mut revocations = Revocations { now: now.first().copied().unwrap_or(0), items: Vec::new() };
    for (place, hash, what) in found {
        revocations.items.push((place, rows::revoked_out(hash.as_deref(), what.as_deref())?));
    }
    Ok(revocations)
}

fn sweep(connection: &Connection, now: Millis, keep_ms: i64, limit: u32) -> Result<u64, StoreError> {
    let old = "DELETE FROM logins WHERE secret_hash IN \
                   (SELECT secret_hash FROM logins WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    let past = format!(
        "DELETE FROM revocations WHERE no IN (SELECT no FROM revocations WHERE at < {NOW} - ?1 ORDER BY at LIMIT ?2)"
    );
    Ok((execute(connection, old, params![now, limit])? + execute(connection, &past, params![keep_ms, limit])?) as u64)
}

impl SqliteStore {
    /// One transaction on the writer.
    async fn changes<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let work = move |connection: &mut Connection| {
            let transaction = connection.transaction().map_err(store_error)?;
            let done = change(&transaction)?;
            transaction.commit().map_err(store_error)?;
            Ok(done)
        };
        self.writer.run(work).await
    }
}

#[async_trait]
impl CredentialStore for SqliteStore {
    async fn create_credential(&self, new: &NewCredential, most: u32) -> Result<Option<Vec<SecretHash>>, StoreError> {
        let new = new.clone();
        self.changes(move |connection| create(connection, &new, most)).await
    }

    async fn logins(&self, wanted: &[SecretHash], now: Millis) -> Result<Vec<(SecretHash, Login)>, StoreError> {
        let wanted = wanted.to_vec();
        self.readers.run(move |connection| logins(connection, &wanted, now)).await
    }

    async fn credentials(
        &self,
        user: &UserId,
        kind: Kind,
        now: Millis,
        cursor: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>, StoreError> {
        let user = user.clone();
        self.readers.run(move |connection| credentials(connection, &user, kind, now, cursor, limit)).await
    }

    async fn revoke_login(&self, hash: &SecretHash) -> Result<bool, StoreError> {
        let hash = *hash;
        let end = move |connection: &Connection| end(connection, "secret_hash = :hash", named_params! {":hash": hash});
        Ok(!self.changes(end).await?.is_empty())
    }

    async fn end_credential(
        &self,
        user: &UserId,
        kind: Kind,
        id: CredentialId,
    ) -> Result<Option<SecretHash>, StoreError> {
        let user = user.clone();
        let end = move |connection: &Connection| {
            let condition = "user_id = :user AND (scopes IS NOT NULL) = :token AND substr(secret_hash, 1, 16) = :id";
            let named = named_params! {":user": user.as_str(), ":token": kind == Kind::Token, ":id": id.as_bytes()};
            end(connection, condition, named)
        };
        Ok(self.changes(end).await?.pop())
    }

    async fn end_all(&self, user: &UserId, keep: Keep<'_>) -> Result<Vec<SecretHash>, StoreError> {
        let (all, but) = match keep {
            Keep::Nothing => (true, None),
            Keep::TokensAnd(but) => (false, but.copied()),
        };
        let user = user.clone();
        let end = move |connection: &Connection| {
            let condition = "user_id = :user AND (:all OR scopes IS NULL AND (:but IS NULL OR secret_hash <> :but))";
            end(connection, condition, named_params! {":user": user.as_str(), ":all": all, ":but": but})
        };
        self.changes(end).await
    }

    async fn note_revoked(&self, revoked: &Revoked) -> Result<(), StoreError> {
        let (hash, what) = rows::revoked_in(revoked)?;
        let hash = hash.copied();
        let note = move |connection: &Connection| {
            let sql = "INSERT INTO revocations (secret_hash, what) VALUES (?1, ?2)";
            execute(connection, sql, params![hash, what]).map(|_| ())
        };
        self.changes(note).await
    }

    async fn seen(&self, logins: &[(SecretHash, Millis)]) -> Result<(), StoreError> {
        let logins = logins.to_vec();
        let note = move |connection: &Connection| {
            let sql = "UPDATE logins SET last_seen_at = ?2 WHERE secret_hash = ?1 AND last_seen_at < ?2";
            logins.iter().try_for_each(|(hash, at)| execute(connection, sql, params![hash, at]).map(|_| ()))
        };
        self.changes(note).await
    }

    async fn logged_in_from(&self, user: &UserId, address: &str, now: Millis) -> Result<bool, StoreError> {
        let (user, address) = (user.clone(), address.to_owned());
        let look = move |connection: &mut Connection| {
            let sql = "SELECT 1 FROM logins WHERE user_id = :user AND scopes IS NULL AND address = :address \
                       AND expires_at > :now LIMIT 1";
            let named = named_params! {":user": user.as_str(), ":address": address, ":now": now};
            Ok(!read(connection, sql, named, |_| Ok(()))?.is_empty())
        };
        self.readers.run(look).await
    }

    async fn change_password(&self, user: &UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let (user, old, new) = (user.clone(), old.to_owned(), new.to_owned());
        let change = move |connection: &Connection| {
            let sql = "UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2 AND erased = 0";
            Ok(execute(connection, sql, params![user.as_str(), old, new])? == 1)
        };
        self.changes(change).await
    }

    async fn revocations(&self, after: RevokedAt, limit: u32) -> Result<Revocations, StoreError> {
        self.readers.run(move |connection| revocations(connection, after, limit)).await
    }

    async fn sweep_credentials(&self, now: Millis, keep_ms: i64, limit: u32) -> Result<u64, StoreError> {
        self.changes(move |connection| sweep(connection, now, keep_ms, limit)).await
    }
}
