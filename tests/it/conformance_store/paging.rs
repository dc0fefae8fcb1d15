//! Reading a long log in every direction.

use roundtable::entry::Body;
use roundtable::ids::Seq;

use super::*;

on_both_stores!(pages_through_a_hundred_thousand_entries, a_page_ends_at_its_bytes);

const ENTRIES: Seq = 100_000;

async fn pages_through_a_hundred_thousand_entries(b: Backend) {
    let room = b.room("long").await;
    let other = b.room("other").await;
    for first in (0..ENTRIES).step_by(1_000) {
        let items = (first..first + 1_000).map(|n| says("alice", &n.to_string(), &format!("text {}", n + 1))).collect();
        let results = b.store.append(vec![room.part(items), other.part(vec![says("alice", &first.to_string(), "x")])]);
        let results = results.await.expect("the store is there");
        assert!(results.iter().all(|result| matches!(result, Appended::Done(_))));
    }

    let log = b.log("long").await;
    assert_eq!(log.len() as Seq, ENTRIES);
    for entry in &log {
        let Body::Message(message) = &entry.body else { panic!("not a message") };
        assert_eq!(message.text, Some(format!("text {}", entry.seq)));
    }

    let mut before = Range::Newest;
    let mut next = ENTRIES;
    loop {
        let page = b.page("long", before, 997).await;
        for entry in page.entries.iter().rev() {
            assert_eq!(entry.seq, next);
            next -= 1;
        }
        let first = page.entries.first().expect("no empty page while there is more").seq;
        assert_eq!(page.more, first > 1);
        if !page.more {
            break;
        }
        before = Range::Before(first);
    }
    assert_eq!(next, 0);

    let seqs = async |range, limit| {
        let page = b.page("long", range, limit).await;
        (page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(seqs(Range::After(ENTRIES), 10).await, (vec![], false));
    assert_eq!(seqs(Range::After(Seq::MAX), 10).await, (vec![], false));
    assert_eq!(seqs(Range::After(ENTRIES - 2), 2).await, (vec![ENTRIES - 1, ENTRIES], false));
    assert_eq!(seqs(Range::After(ENTRIES - 3), 2).await, (vec![ENTRIES - 2, ENTRIES - 1], true));
    assert_eq!(seqs(Range::Before(1), 10).await, (vec![], false));
    assert_eq!(seqs(Range::Before(0), 10).await, (vec![], false));
    assert_eq!(seqs(Range::Before(3), 2).await, (vec![1, 2], false));
    assert_eq!(seqs(Range::Before(4), 2).await, (vec![2, 3], true));
    assert_eq!(seqs(Range::Before(Seq::MAX), 1).await, (vec![ENTRIES], true));
    assert_eq!(seqs(Range::Newest, 1).await, (vec![ENTRIES], true));
    let nowhere = b.page("nowhere", Range::Newest, 10).await;
    assert!(nowhere.entries.is_empty() && !nowhere.more);

    // A long log is deleted without holding anybody up.
    let asked = std::time::Instant::now();
    room.does("alice", Change::DeleteRoom).await;
    assert_eq!(other.append(vec![says("alice", "still here", "x")]).await, [appended(101)]);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    b.until_nothing_is_left("SELECT message_id FROM entries WHERE text <> 'x' LIMIT 1").await;
}

async fn a_page_ends_at_its_bytes(b: Backend) {
    let room = b.room("one").await;
    let kilobyte = "x".repeat(1_000);
    let data = format!("\"{}\"", "y".repeat(998));
    room.append((1..=20).map(|n| item("alice", AT, with_data(&n.to_string(), &kilobyte, &data))).collect()).await;
    let read = async |range, limit, max_bytes| {
        let page = b.store.page(&room_id("one"), range, limit, max_bytes).await.expect("the store is there");
        (page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), page.more)
    };
    for tiny in [0, 1, 2_000] {
        assert_eq!(read(Range::After(4), 10, tiny).await, (vec![5], true), "at least one");
    }
    assert_eq!(read(Range::After(4), 10, 5_000).await, (vec![5, 6, 7], true), "about that many bytes");
    assert_eq!(read(Range::Before(10), 10, 4_000).await, (vec![8, 9], true), "nearest to the bound");
    assert_eq!(read(Range::Newest, 10, 4_000).await, (vec![19, 20], true));
    assert!(!read(Range::Newest, 20, 1 << 20).await.1);
    assert_eq!(read(Range::After(18), 10, 4_000).await, (vec![19, 20], false));
    assert_eq!(read(Range::Before(3), 10, 4_000).await, (vec![1, 2], false));
    assert_eq!(read(Range::After(0), 0, 0).await, (vec![1], true), "no page is empty while there is more");
}
