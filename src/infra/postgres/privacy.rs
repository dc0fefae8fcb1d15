//! Erasure of people, bans from the server, and what an export reads.
//!
//! Invariant: what is erased, how far that is and who has to forget it change in one transaction.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::attachments;
use super::audit::{self, Line};
use super::encryption::{self, Keys, sealed_of};
use super::pool::{Lease, Step};
use crate::domain::audit::{Deed, What};
use crate::entry::Data;
use crate::ids::{MessageId, Millis, UserId};
use crate::infra::erasing::{Progress, ROOMS_A_STEP, Stage};
use crate::infra::rows::EntryRow;
use crate::infra::{codes, rows, sealed};
use crate::ports::{
    CutOff, Erasing, OwnMessage, OwnReaction, OwnReport, OwnRoom, Place, PrivacyStore, Standing, StoreError,
};

/// Milliseconds since 1970 by the server's clock, at the start of the transaction.
const NOW: &str = "(extract(epoch FROM now()) * 1000)::bigint";

/// By what somebody (`$1`) could come in: gone with the wish to be erased.
const CREDENTIALS: &[&str] = &["DELETE FROM logins WHERE user_id = $1", "DELETE FROM oidc_people WHERE user_id = $1"];

/// What holds texts of messages, given as rooms `$1` and places `$2`. A table that is added with texts belongs here.
const OF_MESSAGES: &[&str] = &[
    "UPDATE entries e SET text = NULL, data = NULL
     FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
     WHERE e.room_no = n.room_no AND e.seq = n.seq AND (e.text IS NOT NULL OR e.data IS NOT NULL)",
    "UPDATE entries e SET text = NULL
     FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
     WHERE e.room_no = n.room_no AND e.target = n.seq AND e.kind = 1 AND e.text IS NOT NULL",
    "DELETE FROM revisions v USING unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
     WHERE v.room_no = n.room_no AND v.target = n.seq",
    "DELETE FROM pins p USING unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
     WHERE p.room_no = n.room_no AND p.target = n.seq",
    "SELECT forget_texts($1::bigint[], $2::bigint[])",
];

/// A reaction keeps its place in the log, and sets nothing any more.
const OF_REACTED: &[&str] = &["UPDATE entries e SET text = '', active = false
     FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq) WHERE e.room_no = n.room_no AND e.seq = n.seq"];

/// What else is somebody's (`$1`) by their name, at most `$2` of it at a time.
const REACTIONS: &str = "DELETE FROM reactions r
    USING (SELECT room_no, target, emoji FROM reactions WHERE user_id = $1 LIMIT $2) AS c
    WHERE r.room_no = c.room_no AND r.target = c.target AND r.user_id = $1 AND r.emoji = c.emoji";
const REPORTS: &str = "UPDATE reports SET reason = NULL
    WHERE no = ANY (ARRAY(SELECT no FROM reports WHERE reporter = $1 AND reason IS NOT NULL LIMIT $2))";
const NOTES: &str = "UPDATE reports SET note = NULL
    WHERE no = ANY (ARRAY(SELECT no FROM reports WHERE closed_by = $1 AND note IS NOT NULL LIMIT $2))";

const ROOMS: &str = "SELECT room_no FROM people WHERE user_id = $1 ORDER BY room_no LIMIT $2";
/// In the order in which everybody locks rooms.
const LOCK: &str = "SELECT no FROM room_heads WHERE no = ANY ($1) ORDER BY no FOR UPDATE";
/// What an owner has cached of the room is not true any more: its next append is refused, and it reads the room again.
const FENCE: &str = "UPDATE room_heads h SET epoch = epoch + 1 WHERE h.no = ANY ($1)
    AND EXISTS (SELECT FROM people p WHERE p.room_no = h.no AND p.user_id = $2 AND p.role IS NOT NULL)";
