//! Who is in which room, for each kind of load. The same arguments give the same population.

use crate::crowd::job::{Person, Population};

/// Room ids of a run: new ones each time, so that nothing that was there before is judged.
fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|room| format!("{prefix}-{room}")).collect()
}

/// `rooms` with `readers` watchers each who also belong to them, and `senders` each who watch nothing.
pub fn audiences(prefix: &str, rooms: usize, readers: usize, senders: usize) -> Population {
    let mut people = Vec::new();
    for room in 0..rooms as u32 {
        // A reader is no member: anybody may read a public room, and senders alone send.
        let reader = Person { member_of: Vec::new(), watches: vec![room] };
        people.extend(std::iter::repeat_n(reader, readers));
    }
    for room in 0..rooms as u32 {
        let sender = Person { member_of: vec![room], watches: Vec::new() };
        people.extend(std::iter::repeat_n(sender, senders));
    }
    Population { rooms: names(prefix, rooms), people }
}

/// `people` in rooms of `size`, each a member of its room and watching it.
pub fn circles(prefix: &str, people: usize, size: usize) -> Population {
    let rooms = people.div_ceil(size.max(1)).max(1);
    let person = |i: usize| {
        let room = (i / size.max(1)) as u32;
        Person { member_of: vec![room], watches: vec![room] }
    };
    Population { rooms: names(prefix, rooms), people: (0..people).map(person).collect() }
}

/// `senders` who share `rooms` between them; nobody watches.
pub fn writers(prefix: &str, rooms: usize, senders: usize) -> Population {
    let stride = senders.min(rooms).max(1);
    let person = |i: usize| Person {
        member_of: (i % stride..rooms).step_by(stride).map(|room| room as u32).collect(),
        watches: Vec::new(),
    };
    Population { rooms: names(prefix, rooms), people: (0..senders).map(person).collect() }
}

/// Rooms that a person of a team is in, on average.
const ROOMS_EACH: usize = 5;
const SMALLEST_ROOM: usize = 2;

/// A team: room sizes by a power law (the k-th largest has 1/k of the largest's members), everybody in about five rooms,
/// each member watching. Gives the weights too with which rooms are sent to: the square root of their size, since a large
/// room is busier than a small one, but not as much as it is larger.
pub fn team(prefix: &str, people: usize, rooms: usize) -> (Population, Vec<f64>) {
    let harmonic: f64 = (1..=rooms).map(|k| 1.0 / k as f64).sum();
    let largest = (people * ROOMS_EACH) as f64 / harmonic;
    let sizes: Vec<usize> =
        (1..=rooms).map(|k| ((largest / k as f64) as usize).clamp(SMALLEST_ROOM.min(people), people)).collect();
    let mut members = vec![Person::default(); people];
    let mut chance = fastrand::Rng::with_seed(people as u64 ^ (rooms as u64) << 32);
    for (room, &size) in sizes.iter().enumerate() {
        for person in chance.choose_multiple(0..people, size) {
            members[person].member_of.push(room as u32);
            members[person].watches.push(room as u32);
        }
    }
    let weights = sizes.iter().map(|&size| (size as f64).sqrt()).collect();
    (Population { rooms: names(prefix, rooms), people: members }, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchers(population: &Population, room: u32) -> usize {
        population.people.iter().filter(|person| person.watches.contains(&room)).count()
    }

    #[test]
    fn audiences_watch_and_senders_send() {
        let population = audiences("x", 3, 4, 2);
        assert_eq!((population.rooms.len(), population.people.len()), (3, 18));
        assert_eq!([0, 1, 2].map(|room| watchers(&population, room)), [4, 4, 4]);
        assert_eq!(population.people.iter().filter(|person| person.member_of == [1]).count(), 2);
    }

    #[test]
    fn circles_and_writers_reach_every_room() {
        let population = circles("x", 25, 10);
        assert_eq!([0, 1, 2].map(|room| watchers(&population, room)), [10, 10, 5]);
        for (rooms, senders) in [(1, 5), (5, 2), (7, 7)] {
            let population = writers("x", rooms, senders);
            let reached = |room: u32| population.people.iter().any(|person| person.member_of.contains(&room));
            assert!((0..rooms as u32).all(reached), "{rooms} rooms, {senders} senders");
            assert!(population.people.iter().all(|person| !person.member_of.is_empty()));
        }
    }

    #[test]
    fn a_team_has_few_large_rooms_and_many_small_ones_and_is_the_same_again() {
        let (population, weights) = team("x", 200, 40);
        let sizes: Vec<usize> = (0..40).map(|room| watchers(&population, room)).collect();
        assert!(sizes.windows(2).all(|two| two[0] >= two[1]), "{sizes:?}");
        assert!(sizes[0] > 150 && sizes[39] < 10, "{sizes:?}");
        assert_eq!(weights.len(), 40);
        assert_eq!(team("x", 200, 40).0.people[7].watches, population.people[7].watches);
    }
}
