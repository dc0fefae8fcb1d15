//! Records of files: kept once, within bounds, shown with their message, gone with it.

use roundtable::domain::audit::{Deed, What};
use roundtable::ids::{AttachmentId, ObjectId};
use roundtable::ports::{Attachment, Bounds, Erasing, Kept};

use super::*;

on_both_stores!(
    a_file_is_kept_once_and_shown_with_its_message,
    bounds_hold_and_what_is_removed_is_free_again,
    a_message_that_is_erased_takes_its_files_with_it,
    a_deleted_room_takes_its_files_with_it,
    a_file_without_a_message_goes,
    an_upload_that_does_not_end_is_doomed,
    a_persons_files_are_listed_and_doomed_a_few_at_a_time,
    all_nodes_have_one_key,
);

const LONG: Duration = Duration::from_secs(600);
const BOUNDS: Bounds = Bounds { per_user_bytes: 0, per_message: 3, unreferenced: LONG };

/// The `n`th file, of `alice` for her message `m` in the room `one`.
fn file(n: u8) -> Attachment {
    Attachment {
        id: AttachmentId::parse(&format!("{n:032x}")).expect("a valid id"),
        object: object(n),
        room: room_id("one"),
        user: user("alice"),
        message: MessageId::parse("m").expect("a valid id"),
        name: "日本 \"1\".png".to_owned(),
        mime: "image/png".to_owned(),
        bytes: 100,
        sha256: [n; 32],
        at: AT,
    }
}

fn object(n: u8) -> ObjectId {
    ObjectId::parse(&format!("{n:02x}").repeat(16)).expect("a valid id")
}

impl Backend {
    /// Uploads it; what became of it, and what its person had before.
    async fn keeps(&self, file: &Attachment, bounds: Bounds) -> (Kept, u64) {
        let used = self.store.begin_upload(&file.object, &file.user, LONG).await.expect("the store is there");
        (self.store.keep_upload(file, bounds).await.expect("the store is there"), used)
    }

    async fn shown(&self, n: u8, to: &str) -> Option<Attachment> {
        let found = self.store.attachments(&room_id("one"), &[file(n).id], &user(to)).await;
        found.expect("the store is there").pop()
    }

    /// What there is to remove; then it is removed.
    async fn removes(&self) -> Vec<ObjectId> {
        let mut doomed = self.store.doomed_objects(100).await.expect("the store is there");
        self.store.forget_objects(&doomed).await.expect("the store is there");
        doomed.sort();
        doomed
    }

    async fn uses(&self, who: &str) -> u64 {
        let object = ObjectId::parse(&"f".repeat(32)).expect("a valid id");
        let used = self.store.begin_upload(&object, &user(who), LONG).await.expect("the store is there");
        self.store.forget_objects(&[object]).await.expect("the store is there");
        used
    }
}

async fn a_file_is_kept_once_and_shown_with_its_message(b: Backend) {
    let room = b.room("one").await;
    assert_eq!(b.keeps(&file(1), BOUNDS).await, (Kept::New, 0));
    assert_eq!(b.store.attachment(&file(1).id).await, Ok(Some(file(1))));
    assert_eq!(b.shown(1, "alice").await, Some(file(1)), "its uploader sees it at once");
    assert_eq!(b.shown(1, "bob").await, None, "nobody else before the message");
    room.append(vec![says("bob", "m", "another's message of that name")]).await;
    assert_eq!(b.shown(1, "bob").await, None);
    room.append(vec![says("alice", "m", "here")]).await;
    assert_eq!(b.shown(1, "bob").await, Some(file(1)));
    let elsewhere = b.store.attachments(&room_id("other"), &[file(1).id], &user("alice")).await;
    assert_eq!(elsewhere, Ok(Vec::new()), "a file is in its room");

    let again = Attachment { object: object(9), name: "again".to_owned(), ..file(1) };
    assert_eq!(b.keeps(&again, BOUNDS).await, (Kept::Known(Box::new(file(1))), 100));
    let other = Attachment { object: object(8), sha256: [0; 32], ..file(1) };
    assert_eq!(b.keeps(&other, BOUNDS).await.0, Kept::Taken);
    let elsewhere = Attachment { object: object(7), message: MessageId::parse("n").expect("valid"), ..file(1) };
    assert_eq!(b.keeps(&elsewhere, BOUNDS).await.0, Kept::Taken);
    assert_eq!(b.removes().await, [object(7), object(8), object(9)], "what was not kept goes");
    assert_eq!((b.uses("alice").await, b.shown(1, "bob").await), (100, Some(file(1))));
    let nowhere = Attachment { room: room_id("nowhere"), ..file(2) };
    assert_eq!(b.keeps(&nowhere, BOUNDS).await.0, Kept::Late);
}

