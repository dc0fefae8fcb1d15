//! The audit log. A trigger refuses every change of what is in it.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::domain::audit::Deed;
use crate::ids::{RoomId, UserId};
use crate::infra::rows;
use crate::ports::{AuditStore, Audited, StoreError};

/// One line from the parameters of [`Line`]; `{}` stands for where it comes from: `FROM done` writes it once a row there.
pub fn insert(from: &str) -> String {
    format!(
        "INSERT INTO audit (at, by_user, act, whom, seq, detail, came_from, room_no)
         SELECT $1::bigint, $2::text, $3::text, $4::text, $5::bigint, $6::text, $7::text,
             (SELECT no FROM rooms WHERE id = $8::text) {from}"
    )
}

/// A deed as parameters `$1` to `$8`.
pub struct Line<'a> {
    deed: &'a Deed,
    by: &'a str,
    act: &'static str,
    whom: Option<&'a str>,
    seq: Option<i64>,
    from: Option<&'a str>,
    room: Option<&'a str>,
}

impl<'a> Line<'a> {
    pub fn new(room: Option<&'a RoomId>, deed: &'a Deed) -> Self {
        Self {
            deed,
            by: deed.by.as_str(),
            act: deed.what.as_str(),
            whom: deed.whom.as_ref().map(UserId::as_str),
            seq: deed.seq.map(rows::seq_in),
            from: deed.from.as_ref().map(|from| from.0.as_str()),
            room: room.map(RoomId::as_str),
        }
    }

    /// These, and behind them `more`.
    pub fn params<'b>(&'b self, more: &[&'b (dyn ToSql + Sync)]) -> Vec<&'b (dyn ToSql + Sync)> {
        let mut params: Vec<&'b (dyn ToSql + Sync)> =
            vec![&self.deed.at, &self.by, &self.act, &self.whom, &self.seq, &self.deed.detail, &self.from, &self.room];
        params.extend(more);
        params
    }
}

/// Lines of several rooms at once, a vector a column, in the transaction of what they tell.
pub const INSERT_ALL: &str = "INSERT INTO audit (room_no, at, by_user, act, whom, seq, detail, came_from)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
        $8::text[])";

/// The parameters of [`INSERT_ALL`].
#[derive(Default)]
pub struct Lines<'a> {
    pub nos: Vec<i64>,
    ats: Vec<i64>,
    bys: Vec<&'a str>,
    acts: Vec<&'static str>,
    whoms: Vec<Option<&'a str>>,
    seqs: Vec<Option<i64>>,
    details: Vec<Option<&'a str>>,
    froms: Vec<Option<&'a str>>,
}

impl<'a> Lines<'a> {
    pub fn of(deeds: impl Iterator<Item = (i64, &'a Deed)>) -> Self {
        let mut lines = Self::default();
        for (no, deed) in deeds {
            lines.nos.push(no);
            lines.ats.push(deed.at);
            lines.bys.push(deed.by.as_str());
            lines.acts.push(deed.what.as_str());
            lines.whoms.push(deed.whom.as_ref().map(UserId::as_str));
            lines.seqs.push(deed.seq.map(rows::seq_in));
            lines.details.push(deed.detail.as_deref());
            lines.froms.push(deed.from.as_ref().map(|from| from.0.as_str()));
        }
        lines
    }

    pub fn params(&self) -> [&(dyn ToSql + Sync); 8] {
        [&self.nos, &self.ats, &self.bys, &self.acts, &self.whoms, &self.seqs, &self.details, &self.froms]
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn audit(&self, room: Option<&RoomId>, deed: &Deed) -> Result<(), StoreError> {
        let line = Line::new(room, deed);
        self.lease().await?.execute(&insert(""), &line.params(&[])).await?;
        Ok(())
    }

    async fn audited(
        &self,
        room: Option<&RoomId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Audited>, StoreError> {
        let of_room = if room.is_some() { "AND a.room_no = (SELECT no FROM rooms WHERE id = $3)" } else { "" };
        let sql = format!(
            "SELECT a.no, a.at, a.by_user, a.act, r.id, a.whom, a.seq, a.detail, a.came_from
             FROM audit a LEFT JOIN rooms r ON r.no = a.room_no
             WHERE a.no < $1 {of_room} ORDER BY a.no DESC LIMIT $2"
        );
        let (before, limit) = (before.unwrap_or(i64::MAX), i64::from(limit));
        let room = room.map(RoomId::as_str);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&before, &limit];
        if room.is_some() {
            params.push(&room);
        }
        let found = self.lease().await?.query(&sql, &params).await?;
        let audited = |row: &tokio_postgres::Row| {
            Ok(Audited {
                no: row.get(0),
                at: row.get(1),
                by: rows::user_id(row.get(2))?,
                act: row.get(3),
                room: row.get::<_, Option<&str>>(4).map(rows::room_id).transpose()?,
                whom: row.get::<_, Option<&str>>(5).map(rows::user_id).transpose()?,
                seq: row.get::<_, Option<i64>>(6).map(rows::seq_out),
                detail: row.get(7),
                from: row.get(8),
            })
        };
        found.iter().map(audited).collect()
    }
}
