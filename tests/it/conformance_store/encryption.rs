//! Texts of encrypted rooms stand nowhere in the clear and read as before; keys rotate under writers; what is missing or
//! damaged is said.

use std::sync::atomic::{AtomicBool, Ordering};

use roundtable::config::{EncryptedRooms, Encryption, Secret};
use roundtable::domain::audit::{Deed, What};
use roundtable::domain::search::wanted::Wanted;
use roundtable::entry::{Body, RoomPatch};
use roundtable::infra::sealed::KeyRing;
use roundtable::ports::{EncryptionLeft, Place, ReportQuery, Reported, Search, StoreError};

use super::*;

on_both_stores!(
    nothing_of_an_encrypted_room_is_stored_in_the_clear_and_all_of_it_can_be_read,
    what_was_there_before_is_encrypted_in_the_background,
    keys_rotate_while_others_write,
    a_missing_or_another_key_is_named,
    a_damaged_text_is_said_and_costs_nothing_else,
    a_deleted_room_loses_its_key_at_once,
    only_the_rooms_that_the_setting_names_are_encrypted,
);

/// Stands in every text, and in nothing else.
const MARKER: &str = "xyzzyplugh";

const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_A: &str = "a:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const B: &str = "b:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

impl Backend {
    /// The same database, opened again with these keys.
    async fn with_keys(self, rooms: EncryptedRooms, keys: &str, active: &str) -> Self {
        let Self { store, raw } = self;
        drop(store);
        let settings = Encryption { rooms, keys: Secret::new(keys), active: active.into(), ..Encryption::default() };
        let ring = KeyRing::new(&settings).expect("valid");
        let store: Arc<dyn MessageStore> = match &raw {
            Raw::Postgres(url) => {
                let options = PostgresOptions { answer_within: Duration::from_secs(10), ..PostgresOptions::default() };
                Arc::new(PostgresStore::connect(url, options).expect("a PostgreSQL URL").encrypting(ring))
            }
            Raw::Sqlite { path, .. } => {
                Arc::new(SqliteStore::open(path).expect("the lock was let go").encrypting(ring))
            }
        };
        store.migrate().await.expect("the store is there");
        Self { store, raw }
    }

    async fn encrypts_all(&self) {
        let mut steps = 0;
        while self.store.encrypt_some(3).await.expect("the store is there") {
            steps += 1;
            assert!(steps < 1_000, "it never ends");
        }
        assert_eq!(self.store.encryption_left().await, Ok(EncryptionLeft::default()));
    }

    async fn finds_in_all(&self, word: &str) -> usize {
        while self.store.index_news().await.expect("the store is there") > 0 {}
        let wanted = Wanted::parse(word).expect("a word");
        let search = Search { wanted, asker: Some(user("alice")), room: None, from: None, newest: None };
        self.store.search(search).await.expect("the store is there").found.len()
    }
}

/// Messages with data, an edit with what it replaced, a thread, a pin, reports with a reason and a note.
async fn a_room_with_everything(b: &Backend) -> Owned {
    for other in ["alice", "bob"] {
        b.account(other).await;
    }
    let room = b.room("one").await;
    room.does("alice", Change::SetMember { user: user("bob"), role: Role::Member }).await;
    room.does("alice", Change::Patch(RoomPatch { edit_history: Some(true), ..RoomPatch::default() })).await;
    let said = with_data("m1", &format!("{MARKER} first"), &format!("{{\"k\":\"{MARKER}\"}}"));
    assert_eq!(room.does("alice", said).await, appended(2));
    assert_eq!(room.does("bob", reply("m2", &format!("{MARKER} reply"), 2)).await, appended(3));
    edits(&room, 4).await;
    let react = Change::React { target: 2, emoji: "👍".into(), active: true };
    assert_eq!(room.does("bob", react).await, appended(5));
    assert_eq!(b.store.pin(&room_id("one"), 2, &user("alice"), AT, 10).await, Ok(Pinned::Done));
    let reason = format!("{MARKER} reason");
    let reported = b.store.report(&room_id("one"), 3, &user("alice"), AT, &reason, 10).await;
    let Ok(Reported::New(no)) = reported else { panic!("{reported:?}") };
    let by = user("alice");
    let deed = Deed { at: AT, by, from: None, what: What::ReportClosed, whom: None, seq: None, detail: None };
    let note = format!("{MARKER} note");
    assert_eq!(b.store.close_report(&room_id("one"), no, "none", Some(&note), &deed).await, Ok(true));
    room
}

