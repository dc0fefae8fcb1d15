//! Who is compared. Each peer has its configuration as a file beside its code, started as it stands there but for ports,
//! with the reasons in its comments.

pub mod centrifugo;
pub mod ejabberd;
pub mod nchan;
pub mod roundtable;
pub mod socketio;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::compare::install::Missing;
use crate::compare::server::Server;
use crate::fail::Result;
use crate::stack::options::{Programs, StackOptions};
use crate::stack::postgres;

/// What `compare` takes by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The bare broadcaster of this program: no store, no checks; about the least that a broadcast can cost here
    Raw,
    /// Socket.IO 4 with its Redis adapter, two processes of Node.js
    Socketio,
    /// ejabberd's group chats over WebSocket, without and with an archive in PostgreSQL
    Ejabberd,
    /// The publish-subscribe module of nginx
    Nchan,
    /// Centrifugo with its memory engine, where its program is on the path
    Centrifugo,
}

/// One row: a peer as it is configured for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Roundtable { nodes: u8 },
    Raw,
    SocketIo,
    Ejabberd { archive: bool },
    Nchan,
    Centrifugo,
}

/// Where things are that several peers need.
pub struct Places<'a> {
    pub programs: Programs,
    /// Settings and environment of Roundtable's nodes.
    pub stack: &'a StackOptions,
    /// What npm installed.
    pub cache: PathBuf,
    /// Most connections that a row opens.
    pub connections: usize,
}

impl Row {
    /// The rows of `peer`.
    pub fn of(peer: Peer) -> &'static [Self] {
        match peer {
            Peer::Raw => &[Self::Raw],
            Peer::Socketio => &[Self::SocketIo],
            Peer::Ejabberd => &[Self::Ejabberd { archive: false }, Self::Ejabberd { archive: true }],
            Peer::Nchan => &[Self::Nchan],
            Peer::Centrifugo => &[Self::Centrifugo],
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Roundtable { nodes: 1 } => "roundtable".into(),
            Self::Roundtable { nodes } => format!("roundtable, {nodes} nodes"),
            Self::Raw => "raw".into(),
            Self::SocketIo => "socketio".into(),
            Self::Ejabberd { archive: false } => "ejabberd".into(),
            Self::Ejabberd { archive: true } => "ejabberd, archive".into(),
            Self::Nchan => "nchan".into(),
            Self::Centrifugo => "centrifugo".into(),
        }
    }

    /// Whether its own promises are judged, so that a breach ends the run.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Roundtable { .. })
    }

    /// Whether it can tell a sender that a message is stored.
    pub fn stores(self) -> bool {
        matches!(self, Self::Roundtable { .. } | Self::Ejabberd { archive: true })
    }

    /// Whether it differs from a row that is measured anyway as far as idle connections go.
    pub fn has_own_sessions(self) -> bool {
        self != Self::Ejabberd { archive: true }
    }

    /// What has to be installed first.
    pub fn missing(self, places: &Places) -> Vec<Missing> {
        let mut missing = match self {
            Self::Roundtable { .. } if !places.programs.roundtable.is_file() => {
                vec![Missing::Roundtable(places.programs.roundtable.clone())]
            }
            Self::Roundtable { .. } | Self::Raw => Vec::new(),
            Self::SocketIo => socketio::missing(&places.cache),
            Self::Ejabberd { archive } => ejabberd::missing(archive),
            Self::Nchan => nchan::missing(),
            Self::Centrifugo => centrifugo::missing(),
        };
        let needs_postgres = self.stores();
        let needs_redis = match self {
            Self::Roundtable { nodes } => nodes > 1,
            row => row == Self::SocketIo,
        };
        if needs_postgres && places.programs.postgres_bin.is_none() && postgres::find("initdb").is_none() {
            missing.push(Missing::Debian("postgresql"));
        }
        if needs_redis && crate::compare::install::program(&places.programs.redis.to_string_lossy()).is_none() {
            missing.push(Missing::Debian("redis-server"));
        }
        missing
    }

    pub fn start(self, places: &Places) -> Result<Server> {
        match self {
            Self::Roundtable { nodes } => roundtable::start(places, nodes.into()),
            Self::Raw => roundtable::start_raw(),
            Self::SocketIo => socketio::start(&places.programs, &places.cache),
            Self::Ejabberd { archive } => ejabberd::start(&places.programs, archive),
            Self::Nchan => nchan::start(places.connections),
            Self::Centrifugo => centrifugo::start(),
        }
    }
}
