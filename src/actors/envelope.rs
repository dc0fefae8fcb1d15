//! What nodes say to each other about rooms and sessions: the envelopes and how several of them become one frame on the bus.
//!
//! Invariant: a frame comes from a node of the cluster, but is decoded as if it did not: bad bytes give an error,
//! never a panic or a large allocation. Nodes of the last release understand it (fields are only added at the end).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::messages::{Post, SessionKey};
use crate::domain::command::{Caller, Command, Eviction, Hint, Reply, Signal};
use crate::domain::revoked::Revoked;
use crate::entry::Expiry;
use crate::ids::{NodeId, RoomId, Seq, UserId};
use crate::refusal::Refusal;

/// One thing said to another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Envelope {
    Room(RoomId, PeerMessage),
    /// Sessions end.
    Revoked(Revoked),
    /// A client posted to its stream, but not on the stream's node; answered with [`Envelope::Posted`].
    Post {
        call: u64,
        key: SessionKey,
        post: Post,
    },
    Posted {
        call: u64,
        result: Result<(), Refusal>,
    },
}

/// Between the mirror of a room and its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Mirror → owner: (re)opens the stream, says who reads here, asks for [`PeerMessage::Watched`] and kept answers.
    /// `head`: as the mirror knows the log; an owner whose own is lower is none any more.
    Watch {
        stream: u64,
        have: u64,
        users: Vec<UserId>,
        #[serde(default)]
        head: Seq,
    },
    Unwatch,
    /// Request `n` of the stream; the answers below `have` arrived.
    Ask {
        stream: u64,
        n: u64,
        have: u64,
        caller: Caller,
        #[serde(with = "as_json")]
        command: Command,
    },
    Signal {
        caller: Caller,
        signal: Signal,
    },
    /// The last subscription of these users on this node ended.
    Left {
        users: Vec<UserId>,
    },
    /// Owner → mirror: the stream stands at `next_n`, the log at `head`; `evict` may not read any more.
    Watched {
        stream: u64,
        next_n: u64,
        head: Seq,
        evict: Vec<UserId>,
        /// What of the log has disappeared; `None` from a node that knows of no such thing.
        #[serde(default)]
        expiry: Option<Expiry>,
    },
    Answer {
        stream: u64,
        n: u64,
        result: Result<Reply, Refusal>,
    },
    /// Request `from` is missing: send from there on again.
    Resend {
        stream: u64,
        from: u64,
    },
    /// Consecutive entries from `first` on, each as its JSON object.
    Commit {
        first: Seq,
        entries: Vec<Bytes>,
    },
    Hint(Hint),
    Evict {
        user: Option<UserId>,
        why: Eviction,
    },
    /// This node does not own the room now.
    NotOwner,
    /// There is no such room.
    NoRoom,
    /// Watch again: something of yours is missing here.
    Rewatch,
}

/// What travels as one publish. `number` counts the frames of a link that carry envelopes; one without repeats the last
/// number, so that the loss of the last frame is noticed too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Frame {
    pub from: NodeId,
    /// Of the sending run of the link's life: another value starts the numbers again.
    pub link: u64,
    pub number: u64,
    pub envelopes: Vec<Bytes>,
}

impl Envelope {
    pub fn encode(&self) -> Bytes {
        Bytes::from(rmp_serde::to_vec(self).expect("envelopes hold only what MessagePack can"))
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

impl Frame {
    pub fn encode(&self) -> Bytes {
        Bytes::from(rmp_serde::to_vec(self).expect("frames hold only what MessagePack can"))
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// Commands travel as JSON inside, which keeps `data` to the digit.
mod as_json {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::command::Command;

    pub fn serialize<S: Serializer>(command: &Command, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(command).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Command, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Data;
    use crate::ids::MessageId;
    use proptest::prelude::*;

    #[test]
    fn a_command_travels_to_the_digit() {
        let data = Data::from_compact(r#"{"n":1.10,"big":123456789012345678901234567890,"z":"\u0000"}"#.into());
        let command = Command::Send {
            id: MessageId::parse("m1").expect("valid"),
            text: "こんにちは".into(),
            reply_to: Some(3),
            data: Some(data.expect("valid JSON")),
            over_rate_ms: None,
            refused: None,
            trace: None,
        };
        let caller = Caller { user: UserId::parse("a").expect("valid"), admin: true, from: None };
        let ask = PeerMessage::Ask { stream: 1, n: 2, have: 1, caller, command: command.clone() };
        let room = RoomId::parse("lobby").expect("valid");
        let bytes = Envelope::Room(room, ask).encode();
        match Envelope::decode(&bytes).expect("own encoding") {
            Envelope::Room(_, PeerMessage::Ask { command: back, .. }) => assert_eq!(back, command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trace_goes_along_and_nodes_that_know_of_none_take_it() {
        /// `Command` as the release before traces had it, as far as `Send` goes.
        #[derive(Deserialize)]
        enum Former {
            Send { id: MessageId, text: String, over_rate_ms: Option<u64> },
        }
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for trace in [None, Some(context)] {
            let command = Command::Send {
                id: MessageId::parse("m1").expect("valid"),
                text: "hi".into(),
                reply_to: None,
                data: None,
                over_rate_ms: Some(1),
                refused: None,
                trace: trace.map(|trace| Box::new(trace.parse().expect("well-formed"))),
            };
            let json = serde_json::to_string(&command).expect("a command");
            assert_eq!(json.contains("trace"), trace.is_some(), "no byte more without one: {json}");
            assert_eq!(serde_json::from_str::<Command>(&json).expect("its own"), command);
            let Former::Send { id, text, over_rate_ms } = serde_json::from_str(&json).expect("what it knows");
            assert_eq!((id.as_str(), &*text, over_rate_ms), ("m1", "hi", Some(1)));
        }
        // What a node of that release sends.
        let former =
            r#"{"Send":{"id":"m1","text":"hi","reply_to":null,"data":null,"over_rate_ms":null,"refused":null}}"#;
        assert!(matches!(serde_json::from_str(former), Ok(Command::Send { trace: None, .. })));
    }

    #[test]
    fn results_and_bytes_travel() {
        let result = Err(Refusal::unavailable("later"));
        let answer = PeerMessage::Answer { stream: 9, n: 1, result: result.clone() };
        let room = RoomId::parse("r").expect("valid");
        let inner = Envelope::Room(room, answer).encode();
        let from = NodeId::parse("n1").expect("valid");
        let frame = Frame { from, link: 5, number: 7, envelopes: vec![inner] }.encode();
        let frame = Frame::decode(&frame).expect("own encoding");
        match Envelope::decode(&frame.envelopes[0]).expect("own encoding") {
            Envelope::Room(_, PeerMessage::Answer { result: back, .. }) => assert_eq!(back, result),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                for envelope in frame.envelopes { let _ = Envelope::decode(&envelope); }
            }
            let _ = Envelope::decode(&bytes);
        }
    }
}