const HEIRS: &str = "WITH heirs AS (
        SELECT p.room_no, (
            SELECT h.user_id FROM people h WHERE h.room_no = p.room_no AND h.user_id <> $2 AND h.role IN (1, 2)
            ORDER BY h.role, h.known_since, h.user_id LIMIT 1
        ) AS user_id
        FROM people p
        WHERE p.room_no = ANY ($1) AND p.user_id = $2 AND p.role = 0
        AND NOT EXISTS (SELECT FROM people o WHERE o.room_no = p.room_no AND o.role = 0 AND o.user_id <> $2)
    ), made AS (
        UPDATE people p SET role = 0 FROM heirs h WHERE p.room_no = h.room_no AND p.user_id = h.user_id
        RETURNING p.room_no, p.user_id
    )
    INSERT INTO audit (at, by_user, act, whom, detail, room_no)
    SELECT (extract(epoch FROM now()) * 1000)::bigint, $2, $3, made.user_id, 'owner', made.room_no FROM made";
/// Nobody is there any more who could be asked about them. Locked in the order of their numbers, as everybody does.
const HOOKS_OFF: &str = "UPDATE webhooks SET active = false, off_reason = 'whoever made it is gone'
    WHERE no IN (SELECT no FROM webhooks WHERE room_no = ANY ($1) AND made_by = $2 AND active ORDER BY no FOR UPDATE)";
const END: &str = "DELETE FROM people WHERE room_no = ANY ($1) AND user_id = $2";

async fn erase(lease: &mut Lease, deed: &Deed) -> Result<bool, StoreError> {
    let user = deed.by.as_str();
    let gone = "UPDATE users SET erased = true, name = NULL, password_hash = NULL
                WHERE id = $1 AND NOT erased RETURNING id";
    let marked = lease.transaction(&[Step::Begin, Step::Ask(gone, &[&user])]).await?;
    if marked.get(1).is_none_or(Vec::is_empty) {
        lease.transaction(&[Step::Commit]).await?;
        return Ok(false);
    }
    let listed = format!("INSERT INTO erasures (user_id, asked_at, due_at, told_at) VALUES ($1, {NOW}, {NOW}, {NOW})");
    let line = Line::new(None, deed);
    let (insert, line) = (audit::insert(""), line.params(&[]));
    let whose: [&(dyn ToSql + Sync); 1] = [&user];
    let mut steps: Vec<Step<'_>> = CREDENTIALS.iter().map(|sql| Step::Ask(sql, &whose)).collect();
    steps.extend([Step::Ask(&listed, &whose), Step::Ask(&insert, &line), Step::Commit]);
    lease.transaction(&steps).await?;
    Ok(true)
}

