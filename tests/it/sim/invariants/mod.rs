//! What holds in every world, one file a promise. Each says what is broken, in words.

mod acked_stays;
mod bounds_hold;
mod committed_first;
mod contiguous;
mod ends;
mod fenced;
mod readers_agree;
mod same_id;
mod sender_order;

use super::history::History;

/// All that is broken, each line with the invariant's name first.
pub fn broken(history: &History) -> Vec<String> {
    type Check = fn(&History) -> Result<(), String>;
    let checks: [(&str, Check); 9] = [
        ("the_log_is_contiguous", contiguous::check),
        ("what_is_acked_stays", acked_stays::check),
        ("nothing_is_shown_before_it_is_committed", committed_first::check),
        ("every_reader_sees_the_log", readers_agree::check),
        ("a_senders_order_holds", sender_order::check),
        ("same_id_same_seq", same_id::check),
        ("fenced_owners_change_nothing", fenced::check),
        ("everything_comes_to_an_end", ends::check),
        ("bounds_hold", bounds_hold::check),
    ];
    checks.iter().filter_map(|(name, check)| Some(format!("{name}: {}", check(history).err()?))).collect()
}