async fn bounds_hold_and_what_is_removed_is_free_again(b: Backend) {
    let room = b.room("one").await;
    let bounds = Bounds { per_user_bytes: 250, ..BOUNDS };
    assert_eq!(b.keeps(&file(1), bounds).await, (Kept::New, 0));
    assert_eq!(b.keeps(&file(2), bounds).await, (Kept::New, 100));
    assert_eq!(b.keeps(&file(3), bounds).await, (Kept::OverQuota { used: 200 }, 200));
    assert_eq!(b.removes().await, [object(3)]);
    let bobs = Attachment { user: user("bob"), ..file(4) };
    assert_eq!(b.keeps(&bobs, bounds).await, (Kept::New, 0), "each person for themselves");
    assert_eq!(b.keeps(&file(5), BOUNDS).await.0, Kept::New);
    assert_eq!(b.keeps(&file(6), BOUNDS).await.0, Kept::Full);
    room.append(vec![says("alice", "m", "x")]).await;
    room.does("alice", Change::Delete { target: 1, moderator: false }).await;
    assert_eq!(b.uses("alice").await, 300, "the bytes are there until they are removed");
    b.removes().await;
    assert_eq!((b.uses("alice").await, b.uses("bob").await), (0, 100));
}

async fn a_message_that_is_erased_takes_its_files_with_it(b: Backend) {
    let room = b.room("one").await;
    b.keeps(&file(1), BOUNDS).await;
    b.keeps(&file(2), BOUNDS).await;
    let other = Attachment { message: MessageId::parse("stays").expect("valid"), ..file(3) };
    b.keeps(&other, BOUNDS).await;
    room.append(vec![says("alice", "m", "one"), says("alice", "stays", "two")]).await;
    room.does("alice", Change::Edit { target: 1, text: "edited".into(), mentions: Mentions::default() }).await;
    assert_eq!(b.shown(1, "bob").await, Some(file(1)), "an edit erases nothing");
    assert_eq!(room.does("alice", Change::Delete { target: 1, moderator: false }).await, appended(4));
    assert_eq!((b.shown(1, "alice").await, b.store.attachment(&file(2).id).await), (None, Ok(None)));
    let left = b.raw.texts("SELECT name FROM attachments").await;
    assert_eq!(left.len(), 1, "a name is gone with the text: {left:?}");
    assert_eq!(b.removes().await, [object(1), object(2)]);
    assert_eq!(b.shown(3, "bob").await, Some(other));
}

async fn a_deleted_room_takes_its_files_with_it(b: Backend) {
    let room = b.room("one").await;
    b.keeps(&file(1), BOUNDS).await;
    room.append(vec![says("alice", "m", "one")]).await;
    room.does("alice", Change::DeleteRoom).await;
    assert_eq!(b.store.attachment(&file(1).id).await, Ok(None), "at once");
    b.until_nothing_is_left("SELECT id FROM attachments").await;
    assert_eq!(b.removes().await, [object(1)]);
}

