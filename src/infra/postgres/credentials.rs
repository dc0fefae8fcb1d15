//! Logins, access tokens, and what was revoked of them.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::pool::Step;
use crate::domain::revoked::Revoked;
use crate::ids::{Millis, UserId};
use crate::infra::rows;
use crate::ports::{
    Credential, CredentialId, CredentialStore, Device, Keep, Kind, Login, NewCredential, Revocations, RevokedAt,
    SecretHash, StoreError, User,
};

const MAKE: &str = "INSERT INTO logins (secret_hash, user_id, created_at, last_seen_at, expires_at, client, address, \
                                        scopes, name, room) \
                    SELECT $2, $1, $3, $3, $4, $5, $6, $7, $8, $9";

fn hashes(rows: &[Row]) -> Result<Vec<SecretHash>, StoreError> {
    rows.iter().map(|row| rows::secret_hash(row.get(0))).collect()
}

/// A statement that ends the logins of `condition`, notes that, and gives their hashes.
fn ending(condition: &str) -> String {
    format!(
        "WITH gone AS (DELETE FROM logins WHERE {condition} RETURNING secret_hash),
              noted AS (INSERT INTO revocations (secret_hash) SELECT secret_hash FROM gone)
         SELECT secret_hash FROM gone"
    )
}

impl PostgresStore {
    async fn make_token(&self, new: &NewCredential, most: u32) -> Result<Option<Vec<SecretHash>>, StoreError> {
        let sql = format!(
            "{MAKE} WHERE (SELECT count(*) FROM logins WHERE user_id = $1 AND scopes IS NOT NULL AND expires_at > $3)
                < $10 RETURNING secret_hash"
        );
        let (user, hash, most) = (new.user.as_str(), new.hash.as_slice(), i64::from(most));
        let scopes = new.grant.as_ref().map(|grant| grant.scopes.bits());
        let room = new.grant.as_ref().and_then(|grant| Some(grant.room.as_ref()?.as_str()));
        let answers = self
            .lease()
            .await?
            .transaction(&[
                Step::Begin,
                // One after the other, so that two at once don't both count to one below the bound.
                Step::Ask("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", &[&user]),
                Step::Ask(
                    &sql,
                    &[
                        &user,
                        &hash,
                        &new.created_at,
                        &new.expires_at,
                        &new.device.client,
                        &new.device.address,
                        &scopes,
                        &new.name,
                        &room,
                        &most,
                    ],
                ),
                Step::Commit,
            ])
            .await?;
        Ok(answers.get(2).is_some_and(|made| !made.is_empty()).then(Vec::new))
    }
}

#[async_trait]
impl CredentialStore for PostgresStore {
    async fn create_credential(&self, new: &NewCredential, most: u32) -> Result<Option<Vec<SecretHash>>, StoreError> {
        if new.grant.is_some() {
            return self.make_token(new, most).await;
        }
        let sql = format!(
            "WITH expired AS (DELETE FROM logins WHERE user_id = $1 AND expires_at <= $3),
                  made AS ({MAKE}),
                  gone AS (DELETE FROM logins WHERE secret_hash = ANY (ARRAY(
                      SELECT secret_hash FROM logins WHERE user_id = $1 AND scopes IS NULL AND expires_at > $3
                      ORDER BY last_seen_at DESC, created_at DESC OFFSET $10
                  )) RETURNING secret_hash),
                  noted AS (INSERT INTO revocations (secret_hash) SELECT secret_hash FROM gone)
             SELECT secret_hash FROM gone"
        );
        let spare = i64::from(most) - 1;
        let (none, no_scopes) = (None::<&str>, None::<i16>);
        let rows = self
            .lease()
            .await?
            .query(
                &sql,
                &[
                    &new.user.as_str(),
                    &new.hash.as_slice(),
                    &new.created_at,
                    &new.expires_at,
                    &new.device.client,
                    &new.device.address,
                    &no_scopes,
                    &new.name,
                    &none,
                    &spare,
                ],
            )
            .await?;
        hashes(&rows).map(Some)
    }

    async fn logins(&self, wanted: &[SecretHash], now: Millis) -> Result<Vec<(SecretHash, Login)>, StoreError> {
        let sql = "SELECT l.secret_hash, u.id, u.name, l.expires_at, l.last_seen_at, l.scopes, l.room \
                   FROM unnest($1::bytea[]) AS n (hash) JOIN logins l ON l.secret_hash = n.hash \
                   JOIN users u ON u.id = l.user_id WHERE l.expires_at > $2 AND NOT u.erased";
        let wanted: Vec<&[u8]> = wanted.iter().map(SecretHash::as_slice).collect();
        let found = self.lease().await?.query(sql, &[&wanted, &now]).await?;
        let read = |row: &Row| {
            let login = Login {
                user: User { id: rows::user_id(row.get(1))?, name: row.get(2) },
                expires_at: row.get(3),
                last_seen_at: row.get(4),
                grant: rows::grant(row.get(5), row.get(6))?,
            };
            Ok((rows::secret_hash(row.get(0))?, login))
        };
        found.iter().map(read).collect()
    }

