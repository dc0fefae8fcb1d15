//! Reports: one a person and message, within bounds, decided once, gone with their room.

use roundtable::domain::audit::{Deed, What};
use roundtable::entry::RoomPatch;
use roundtable::ports::{ReportQuery, Reported};

use super::*;

on_both_stores!(
    a_message_is_reported_once_by_each,
    somebody_has_so_many_open_reports_and_no_more,
    a_report_shows_the_message_as_it_is_now,
    a_report_shows_nothing_that_has_expired,
    reports_are_decided_once,
);

async fn reports(b: &Backend, seq: Seq, by: &str, most: u32) -> Reported {
    let made = b.store.report(&room_id("one"), seq, &user(by), AT, "because", most).await;
    made.expect("the store is there")
}

fn of(room: Option<&RoomId>, open: bool) -> ReportQuery<'_> {
    ReportQuery { room, open, after: 0, limit: 10 }
}

fn deed() -> Deed {
    let what = What::ReportClosed;
    Deed { at: AT + 9, by: user("mori"), from: None, what, whom: None, seq: None, detail: None }
}

async fn a_message_is_reported_once_by_each(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1"), says("alice", "b", "2")]).await;
    room.does("bob", Change::React { target: 1, emoji: "x".into(), active: true }).await;
    let Reported::New(no) = reports(&b, 1, "bob", 50).await else { panic!("not new") };
    assert_eq!(reports(&b, 1, "bob", 50).await, Reported::Known(no));
    assert!(matches!(reports(&b, 1, "carol", 50).await, Reported::New(_)));
    assert!(matches!(reports(&b, 2, "bob", 50).await, Reported::New(_)));
    for nothing in [0, 3, 4, Seq::MAX] {
        assert_eq!(reports(&b, nothing, "bob", 50).await, Reported::NoSuchMessage, "{nothing}");
    }
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.report(&room_id("one"), 2, &user("race"), AT, "x", 50).await });
    }
    let results = racers.join_all().await;
    let new = results.iter().filter(|result| matches!(result, Ok(Reported::New(_)))).count();
    let known = results.iter().filter(|result| matches!(result, Ok(Reported::Known(_)))).count();
    assert_eq!((new, known), (1, 5), "{results:?}");
}

async fn somebody_has_so_many_open_reports_and_no_more(b: Backend) {
    let room = b.room("one").await;
    room.append((0..4).map(|n| says("alice", &format!("{n}"), "x")).collect()).await;
    let Reported::New(first) = reports(&b, 1, "bob", 3).await else { panic!("not new") };
    for seq in 2..=3 {
        assert!(matches!(reports(&b, seq, "bob", 3).await, Reported::New(_)));
    }
    assert_eq!(reports(&b, 4, "bob", 3).await, Reported::TooMany);
    assert_eq!(reports(&b, 1, "bob", 3).await, Reported::Known(first), "a repeat is none more");
    assert!(matches!(reports(&b, 4, "carol", 3).await, Reported::New(_)), "each for themselves");
    assert_eq!(b.store.close_report(&room_id("one"), first, "none", None, &deed()).await, Ok(true));
    assert!(matches!(reports(&b, 4, "bob", 3).await, Reported::New(_)));
}

async fn a_report_shows_nothing_that_has_expired(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    room.append(vec![item("alice", now - 120_000, message("a", "old")), item("alice", now, message("b", "new"))]).await;
    let (Reported::New(old), Reported::New(new)) = (reports(&b, 1, "bob", 50).await, reports(&b, 2, "bob", 50).await)
    else {
        panic!("not new")
    };
    let ttl = RoomPatch { ttl_s: Some(60), ..RoomPatch::default() };
    room.append(vec![item("alice", now, Change::Patch(ttl))]).await;
    for (no, text) in [(old, None), (new, Some("new"))] {
        let report = b.store.report_of(&room_id("one"), no).await.expect("the store is there").expect("it is there");
        assert_eq!((report.text.as_deref(), report.author), (text, Some(user("alice"))), "not erased, and not shown");
    }
    let queue = b.store.reports(of(Some(&room_id("one")), true)).await.expect("the store is there");
    assert_eq!(queue.into_iter().map(|report| report.text).collect::<Vec<_>>(), [None, Some("new".to_owned())]);
}

async fn a_report_shows_the_message_as_it_is_now(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "first")]).await;
    let Reported::New(no) = reports(&b, 1, "bob", 50).await else { panic!("not new") };
    let shown =
        async || b.store.report_of(&room_id("one"), no).await.expect("the store is there").expect("it is there");
    assert_eq!((shown().await.text.as_deref(), shown().await.author), (Some("first"), Some(user("alice"))));
    room.does("alice", Change::Edit { target: 1, text: "second".into(), mentions: Mentions::default() }).await;
    assert_eq!(shown().await.text.as_deref(), Some("second"));
    room.does("alice", Change::Delete { target: 1, moderator: false }).await;
    assert_eq!((shown().await.text, shown().await.reason.as_deref()), (None, Some("because")));
    assert_eq!(b.store.report_of(&room_id("other"), no).await, Ok(None));
    room.does("alice", Change::DeleteRoom).await;
    assert_eq!(b.store.report_of(&room_id("one"), no).await, Ok(None));
    assert_eq!(b.store.reports(of(None, true)).await, Ok(Vec::new()));
    b.until_nothing_is_left("SELECT reason FROM reports").await;
}

async fn reports_are_decided_once(b: Backend) {
    for id in ["one", "two"] {
        b.room(id).await.append(vec![says("alice", "a", "1")]).await;
    }
    let Reported::New(one) = reports(&b, 1, "bob", 50).await else { panic!("not new") };
    let made = b.store.report(&room_id("two"), 1, &user("bob"), AT, "because", 50).await;
    let Ok(Reported::New(two)) = made else { panic!("{made:?}") };
    let numbers = async |query: ReportQuery<'_>| {
        b.store.reports(query).await.expect("the store is there").iter().map(|report| report.no).collect::<Vec<_>>()
    };
    let room = room_id("one");
    assert_eq!(numbers(of(None, true)).await, [one, two]);
    assert_eq!(numbers(of(Some(&room), true)).await, [one]);
    assert_eq!(numbers(ReportQuery { after: one, ..of(None, true) }).await, [two]);
    assert_eq!(b.store.close_report(&room_id("two"), one, "none", None, &deed()).await, Ok(false), "another room's");
    assert_eq!(b.store.close_report(&room, one, "deleted", Some("noted"), &deed()).await, Ok(true));
    assert_eq!(b.store.close_report(&room, one, "none", None, &deed()).await, Ok(false));
    assert_eq!(numbers(of(Some(&room), true)).await, [0; 0]);
    assert_eq!(numbers(of(Some(&room), false)).await, [one]);
    assert_eq!(numbers(of(None, false)).await, [one]);
    let closed = b.store.report_of(&room, one).await.expect("the store is there").and_then(|report| report.closed);
    let closed = closed.expect("closed");
    assert_eq!((closed.at, closed.by, &*closed.action), (AT + 9, user("mori"), "deleted"));
    assert_eq!(closed.note.as_deref(), Some("noted"));
    let acts = b.store.audited(Some(&room), None, 10).await.expect("the store is there");
    assert_eq!(acts.iter().map(|line| &*line.act).collect::<Vec<_>>(), ["report.closed"], "once");
}