async fn edits(room: &Owned, seq: Seq) {
    let edit = Change::Edit { target: 2, text: format!("{MARKER} second"), mentions: Mentions::default() };
    assert_eq!(room.does("alice", edit.clone()).await, appended(seq));
    assert_eq!(room.does("alice", edit).await, Outcome::Unchanged, "the same text again");
}

fn text_of(entry: &Entry) -> Option<&str> {
    match &entry.body {
        Body::Message(message) => message.text.as_deref(),
        Body::Edit { text, .. } => text.as_deref(),
        _ => None,
    }
}

/// Everything of [`a_room_with_everything`], by every way there is to read it.
async fn reads_as_it_was_written(b: &Backend) {
    let said = |what: &str| format!("{MARKER} {what}");
    let texts =
        |entries: &[Entry]| entries.iter().filter_map(|entry| text_of(entry).map(str::to_owned)).collect::<Vec<_>>();
    let log = b.log("one").await;
    assert_eq!(texts(&log), [said("second"), said("reply"), said("second")]);
    let Body::Message(message) = &log[1].body else { panic!("{log:?}") };
    assert_eq!(message.data.as_ref().map(Data::as_str), Some(&*format!("{{\"k\":\"{MARKER}\"}}")));
    assert_eq!(texts(&b.page("one", Range::Newest, 2).await.entries), [said("second")]);
    assert_eq!(texts(&b.page("one", Range::Before(4), 10).await.entries), [said("second"), said("reply")]);
    assert_eq!(texts(&b.open("one").await.opened.recent), texts(&log));
    let thread = b.store.thread(&room_id("one"), 3, 0, 10, usize::MAX).await.expect("there").expect("a thread");
    assert_eq!(texts(&thread.page.entries), [said("second"), said("reply")]);
    let pins = b.store.pins(&room_id("one"), 10).await.expect("the store is there");
    assert_eq!(pins.iter().filter_map(|pin| text_of(&pin.entry)).collect::<Vec<_>>(), [said("second")]);
    let revisions = b.store.revisions(&room_id("one"), 2, 0, 10).await.expect("the store is there");
    assert_eq!(revisions.iter().map(|one| one.text.clone()).collect::<Vec<_>>(), [said("first")]);
    let query = ReportQuery { room: Some(&room_id("one")), open: false, after: 0, limit: 10 };
    let reports = b.store.reports(query).await.expect("the store is there");
    let report = reports.first().expect("a report");
    assert_eq!((report.reason.clone(), report.text.clone()), (Some(said("reason")), Some(said("reply"))));
    assert_eq!(report.closed.as_ref().and_then(|closed| closed.note.clone()), Some(said("note")));
    assert_eq!(b.store.report_of(&room_id("one"), report.no).await.expect("there").as_ref(), Some(report));
    let own = b.store.own_messages(&user("alice"), Place::default(), 10).await.expect("the store is there");
    let own: Vec<_> = own.into_iter().filter_map(|(_, message)| message?.text).collect();
    assert_eq!(own, [said("second")]);
    let own = b.store.own_reports(&user("alice"), 0, 10).await.expect("the store is there");
    assert_eq!(own.into_iter().filter_map(|report| report.reason).collect::<Vec<_>>(), [said("reason")]);
    let room = b.open("one").await;
    let present = b.store.present_texts(&[(room.no, 3), (room.no, 2), (room.no, 99)]).await;
    assert_eq!(present, Ok(vec![Some(said("reply")), Some(said("second")), None]));
}

