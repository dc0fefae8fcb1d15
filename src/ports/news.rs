//! Which rooms have something new, from whoever commits to whoever works on logs in the background: a bounded set.
//!
//! A signal, not a queue: a room stands in it once, and what a crash takes with it a sweep must find.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::RoomNo;

/// Rooms noted at most; above, [`Noted::overflowed`] says that any room may have news.
const ROOMS: usize = 65_536;

/// Shared by the one who notes and the one who takes; each taker has its own.
#[derive(Clone, Debug, Default)]
pub struct News(Arc<Mutex<Noted>>);

/// What was noted since it was taken last.
#[derive(Debug, Default)]
pub struct Noted {
    pub rooms: HashSet<RoomNo>,
    /// More rooms than there is place for have news: look through all.
    pub overflowed: bool,
}

impl News {
    /// These rooms have new entries.
    pub fn note(&self, rooms: impl IntoIterator<Item = RoomNo>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for room in rooms {
            if noted.rooms.len() >= ROOMS && !noted.rooms.contains(&room) {
                noted.overflowed = true;
            } else {
                noted.rooms.insert(room);
            }
        }
    }

    pub fn take(&self) -> Noted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_noted_once_and_too_many_are_said() {
        let news = News::default();
        news.note([RoomNo(1), RoomNo(2), RoomNo(1)]);
        let noted = news.take();
        assert_eq!((noted.rooms.len(), noted.overflowed), (2, false));
        assert!(news.take().rooms.is_empty());
        news.note((0..=ROOMS as i64).map(RoomNo));
        let noted = news.take();
        assert_eq!((noted.rooms.len(), noted.overflowed), (ROOMS, true));
    }
}
