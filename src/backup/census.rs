//! What is in a store, as far as two states of it have to agree: its counts, the head of every room, and a digest of all
//! entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BackupError, hex};

/// Rooms whose logs are not whole that are named.
const NAMED: usize = 10;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Number of the newest migration.
    pub schema: i64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Rooms that are not deleted.
    pub rooms: u64,
    /// Their entries.
    pub entries: u64,
    /// SHA-256 over the rooms' numbers and heads.
    pub heads: String,
    /// Over all columns of all entries; comparable within one kind of store.
    pub digest: String,
    /// The first few rooms whose logs are not whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
}

/// One room's log in short.
#[derive(Clone, Debug)]
pub(super) struct RoomLog {
    pub no: i64,
    pub id: String,
    pub head: i64,
    pub oldest: i64,
    pub entries: i64,
    /// 0: none.
    pub first: i64,
    pub last: i64,
}

/// Takes the rooms in, in the order of their numbers.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: u64,
    entries: u64,
    heads: Sha256,
    broken: Vec<String>,
}

impl Rooms {
    pub fn add(&mut self, room: &RoomLog) {
        self.rooms += 1;
        self.entries += u64::try_from(room.entries).unwrap_or_default();
        for number in [room.no, room.head, room.oldest, room.entries] {
            self.heads.update(number.to_be_bytes());
        }
        // Their key makes seqs unique: as many as there are places, with these ends, is all of them.
        let places = room.head - room.oldest + 1;
        let ends = places == 0 || (room.first, room.last) == (room.oldest, room.head);
        if (room.entries != places || !ends) && self.broken.len() < NAMED {
            self.broken.push(format!(
                "{}: {} entries from {} to {}, where there should be {places} from {} to {}",
                room.id, room.entries, room.first, room.last, room.oldest, room.head
            ));
        }
    }

    pub fn done(self, schema: i64, tables: BTreeMap<String, u64>, digest: String) -> Census {
        let Self { rooms, entries, heads, broken } = self;
        Census { schema, tables, rooms, entries, heads: hex(&heads.finalize()), digest, broken }
    }
}

impl Census {
    /// # Errors
    /// Where a room's log has a gap or does not reach its head.
    pub fn is_sound(&self) -> Result<(), BackupError> {
        if self.broken.is_empty() {
            return Ok(());
        }
        Err(BackupError::Damaged(format!("logs are not whole: {}", self.broken.join("; "))))
    }

    /// # Errors
    /// Where `other` differs, with what differs first.
    pub fn is_equal(&self, other: &Self) -> Result<(), BackupError> {
        let differs =
            |what: String| Err(BackupError::Damaged(format!("what was restored is not what was copied: {what}")));
        if self.schema != other.schema {
            return differs(format!("schema {} instead of {}", other.schema, self.schema));
        }
        let names = self.tables.keys().chain(other.tables.keys());
        for name in names {
            let (copied, restored) = (self.tables.get(name), other.tables.get(name));
            if copied != restored {
                return differs(format!("{name} has {restored:?} rows instead of {copied:?}"));
            }
        }
        if (self.rooms, &self.heads) != (other.rooms, &other.heads) {
            return differs("heads of rooms".to_owned());
        }
        if (self.entries, &self.digest) != (other.entries, &other.digest) {
            return differs("entries".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(rooms: &[RoomLog]) -> Census {
        let mut all = Rooms::default();
        rooms.iter().for_each(|room| all.add(room));
        all.done(11, BTreeMap::from([("entries".to_owned(), 3)]), "d".to_owned())
    }

    fn log(head: i64, entries: i64, first: i64, last: i64) -> RoomLog {
        RoomLog { no: 1, id: "lobby".to_owned(), head, oldest: 1, entries, first, last }
    }

    #[test]
    fn a_log_is_whole_when_every_place_up_to_the_head_is_taken() {
        assert!(census(&[log(3, 3, 1, 3), log(0, 0, 0, 0)]).is_sound().is_ok());
        for broken in
            [log(3, 2, 1, 3), log(3, 3, 1, 4), log(4, 3, 1, 3), log(3, 3, 0, 3), log(1, 0, 0, 0), log(0, 1, 1, 1)]
        {
            let told = census(&[broken]).is_sound().expect_err("not whole").to_string();
            assert!(told.contains("lobby"), "{told}");
        }
    }

    #[test]
    fn every_difference_is_found() {
        let one = census(&[log(3, 3, 1, 3)]);
        assert!(one.is_equal(&one.clone()).is_ok());
        let change = |with: fn(&mut Census)| {
            let mut other = one.clone();
            with(&mut other);
            one.is_equal(&other).expect_err("different").to_string()
        };
        assert!(change(|other| other.schema = 10).contains("schema 10 instead of 11"));
        assert!(change(|other| other.tables.extend([("entries".to_owned(), 2)])).contains("entries has Some(2)"));
        assert!(change(|other| other.tables.extend([("more".to_owned(), 0)])).contains("more"));
        assert!(change(|other| other.tables.clear()).contains("entries has None"));
        assert!(change(|other| other.digest = "e".to_owned()).contains("entries"));
        assert!(one.is_equal(&census(&[log(4, 4, 1, 4)])).expect_err("different").to_string().contains("heads"));
    }
}
