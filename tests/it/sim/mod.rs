//! A seeded simulation of the server's decisions: the real `domain` (owner, stream, ring, presence, cursor, membership)
//! in worlds of nodes, rooms, a store, a bus and clients, where everything that may go wrong does, at a rate that the
//! seed decides. Virtual time, no threads, no sleeps: a seed is a world, the same on every machine.
//!
//! What the actors add to the domain is written down a second time here, by the same rules and names: `room/` for
//! `actors/room`, `hub.rs` for `actors/hub`, `links.rs` for `actors/bus`. A change of rules there belongs here too.
//!
//! `ROUNDTABLE_SIM_RUNS` sets how many seeds are tried; `ROUNDTABLE_SIM_SEED` tries one, and
//! `ROUNDTABLE_SIM_TRACE=1` prints all that happened in it.

mod chance;
mod client;
mod faults;
mod history;
mod hub;
mod invariants;
mod links;
mod room;
mod scale;
mod store;
mod trust;
mod wire;
mod world;

use self::history::History;
use self::world::World;

/// Worlds that are tried where nothing else is asked for.
const RUNS: u64 = 2_000;
/// How to see one of them again.
const AGAIN: &str = "cargo test --test it sim::whatever -- --nocapture";
/// The first of them.
const FIRST_SEED: u64 = 1;

/// Something that is broken on purpose, to see that the invariants notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// The store takes appends of former owners.
    StoreIgnoresEpoch,
    /// The store does not know repeats.
    StoreForgetsIds,
    /// A cursor takes what comes, gap or not.
    CursorSkipsGaps,
    /// A cursor takes what it has taken before.
    CursorTakesAgain,
    /// The owner takes requests of a stream as they come.
    StreamTakesGaps,
    /// The owner shows entries when it sends them to the store.
    OwnerShowsEarly,
    /// The owner goes on after an append of unknown outcome without reading the room again.
    OwnerTrustsDoubt,
    /// A mirror that missed commits does not tell its readers.
    MirrorIgnoresAdvance,
    /// Nobody notices a missing frame.
    LinkIgnoresGaps,
    /// A mirror passes on what it took back in the wrong order.
    RequestsTakenBackReversed,
    /// The store says that it took what it did not.
    StoreLoses,
    /// The store leaves a number out.
    StoreSkipsNumbers,
    /// A hub never pauses a cursor.
    OutboxUnbounded,
    /// An owner on its way out holds what mirrors ask, for its next role.
    LeavingOwnerHolds,
    /// An owner does not look how far its mirrors know the log.
    NeverSuperseded,
    /// A reader is sent back to the head on the owner's word alone.
    ResetUnverified,
    /// An owner that stops for a moment tells its mirrors nothing.
    MirrorsForgotten,
}

/// Runs a world and checks what came of it. A panic in it is a finding too.
fn check(seed: u64, flaw: Flaw) -> Result<History, String> {
    let run = std::panic::catch_unwind(|| World::new(seed, flaw).run());
    let Ok(history) = run else { return Err("panicked: see above".into()) };
    let broken = invariants::broken(&history);
    if broken.is_empty() { Ok(history) } else { Err(broken.join("\n")) }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn whatever_goes_wrong_the_promises_hold() {
    if let Some(seed) = setting("ROUNDTABLE_SIM_SEED") {
        let mut world = World::new(seed, Flaw::None);
        println!("{:#?}", world.plan);
        world.trace = setting("ROUNDTABLE_SIM_TRACE").map(|_| Vec::new());
        let history = world.run();
        history.trace.iter().for_each(|line| println!("{line}"));
        let broken = invariants::broken(&history);
        assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
        return;
    }
    let runs = setting("ROUNDTABLE_SIM_RUNS").unwrap_or(RUNS);
    let (mut entries, mut seen, mut failed) = (0, 0, Vec::new());
    for seed in FIRST_SEED..FIRST_SEED + runs {
        match check(seed, Flaw::None) {
            Ok(history) => {
                entries += history.logs.iter().map(store::Log::head).sum::<u64>();
                seen += history.facts.len();
            }
            Err(broken) => failed.push((seed, broken)),
        }
    }
    println!("{runs} worlds, {entries} entries, {seen} answers and entries seen");
    let shown = failed.iter().take(5).map(|(seed, broken)| format!("ROUNDTABLE_SIM_SEED={seed} {AGAIN}\n{broken}"));
    let shown: Vec<String> = shown.collect();
    let mut by_name: std::collections::BTreeMap<&str, Vec<u64>> = std::collections::BTreeMap::new();
    for (seed, broken) in &failed {
        for name in broken.lines().filter_map(|line| line.split(':').next()) {
            by_name.entry(name).or_default().push(*seed);
        }
    }
    let count = failed.len();
    assert!(failed.is_empty(), "{count} of {runs} worlds broke a promise: {by_name:?}\n{}", shown.join("\n\n"));
}

#[test]
fn a_seed_is_a_world() {
    for seed in [3, 4, 5] {
        let (once, again) = (World::new(seed, Flaw::None).run(), World::new(seed, Flaw::None).run());
        assert_eq!((once.digest, once.facts.len()), (again.digest, again.facts.len()), "seed {seed}");
    }
}