async fn erase_some(lease: &mut Lease, limit: u32) -> Result<Erasing, StoreError> {
    let take = format!(
        "SELECT user_id, asked_at, round, stage, room_no, seq, {NOW} FROM erasures WHERE due_at <= {NOW}
         ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    let taken = lease.transaction(&[Step::Begin, Step::Ask(&take, &[])]).await?;
    let Some(row) = taken.get(1).and_then(|rows| rows.first()) else {
        lease.transaction(&[Step::Commit]).await?;
        return Ok(Erasing::Nothing);
    };
    let user = rows::user_id(row.get(0))?;
    let now: Millis = row.get(6);
    let mut progress = Progress {
        asked_at: row.get(1),
        round: row.get(2),
        stage: Stage::parse(row.get(3))?,
        place: Place { room_no: row.get(4), seq: row.get(5) },
        due_at: Some(now),
    };
    let left = step(lease, &user, &progress, i64::from(limit.max(1))).await?;
    let ended = progress.advance(left, now);
    let advance = "UPDATE erasures SET round = $2, stage = $3, room_no = $4, seq = $5, due_at = $6,
                       told_at = CASE WHEN $7 THEN $8 ELSE told_at END WHERE user_id = $1";
    let Progress { round, stage, place, due_at, .. } = &progress;
    let params: [&(dyn ToSql + Sync); 8] =
        [&user.as_str(), round, &stage.code(), &place.room_no, &place.seq, due_at, &ended, &now];
    lease.transaction(&[Step::Ask(advance, &params), Step::Commit]).await?;
    Ok(if ended { Erasing::Round(user) } else { Erasing::Step(user) })
}

/// Gives the place to go on from; `None`: nothing of this kind is left.
async fn step(lease: &mut Lease, user: &UserId, progress: &Progress, limit: i64) -> Result<Option<Place>, StoreError> {
    let place = progress.place;
    let whole = |count: u64| (count >= limit.unsigned_abs()).then_some(place);
    Ok(match progress.stage {
        Stage::Rooms => leave_rooms(lease, user).await?.then_some(place),
        Stage::Messages => entries(lease, user, codes::MESSAGE, place, limit, OF_MESSAGES).await?,
        Stage::Reacted => entries(lease, user, codes::REACTION, place, limit, OF_REACTED).await?,
        Stage::Reactions => whole(lease.execute(REACTIONS, &[&user.as_str(), &limit]).await?),
        Stage::Reports => whole(lease.execute(REPORTS, &[&user.as_str(), &limit]).await?),
        Stage::Notes => whole(lease.execute(NOTES, &[&user.as_str(), &limit]).await?),
        Stage::Attachments => whole(attachments::doom_of(lease, user, limit).await?),
        Stage::Credentials => {
            for sql in CREDENTIALS {
                lease.execute(sql, &[&user.as_str()]).await?;
            }
            None
        }
    })
}

/// Whether there may be more.
async fn leave_rooms(lease: &mut Lease, user: &UserId) -> Result<bool, StoreError> {
    let (user, limit) = (user.as_str(), i64::from(ROOMS_A_STEP));
    let rooms: Vec<i64> = lease.query(ROOMS, &[&user, &limit]).await?.iter().map(|row| row.get(0)).collect();
    if rooms.is_empty() {
        return Ok(false);
    }
    let of_room: [&(dyn ToSql + Sync); 2] = [&rooms, &user];
    let steps = [
        Step::Ask(LOCK, &[&rooms]),
        Step::Ask(FENCE, &of_room),
        Step::Ask(HEIRS, &[&rooms, &user, &What::RoleGiven.as_str()]),
        Step::Ask(HOOKS_OFF, &of_room),
        Step::Ask(END, &of_room),
    ];
    lease.transaction(&steps).await?;
    Ok(true)
}

/// Does each of `erase` to entries of one kind, from `place` on.
async fn entries(
    lease: &mut Lease,
    user: &UserId,
    kind: i16,
    place: Place,
    limit: i64,
    erase: &[&str],
) -> Result<Option<Place>, StoreError> {
    // The kind is part of the statement, so that the index over this kind alone serves.
    let own = format!(
        "SELECT room_no, seq FROM entries WHERE user_id = $1 AND kind = {kind} AND (room_no, seq) > ($2, $3)
         ORDER BY room_no, seq LIMIT $4"
    );
    let found = lease.query(&own, &[&user.as_str(), &place.room_no, &place.seq, &limit]).await?;
    let (nos, seqs): (Vec<i64>, Vec<i64>) =
        found.iter().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))).unzip();
    let (Some(&room_no), Some(&seq)) = (nos.last(), seqs.last()) else { return Ok(None) };
    let of_entries: [&(dyn ToSql + Sync); 2] = [&nos, &seqs];
    let steps: Vec<Step<'_>> = erase.iter().map(|sql| Step::Ask(sql, &of_entries)).collect();
    lease.transaction(&steps).await?;
    Ok(Some(Place { room_no, seq }))
}

#[async_trait]
impl PrivacyStore for PostgresStore {
    async fn erase(&self, deed: &Deed) -> Result<bool, StoreError> {
        erase(&mut self.lease().await?, deed).await
    }

    async fn erase_some(&self, limit: u32) -> Result<Erasing, StoreError> {
        erase_some(&mut self.lease().await?, limit).await
    }

