//! Three nodes, people who write and read on all of them, and nodes that are killed, frozen and drained under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use roundtable_client::frames::{Encoding, Entry};
use roundtable_client::{Client, Event, Options, Patience, Room, Subscribe};

use super::{Reader, online, options};
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::makes;
use crate::support::{until, within};

const SEED: u64 = 1;
const ROOMS: usize = 3;
const PEOPLE: usize = 5;
const LENGTH: Duration = Duration::from_secs(30);

/// One person in one room.
struct Place {
    user: String,
    room: Room,
    reader: Reader,
    committed: Arc<AtomicUsize>,
}

/// Says one thing after the other, two under way at a time, so that their order is put to the test as well.
async fn writes(room: Room, user: String, over: Arc<AtomicBool>, committed: Arc<AtomicUsize>) -> Vec<(String, u64)> {
    let mut said = Vec::new();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let texts = [format!("{user} {n}a"), format!("{user} {n}b")];
        let pair = texts.clone().map(|text| room.send(text));
        for (text, sending) in texts.into_iter().zip(pair) {
            said.push((text, sending.await.expect("committed").seq));
            committed.fetch_add(1, Ordering::Relaxed);
        }
    }
    said
}

/// The log as the server tells it in the end.
async fn history(room: &Room) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |entry| entry.seq);
        let page = room.history_after(after, Some(200)).await.expect("a page");
        all.extend(page.events);
        if !page.more {
            return all;
        }
    }
}

#[actix_rt::test]
async fn nodes_are_killed_and_frozen_and_nothing_is_lost_repeated_or_reordered() {
    let cluster = Cluster::start(3).await;
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("chaos-{n}")).collect();
    for room in &rooms {
        makes(&cluster.nodes[0], "person-0", room).await;
    }
    let s = Duration::from_secs;
    let patience = Patience { connect: s(3), pong: s(3), answer: s(8), ..Patience::default() };
    let mut clients: Vec<Client> = Vec::new();
    let mut places = Vec::new();
    for n in 0..PEOPLE {
        let user = format!("person-{n}");
        let mut addresses: Vec<String> = cluster.nodes.iter().map(Node::http).collect();
        addresses.rotate_left(n % 3);
        let encoding = if n % 2 == 0 { Encoding::Json } else { Encoding::MessagePack };
        let client = online(Options { addresses, encoding, patience, ..options("", &user) }).await;
        for id in &rooms {
            let room = client.room(id);
            room.join().await.expect("joined");
            let reader = Reader::of(&room, 0);
            room.subscribe(Subscribe::after(0)).await.expect("subscribed");
            places.push(Place { user: user.clone(), room, reader, committed: Arc::default() });
        }
        clients.push(client);
    }
    let reconnects = Arc::new(AtomicUsize::new(0));
    for client in &clients {
        let (mut events, reconnects) = (client.events(), Arc::clone(&reconnects));
        tokio::spawn(async move {
            while let Ok(event) = events.recv().await {
                reconnects.fetch_add(usize::from(matches!(event, Event::Online { .. })), Ordering::Relaxed);
            }
        });
    }
    let over = Arc::new(AtomicBool::new(false));
    let writing: Vec<_> = places
        .iter()
        .map(|place| {
            let (over, committed) = (Arc::clone(&over), Arc::clone(&place.committed));
            tokio::spawn(writes(place.room.clone(), place.user.clone(), over, committed))
        })
        .collect();
    let (began, mut chance, mut faults) = (Instant::now(), SEED, Vec::new());
    let mut below = |most: u64| {
        chance = chance * 48_271 % 0x7fff_ffff;
        (chance % most) as usize
    };
    while began.elapsed() < LENGTH {
        let node = &cluster.nodes[below(3)];
        let before: Vec<usize> = places.iter().map(|place| place.committed.load(Ordering::Relaxed)).collect();
        match below(4) {
            0 | 1 => {
                faults.push("kill");
                node.kill();
                node.restart().await;
            }
            2 => {
                faults.push("freeze");
                node.freeze();
                // The length of the fault itself: longer than a lease.
                tokio::time::sleep(Duration::from_secs(4)).await;
                node.thaw();
            }
            _ => {
                faults.push("drain");
                node.terminate();
                node.exit().await;
                node.restart().await;
            }
        }
        // Everybody gets on before the next one.
        until(&format!("progress after {faults:?}"), || async {
            let all = places.iter().zip(&before);
            let mut on = all.map(|(place, before)| place.committed.load(Ordering::Relaxed) > before + 1);
            on.all(|on| on).then_some(())
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    let mut said = Vec::new();
    for one in writing {
        said.push(within("everything is committed", one).await.expect("no panic"));
    }
    let mut total = 0;
    for id in &rooms {
        let here: Vec<usize> = (0..places.len()).filter(|&at| places[at].room.id() == id).collect();
        let mut seqs: Vec<u64> = here.iter().flat_map(|&at| said[at].iter().map(|(_, seq)| *seq)).collect();
        seqs.sort_unstable();
        let head = seqs.len() as u64;
        assert_eq!(seqs, (1..=head).collect::<Vec<_>>(), "{id}: every message once, and nothing else");
        let log = history(&places[here[0]].room).await;
        for at in here {
            let Place { user, reader, .. } = &places[at];
            reader.sees(head).await;
            reader.is_right();
            assert_eq!(reader.all(), log, "{user} has read {id} as it is");
            let own: Vec<String> = said[at].iter().map(|(text, _)| text.clone()).collect();
            assert_eq!(reader.texts(user), own, "{user} in {id}: in the order in which they were sent");
        }
        total += head;
    }
    let reconnects = reconnects.load(Ordering::Relaxed);
    println!("{total} messages, {faults:?}, {reconnects} reconnects");
    assert!(reconnects > 0 && faults.len() > 2);
}