async fn nothing_of_an_encrypted_room_is_stored_in_the_clear_and_all_of_it_can_be_read(b: Backend) {
    let b = b.with_keys(EncryptedRooms::All, A, "").await;
    a_room_with_everything(&b).await;
    assert_eq!(b.finds_in_all(MARKER).await, 0, "encrypted rooms are not searched");
    assert_eq!(b.raw.with(MARKER).await, Vec::<String>::new());
    assert_eq!(b.store.room(&room_id("one")).await.expect("there").map(|room| room.encrypted), Some(true));
    reads_as_it_was_written(&b).await;
    // Another process, with nothing in memory, that encrypts no new rooms.
    let b = b.with_keys(EncryptedRooms::None, A, "").await;
    reads_as_it_was_written(&b).await;
    let room = b.open("one").await;
    room.append(vec![says("bob", "later", &format!("{MARKER} later"))]).await;
    assert_eq!(b.raw.with(MARKER).await, Vec::<String>::new(), "a room that was encrypted stays so");
    // What is erased is gone as ever.
    assert_eq!(room.does("alice", Change::Delete { target: 2, moderator: false }).await, appended(7));
    let left = b.log("one").await;
    assert_eq!((text_of(&left[1]), text_of(&left[3])), (None, None));
    assert!(b.store.revisions(&room_id("one"), 2, 0, 10).await.expect("there").is_empty());
    let again = room.append(vec![says("bob", "later", "other")]).await;
    assert_eq!(again, [duplicate(6)]);
}

async fn what_was_there_before_is_encrypted_in_the_background(b: Backend) {
    let (no, epoch) = {
        let old = a_room_with_everything(&b).await;
        (old.no, old.epoch)
    };
    assert_eq!(b.finds_in_all(MARKER).await, 2);
    assert!(!b.raw.with(MARKER).await.is_empty());
    let b = b.with_keys(EncryptedRooms::All, A, "").await;
    let left = b.store.encryption_left().await.expect("the store is there");
    assert_eq!((left.rooms, left.entries), (1, 0));
    b.encrypts_all().await;
    assert_eq!(b.finds_in_all(MARKER).await, 0);
    b.raw.tidy().await;
    assert_eq!(b.raw.with(MARKER).await, Vec::<String>::new());
    reads_as_it_was_written(&b).await;
    // Whoever had opened the room before would have written in the clear.
    let part = RoomAppend { no, epoch, items: vec![says("bob", "x", MARKER)] };
    assert_eq!(b.store.append(vec![part]).await, Ok(vec![Appended::Fenced]));
}

async fn keys_rotate_while_others_write(b: Backend) {
    let b = b.with_keys(EncryptedRooms::All, A, "a").await;
    a_room_with_everything(&b).await;
    let b = b.with_keys(EncryptedRooms::All, &format!("{A},{B}"), "b").await;
    assert_eq!(b.store.encryption_left().await.map(|left| left.keys), Ok(1));
    let room = b.open("one").await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (room, done) = (room.clone(), done.clone());
        tokio::spawn(async move {
            let mut written = 0;
            while !done.load(Ordering::SeqCst) || written < 5 {
                room.append(vec![says("bob", &format!("r{written}"), &format!("{MARKER} {written}"))]).await;
                written += 1;
            }
            written
        })
    };
    b.encrypts_all().await;
    done.store(true, Ordering::SeqCst);
    let written = writer.await.expect("it writes");
    drop(room);
    // The old key may be taken away now.
    let b = b.with_keys(EncryptedRooms::All, B, "b").await;
    assert_eq!(b.store.check_keys().await, Ok(()));
    let log = b.log("one").await;
    assert_eq!(log.len(), 5 + written);
    assert!(log[5..].iter().enumerate().all(|(n, entry)| text_of(entry) == Some(&format!("{MARKER} {n}"))));
    assert_eq!(b.raw.with(MARKER).await, Vec::<String>::new());
}

async fn a_missing_or_another_key_is_named(b: Backend) {
    let b = b.with_keys(EncryptedRooms::All, A, "a").await;
    assert_eq!(b.store.check_keys().await, Ok(()));
    a_room_with_everything(&b).await;
    assert_eq!(b.store.check_keys().await, Ok(()));
    let mut b = b;
    for (keys, said) in [(B, "no key \"a\""), (OTHER_A, "another key"), ("", "encryption.keys is empty")] {
        b = b.with_keys(EncryptedRooms::None, keys, "").await;
        let fault = |error: StoreError| matches!(&error, StoreError::Fault(what) if what.contains(said));
        assert!(b.store.check_keys().await.is_err_and(fault), "{said}");
        assert!(b.store.open_room(&room_id("one"), 10).await.is_err_and(fault), "{said}");
        assert!(b.store.page(&room_id("one"), Range::Newest, 9, 999).await.is_err_and(fault), "{said}");
    }
    // Nothing was lost by it.
    let b = b.with_keys(EncryptedRooms::All, A, "").await;
    reads_as_it_was_written(&b).await;
}

