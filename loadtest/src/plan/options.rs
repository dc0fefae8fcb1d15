//! What is to be carried and on what machines: the command line, checked.

use std::path::PathBuf;

use clap::Args;

use crate::fail::{Fail, Result};

/// Above every fleet that anybody will plan, and far below where sums in `f64` lose a whole number.
const MOST: f64 = 1e12;

#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Sessions connected at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub connections: u64,
    /// Rooms with at least one reader connected
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub rooms: u64,
    /// Messages sent a second over all rooms
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Rooms that one session reads
    #[arg(long, default_value_t = 10.0)]
    pub rooms_per_connection: f64,
    /// Sessions that one message reaches [default: the mean room, connections × rooms-per-connection / rooms]
    #[arg(long)]
    pub readers: Option<f64>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=16_000))]
    pub text_bytes: u64,
    /// Hours that a room's readers stay without a break: what is said meanwhile fills its ring of recent entries
    #[arg(long, default_value_t = 24.0)]
    pub hours: f64,
    /// Seconds in which all sessions of dead nodes must be back
    #[arg(long, default_value_t = 30.0)]
    pub reconnect_s: f64,
    /// Nodes that may die at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub failures: u32,
    /// Cores of a node
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cores_per_node: u32,
    /// Memory of a node
    #[arg(long, default_value = "32GiB", value_name = "SIZE", value_parser = size)]
    pub node_memory: f64,
    /// Part of every core, of nodes, Redis and PostgreSQL, that stays free; reconnecting may use half of it
    #[arg(long, default_value_t = 0.4)]
    pub headroom: f64,
    /// Part of a node's memory that stays free
    #[arg(long, default_value_t = 0.3)]
    pub memory_headroom: f64,
    /// cluster.lease_ms of the nodes
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub lease_ms: u64,
    /// Unit costs measured elsewhere, in the form of loadtest/src/plan/costs.toml [default: those, built in]
    #[arg(long, value_name = "FILE")]
    pub costs: Option<PathBuf>,
    /// Also write the whole sum to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The checked numbers. Whole numbers are held as `f64`, exact up to 2^53.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Load {
    pub connections: f64,
    pub rooms: f64,
    pub sends_per_s: f64,
    pub rooms_per_connection: f64,
    /// Sessions in the mean room.
    pub room_readers: f64,
    /// Sessions that the mean message reaches.
    pub readers: f64,
    pub text_bytes: f64,
    pub hours: f64,
    pub reconnect_s: f64,
    pub failures: f64,
    pub cores: f64,
    pub memory_bytes: f64,
    /// Parts that may be used.
    pub use_cpu: f64,
    pub use_cpu_storm: f64,
    pub use_memory: f64,
    pub lease_s: f64,
}

impl Options {
    /// # Errors
    /// Names the option that is out of its range, in one line.
    pub fn load(&self) -> Result<Load> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                Ok(value)
            } else {
                Err(Fail::Setup(format!("--{name} is a number from {low} to {high}, not {value}")))
            }
        };
        let (connections, rooms) = (self.connections as f64, self.rooms as f64);
        let rooms_per_connection = within("rooms-per-connection", self.rooms_per_connection, 0.001, 1e6)?;
        if rooms_per_connection > rooms {
            let what = "can't be in more rooms than there are";
            return Err(Fail::Setup(format!("--rooms-per-connection {rooms_per_connection}: a session {what}")));
        }
        let room_readers = connections * rooms_per_connection / rooms;
        let readers = match self.readers {
            None => room_readers,
            Some(readers) => within("readers", readers, 0.0, connections)?,
        };
        let headroom = within("headroom", self.headroom, 0.0, 0.99)?;
        Ok(Load {
            connections,
            rooms,
            sends_per_s: within("rate", self.rate, 1e-6, MOST)?,
            rooms_per_connection,
            room_readers,
            readers,
            text_bytes: self.text_bytes as f64,
            hours: within("hours", self.hours, 0.0, 1e6)?,
            reconnect_s: within("reconnect-s", self.reconnect_s, 0.1, 86_400.0)?,
            failures: self.failures.into(),
            cores: self.cores_per_node.into(),
            memory_bytes: self.node_memory,
            use_cpu: 1.0 - headroom,
            use_cpu_storm: 1.0 - headroom / 2.0,
            use_memory: 1.0 - within("memory-headroom", self.memory_headroom, 0.0, 0.99)?,
            lease_s: self.lease_ms as f64 / 1e3,
        })
    }
}

/// `512MiB`, `32GiB`, `1.5TiB`: bytes, of at least 64 MiB.
fn size(text: &str) -> std::result::Result<f64, String> {
    let units = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let parsed = units.iter().find_map(|(unit, bits)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * f64::from(1_u32 << 10).powi(bits / 10))
    });
    match parsed {
        Some(bytes) if (64.0 * 1024.0 * 1024.0..=MOST * 1024.0).contains(&bytes) => Ok(bytes),
        _ => Err("a size from 64MiB to 900TiB, as in 32GiB".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn load(line: &str) -> std::result::Result<Load, String> {
        let words = std::iter::once("plan").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.options.load().map_err(|fail| fail.to_string())
    }

    #[test]
    fn the_mean_room_is_what_a_message_reaches_unless_said_otherwise() {
        let load_ = load("--connections 1000 --rooms 50 --rooms-per-connection 4 --node-memory 1.5GiB").expect("good");
        assert_eq!((load_.room_readers, load_.readers), (80.0, 80.0));
        assert_eq!(load_.memory_bytes, 1.5 * f64::from(1 << 30));
        assert_eq!((load_.use_cpu, load_.use_cpu_storm), (0.6, 0.8));
        assert_eq!(load("--readers 500").map(|load| load.readers), Ok(500.0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, name) in [
            ("--connections 0", "--connections"),
            ("--connections -1", "-1"),
            ("--connections 99999999999999999999", "--connections"),
            ("--rooms 0", "--rooms"),
            ("--rate 0", "--rate"),
            ("--rate=-5", "--rate"),
            ("--rate NaN", "--rate"),
            ("--rate inf", "--rate"),
            ("--rate 1e300", "--rate"),
            ("--readers NaN", "--readers"),
            ("--connections 10 --readers 11", "--readers"),
            ("--rooms 5 --rooms-per-connection 6", "--rooms-per-connection"),
            ("--rooms-per-connection 0", "--rooms-per-connection"),
            ("--headroom 1", "--headroom"),
            ("--memory-headroom=-0.1", "--memory-headroom"),
            ("--node-memory 32", "--node-memory"),
            ("--node-memory 0GiB", "--node-memory"),
            ("--node-memory NaNGiB", "--node-memory"),
            ("--cores-per-node 0", "--cores-per-node"),
            ("--text-bytes 0", "--text-bytes"),
            ("--reconnect-s 0", "--reconnect-s"),
            ("--lease-ms 0", "--lease-ms"),
            ("--hours NaN", "--hours"),
        ] {
            let error = load(line).expect_err(line);
            assert!(error.contains(name), "{line}: {error}");
        }
    }
}
