//! A reader that stops reading costs nobody else anything, and finds everything when it reads again.

use serde_json::json;

use crate::support::node::Node;
use crate::support::person::Person;

/// What passes through the room while one reader takes nothing.
const PASSING_BYTES: usize = 50 << 20;
/// What a stopped reader may cost the server: `limits.outbound_bytes`, what a socket and a read buffer hold, the room's
/// ring and the allocator's slack. Far below what passes.
const GROWTH_BYTES: u64 = 24 << 20;

#[tokio::test]
async fn fifty_megabytes_pass_a_reader_that_does_not_read() {
    let node = Node::with(&[("limits.stall_s", "600"), ("limits.replay", "100000")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut slow = Person::at(&node, "slow").await;
    slow.joins("lobby").await;
    let mut quick = Person::at(&node, "quick").await;
    quick.joins("lobby").await;
    // 16 kB a message on the wire and in memory: 4,000 characters of four bytes each.
    let text = "\u{1F980}".repeat(4_000);
    let mut n = 0_u64;
    let mut burst = async |alice: &mut Person, quick: &mut Person| {
        let mut refs = Vec::new();
        for _ in 0..20 {
            n += 1;
            let send = json!({"type": "send", "room": "lobby", "id": format!("m{n}"), "text": text});
            refs.push(alice.starts(send).await);
        }
        for request in refs {
            let sent = alice.answer(request).await;
            assert_eq!(sent["type"], "sent", "{sent}");
        }
        quick.sees_entry("lobby", n).await;
        alice.forgets("lobby");
        quick.forgets("lobby");
        n
    };
    // The caches warm up on the first tenth.
    let mut passed = 0;
    while passed < PASSING_BYTES / 10 {
        passed = burst(&mut alice, &mut quick).await as usize * text.len();
    }
    let before = node.rss_bytes();
    let mut head = 0;
    while passed < PASSING_BYTES {
        head = burst(&mut alice, &mut quick).await;
        passed = head as usize * text.len();
    }
    let growth = node.rss_bytes().saturating_sub(before);
    println!("memory grew by {} KiB while {} MiB passed a reader that took nothing", growth >> 10, passed >> 20);
    assert!(node.metric("roundtable_cursor_pauses_total").await >= 1.0, "its cursor has paused");
    assert!(growth < GROWTH_BYTES, "{growth} bytes");
    // It reads again, and is live again: every entry once, in order (which `Person` checks in passing).
    slow.sees_entry("lobby", head).await;
    assert_eq!(slow.seen("lobby").len() as u64, head);
    let last = alice.sends("lobby", "last", "done").await;
    slow.sees("lobby", last, "done").await;
}
