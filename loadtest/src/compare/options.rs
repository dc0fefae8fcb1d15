//! What `compare` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::compare::peers::Peer;
use crate::report::Deliver;
use crate::stack::options::StackOptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// One room with many readers
    Fanout,
    /// Many rooms with few readers
    Rooms,
    /// Memory of a connection that is in a room and hears nothing
    Idle,
    /// Sends a second that are told to be stored, where a peer can tell
    Durable,
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Idle => "idle",
            Self::Durable => "durable",
        }
    }
}

#[derive(Args, Debug)]
pub struct Options {
    /// Whom to compare with; Roundtable itself is always measured too
    #[arg(value_enum, required = true)]
    pub peers: Vec<Peer>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fanout,rooms,idle,durable")]
    pub workload: Vec<Workload>,
    /// Rounds of each; medians are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seconds that a row measures
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds before that of the same load
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub warmup: f64,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(64..=4000))]
    pub text_bytes: u16,
    /// fanout: readers of the one room, of whom 4 send
    #[arg(long, default_value_t = 1_000, value_parser = count)]
    pub readers: usize,
    /// fanout: messages a second
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub rate: f64,
    /// rooms: how many
    #[arg(long, default_value_t = 200, value_parser = count)]
    pub rooms: usize,
    /// rooms: readers of each, of whom 1 sends
    #[arg(long, default_value_t = 5, value_parser = count)]
    pub room_readers: usize,
    /// rooms: messages a second over all
    #[arg(long, default_value_t = 1_000.0, value_parser = rate)]
    pub rooms_rate: f64,
    /// idle: how many, in rooms of 100; each is measured on the way up
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = count)]
    pub connections: Vec<usize>,
    /// idle: seconds between the last one's coming in and the measurement
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub settle: f64,
    /// durable: senders, each in a room of its own
    #[arg(long, default_value_t = 200, value_parser = count)]
    pub senders: usize,
    /// durable: unanswered sends of each, at most limits.inflight of Roundtable
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub window: u16,
    /// Nodes of Roundtable; several are joined by Redis
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,
    /// Leave Roundtable out
    #[arg(long)]
    pub without_roundtable: bool,
    /// Install what the peers need and isn't there: Debian's packages (as root) and npm's
    #[arg(long)]
    pub install: bool,
    /// Where npm's packages are [default: roundtable-loadtest in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub stack: StackOptions,
    #[command(flatten)]
    pub deliver: Deliver,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.1..=86_400.0).contains(value));
    value.ok_or_else(|| "not seconds from 0.1 to 86400".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.1..=1e6).contains(value));
    value.ok_or_else(|| "not a rate from 0.1 to 1000000".into())
}

fn count(text: &str) -> Result<usize, String> {
    let value = text.parse::<usize>().ok().filter(|value| (1..=1_000_000).contains(value));
    value.ok_or_else(|| "not a number from 1 to 1000000".into())
}