async fn a_damaged_text_is_said_and_costs_nothing_else(b: Backend) {
    let b = b.with_keys(EncryptedRooms::All, A, "a").await;
    let room = b.room("one").await;
    for n in 1..=4 {
        room.append(vec![says("alice", &format!("m{n}"), &format!("text {n}"))]).await;
    }
    // One byte of one, and two that changed places.
    let end = "substr(text, 1, length(text) - 9) || CASE substr(text, -9, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(text, -8)";
    let end = match b.raw {
        Raw::Postgres(_) => {
            "left(text, -9) || CASE substr(right(text, 9), 1, 1) WHEN 'A' THEN 'B' ELSE 'A' END || right(text, 8)"
        }
        Raw::Sqlite { .. } => end,
    };
    b.raw.execute(&format!("UPDATE entries SET text = {end} WHERE seq = 2")).await;
    let refused = b.store.page(&room_id("one"), Range::After(0), 10, usize::MAX).await;
    assert!(matches!(refused, Err(StoreError::Fault(what)) if what.contains("decrypted")));
    let texts = |entries: &[Entry]| entries.iter().filter_map(|e| text_of(e).map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(texts(&b.page("one", Range::After(2), 10).await.entries), ["text 3", "text 4"]);
    assert_eq!(texts(&b.page("one", Range::Before(2), 10).await.entries), ["text 1"]);
    let room = b.open("one").await;
    assert_eq!(texts(&room.opened.recent), ["text 3", "text 4"], "the room can be used");
    assert_eq!(room.append(vec![says("alice", "m5", "text 5")]).await, [appended(5)]);
    // Whoever wrote it can give it another text.
    let edit = Change::Edit { target: 2, text: "healed".into(), mentions: Mentions::default() };
    assert_eq!(room.does("alice", edit).await, appended(6));
    assert_eq!(texts(&b.log("one").await), ["text 1", "healed", "text 3", "text 4", "text 5", "healed"]);
    // A text is bound to its message.
    b.raw.execute("UPDATE entries SET text = (SELECT text FROM entries WHERE seq = 4) WHERE seq = 3").await;
    assert!(b.store.page(&room_id("one"), Range::After(2), 1, usize::MAX).await.is_err());
    assert_eq!(texts(&b.page("one", Range::After(3), 1).await.entries), ["text 4"]);
}

async fn a_deleted_room_loses_its_key_at_once(b: Backend) {
    let b = b.with_keys(EncryptedRooms::All, A, "a").await;
    let room = a_room_with_everything(&b).await;
    assert_eq!(b.raw.texts("SELECT ring_key FROM room_keys").await, ["a"]);
    room.does("alice", Change::DeleteRoom).await;
    assert!(b.raw.texts("SELECT ring_key FROM room_keys").await.is_empty());
    let own = b.store.own_messages(&user("alice"), Place::default(), 10).await.expect("nothing is opened");
    assert!(own.iter().all(|(_, message)| message.is_none()));
    b.until_nothing_is_left("SELECT CAST(no AS text) FROM doomed_rooms").await;
    assert_eq!(b.store.encrypt_some(10).await, Ok(false));
}

async fn only_the_rooms_that_the_setting_names_are_encrypted(b: Backend) {
    let b = b.with_keys(EncryptedRooms::Private, A, "a").await;
    b.account("alice").await;
    for (id, kind) in [("open", RoomKind::Public), ("closed", RoomKind::Private), ("two", RoomKind::Direct)] {
        let room = Room { kind, ..public(id) };
        let other = (kind == RoomKind::Direct).then(|| user("bob"));
        assert_eq!(b.store.create_room(&room, &user("alice"), other.as_ref()).await, Ok(Created::New));
        b.open(id).await.append(vec![says("alice", "m", &format!("{MARKER} {id}"))]).await;
    }
    b.encrypts_all().await;
    let in_clear = b.raw.texts("SELECT text FROM entries WHERE text LIKE 'xyzzy%'").await;
    assert_eq!(in_clear, [format!("{MARKER} open")]);
    for id in ["open", "closed", "two"] {
        assert_eq!(b.log(id).await.iter().find_map(text_of), Some(&*format!("{MARKER} {id}")));
    }
    assert_eq!(b.finds_in_all(MARKER).await, 1);
}
