//! SQLite: its online backup copies the pages, in a read transaction that the counting is done in too.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use super::census::{Census, RoomLog, Rooms};
use super::{BackupError, file, hex};

/// Longest wait for a lock of the server's.
const BUSY: Duration = Duration::from_secs(30);

fn store_error(error: rusqlite::Error) -> BackupError {
    BackupError::Store(error.to_string())
}

/// Opens what is there. Writing is allowed, since reading a file in WAL mode needs the files beside it.
fn open(path: &Path) -> Result<Connection, BackupError> {
    if !path.exists() {
        return Err(BackupError::Refused(format!("{}: there is no such database", path.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(store_error)?;
    connection.busy_timeout(BUSY).map_err(store_error)?;
    Ok(connection)
}

pub(super) fn make(path: &Path, copy: &Path) -> Result<Census, BackupError> {
    let source = open(path)?;
    // The pages and the counts are of the state that the transaction sees, however much is written meanwhile.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master;").map_err(store_error)?;
    private(copy).map_err(file(copy))?;
    let mut target = Connection::open(copy).map_err(store_error)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(store_error)?;
        match backup.step(-1).map_err(store_error)? {
            StepResult::Done => {}
            _ => return Err(BackupError::Store("the database is locked".to_owned())),
        }
    }
    // One file, complete by itself.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(store_error)?;
    let copied = is_intact(&target).and_then(|()| census(&target))?;
    target.close().map_err(|(_, error)| store_error(error))?;
    File::open(copy).and_then(|copy| copy.sync_all()).map_err(file(copy))?;
    census(&source)?.is_equal(&copied)?;
    Ok(copied)
}

pub(super) fn check(path: &Path) -> Result<Census, BackupError> {
    let connection = open(path)?;
    connection.execute_batch("BEGIN").map_err(store_error)?;
    is_intact(&connection)?;
    census(&connection)
}

pub(super) fn restore(copy: &Path, path: &Path) -> Result<Census, BackupError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    for there in [path.to_path_buf(), beside("-wal"), beside("-journal")] {
        if there.exists() {
            return Err(BackupError::Refused(format!("{} is there already: nothing was done", there.display())));
        }
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(file(folder))?;
    }
    let draft = beside(".restoring");
    private(&draft).map_err(file(&draft))?;
    fs::copy(copy, &draft).and_then(|_| File::open(&draft)?.sync_all()).map_err(file(&draft))?;
    let restored = open(&draft).and_then(|connection| {
        is_intact(&connection)?;
        census(&connection)
    })?;
    fs::rename(&draft, path).map_err(file(path))?;
    Ok(restored)
}

pub(super) fn note(path: &Path, taken_s: i64, bytes: i64) -> Result<(), BackupError> {
    let note = "INSERT INTO backups (one, taken_at, bytes) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE \
                SET taken_at = max(taken_at, excluded.taken_at), bytes = excluded.bytes";
    open(path)?.execute(note, (taken_s, bytes)).map_err(store_error)?;
    Ok(())
}

/// A new file for the owner's eyes only.
fn private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).map(drop)
}

/// SQLite's own view of its pages and indexes.
fn is_intact(connection: &Connection) -> Result<(), BackupError> {
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(store_error)?;
    if said == "ok" { Ok(()) } else { Err(BackupError::Damaged(format!("the database is damaged: {said}"))) }
}

fn census(connection: &Connection) -> Result<Census, BackupError> {
    let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(store_error);
    let schema = one("SELECT coalesce(max(version), 0) FROM refinery_schema_history")?;
    let names =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(names).map_err(store_error)?;
    let names: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).map_err(store_error)?.collect();
    let mut tables = BTreeMap::new();
    for name in names.map_err(store_error)? {
        let rows = one(&format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\"")))?;
        tables.insert(name, u64::try_from(rows).unwrap_or_default());
    }
    let logs = "SELECT r.no, r.id, r.head, r.oldest, coalesce(e.entries, 0), coalesce(e.first, 0), coalesce(e.last, 0) \
                FROM rooms r LEFT JOIN (\
                    SELECT room_no, count(*) AS entries, min(seq) AS first, max(seq) AS last FROM entries GROUP BY room_no\
                ) e ON e.room_no = r.no WHERE NOT r.deleted ORDER BY r.no";
    let mut statement = connection.prepare(logs).map_err(store_error)?;
    let mut found = statement.query([]).map_err(store_error)?;
    let mut rooms = Rooms::default();
    while let Some(row) = found.next().map_err(store_error)? {
        let log = || -> rusqlite::Result<RoomLog> {
            Ok(RoomLog {
                no: row.get(0)?,
                id: row.get(1)?,
                head: row.get(2)?,
                oldest: row.get(3)?,
                entries: row.get(4)?,
                first: row.get(5)?,
                last: row.get(6)?,
            })
        };
        rooms.add(&log().map_err(store_error)?);
    }
    Ok(rooms.done(schema, tables, digest(connection).map_err(store_error)?))
}

/// SHA-256 over every column of every entry, in the order of the log.
fn digest(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("SELECT * FROM entries ORDER BY room_no, seq")?;
    let columns = statement.column_count();
    let (mut rows, mut hash) = (statement.query([])?, Sha256::new());
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let (kind, bytes): (u8, &[u8]) = match row.get_ref(column)? {
                ValueRef::Null => (0, &[]),
                ValueRef::Integer(number) => {
                    hash.update([1]);
                    hash.update(number.to_be_bytes());
                    continue;
                }
                ValueRef::Real(number) => {
                    hash.update([2]);
                    hash.update(number.to_be_bytes());
                    continue;
                }
                ValueRef::Text(text) => (3, text),
                ValueRef::Blob(blob) => (4, blob),
            };
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
    Ok(hex(&hash.finalize()))
}
