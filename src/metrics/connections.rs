//! Connections: how they come, are turned away, carry frames and end.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};

use super::Metrics;
use super::make::Maker;

/// Why a connection was turned away before or at the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// Credentials that are wrong or expired.
    Unauthenticated,
    /// A cookie from another origin.
    Origin,
    /// No known subprotocol, or no proper upgrade.
    Handshake,
    /// Too many connections or requests of one address.
    RateLimited,
    /// Starting, draining or full.
    Unavailable,
}

/// How a session's frames come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    /// Server-sent events and posts.
    Stream,
}

/// What became of a post that was passed to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    Handed,
    Refused,
    /// Not answered in time, or too many were under way.
    Unknown,
}

/// Why a session was closed by us: the contract's close codes, and the WebSocket's own.
const CLOSE_CODES: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1009, 1011, 4000, 4003, 4100, 4200, 4201, 4202, 4203, 4300, 4301];

pub(super) struct Connections {
    open: [IntGauge; 2],
    forwards: [IntCounter; 3],
    closes: IntCounterVec,
    refused: [IntCounter; 5],
}

impl Connections {
    pub(super) fn new(make: &Maker) -> Self {
        let connections = Self {
            open: make.gauges(
                "connections",
                "Open connections of clients, by how their frames come and go.",
                "transport",
                ["websocket", "stream"],
            ),
            forwards: make.counters(
                "stream_forwards",
                "Posts passed to the node of their stream, by what became of them.",
                "outcome",
                ["handed", "refused", "unknown"],
            ),
            closes: make.keep(IntCounterVec::new(
                Opts::new(
                    "roundtable_sessions_closed_total",
                    "Connections that ended, by close code; other: none or unknown.",
                ),
                &["code"],
            )),
            refused: make.counters(
                "connections_refused",
                "Connections turned away before or at the upgrade, by reason.",
                "reason",
                ["unauthenticated", "origin", "handshake", "rate_limited", "unavailable"],
            ),
        };
        for code in CLOSE_CODES {
            connections.closes.with_label_values(&[code_name(code)]);
        }
        connections
    }
}

impl Metrics {
    /// Open connections of a kind.
    pub fn connections(&self, transport: Transport) -> &IntGauge {
        &self.connections.open[transport as usize]
    }

    /// A post was passed to another node.
    pub fn forwarded(&self, outcome: Forward) {
        self.connections.forwards[outcome as usize].inc();
    }

    /// A connection was turned away.
    pub fn connect_refused(&self, reason: ConnectRefusal) {
        self.connections.refused[reason as usize].inc();
    }

    /// A session ended; `None`: without a close frame.
    pub fn closed(&self, code: Option<u16>) {
        self.connections.closes.with_label_values(&[code.map_or("other", code_name)]).inc();
    }
}

/// The label of a close code; codes that we don't know share one.
fn code_name(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1007 => "1007",
        1009 => "1009",
        1011 => "1011",
        4000 => "4000",
        4003 => "4003",
        4100 => "4100",
        4200 => "4200",
        4201 => "4201",
        4202 => "4202",
        4203 => "4203",
        4300 => "4300",
        4301 => "4301",
        _ => "other",
    }
}