async fn a_file_without_a_message_goes(b: Backend) {
    let room = b.room("one").await;
    let soon = Bounds { unreferenced: Duration::ZERO, ..BOUNDS };
    b.keeps(&file(1), soon).await;
    b.keeps(&file(2), BOUNDS).await;
    let sent = Attachment { message: MessageId::parse("sent").expect("valid"), ..file(3) };
    b.keeps(&sent, soon).await;
    let deleted = Attachment { message: MessageId::parse("deleted").expect("valid"), ..file(4) };
    room.append(vec![says("alice", "sent", "x"), says("alice", "deleted", "x")]).await;
    room.does("alice", Change::Delete { target: 2, moderator: false }).await;
    b.keeps(&deleted, soon).await;
    assert_eq!(b.store.sweep_attachments(1).await, Ok(1), "a few at a time");
    while b.store.sweep_attachments(2).await.expect("the store is there") > 0 {}
    assert_eq!(b.removes().await, [object(1), object(4)]);
    assert_eq!((b.shown(1, "alice").await, b.shown(3, "bob").await), (None, Some(sent)));
    assert_eq!(b.shown(2, "alice").await, Some(file(2)), "its message still has time");
    assert_eq!(b.store.sweep_attachments(10).await, Ok(0), "what was found is not looked at again");
}

async fn an_upload_that_does_not_end_is_doomed(b: Backend) {
    b.room("one").await;
    let begin = async |n, within| b.store.begin_upload(&object(n), &user("alice"), within).await.expect("it is there");
    begin(1, Duration::ZERO).await;
    begin(2, LONG).await;
    begin(3, LONG).await;
    b.store.drop_upload(&object(3)).await.expect("it is there");
    b.store.drop_upload(&object(4)).await.expect("harmless");
    assert_eq!(b.store.keep_upload(&file(1), BOUNDS).await, Ok(Kept::Late), "it may be gone already");
    assert_eq!(b.removes().await, [object(1), object(3)]);
    assert_eq!(b.store.keep_upload(&file(3), BOUNDS).await, Ok(Kept::Late), "it is gone");
    assert_eq!(b.store.keep_upload(&file(2), BOUNDS).await, Ok(Kept::New));
    b.store.drop_upload(&object(2)).await.expect("harmless");
    assert_eq!(b.removes().await, []);
}

async fn a_persons_files_are_listed_and_doomed_a_few_at_a_time(b: Backend) {
    let room = b.room("one").await;
    for n in 1..=3 {
        b.keeps(&file(n), BOUNDS).await;
    }
    let unsent = MessageId::parse("unsent").expect("a valid id");
    for n in 4..=6 {
        b.keeps(&Attachment { message: unsent.clone(), ..file(n) }, BOUNDS).await;
    }
    b.keeps(&Attachment { user: user("bob"), ..file(9) }, BOUNDS).await;
    room.append(vec![says("alice", "m", "x")]).await;
    let all = b.store.attachments_of(&user("alice"), None, 2).await;
    assert_eq!(all, Ok(vec![file(1), file(2)]));
    assert_eq!(b.store.attachments_of(&user("alice"), Some(&file(2).id), 1).await, Ok(vec![file(3)]));
    let wish =
        Deed { at: AT, by: user("alice"), from: None, what: What::PersonErased, whom: None, seq: None, detail: None };
    assert_eq!(b.store.erase(&wish).await, Ok(true));
    let mut left = Vec::new();
    while b.store.erase_some(2).await.expect("the store is there") != Erasing::Round(user("alice")) {
        left.push(b.store.attachments_of(&user("alice"), None, 9).await.expect("the store is there").len());
    }
    left.dedup();
    // With its message, without one, and in steps of two at most.
    assert_eq!(left, [6, 3, 1, 0]);
    assert_eq!(b.keeps(&file(7), BOUNDS).await.0, Kept::Late, "an upload that was under way");
    assert_eq!(b.removes().await, (1..=7).map(object).collect::<Vec<_>>());
    assert_eq!((b.uses("alice").await, b.uses("bob").await), (0, 100));
}

async fn all_nodes_have_one_key(b: Backend) {
    assert_eq!(b.store.link_key(&[1; 32]).await, Ok([1; 32]));
    assert_eq!(b.store.link_key(&[2; 32]).await, Ok([1; 32]));
}
