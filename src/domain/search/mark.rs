//! Terms that no text has: by them the index itself keeps to a room, to a sender, to what somebody may read, and to a
//! stretch of the newest messages. Part of the stored form: never change one.

use crate::ids::UserId;

/// Bits of a message's number in the index that the finest band leaves out: bands of 1,024.
const FINEST: u32 = 10;
/// From one level of bands to the next.
const STEP: u32 = 2;
/// Levels of bands; what is older than four of the coarsest is one stretch.
const LEVELS: u32 = 6;
/// Bands that a stretch takes.
const BANDS: i64 = 4;

/// Messages of one room.
pub fn room(no: i64) -> String {
    format!("#r{no}")
}

/// Messages of one sender.
pub fn sender(user: &UserId) -> String {
    format!("#u{user}")
}

/// Messages in public rooms.
pub const OPEN: &str = "#o";
/// Messages in private rooms that are not direct ones.
pub const CLOSED: &str = "#c";

/// Messages of direct rooms that this user is one of the two of.
pub fn direct(user: &UserId) -> String {
    format!("#d{user}")
}

/// The bands that a message with this number is in, one a level.
pub fn bands(id: i64) -> impl Iterator<Item = String> {
    (0..LEVELS).map(move |level| band(level, id >> shift(level)))
}

fn shift(level: u32) -> u32 {
    FINEST + STEP * level
}

fn band(level: u32, no: i64) -> String {
    format!("#{level}b{no}")
}

/// A stretch of the index, older than the ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Any of these; none: everything, for the oldest part.
    pub bands: Vec<String>,
    /// First number and one past the last.
    pub from: i64,
    pub to: i64,
}

impl Window {
    /// Everything older than this one in a single stretch; `None`: there is nothing.
    pub fn rest(&self) -> Option<Self> {
        (self.from > 0).then(|| Self { bands: Vec::new(), from: 0, to: self.from })
    }
}

/// The index cut into a few stretches, newest first, each about four times as long as the one before: who wants the newest
/// thousand of something common finds them in the first, and what is rare costs little in any.
pub fn windows(newest: i64) -> impl Iterator<Item = Window> {
    let mut to = newest.saturating_add(1).max(1);
    (0..=LEVELS).map_while(move |level| {
        if to <= 1 && level > 0 {
            return None;
        }
        let window = if level == LEVELS {
            Window { bands: Vec::new(), from: 0, to }
        } else {
            let last = (to - 1) >> shift(level);
            let first = (last - BANDS + 1).max(0);
            Window { bands: (first..=last).map(|no| band(level, no)).collect(), from: first << shift(level), to }
        };
        to = window.from;
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_once() {
        for newest in [0, 1, 5, 4_095, 4_096, 20_000, 1_000_000, 123_456_789, 1 << 40] {
            let all: Vec<Window> = windows(newest).collect();
            assert_eq!(all[0].to, newest + 1);
            for pair in all.windows(2) {
                assert_eq!(pair[0].from, pair[1].to);
            }
            assert_eq!(all.last().map(|window| window.from), Some(0), "{newest}");
            let some = [0, 1, 4_096, newest / 2, newest - 1, newest];
            for id in some.into_iter().filter(|id| (0..=newest).contains(id)) {
                let of = all.iter().find(|window| (window.from..window.to).contains(&id)).expect("in one of them");
                let mut bands = bands(id);
                assert!(of.bands.is_empty() || bands.any(|band| of.bands.contains(&band)), "{id} of {newest}");
            }
        }
    }
}
