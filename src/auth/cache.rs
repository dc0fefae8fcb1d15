//! A bounded cache: entries live for a while and are forgotten sooner when there are too many.
//!
//! Two generations: what is put goes into the young one; when that holds half of what is allowed, it becomes the old one
//! and the former old one is dropped. So at the bound the longest unused go first, roughly, without a list to keep.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Cache<K, V> {
    half: usize,
    life: Duration,
    generations: Mutex<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, (V, Instant)>,
    old: HashMap<K, (V, Instant)>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Holds at most `most`, each for `life`.
    pub(super) fn new(most: usize, life: Duration) -> Self {
        let generations = Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        Self { half: (most / 2).max(1), life, generations }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.younger(key, self.life)
    }

    /// The value, where it was put less than `life` ago.
    pub(super) fn younger<Q: Eq + Hash + ?Sized>(&self, key: &Q, life: Duration) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let life = life.min(self.life);
        let mut generations = self.lock();
        let fresh = |(_, since): &&(V, Instant)| since.elapsed() < life;
        if let Some((value, _)) = generations.young.get(key).filter(fresh) {
            return Some(value.clone());
        }
        // Used again: to the young ones, with the life that it has left.
        let (key, (value, since)) = generations.old.remove_entry(key).filter(|(_, kept)| fresh(&kept))?;
        self.insert(&mut generations, key, value.clone(), since);
        Some(value)
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut generations = self.lock();
        generations.old.remove(&key);
        self.insert(&mut generations, key, value, Instant::now());
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut generations = self.lock();
        generations.young.remove(key);
        generations.old.remove(key);
    }

    /// Changes the value in one step, with nobody between; gives what `change` gives besides.
    pub(super) fn change<T>(&self, key: &K, change: impl FnOnce(Option<V>) -> (V, T)) -> T {
        let mut generations = self.lock();
        let old = generations.old.remove(key);
        let was = generations.young.remove(key).or(old).filter(|(_, since)| since.elapsed() < self.life);
        let (value, answer) = change(was.map(|(value, _)| value));
        self.insert(&mut generations, key.clone(), value, Instant::now());
        answer
    }

    /// Forgets those that `wanted` says no to.
    pub(super) fn retain(&self, wanted: impl Fn(&V) -> bool) {
        let mut generations = self.lock();
        generations.young.retain(|_, (value, _)| wanted(value));
        generations.old.retain(|_, (value, _)| wanted(value));
    }

    fn insert(&self, generations: &mut Generations<K, V>, key: K, value: V, since: Instant) {
        if generations.young.len() >= self.half && !generations.young.contains_key(&key) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, (value, since));
    }

    /// A panic while it was held leaves a cache that is merely less full.
    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_it_may_and_keeps_what_is_used() {
        let cache = Cache::new(8, Duration::from_secs(60));
        cache.put(0, "used");
        for key in 1..1_000 {
            cache.put(key, "other");
            assert_eq!(cache.get(&0), Some("used"));
            let generations = cache.lock();
            assert!(generations.young.len() + generations.old.len() <= 8);
        }
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&999), Some("other"));
    }

    #[test]
    fn entries_end() {
        let cache = Cache::new(8, Duration::ZERO);
        cache.put(1, ());
        assert_eq!(cache.get(&1), None);
        let cache = Cache::new(8, Duration::from_secs(60));
        cache.put(1, ());
        cache.remove(&1);
        assert_eq!(cache.get(&1), None);
    }
}