    async fn cut_off(&self, since: Millis) -> Result<(Millis, Vec<CutOff>), StoreError> {
        let sql = "SELECT user_id, told_at, true FROM erasures WHERE told_at > $1
                   UNION ALL SELECT user_id, at, false FROM server_bans WHERE at > $1";
        let now = format!("SELECT {NOW}");
        let mut lease = self.lease().await?;
        // The clock first: whoever is cut off behind it is found the next time.
        let now = lease.query_opt(&now, &[]).await?.map_or(0, |row| row.get(0));
        let found = lease.query(sql, &[&since]).await?;
        let cut_off = |row: &tokio_postgres::Row| {
            Ok(CutOff { user: rows::user_id(row.get(0))?, at: row.get(1), erased: row.get(2) })
        };
        Ok((now, found.iter().map(cut_off).collect::<Result<_, StoreError>>()?))
    }

    async fn standing(&self, user: &UserId) -> Result<Standing, StoreError> {
        let sql = "SELECT coalesce((SELECT erased FROM users WHERE id = $1), false),
                       EXISTS (SELECT FROM server_bans WHERE user_id = $1)";
        let row = self.lease().await?.query_opt(sql, &[&user.as_str()]).await?;
        Ok(match row.map(|row| (row.get(0), row.get(1))) {
            Some((true, _)) => Standing::Erased,
            Some((_, true)) => Standing::Banned,
            _ => Standing::Good,
        })
    }

    async fn ban_from_server(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError> {
        let sql = format!(
            "WITH done AS (
                INSERT INTO server_bans (user_id, at, by_user) VALUES ($9, {NOW}, $2)
                ON CONFLICT (user_id) DO NOTHING RETURNING user_id
            ) {}",
            audit::insert("FROM done")
        );
        let line = Line::new(None, deed);
        Ok(self.lease().await?.execute(&sql, &line.params(&[&user.as_str()])).await? == 1)
    }

