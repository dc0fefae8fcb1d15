//! What can be done to a cluster, in words and in plain data, and which of it may go on at the same time.

use std::fmt;

use crate::stack::postgres::Shutdown;

/// A kind of fault, as `--faults` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A node is killed (-9) and started again after up to 5 s
    Kill,
    /// A node is told to end (SIGTERM), must exit with 0 in time, and is started again
    Term,
    /// A node stands still (SIGSTOP) for 5 to 20 s
    Freeze,
    /// A node is cut off from Redis for 1 to 15 s, one way or both
    CutRedis,
    /// The same from PostgreSQL
    CutPostgres,
    /// The same from both
    CutBoth,
    /// What a node sends to and gets from Redis, PostgreSQL or both takes 5 to 200 ms longer, for 3 to 15 s
    Slow,
    /// All nodes are ended and started again, one after another
    Restart,
    /// Redis is killed and comes back empty within 5 s
    RedisRestart,
    /// Redis is emptied, and may then pause for up to 3 s
    RedisFlushall,
    /// PostgreSQL is stopped (fast, immediately or by kill -9) and comes back within 5 s
    PostgresRestart,
    /// A node joins
    AddNode,
    /// A node is drained away; it joins again later
    RemoveNode,
}

impl Kind {
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// With how many nodes it can be done such that one is left in peace.
    pub fn needs_nodes(self) -> usize {
        match self {
            Self::RedisRestart | Self::RedisFlushall | Self::PostgresRestart | Self::AddNode => 1,
            Self::Kill
            | Self::Term
            | Self::Freeze
            | Self::CutRedis
            | Self::CutPostgres
            | Self::CutBoth
            | Self::Slow
            | Self::Restart
            | Self::RemoveNode => 2,
        }
    }
}

/// From what a node is cut off or kept by delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Redis,
    Postgres,
    Both,
}

/// How it is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What is sent this way is lost, as on a line that is broken.
    Lose(Ways),
    /// What is sent this way arrives when the cut is over.
    Hold(Ways),
    /// Connections are ended and refused.
    Close,
}

/// As the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    Out,
    In,
    OutAndIn,
}

/// What is done. Nodes are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Kill { node: usize },
    Term { node: usize },
    Freeze { node: usize },
    Cut { node: usize, from: Link, how: Cut },
    Slow { node: usize, link: Link, by_ms: u64 },
    Restart,
    RedisRestart,
    RedisFlushall,
    PostgresRestart { by: Shutdown },
    AddNode { node: usize },
    RemoveNode { node: usize },
}

impl Action {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kill { .. } => Kind::Kill,
            Self::Term { .. } => Kind::Term,
            Self::Freeze { .. } => Kind::Freeze,
            Self::Cut { from: Link::Redis, .. } => Kind::CutRedis,
            Self::Cut { from: Link::Postgres, .. } => Kind::CutPostgres,
            Self::Cut { from: Link::Both, .. } => Kind::CutBoth,
            Self::Slow { .. } => Kind::Slow,
            Self::Restart => Kind::Restart,
            Self::RedisRestart => Kind::RedisRestart,
            Self::RedisFlushall => Kind::RedisFlushall,
            Self::PostgresRestart { .. } => Kind::PostgresRestart,
            Self::AddNode { .. } => Kind::AddNode,
            Self::RemoveNode { .. } => Kind::RemoveNode,
        }
    }

    /// The node that it is done to.
    pub fn node(&self) -> Option<usize> {
        match *self {
            Self::Kill { node }
            | Self::Term { node }
            | Self::Freeze { node }
            | Self::Cut { node, .. }
            | Self::Slow { node, .. }
            | Self::AddNode { node }
            | Self::RemoveNode { node } => Some(node),
            Self::Restart | Self::RedisRestart | Self::RedisFlushall | Self::PostgresRestart { .. } => None,
        }
    }

    /// Whether it may begin while `active` go on and `members` are the nodes that belong to the cluster: such that each
    /// node and each server has one fault at a time, and one member none.
    pub fn fits(&self, active: &[Self], members: &[usize]) -> bool {
        let touched = |node: usize| active.iter().any(|action| action.node() == Some(node));
        let rolling = active.contains(&Self::Restart);
        match *self {
            Self::Restart => !rolling && active.iter().all(|action| action.node().is_none()) && members.len() >= 2,
            Self::AddNode { node } => !rolling && !touched(node) && !members.contains(&node),
            Self::RedisRestart | Self::RedisFlushall => {
                !active.iter().any(|action| matches!(action, Self::RedisRestart | Self::RedisFlushall))
            }
            Self::PostgresRestart { .. } => !active.iter().any(|action| matches!(action, Self::PostgresRestart { .. })),
            Self::Kill { node }
            | Self::Term { node }
            | Self::Freeze { node }
            | Self::Cut { node, .. }
            | Self::Slow { node, .. }
            | Self::RemoveNode { node } => {
                let in_peace = members.iter().filter(|&&member| member != node && !touched(member)).count();
                !rolling && !touched(node) && members.contains(&node) && in_peace >= 1
            }
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::Both => "Redis and PostgreSQL",
        })
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "outgoing",
            Self::In => "incoming",
            Self::OutAndIn => "both ways",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node() {
            write!(f, "node {}: ", node + 1)?;
        }
        match self {
            Self::Kill { .. } => f.write_str("kill -9"),
            Self::Term { .. } => f.write_str("SIGTERM and start again"),
            Self::Freeze { .. } => f.write_str("frozen"),
            Self::Cut { from, how: Cut::Lose(ways), .. } => write!(f, "cut off from {from}, {ways}, lost"),
            Self::Cut { from, how: Cut::Hold(ways), .. } => write!(f, "cut off from {from}, {ways}, held"),
            Self::Cut { from, how: Cut::Close, .. } => write!(f, "cut off from {from}, refused"),
            Self::Slow { link, by_ms, .. } => write!(f, "{link} {by_ms} ms away each way"),
            Self::Restart => f.write_str("rolling restart"),
            Self::RedisRestart => f.write_str("Redis: kill -9 and start again"),
            Self::RedisFlushall => f.write_str("Redis: FLUSHALL"),
            Self::PostgresRestart { by: Shutdown::Fast } => f.write_str("PostgreSQL: fast shutdown and start again"),
            Self::PostgresRestart { by: Shutdown::Immediate } => {
                f.write_str("PostgreSQL: immediate shutdown and start again")
            }
            Self::PostgresRestart { by: Shutdown::Kill } => f.write_str("PostgreSQL: kill -9 and start again"),
            Self::AddNode { .. } => f.write_str("joins"),
            Self::RemoveNode { .. } => f.write_str("drained away"),
        }
    }
}