    async fn credentials(
        &self,
        user: &UserId,
        kind: Kind,
        now: Millis,
        cursor: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>, StoreError> {
        // Sorted by an expression: the primary key would be in the right order too, but over everybody's.
        let sql = "SELECT secret_hash, created_at, last_seen_at, expires_at, client, address, scopes, room, name \
                   FROM logins WHERE user_id = $1 AND (scopes IS NOT NULL) = $2 AND expires_at > $3 \
                   AND ($4::bytea IS NULL OR substring(secret_hash FOR 16) > $4) \
                   ORDER BY substring(secret_hash FOR 16) LIMIT $5";
        let after = cursor.as_ref().map(|id| id.as_bytes().as_slice());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&user.as_str(), &(kind == Kind::Token), &now, &after, &i64::from(limit)];
        let found = self.lease().await?.query(sql, &params).await?;
        let read = |row: &Row| {
            Ok(Credential {
                id: CredentialId::of(&rows::secret_hash(row.get(0))?),
                created_at: row.get(1),
                last_seen_at: row.get(2),
                expires_at: row.get(3),
                device: Device { client: row.get(4), address: row.get(5) },
                grant: rows::grant(row.get(6), row.get(7))?,
                name: row.get(8),
            })
        };
        found.iter().map(read).collect()
    }

    async fn revoke_login(&self, hash: &SecretHash) -> Result<bool, StoreError> {
        Ok(!self.lease().await?.query(&ending("secret_hash = $1"), &[&hash.as_slice()]).await?.is_empty())
    }

    async fn end_credential(
        &self,
        user: &UserId,
        kind: Kind,
        id: CredentialId,
    ) -> Result<Option<SecretHash>, StoreError> {
        let sql = ending("user_id = $1 AND (scopes IS NOT NULL) = $2 AND substring(secret_hash FOR 16) = $3");
        let token = kind == Kind::Token;
        let rows = self.lease().await?.query(&sql, &[&user.as_str(), &token, &id.as_bytes().as_slice()]).await?;
        Ok(hashes(&rows)?.pop())
    }

    async fn end_all(&self, user: &UserId, keep: Keep<'_>) -> Result<Vec<SecretHash>, StoreError> {
        let (all, but) = match keep {
            Keep::Nothing => (true, None),
            Keep::TokensAnd(but) => (false, but),
        };
        let sql = ending("user_id = $1 AND ($2 OR scopes IS NULL AND ($3::bytea IS NULL OR secret_hash <> $3))");
        let but = but.map(SecretHash::as_slice);
        hashes(&self.lease().await?.query(&sql, &[&user.as_str(), &all, &but]).await?)
    }

    async fn note_revoked(&self, revoked: &Revoked) -> Result<(), StoreError> {
        let (hash, what) = rows::revoked_in(revoked)?;
        let sql = "INSERT INTO revocations (secret_hash, what) VALUES ($1, $2)";
        self.lease().await?.execute(sql, &[&hash.map(SecretHash::as_slice), &what]).await?;
        Ok(())
    }

    async fn seen(&self, logins: &[(SecretHash, Millis)]) -> Result<(), StoreError> {
        let sql = "UPDATE logins l SET last_seen_at = s.at FROM unnest($1::bytea[], $2::bigint[]) AS s (hash, at) \
                   WHERE l.secret_hash = s.hash AND l.last_seen_at < s.at";
        // In one order, so that nodes that write at once don't wait for each other in a circle.
        let mut logins = logins.to_vec();
        logins.sort_unstable();
        let (hashes, ats): (Vec<&[u8]>, Vec<Millis>) = logins.iter().map(|(hash, at)| (hash.as_slice(), *at)).unzip();
        self.lease().await?.execute(sql, &[&hashes, &ats]).await?;
        Ok(())
    }

    async fn logged_in_from(&self, user: &UserId, address: &str, now: Millis) -> Result<bool, StoreError> {
        let sql = "SELECT FROM logins \
                   WHERE user_id = $1 AND scopes IS NULL AND address = $2 AND expires_at > $3 LIMIT 1";
        Ok(self.lease().await?.query_opt(sql, &[&user.as_str(), &address, &now]).await?.is_some())
    }

    async fn change_password(&self, user: &UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 AND NOT erased";
        Ok(self.lease().await?.execute(sql, &[&user.as_str(), &old, &new]).await? == 1)
    }

    async fn revocations(&self, after: RevokedAt, limit: u32) -> Result<Revocations, StoreError> {
        let sql = "SELECT c.now, r.at, r.no, r.secret_hash, r.what \
                   FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) c \
                   LEFT JOIN LATERAL (SELECT at, no, secret_hash, what FROM revocations \
                       WHERE (at, no) > ($1, $2) ORDER BY at, no LIMIT $3) r ON true ORDER BY r.at, r.no";
        let found = self.lease().await?.query(sql, &[&after.at, &after.no, &i64::from(limit)]).await?;
        let mut revocations = Revocations { now: found.first().map_or(0, |row| row.get(0)), items: Vec::new() };
        for row in found {
            let (Some(at), Some(no)) = (row.get(1), row.get(2)) else { break };
            revocations.items.push((RevokedAt { at, no }, rows::revoked_out(row.get(3), row.get(4))?));
        }
        Ok(revocations)
    }

    async fn sweep_credentials(&self, now: Millis, keep_ms: i64, limit: u32) -> Result<u64, StoreError> {
        let sql = "WITH old AS (DELETE FROM logins WHERE secret_hash = ANY (ARRAY( \
                       SELECT secret_hash FROM logins WHERE expires_at <= $1 ORDER BY expires_at LIMIT $3)) RETURNING 1), \
                   past AS (DELETE FROM revocations WHERE no = ANY (ARRAY( \
                       SELECT no FROM revocations \
                       WHERE at < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2 \
                       ORDER BY at LIMIT $3)) RETURNING 1) \
                   SELECT (SELECT count(*) FROM old) + (SELECT count(*) FROM past)";
        let row = self.lease().await?.query_opt(sql, &[&now, &keep_ms, &i64::from(limit)]).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
    }
}
