//! Where messages wait that are not sent yet, so that they outlive the process.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::core::StoredMessage;

/// Called from a thread that may block, one call after the other. One that fails is not asked again: messages then wait
/// in memory only, and the application is told ([`crate::Event::Volatile`]).
pub trait OutboxStorage: Send + Sync + 'static {
    /// The messages of that user.
    ///
    /// # Errors
    /// What the medium says.
    fn load(&self, user: &str) -> io::Result<Vec<StoredMessage>>;
    /// Keeps one; a message of that user, room and id is replaced.
    ///
    /// # Errors
    /// What the medium says.
    fn put(&self, message: &StoredMessage) -> io::Result<()>;
    /// Lets go of one; of one that is not there too.
    ///
    /// # Errors
    /// What the medium says.
    fn remove(&self, user: &str, room: &str, id: &str) -> io::Result<()>;
}

type Key = (String, String, String);

fn key(message: &StoredMessage) -> Key {
    (message.user.clone(), message.room.clone(), message.id.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In memory: messages outlive the client, not the process.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<BTreeMap<Key, StoredMessage>>);

impl OutboxStorage for MemoryStorage {
    fn load(&self, user: &str) -> io::Result<Vec<StoredMessage>> {
        Ok(lock(&self.0).values().filter(|message| message.user == user).cloned().collect())
    }

    fn put(&self, message: &StoredMessage) -> io::Result<()> {
        lock(&self.0).insert(key(message), message.clone());
        Ok(())
    }

    fn remove(&self, user: &str, room: &str, id: &str) -> io::Result<()> {
        lock(&self.0).remove(&(user.to_owned(), room.to_owned(), id.to_owned()));
        Ok(())
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Put(StoredMessage),
    Remove { user: String, room: String, id: String },
}

/// Lines that stand for nothing any more, before the file is written anew.
const STALE_LINES: usize = 1000;

/// A file of one client: a line for each message kept and each let go. What a process wrote is there after it was killed;
/// after a loss of power the last lines may be missing.
#[derive(Debug)]
pub struct FileStorage(Mutex<Journal>);

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    messages: BTreeMap<Key, StoredMessage>,
    stale: usize,
}

impl FileStorage {
    /// Opens the file at `path`, or makes it. One process at a time may have it.
    ///
    /// # Errors
    /// It can't be opened, another process has it (`WouldBlock`), or it is no such file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                let why = format!("{}: another process has it", path.display());
                io::Error::new(io::ErrorKind::WouldBlock, why)
            }
            std::fs::TryLockError::Error(error) => error,
        })?;
        let mut messages = BTreeMap::new();
        let mut lines = 0;
        let all: Vec<Vec<u8>> = BufReader::new(&file).split(b'\n').collect::<io::Result<_>>()?;
        for (at, line) in all.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Put(message)) => drop(messages.insert(key(&message), message)),
                Ok(Line::Remove { user, room, id }) => drop(messages.remove(&(user, room, id))),
                // The last one may have been cut off in the writing.
                Err(_) if at + 1 == all.len() => {}
                Err(error) => {
                    let why = format!("{}, line {}: {error}", path.display(), at + 1);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
            lines += 1;
        }
        let mut journal = Journal { path, file, stale: lines - messages.len().min(lines), messages };
        if journal.stale > 0 {
            journal.write_anew()?;
        }
        Ok(Self(Mutex::new(journal)))
    }
}

impl Journal {
    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        if self.stale > STALE_LINES {
            self.write_anew()?;
        }
        Ok(())
    }

    /// Writes what counts beside the file, and puts it in its place.
    fn write_anew(&mut self) -> io::Result<()> {
        let beside = self.path.with_added_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&beside)?;
        // Before it has the name, so that nobody takes it meanwhile.
        file.lock()?;
        let mut bytes = Vec::new();
        for message in self.messages.values() {
            serde_json::to_writer(&mut bytes, &Line::Put(message.clone()))?;
            bytes.push(b'\n');
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.stale) = (file, 0);
        Ok(())
    }
}

impl OutboxStorage for FileStorage {
    fn load(&self, user: &str) -> io::Result<Vec<StoredMessage>> {
        Ok(lock(&self.0).messages.values().filter(|message| message.user == user).cloned().collect())
    }

    fn put(&self, message: &StoredMessage) -> io::Result<()> {
        let mut journal = lock(&self.0);
        if journal.messages.insert(key(message), message.clone()).is_some() {
            journal.stale += 1;
        }
        journal.append(&Line::Put(message.clone()))
    }

    fn remove(&self, user: &str, room: &str, id: &str) -> io::Result<()> {
        let mut journal = lock(&self.0);
        let (user, room, id) = (user.to_owned(), room.to_owned(), id.to_owned());
        if journal.messages.remove(&(user.clone(), room.clone(), id.clone())).is_none() {
            return Ok(());
        }
        journal.stale += 2;
        journal.append(&Line::Remove { user, room, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u64) -> StoredMessage {
        let text = "日本語\n".repeat(3);
        let (user, room, id) = ("alice".into(), "lobby".into(), format!("m-{n}"));
        StoredMessage { user, room, id, n, text, reply_to: None, data: None, at_ms: n, failed: None }
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("roundtable-client-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a folder");
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_kept_is_there_again_also_after_a_line_that_was_cut_off() {
        let dir = Dir::new("cut");
        let path = dir.0.join("outbox");
        let storage = FileStorage::open(&path).expect("opens");
        assert_eq!(FileStorage::open(&path).expect_err("taken").kind(), io::ErrorKind::WouldBlock);
        for n in 0..5 {
            storage.put(&message(n)).expect("kept");
        }
        storage.remove("alice", "lobby", "m-1").expect("gone");
        storage.remove("alice", "lobby", "m-9").expect("never there");
        drop(storage);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"put\":{\"us"))
            .expect("cut");
        let storage = FileStorage::open(&path).expect("opens again");
        let ids: Vec<_> = storage.load("alice").expect("read").into_iter().map(|message| message.n).collect();
        assert_eq!(ids, [0, 2, 3, 4]);
        assert_eq!(storage.load("bob").expect("read"), []);
        storage.put(&message(7)).expect("kept");
        drop(storage);
        assert_eq!(FileStorage::open(&path).expect("opens").load("alice").expect("read").len(), 5);
    }

    #[test]
    fn a_file_that_is_something_else_is_refused_and_stays() {
        let dir = Dir::new("other");
        let path = dir.0.join("letter");
        std::fs::write(&path, "Dear Bob,\nhow are you?\n").expect("written");
        let error = FileStorage::open(&path).expect_err("no outbox");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("line 1"), "{error}");
        assert!(std::fs::read_to_string(&path).expect("read").starts_with("Dear Bob"));
    }

    #[test]
    fn the_file_does_not_grow_with_what_went_through_it() {
        let dir = Dir::new("small");
        let path = dir.0.join("outbox");
        let storage = FileStorage::open(&path).expect("opens");
        for n in 0..3000 {
            storage.put(&message(n)).expect("kept");
            storage.remove("alice", "lobby", &format!("m-{n}")).expect("gone");
        }
        storage.put(&message(1)).expect("kept");
        let size = std::fs::metadata(&path).expect("it is there").len();
        assert!(size < 400_000, "{size} bytes");
        drop(storage);
        assert_eq!(FileStorage::open(&path).expect("opens").load("alice").expect("read").len(), 1);
    }
}