    async fn lift_server_ban(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError> {
        let sql = format!(
            "WITH done AS (DELETE FROM server_bans WHERE user_id = $9 RETURNING user_id) {}",
            audit::insert("FROM done")
        );
        let line = Line::new(None, deed);
        Ok(self.lease().await?.execute(&sql, &line.params(&[&user.as_str()])).await? == 1)
    }

    async fn server_bans(
        &self,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Millis, UserId)>, StoreError> {
        let sql = "SELECT user_id, at, by_user FROM server_bans WHERE user_id > $1 ORDER BY user_id LIMIT $2";
        let cursor = cursor.map_or("", UserId::as_str);
        let found = self.lease().await?.query(sql, &[&cursor, &i64::from(limit)]).await?;
        found.iter().map(|row| Ok((rows::user_id(row.get(0))?, row.get(1), rows::user_id(row.get(2))?))).collect()
    }

    async fn own_rooms(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnRoom>, StoreError> {
        let sql = "SELECT p.room_no, r.id, p.role, p.banned, p.read_seq FROM people p JOIN rooms r ON r.no = p.room_no
                   WHERE p.user_id = $1 AND p.room_no > $2 AND NOT r.deleted ORDER BY p.room_no LIMIT $3";
        let found = self.lease().await?.query(sql, &[&user.as_str(), &after, &i64::from(limit)]).await?;
        let own = |row: &tokio_postgres::Row| {
            Ok(OwnRoom {
                room_no: row.get(0),
                room: rows::room_id(row.get(1))?,
                role: row.get::<_, Option<i16>>(2).map(codes::parse_role).transpose()?,
                banned: row.get(3),
                read_seq: rows::seq_out(row.get(4)),
            })
        };
        found.iter().map(own).collect()
    }

    async fn own_messages(
        &self,
        user: &UserId,
        after: Place,
        limit: u32,
    ) -> Result<Vec<(Place, Option<OwnMessage>)>, StoreError> {
        let sql =
            "SELECT e.room_no, e.seq, r.id, e.at, e.message_id, e.text, e.data, e.reply_to, e.edited_at, r.deleted
                   FROM (
                       SELECT * FROM entries WHERE user_id = $1 AND kind = 0 AND (room_no, seq) > ($2, $3)
                       ORDER BY room_no, seq LIMIT $4
                   ) AS e JOIN rooms r ON r.no = e.room_no ORDER BY e.room_no, e.seq";
        let params: [&(dyn ToSql + Sync); 4] = [&user.as_str(), &after.room_no, &after.seq, &i64::from(limit)];
        let mut lease = self.lease().await?;
        let found = lease.query(sql, &params).await?;
        // Of deleted rooms nothing is opened: their keys are gone.
        let message = |row: &tokio_postgres::Row| {
            let there = !row.get::<_, bool>(9);
            EntryRow {
                room: row.get(0),
                user: user.as_str().to_owned(),
                message_id: row.get(4),
                text: if there { row.get(5) } else { None },
                data: if there { row.get(6) } else { None },
                ..EntryRow::default()
            }
        };
        let read = encryption::opened(&mut lease, &self.sealing, found.iter().map(message).collect()).await?;
        let own = |(row, read): (&tokio_postgres::Row, EntryRow)| {
            let place = Place { room_no: row.get(0), seq: row.get(1) };
            if row.get(9) {
                return Ok((place, None));
            }
            let broken = |why: &str| StoreError::Fault(format!("message {} is broken in the store: {why}", place.seq));
            let data = read.data.map(Data::from_compact).transpose();
            let message = OwnMessage {
                place,
                room: rows::room_id(row.get(2))?,
                seq: rows::seq_out(place.seq),
                at: row.get(3),
                id: MessageId::parse(row.get::<_, Option<&str>>(4).unwrap_or_default()).map_err(broken)?,
                text: read.text,
                data: data.map_err(|error| broken(&error.to_string()))?,
                reply_to: row.get::<_, Option<i64>>(7).map(rows::seq_out),
                edited_at: row.get(8),
            };
            Ok((place, Some(message)))
        };
        found.iter().zip(read).map(own).collect()
    }

    async fn own_reactions(
        &self,
        user: &UserId,
        after: (Place, &str),
        limit: u32,
    ) -> Result<Vec<OwnReaction>, StoreError> {
        let sql = "SELECT c.room_no, c.target, r.id, c.emoji FROM reactions c JOIN rooms r ON r.no = c.room_no
                   WHERE c.user_id = $1 AND (c.room_no, c.target, c.emoji) > ($2, $3, $4) AND NOT r.deleted
                   ORDER BY c.room_no, c.target, c.emoji LIMIT $5";
        let (Place { room_no, seq }, emoji) = after;
        let params: [&(dyn ToSql + Sync); 5] = [&user.as_str(), &room_no, &seq, &emoji, &i64::from(limit)];
        let found = self.lease().await?.query(sql, &params).await?;
        let own = |row: &tokio_postgres::Row| {
            let place = Place { room_no: row.get(0), seq: row.get(1) };
            let room = rows::room_id(row.get(2))?;
            Ok(OwnReaction { place, room, target: rows::seq_out(place.seq), emoji: row.get(3) })
        };
        found.iter().map(own).collect()
    }

    async fn own_reports(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnReport>, StoreError> {
        let sql = "SELECT p.no, r.id, p.seq, p.at, p.reason, p.room_no FROM reports p JOIN rooms r ON r.no = p.room_no
                   WHERE p.reporter = $1 AND p.reason IS NOT NULL AND p.no > $2 AND NOT r.deleted
                   ORDER BY p.no LIMIT $3";
        let mut lease = self.lease().await?;
        let found = lease.query(sql, &[&user.as_str(), &after, &i64::from(limit)]).await?;
        let texts = found.iter().map(|row| (row.get(5), row.get(4)));
        let keys = Keys::to_read(&mut lease, &self.sealing, sealed_of(texts)).await?;
        let own = |row: &tokio_postgres::Row| {
            let (no, room, seq) = (row.get(0), rows::room_id(row.get(1))?, rows::seq_out(row.get(2)));
            let written = sealed::Place::Reason { seq: row.get(2), reporter: user.as_str() };
            let reason = row.get::<_, Option<String>>(4);
            let reason =
                reason.map(|reason| sealed::opened(|no| keys.need(no), row.get(5), written, reason)).transpose()?;
            Ok(OwnReport { no, room, seq, at: row.get(3), reason })
        };
        found.iter().map(own).collect()
    }
}
