//! Bugs on purpose, one at a time, so that the harness can prove that it catches them. They are part of the program only
//! with the feature `seeded-bugs`, which builds in a release do not have: the check below refuses them.
//!
//! Invariants: without the variable [`VARIABLE`] every hook does what the honest server does; which bug it is, is read
//! once, before anything else is started.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(not(debug_assertions))]
compile_error!("the feature seeded-bugs makes the server lie on purpose: it can't be built into a release");

/// The environment variable that names the bug. No setting: no file and no default can ever choose one.
pub const VARIABLE: &str = "ROUNDTABLE_SEEDED_BUG";

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The owner answers `sent` to its own sessions before the store has the message.
    AckBeforeCommit,
    /// A cursor that was behind leaves out an entry now and then.
    CursorSkip,
    /// PostgreSQL takes appends of former owners.
    ///
    /// Alone that shows in no history, since two more things stand behind the check. They fall with it, so that nothing
    /// but the epoch is left to hold against a former owner, and then that is missing:
    /// - A node whose lease has run out by its own clock, or that reads in the table who owns a room now, stops at once.
    ///   Here it takes [`HEARD_LATE`].
    /// - The store numbers entries, also those of two owners, without a gap, and whoever is told another number than it
    ///   expects lets its cursors fetch. Here an owner counts by itself from its own head on, as it may where the epoch
    ///   makes it the only one to write.
    NoEpochCheck,
}

impl Bug {
    const ALL: [Self; 3] = [Self::AckBeforeCommit, Self::CursorSkip, Self::NoEpochCheck];

    /// As the variable has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::CursorSkip => "cursor-skip",
            Self::NoEpochCheck => "no-epoch-check",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();

/// Reads the variable, once for the life of the process; `None`: honest.
///
/// # Errors
/// One line for the operator, where the variable names no bug.
pub fn choose() -> Result<Option<Bug>, String> {
    let chosen = match std::env::var_os(VARIABLE) {
        None => None,
        Some(value) => Some(Bug::ALL.into_iter().find(|bug| value == bug.name()).ok_or_else(|| {
            let names = Bug::ALL.map(Bug::name).join(", ");
            format!("{VARIABLE}: {:?} is no seeded bug (allowed: {names})", value.to_string_lossy())
        })?),
    };
    Ok(*CHOSEN.get_or_init(|| chosen))
}

/// Whether the server has this bug now.
pub fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(&Some(bug))
}

/// `cursor-skip`: whether a cursor that is about to fetch what it missed leaves out the first entry of it. One in
/// [`SKIP_ONE_IN`] does.
pub fn skips_an_entry() -> bool {
    static FETCHES: AtomicU32 = AtomicU32::new(0);
    is(Bug::CursorSkip) && FETCHES.fetch_add(1, Ordering::Relaxed) % SKIP_ONE_IN == SKIP_ONE_IN - 1
}

const SKIP_ONE_IN: u32 = 4;

/// `no-epoch-check`: how long an owner goes on after it should have stopped. The window would be a few milliseconds long,
/// and seldom met by a fault.
pub const HEARD_LATE: Duration = Duration::from_millis(2_500);
