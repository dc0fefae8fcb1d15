//! What processes have used, read from `/proc`: CPU by user and system, and memory. A process counts with everything
//! it started (PostgreSQL is a tree of processes), the children that have ended included.

use std::collections::HashMap;
use std::fs;
use std::ops::{Add, Sub};

use serde::Serialize;

use crate::sys;

/// CPU seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cpu {
    pub user_s: f64,
    pub sys_s: f64,
}

impl Cpu {
    pub fn total(self) -> f64 {
        self.user_s + self.sys_s
    }

    /// Of this process.
    pub fn own() -> Self {
        let (user_s, sys_s) = sys::own_cpu();
        Self { user_s, sys_s }
    }
}

impl Add for Cpu {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { user_s: self.user_s + other.user_s, sys_s: self.sys_s + other.sys_s }
    }
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self { user_s: self.user_s - earlier.user_s, sys_s: self.sys_s - earlier.sys_s }
    }
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    pub rss: u64,
    /// Of each page the process's share: a page that `n` processes map counts an `n`th.
    pub pss: u64,
    /// The part of it that is not backed by a file: heap and stacks.
    pub anonymous: u64,
}

struct Stat {
    parent: u32,
    cpu: Cpu,
}

/// `/proc/PID/stat`; the name in brackets may hold anything, so fields are counted from its end.
fn parse_stat(text: &str, ticks: f64) -> Option<Stat> {
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    let user = number(11)? + number(13)?;
    let sys = number(12)? + number(14)?;
    Some(Stat { parent: number(1)? as u32, cpu: Cpu { user_s: user as f64 / ticks, sys_s: sys as f64 / ticks } })
}

fn stats() -> HashMap<u32, Stat> {
    let ticks = sys::ticks_per_second();
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, ticks)?))
        })
        .collect()
}

fn descends(pid: u32, root: u32, stats: &HashMap<u32, Stat>) -> bool {
    let mut at = pid;
    // Sixteen generations are more than any server has; a torn snapshot can't make a loop of it.
    for _ in 0..16 {
        if at == root {
            return true;
        }
        match stats.get(&at) {
            Some(stat) if stat.parent != 0 => at = stat.parent,
            _ => return false,
        }
    }
    false
}

/// CPU of each of `roots` with its descendants.
pub fn cpu(roots: &[u32]) -> Cpu {
    if roots.is_empty() {
        return Cpu::default();
    }
    let stats = stats();
    stats
        .iter()
        .filter(|(pid, _)| roots.iter().any(|&root| descends(**pid, root, &stats)))
        .fold(Cpu::default(), |sum, (_, stat)| sum + stat.cpu)
}

/// `roots` and everything they started that is still there.
pub fn family(roots: &[u32]) -> Vec<u32> {
    let stats = stats();
    stats.keys().copied().filter(|&pid| roots.iter().any(|&root| descends(pid, root, &stats))).collect()
}

/// Bytes resident of each of `roots` without descendants: what is cheap enough to be asked for every second.
pub fn resident(roots: &[u32]) -> u64 {
    let pages = |pid: &u32| -> Option<u64> {
        fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()
    };
    roots.iter().filter_map(pages).sum::<u64>() * sys::page_bytes()
}

/// Memory of each of `roots`, without descendants.
pub fn memory(roots: &[u32]) -> Memory {
    let mut sum = Memory::default();
    for pid in roots {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(Ok(kib))) = (words.next(), words.next().map(str::parse::<u64>)) else { continue };
            match key {
                "Rss:" => sum.rss += kib * 1024,
                "Pss:" => sum.pss += kib * 1024,
                "Anonymous:" => sum.anonymous += kib * 1024,
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 1 1 0 -1 0 0 0 0 0 150 50 30 20 20 0 1 0 0 0 0";
        let stat = parse_stat(text, 100.0).expect("well formed");
        assert_eq!(stat.parent, 7);
        assert_eq!((stat.cpu.user_s, stat.cpu.sys_s), (1.8, 0.7));
    }

    #[test]
    fn our_own_process_has_memory_and_is_its_own_root() {
        let own = [std::process::id()];
        assert!(memory(&own).rss > 0);
        assert!(stats().contains_key(&own[0]));
    }
}
