//! Every privileged change of a room is written down with it, and what is written down stays.

use roundtable::domain::audit::{Deed, What, Whence};
use roundtable::entry::RoomPatch;

use super::*;

on_both_stores!(every_privileged_change_is_written_down_with_it, the_audit_log_is_append_only, it_is_read_in_pages);

async fn every_privileged_change_is_written_down_with_it(b: Backend) {
    for name in ["alice", "bob", "carol"] {
        b.account(name).await;
    }
    let room = b.room("one").await;
    let gives = |name: &str, role| Change::SetMember { user: user(name), role };
    // Nothing of this takes a right that others lack.
    room.does("bob", gives("bob", Role::Member)).await;
    room.append(vec![says("bob", "b", "1"), says("bob", "c", "2"), says("alice", "a", "3")]).await;
    room.does("bob", Change::Edit { target: 1, text: "edited".into(), mentions: Mentions::default() }).await;
    room.does("bob", Change::Delete { target: 1, moderator: false }).await;
    room.does("alice", Change::Delete { target: 3, moderator: true }).await;
    room.does("carol", gives("carol", Role::Member)).await;
    room.does("carol", Change::RemoveMember { user: user("carol") }).await;
    assert_eq!(b.store.audited(None, None, 10).await, Ok(Vec::new()));
    // Nor does this do anything.
    room.does("alice", Change::Delete { target: 1, moderator: true }).await;
    room.does("alice", Change::Patch(RoomPatch::default())).await;
    room.does("alice", gives("nobody", Role::Member)).await;
    room.does("carol", Change::Delete { target: 2, moderator: false }).await;
    assert_eq!(b.store.audited(None, None, 10).await, Ok(Vec::new()));

    let changed = RoomPatch { topic: Some("a secret topic".into()), slow_mode_s: Some(5), ..RoomPatch::default() };
    let changes = [
        Change::Delete { target: 2, moderator: true },
        gives("bob", Role::Moderator),
        gives("alice", Role::Member),
        Change::Ban { user: user("carol") },
        Change::Unban { user: user("carol") },
        Change::RemoveMember { user: user("bob") },
        Change::Patch(changed),
        Change::DeleteRoom,
    ];
    let from = Some(Box::new(Whence("192.0.2.7".into())));
    for (n, change) in changes.into_iter().enumerate() {
        room.append(vec![AppendItem { user: user("alice"), at: AT + n as i64, change, from: from.clone() }]).await;
    }
    let mut found = b.store.audited(Some(&room_id("one")), None, 20).await.expect("the store is there");
    found.reverse();
    let lines: Vec<_> = found
        .iter()
        .map(|line| (&*line.act, line.whom.as_ref().map(UserId::as_str), line.seq, line.detail.as_deref()))
        .collect();
    let expected = [
        ("message.deleted", Some("bob"), Some(2), None),
        ("member.role", Some("bob"), None, Some("moderator")),
        ("member.role", Some("alice"), None, Some("member")),
        ("member.banned", Some("carol"), None, None),
        ("member.unbanned", Some("carol"), None, None),
        ("member.removed", Some("bob"), None, None),
        ("room.changed", None, None, Some("topic slow_mode_s=5")),
        ("room.deleted", None, None, None),
    ];
    assert_eq!(lines, expected);
    for (n, line) in found.iter().enumerate() {
        assert_eq!((&line.by, line.at, line.from.as_deref()), (&user("alice"), AT + n as i64, Some("192.0.2.7")));
        assert_eq!(line.room, Some(room_id("one")), "also of a room that is gone");
    }
    // Nobody comes into a private room by themselves but with a right.
    let private = Room { kind: RoomKind::Private, ..public("private") };
    assert_eq!(b.store.create_room(&private, &user("alice"), None).await, Ok(Created::New));
    b.open("private").await.does("carol", gives("carol", Role::Member)).await;
    let found = b.store.audited(Some(&room_id("private")), None, 20).await.expect("the store is there");
    assert_eq!(found.iter().map(|line| (&*line.act, &line.by)).collect::<Vec<_>>(), [("member.role", &user("carol"))]);
    assert_eq!(b.raw.texts("SELECT detail FROM audit WHERE detail LIKE '%secret%'").await, Vec::<String>::new());
}

fn line(n: i64) -> Deed {
    let what = What::Disconnected;
    Deed { at: AT + n, by: user("root"), from: None, what, whom: None, seq: None, detail: Some(n.to_string()) }
}

async fn the_audit_log_is_append_only(b: Backend) {
    b.store.audit(None, &line(1)).await.expect("the store is there");
    let before = b.store.audited(None, None, 10).await;
    for change in ["UPDATE audit SET by_user = 'nobody'", "DELETE FROM audit"] {
        let refused = b.raw.try_execute(change).await;
        assert!(refused.is_err_and(|why| why.contains("append-only")), "{change}");
    }
    if let Raw::Postgres(_) = b.raw {
        assert!(b.raw.try_execute("TRUNCATE audit").await.is_err());
    }
    assert_eq!(b.store.audited(None, None, 10).await, before);
}

async fn it_is_read_in_pages(b: Backend) {
    b.room("one").await;
    for n in 0..7 {
        let room = (n % 2 == 0).then(|| room_id("one"));
        b.store.audit(room.as_ref(), &line(n)).await.expect("the store is there");
    }
    b.store.audit(Some(&room_id("nowhere")), &line(7)).await.expect("the store is there");
    let walk = async |room: Option<RoomId>| {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = b.store.audited(room.as_ref(), before, 3).await.expect("the store is there");
            let Some(last) = page.last() else { break seen };
            before = Some(last.no);
            seen.extend(page.into_iter().map(|line| line.at - AT));
        }
    };
    assert_eq!(walk(None).await, [7, 6, 5, 4, 3, 2, 1, 0], "newest first");
    assert_eq!(walk(Some(room_id("one"))).await, [6, 4, 2, 0]);
    assert_eq!(walk(Some(room_id("nowhere"))).await, [0; 0]);
}
