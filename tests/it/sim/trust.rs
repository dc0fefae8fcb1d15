//! Whether the simulation can be trusted: each thing that is broken on purpose is noticed, by the invariant that is there
//! for it.

use super::{Flaw, check};

/// Worlds that are tried until one shows the flaw.
const TRIES: u64 = 1_000;

fn noticed(flaw: Flaw, by: &[&str]) {
    let mut others = Vec::new();
    for seed in 1..=TRIES {
        if let Err(broken) = check(seed, flaw) {
            if broken.lines().any(|line| by.iter().any(|name| line.starts_with(name))) {
                return;
            }
            others.push(broken);
        }
    }
    panic!("nobody noticed {flaw:?} as {by:?}; other findings: {:?}", others.first());
}

#[test]
fn a_store_without_epochs_is_noticed() {
    noticed(Flaw::StoreIgnoresEpoch, &["fenced_owners_change_nothing"]);
}

#[test]
fn a_store_that_forgets_ids_is_noticed() {
    noticed(Flaw::StoreForgetsIds, &["same_id_same_seq"]);
}

#[test]
fn a_cursor_that_skips_is_noticed() {
    noticed(Flaw::CursorSkipsGaps, &["every_reader_sees_the_log"]);
}

#[test]
fn a_cursor_that_repeats_is_noticed() {
    noticed(Flaw::CursorTakesAgain, &["every_reader_sees_the_log"]);
}

#[test]
fn a_stream_without_gap_check_is_noticed() {
    noticed(Flaw::StreamTakesGaps, &["a_senders_order_holds", "everything_comes_to_an_end"]);
}

#[test]
fn an_owner_that_shows_early_is_noticed() {
    noticed(Flaw::OwnerShowsEarly, &["nothing_is_shown_before_it_is_committed"]);
}

#[test]
fn an_owner_that_trusts_doubt_is_noticed() {
    noticed(Flaw::OwnerTrustsDoubt, &["fenced_owners_change_nothing"]);
}

#[test]
fn a_mirror_that_tells_of_no_gap_is_noticed() {
    noticed(Flaw::MirrorIgnoresAdvance, &["everything_comes_to_an_end"]);
}

#[test]
fn a_link_that_misses_its_losses_is_noticed() {
    noticed(Flaw::LinkIgnoresGaps, &["everything_comes_to_an_end"]);
}

#[test]
fn requests_in_the_wrong_order_are_noticed() {
    noticed(Flaw::RequestsTakenBackReversed, &["a_senders_order_holds"]);
}

#[test]
fn a_store_that_loses_what_it_took_is_noticed() {
    noticed(Flaw::StoreLoses, &["what_is_acked_stays", "nothing_is_shown_before_it_is_committed"]);
}

#[test]
fn a_store_that_skips_numbers_is_noticed() {
    noticed(Flaw::StoreSkipsNumbers, &["the_log_is_contiguous"]);
}

#[test]
fn an_outbox_without_bound_is_noticed() {
    noticed(Flaw::OutboxUnbounded, &["bounds_hold"]);
}

// Faults that the simulation found in the actors' rules; each must stay found.

#[test]
fn a_leaving_owner_that_holds_requests_is_noticed() {
    noticed(Flaw::LeavingOwnerHolds, &["a_senders_order_holds"]);
}

#[test]
fn an_owner_that_was_overtaken_unnoticed_is_noticed() {
    noticed(Flaw::NeverSuperseded, &["everything_comes_to_an_end"]);
}

#[test]
fn a_reset_on_a_former_owner_s_word_is_noticed() {
    noticed(Flaw::ResetUnverified, &["every_reader_sees_the_log"]);
}

#[test]
fn an_owner_that_forgets_its_mirrors_is_noticed() {
    noticed(Flaw::MirrorsForgotten, &["everything_comes_to_an_end"]);
}
