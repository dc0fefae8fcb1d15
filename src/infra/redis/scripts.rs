//! The Lua scripts of `infra/lua`, one method each: what goes in and what comes out.
//!
//! Invariant: a script that Redis forgot (restart, flush) is sent again in the same call.

use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Script};

use super::link::Link;
use super::target::Connection;
use super::{inbox, owners};
use crate::ids::{NodeId, ShardId};
use crate::ports::{BusError, NodeRecord};

macro_rules! script {
    ($name:literal) => {
        Known::new(concat!(include_str!("../lua/prelude.lua"), include_str!(concat!("../lua/", $name, ".lua"))))
    };
}

/// A script and what Redis knows it by.
struct Known {
    code: &'static str,
    hash: String,
}

impl Known {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }
}

pub(super) struct Scripts {
    link: Link,
    keys: [String; 5],
    publish: &'static str,
    cluster: bool,
    beat: Known,
    table: Known,
    claim: Known,
    give: Known,
    depose: Known,
    leave: Known,
}

/// What a beat tells.
pub(super) struct Beat {
    /// Whether the lease lived until now.
    pub(super) held: bool,
    pub(super) birth: u64,
    pub(super) version: u64,
    pub(super) nodes: Vec<NodeRecord>,
}

/// Where the scripts tell that the table changed.
pub(super) fn events_channel(name: &str) -> String {
    format!("{name}:{{{name}}}:events")
}

impl Scripts {
    pub(super) fn new(link: Link, name: &str, cluster: bool) -> Self {
        let key = |what: &str| format!("{name}:{{{name}}}:{what}");
        Self {
            link,
            keys: [key("leases"), key("nodes"), key("shards"), key("table"), events_channel(name)],
            publish: if cluster { "SPUBLISH" } else { "PUBLISH" },
            cluster,
            beat: script!("beat"),
            table: script!("table"),
            claim: script!("claim"),
            give: script!("give"),
            depose: script!("depose"),
            leave: script!("leave"),
        }
    }

    pub(super) async fn beat(&self, node: &NodeRecord, lease: Duration) -> Result<Beat, BusError> {
        let record = serde_json::to_string(node).map_err(|error| BusError(error.to_string()))?;
        let lease_ms = lease.as_millis().to_string();
        let (held, birth, version, records): (bool, u64, u64, Vec<String>) =
            self.run(&self.beat, &[node.id.as_str(), &record, &lease_ms]).await?;
        // A record that can't be read is of another release: that node is there, but not for us to talk to.
        let nodes = records.iter().filter_map(|record| serde_json::from_str(record).ok()).collect();
        Ok(Beat { held, birth, version, nodes })
    }

    pub(super) async fn table(&self) -> Result<(u64, Vec<Option<NodeId>>), BusError> {
        let (version, pairs): (u64, Vec<(u16, String)>) = self.run(&self.table, &[]).await?;
        let pairs = pairs.into_iter().filter_map(|(shard, node)| Some((shard, NodeId::parse(&node).ok()?)));
        Ok((version, owners(pairs)))
    }

    pub(super) async fn claim(&self, node: &NodeId, shards: &[ShardId]) -> Result<Vec<ShardId>, BusError> {
        let numbers: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
        let mut words = vec![node.as_str()];
        words.extend(numbers.iter().map(String::as_str));
        let own: Vec<u16> = self.run(&self.claim, &words).await?;
        Ok(own.into_iter().map(ShardId).collect())
    }

    pub(super) async fn give(&self, node: &NodeId, gifts: &[(ShardId, NodeId)]) -> Result<(), BusError> {
        let numbers: Vec<String> = gifts.iter().map(|(shard, _)| shard.0.to_string()).collect();
        let mut words = vec![node.as_str()];
        for (number, (_, receiver)) in numbers.iter().zip(gifts) {
            words.extend([number.as_str(), receiver.as_str()]);
        }
        let _given: u64 = self.run(&self.give, &words).await?;
        Ok(())
    }

    pub(super) async fn depose(&self, node: &NodeId, channel: &str) -> Result<bool, BusError> {
        let mut counted_by_script = channel;
        if self.cluster {
            // The inbox may live on another node than the table, out of the script's sight.
            let count = |mut connection: Connection| async move {
                inbox::listeners(&mut connection, "SHARDNUMSUB", channel).await
            };
            if self.link.run(true, count).await? > 0 {
                return Ok(false);
            }
            counted_by_script = "";
        }
        self.run(&self.depose, &[node.as_str(), counted_by_script]).await
    }

    pub(super) async fn leave(&self, node: &NodeId) -> Result<(), BusError> {
        let _done: u64 = self.run(&self.leave, &[node.as_str()]).await?;
        Ok(())
    }

    pub(super) async fn ping(&self) -> Result<(), BusError> {
        self.link
            .run(true, |mut connection| async move { redis::cmd("PING").query_async::<()>(&mut connection).await })
            .await
    }

    async fn run<T: FromRedisValue>(&self, script: &Known, words: &[&str]) -> Result<T, BusError> {
        self.link
            .run(true, |mut connection| async move {
                let first = self.call(&mut connection, "EVALSHA", &script.hash, words).await;
                match first {
                    Err(error) if error.code() == Some("NOSCRIPT") => {
                        self.call(&mut connection, "EVAL", script.code, words).await
                    }
                    answer => answer,
                }
            })
            .await
    }

    async fn call<T: FromRedisValue>(
        &self,
        connection: &mut Connection,
        command: &str,
        script: &str,
        words: &[&str],
    ) -> RedisResult<T> {
        let mut command = redis::cmd(command);
        command.arg(script).arg(self.keys.len()).arg(&self.keys[..]).arg(self.publish).arg(words);
        command.query_async(connection).await
    }
}
