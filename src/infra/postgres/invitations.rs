//! Invitations. A use is taken in `slow`, with the membership it gives.
//!
//! Invariant: the room's record is locked while one is made, so that there are never more than there may be.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::pool::Step;
use super::rooms::seconds;
use crate::ids::{Millis, RoomId};
use crate::infra::rows;
use crate::ports::{Invitation, InvitationStore, Invited, StoreError};

const LOCK: &str = "SELECT no FROM rooms WHERE id = $1 AND NOT deleted FOR NO KEY UPDATE";

const LIVE: &str = "SELECT count(*) FROM rooms r JOIN invitations i ON i.room_no = r.no
    WHERE r.id = $1 AND i.expires_at > $2 AND (i.uses_left IS NULL OR i.uses_left > 0)";

const ADD: &str = "INSERT INTO invitations (id, room_no, secret_hash, made_by, made_at, expires_at, uses_left)
    SELECT $2, r.no, $3, $4, $5, $6, $7 FROM rooms r WHERE r.id = $1";

#[async_trait]
impl InvitationStore for PostgresStore {
    async fn invite(
        &self,
        room: &RoomId,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
        max: u32,
    ) -> Result<Invited, StoreError> {
        let mut lease = self.lease().await?;
        let room = room.as_str();
        let steps = [Step::Begin, Step::Ask(LOCK, &[&room]), Step::Ask(LIVE, &[&room, &invitation.made_at])];
        let answers = lease.transaction(&steps).await?;
        let [_, locked, live] = answers.as_slice() else {
            return Err(StoreError::Fault("an answer a question was expected".into()));
        };
        let outcome = if locked.is_empty() {
            Invited::NoSuchRoom
        } else if live.first().is_some_and(|row| row.get::<_, i64>(0) >= i64::from(max)) {
            Invited::TooMany
        } else {
            Invited::New
        };
        if outcome == Invited::New {
            let Invitation { id, made_by, made_at, expires_at, uses_left } = invitation;
            let uses_left = uses_left.map(seconds);
            let hash = secret_hash.as_slice();
            let add = Step::Ask(ADD, &[&room, id, &hash, &made_by.as_str(), made_at, expires_at, &uses_left]);
            lease.transaction(&[add, Step::Commit]).await?;
        } else {
            lease.transaction(&[Step::Commit]).await?;
        }
        Ok(outcome)
    }

    async fn invitation_room(&self, secret_hash: &[u8; 32], now: Millis) -> Result<Option<RoomId>, StoreError> {
        let sql = "SELECT r.id FROM invitations i JOIN rooms r ON r.no = i.room_no
            WHERE i.secret_hash = $1 AND i.expires_at > $2 AND NOT r.deleted";
        let found = self.lease().await?.query_opt(sql, &[&secret_hash.as_slice(), &now]).await?;
        found.map(|row| rows::room_id(row.get(0))).transpose()
    }

    async fn invitations(
        &self,
        room: &RoomId,
        now: Millis,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        let sql = "SELECT i.id, i.made_by, i.made_at, i.expires_at, i.uses_left
            FROM rooms r JOIN invitations i ON i.room_no = r.no
            WHERE r.id = $1 AND NOT r.deleted AND i.id > $2 AND i.expires_at > $3 ORDER BY i.id LIMIT $4";
        let cursor = cursor.unwrap_or_default();
        let found = self.lease().await?.query(sql, &[&room.as_str(), &cursor, &now, &i64::from(limit)]).await?;
        found.iter().map(invitation).collect()
    }

    async fn revoke_invitation(&self, room: &RoomId, id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM invitations WHERE id = $2
            AND room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted)";
        self.lease().await?.execute(sql, &[&room.as_str(), &id]).await?;
        Ok(())
    }

    async fn sweep_invitations(&self, now: Millis, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM invitations i
            USING (SELECT id FROM invitations WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) AS ended
            WHERE i.id = ended.id";
        self.lease().await?.execute(sql, &[&now, &i64::from(limit)]).await
    }
}

fn invitation(row: &Row) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: row.get(0),
        made_by: rows::user_id(row.get(1))?,
        made_at: row.get(2),
        expires_at: row.get(3),
        uses_left: row.get::<_, Option<i32>>(4).map(|left| u32::try_from(left).unwrap_or(0)),
    })
}
