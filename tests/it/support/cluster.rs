//! Several nodes on one PostgreSQL and one Redis of their own.

use serde_json::Value;

use super::node::Node;
use super::postgres::Postgres;
use super::proxy::Proxy;
use super::redis::Redis;
use super::{person, until};

/// Nodes that form one cluster, and what they stand on.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub redis: Redis,
    /// Only where the test asked for a PostgreSQL server of its own.
    postgres: Option<Postgres>,
    settings: Vec<(String, String)>,
}

/// What stands between one node and the servers.
pub struct Cut {
    pub redis: Proxy,
    pub postgres: Proxy,
}

impl Cluster {
    /// `n` nodes, all ready and agreed on who owns what; a Redis of their own, a database on the shared PostgreSQL.
    pub async fn start(n: usize) -> Self {
        let url = Postgres::shared().await.database().await;
        Self::on(n, url, None).await
    }

    /// The same with a setting, or an environment variable, more.
    pub async fn start_with(n: usize, more: &[(&str, &str)]) -> Self {
        let url = Postgres::shared().await.database().await;
        let mut cluster = Self::on(0, url, None).await;
        cluster.settings.extend(more.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        for _ in 0..n {
            cluster.add().await;
        }
        cluster.settled().await;
        cluster
    }

    /// The same on a PostgreSQL server that the test may stop.
    pub async fn with_own_postgres(n: usize) -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.database().await;
        Self::on(n, url, Some(postgres)).await
    }

    /// `n` nodes of which the first reaches Redis and PostgreSQL through proxies that the test may break.
    pub async fn with_first_behind_proxies(n: usize) -> (Self, Cut) {
        let server = Postgres::shared().await;
        let url = server.database().await;
        let mut cluster = Self::on(0, url.clone(), None).await;
        let cut = Cut { redis: Proxy::start(cluster.redis.port()).await, postgres: Proxy::start(server.port()).await };
        let store = url.replace(&format!(":{}/", server.port()), &format!(":{}/", cut.postgres.port()));
        let redis = format!("redis://127.0.0.1:{}", cut.redis.port());
        cluster.nodes.push(Node::with(&[("store.url", &store), ("cluster.redis_url", &redis)]).await);
        for _ in 1..n {
            cluster.add().await;
        }
        cluster.settled().await;
        (cluster, cut)
    }

    async fn on(n: usize, store_url: String, postgres: Option<Postgres>) -> Self {
        let redis = Redis::start().await;
        let settings = vec![("store.url".to_owned(), store_url), ("cluster.redis_url".to_owned(), redis.url())];
        let mut cluster = Self { nodes: Vec::new(), redis, postgres, settings };
        for _ in 0..n {
            cluster.add().await;
        }
        if n > 0 {
            cluster.settled().await;
        }
        cluster
    }

    /// One more node, ready (the shards may still be on their way).
    pub async fn add(&mut self) -> &Node {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(key, value)| (&**key, &**value)).collect();
        self.nodes.push(Node::with(&settings).await);
        self.nodes.last().expect("just pushed")
    }

    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("the test asked for a server of its own")
    }

    /// `ws://` URLs of all nodes.
    pub fn ws_urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::ws_url).collect()
    }

    /// Waits until every running node sees all running nodes ready, every shard owned, and a fair share on each.
    pub async fn settled(&self) {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.ended().is_none()).collect();
        let fair = (1024 / running.len() as u64) / 2;
        until("every shard has an owner, and every node its share", || async {
            for node in &running {
                let view = node.cluster().await;
                let ready: Vec<&Value> = members(&view).iter().filter(|node| node["state"] == "ready").collect();
                let shares: Vec<u64> = ready.iter().map(|node| node["shards"].as_u64().unwrap_or(0)).collect();
                if ready.len() != running.len()
                    || shares.iter().sum::<u64>() != 1024
                    || shares.iter().any(|&share| share < fair)
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// The index of the node that owns `room`.
    pub async fn owner_of(&self, room: &str) -> usize {
        until("the room has a running owner", || async {
            let asked = self.nodes.iter().find(|node| node.ended().is_none()).expect("a running node");
            let owner = asked.owner_of(room).await?;
            for (index, node) in self.nodes.iter().enumerate() {
                if node.ended().is_none() && node.id().await == owner {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// The name of a room, made by `maker`, that node `index` owns, and `maker` is in it.
    pub async fn room_on(&self, index: usize, maker: &str) -> String {
        let id = self.nodes[index].id().await;
        for n in 0..200 {
            let room = format!("room-{n}-{}", maker.to_lowercase());
            if self.nodes[index].owner_of(&room).await.as_deref() == Some(&id) {
                person::makes(&self.nodes[index], maker, &room).await;
                return room;
            }
        }
        panic!("node {index} owns none of 200 rooms");
    }
}

/// The nodes of a `GET /cluster`.
pub fn members(view: &Value) -> &[Value] {
    view["nodes"].as_array().map_or(&[], Vec::as_slice)
}
