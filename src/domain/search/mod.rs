//! Searching texts: how a text becomes terms for an index, how what somebody asks for becomes terms too, what a match is
//! worth, and where in a text it is. The same functions serve both stores, so that both find the same.
//!
//! Invariants: index and query go through the same [`fold::fold`] and [`terms::terms`]; a term holds letters and digits
//! alone, so that a mark in front of one ([`mark`]) can't be said by any text or query.

pub mod fold;
pub mod highlight;
pub mod mark;
pub mod rank;
pub mod terms;
pub mod wanted;

/// Matches that are ranked: the newest ones, in the order in which they were indexed.
pub const CANDIDATES: usize = 1_000;
/// With fewer matches than this, whole words are looked for within words too.
pub const FEW: usize = 50;
/// Unicode scalar values of what is looked for.
pub const QUERY_CHARS: usize = 200;
/// Characters of a folded text that are ranked; a match behind them is found, and counts as a plain one.
pub const RANKED_CHARS: usize = 1_000;
