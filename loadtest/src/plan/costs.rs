//! Unit costs and where they come from. The built-in ones stand in `costs.toml`; a file of one's own has the same keys.
//!
//! Invariant: every key is there, in the unit that the sum uses, with a provenance; a key that nobody knows is refused,
//! since it would look as if it counted.

use serde::{Deserialize, Serialize};

use crate::fail::{Fail, Result};

const BUILT_IN: &str = include_str!("costs.toml");

/// One measured figure.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub value: f64,
    /// As [`Costs`] has it for this key.
    pub unit: String,
    /// Command, date, machine and what else one must know to judge the figure.
    pub source: String,
    /// How much of `of` there was when it was measured.
    pub measured_to: f64,
    pub of: String,
}

macro_rules! costs {
    ($($(#[$doc:meta])* $key:ident: $unit:literal,)*) => {
        /// All of them.
        #[derive(Debug, Clone, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        pub struct Costs { $($(#[$doc])* pub $key: Cost,)* }

        impl Costs {
            /// Key, unit that the sum uses, cost; in the order of the file.
            pub fn all(&self) -> Vec<(&'static str, &'static str, &Cost)> {
                vec![$((stringify!($key), $unit, &self.$key),)*]
            }
        }
    };
}

costs! {
    /// RSS of the node for an idle session with one subscription.
    session_memory: "B",
    /// Memory of the kernel for its socket.
    session_kernel: "B",
    /// RSS for each further subscription of a session.
    subscription_memory: "B",
    /// RSS of a node for a room in use there without entries.
    room_memory: "B",
    /// RSS for an entry in a room's ring, beside its JSON.
    ring_entry_memory: "B",
    /// JSON of an entry as it is kept and sent, beside its text.
    entry_json: "B",
    /// What a frame to a client has around one entry.
    events_frame: "B",
    /// CPU of the nodes for one entry to one reader.
    delivery_node: "µs",
    /// CPU of the nodes to take, check, commit and answer one send, without readers and other nodes.
    send_node: "µs",
    /// CPU of two nodes for one envelope that goes from one to the other in a frame of its own.
    envelope_node: "µs",
    /// The part of it on the one core thread of each node.
    envelope_core: "µs",
    /// CPU of the core thread for one send that its node owns.
    send_core: "µs",
    /// CPU of a node for an idle session, each second.
    session_idle: "µs/s",
    /// CPU of the nodes to let one session in: upgrade, token, join, subscribe.
    session_enter: "µs",
    /// CPU of PostgreSQL for one send.
    send_store: "µs",
    /// The most sends a second that one PostgreSQL of a cluster was seen to take.
    store_most: "sends/s",
    /// Write-ahead log for one send, beside its text.
    send_wal: "B",
    /// Write-ahead log for each byte of text.
    text_wal: "B",
    /// Table and indexes for one entry, beside its text.
    entry_disk: "B",
    /// Connections of a node to PostgreSQL.
    node_store_connections: "connections",
    /// Most frames a second on one link; what is said faster gathers in them.
    link_frames: "frames/s",
    /// CPU of Redis for one frame, in and out.
    frame_redis: "µs",
    /// Bytes of a frame with one commit of one entry, beside its JSON.
    commit_frame: "B",
    /// CPU of Redis for one beat of a node, beside the list of nodes.
    beat_redis: "µs",
    /// CPU of Redis for each node listed in the answer.
    beat_member_redis: "µs",
    /// Bytes of each node listed in it.
    beat_member: "B",
}

impl Costs {
    pub fn built_in() -> Result<Self> {
        Self::parse(BUILT_IN, "built-in costs")
    }

    /// `name`: of the file, for errors.
    ///
    /// # Errors
    /// One line: a key that is missing, unknown or twice there, a value that is no cost, a unit that is another one.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let costs: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let at = line.filter(|line| *line > 1).map(|line| format!(" line {line}")).unwrap_or_default();
            Fail::Setup(format!("{name}{at}: {}", error.message().replace('\n', " ")))
        })?;
        for (key, unit, cost) in costs.all() {
            let fault = if !(cost.value.is_finite() && cost.value >= 0.0) {
                format!("value is a number from 0, not {}", cost.value)
            } else if cost.unit != unit {
                format!("unit is {unit:?}, not {:?}", cost.unit)
            } else if !(cost.measured_to.is_finite() && cost.measured_to > 0.0) {
                format!("measured_to is a number above 0, not {}", cost.measured_to)
            } else if cost.source.trim().is_empty() || cost.of.trim().is_empty() {
                "source and of say where the value comes from, and are empty".to_owned()
            } else {
                continue;
            };
            return Err(Fail::Setup(format!("{name}: {key}: {fault}")));
        }
        if costs.store_most.value == 0.0 {
            return Err(Fail::Setup(format!("{name}: store_most: a store that takes nothing")));
        }
        Ok(costs)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The same round figure everywhere but for what is given.
    pub fn costs(given: &[(&str, f64)]) -> Costs {
        let built_in = Costs::built_in().expect("the built-in costs are good");
        let text: String = built_in
            .all()
            .into_iter()
            .map(|(key, unit, _)| {
                let value = given.iter().find(|(name, _)| *name == key).map_or(1.0, |(_, value)| *value);
                format!("[{key}]\nvalue = {value:?}\nunit = {unit:?}\nsource = \"made up\"\nmeasured_to = 1e18\nof = \"all\"\n")
            })
            .collect();
        assert!(given.iter().all(|(name, _)| text.contains(&format!("[{name}]"))), "{given:?}");
        Costs::parse(&text, "test").expect("good costs")
    }

    fn error(text: &str) -> String {
        let error = Costs::parse(text, "mine.toml").expect_err(text).to_string();
        assert!(error.starts_with("can't run: mine.toml") && !error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_file_with_a_fault_is_refused_in_one_line_that_names_it() {
        let good = BUILT_IN;
        let without = good.replacen("[send_store]", "[sent_store]", 1);
        assert!(error(&without).contains("sent_store"), "an unknown key");
        let start = good.find("[send_store]").expect("is there");
        let end = start + good[start + 1..].find("\n[").expect("is not the last") + 1;
        assert!(error(&format!("{}{}", &good[..start], &good[end..])).contains("send_store"), "a missing key");
        let change = |from: &str, to: &str| format!("{}{}", &good[..start], good[start..].replacen(from, to, 1));
        assert!(error(&change("value = ", "value = -")).contains("send_store: value"));
        assert!(error(&change("value = ", "value = nan #")).contains("send_store: value"));
        assert!(error(&change("value = ", "value = inf #")).contains("send_store: value"));
        assert!(error(&change("value = ", "value = \"7\" #")).contains("string"));
        assert!(error(&change("unit = \"µs\"", "unit = \"ms\"")).contains("send_store: unit is \"µs\", not \"ms\""));
        assert!(error(&change("unit = ", "unti = ")).contains("unti"));
        assert!(error(&change("measured_to = ", "measured_to = 0 #")).contains("measured_to"));
        assert!(error(&format!("{good}\n[send_store]\n")).contains("send_store"));
        assert!(error("value = ").contains("mine.toml"));
        assert!(error("").contains("session_memory"));
    }
}
