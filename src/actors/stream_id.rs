//! What a stream (a session over server-sent events) is called: `node.hub.slot.generation.secret`. The name says where the
//! session is, so that a post may come to any node, and its secret is all that a post needs.
//!
//! Invariant: hubs, messages and the bus know a secret by its hash alone ([`Proof`]), which is of no use to a client.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::messages::{HubIndex, SessionKey};
use crate::ids::NodeId;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 16;
/// Characters of the longest name: a node's id, three numbers, the secret, and the dots between them.
const LONGEST: usize = 64 + 5 + 10 + 10 + 22 + 4;

/// That somebody knows a stream's secret.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Proof([u8; 32]);

impl Proof {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Takes as long for any two.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}

/// Where a stream's session is, and the proof that a post is its client's.
#[derive(Clone, Debug)]
pub struct StreamId {
    pub node: NodeId,
    pub key: SessionKey,
    pub proof: Proof,
}

impl StreamId {
    /// A new secret for the session: the name to give to its client, and what to compare posts with.
    pub fn make(node: &NodeId, key: SessionKey) -> (String, Proof) {
        let secret: [u8; SECRET_BYTES] = rand::random();
        let SessionKey { hub: HubIndex(hub), slot, generation } = key;
        let name = format!("{node}.{hub}.{slot}.{generation}.{}", URL_SAFE_NO_PAD.encode(secret));
        (name, Proof::of(&secret))
    }

    /// # Errors
    /// What a name looks like.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::read(text).ok_or("must be what the event `open` of the stream gave")
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut parts = text.rsplitn(5, '.');
        let secret = URL_SAFE_NO_PAD.decode(parts.next()?).ok().filter(|secret| secret.len() == SECRET_BYTES)?;
        let (generation, slot, hub) = (parts.next()?, parts.next()?, parts.next()?);
        let key = SessionKey {
            hub: HubIndex(hub.parse().ok()?),
            slot: slot.parse().ok()?,
            generation: generation.parse().ok()?,
        };
        Some(Self { node: NodeId::parse(parts.next()?).ok()?, key, proof: Proof::of(&secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_and_proves_who() {
        let node = NodeId::parse("n-1.example").expect("an id");
        let key = SessionKey { hub: HubIndex(3), slot: 17, generation: 4_000_000_000 };
        let (name, proof) = StreamId::make(&node, key);
        let read = StreamId::parse(&name).expect("our own");
        assert_eq!((&read.node, read.key), (&node, key));
        assert!(read.proof.matches(&proof));
        let (other, _) = StreamId::make(&node, key);
        assert!(!StreamId::parse(&other).expect("our own").proof.matches(&proof), "a secret each");
        assert!(!format!("{read:?}").contains(&name[name.len() - 8..]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let secret = "AAAAAAAAAAAAAAAAAAAAAA";
        assert!(StreamId::parse(&format!("n.0.1.2.{secret}")).is_ok());
        for bad in ["", "n", "....", &format!("n.0.1.{secret}"), "n.0.1.2.AAAA", &format!(".0.1.2.{secret}")] {
            assert!(StreamId::parse(bad).is_err(), "{bad}");
        }
        for bad in [format!("n.65536.1.2.{secret}"), format!("n.0.-1.2.{secret}"), format!("é.0.1.2.{secret}")] {
            assert!(StreamId::parse(&bad).is_err(), "{bad}");
        }
        assert!(StreamId::parse(&format!("{}.0.1.2.{secret}", "n".repeat(200))).is_err());
    }
}
