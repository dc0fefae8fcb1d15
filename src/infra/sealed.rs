//! Texts encrypted at rest: what a sealed value is, how rooms' keys are kept, and what of a row is sealed. What both stores
//! share; nothing above them knows.
//!
//! Each encrypted room has a random key of its own (`room_keys`), wrapped by a key of the ring in the settings. A sealed
//! value stands where its text stood: [`MARK`], then in base64 a random salt and nonce and the AES-256-GCM ciphertext with
//! its tag. It is bound to its room, to the message or entry that it is of, and to its column: moved elsewhere it can't be
//! opened.
//!
//! Invariants: a room's key is made in the transaction that raises its epoch, and never taken away while the room is there:
//! so whoever appends with the present epoch knows whether to seal. A value is sealed under a key derived from the room's
//! key and a salt of its own: 224 random bits each, so none repeats, whatever a room's length.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::config::{EncryptedRooms, Encryption};
use crate::ids::{MessageId, UserId};
use crate::infra::codes;
use crate::infra::rows::EntryRow;
use crate::ports::StoreError;

/// Begins every sealed value and nothing else: no text has this character, and no JSON begins with it.
const MARK: &str = "\u{1}1:";
const SALT: usize = 16;
const NONCE: usize = 12;
const KEY: usize = 32;
/// Rooms whose keys (or that they have none) are remembered; others are looked up again.
const KNOWN: usize = 65_536;

/// Whether a stored value is a sealed one.
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(MARK)
}

/// What a sealed value is of, within its room. Part of the stored format.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A message by its sender and the sender's id for it: known before its `seq` is.
    Text {
        user: &'a str,
        id: &'a str,
    },
    Data {
        user: &'a str,
        id: &'a str,
    },
    /// The text of an edit, by its own `seq`.
    Edit(i64),
    /// A text that an edit replaced.
    Revision {
        target: i64,
        replaced_by: i64,
    },
    /// Why a message was reported.
    Reason {
        seq: i64,
        reporter: &'a str,
    },
    /// What was noted when a report was closed.
    Note(i64),
}

impl Place<'_> {
    fn bytes(self, room: i64) -> Vec<u8> {
        let mut bytes = b"roundtable text 1".to_vec();
        bytes.extend(room.to_be_bytes());
        let mut numbers = |tag: u8, numbers: &[i64], texts: &[&str]| {
            bytes.push(tag);
            numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
            for text in texts {
                bytes.extend((text.len() as u64).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        };
        match self {
            Self::Text { user, id } => numbers(0, &[], &[user, id]),
            Self::Data { user, id } => numbers(1, &[], &[user, id]),
            Self::Edit(seq) => numbers(2, &[seq], &[]),
            Self::Revision { target, replaced_by } => numbers(3, &[target, replaced_by], &[]),
            Self::Reason { seq, reporter } => numbers(4, &[seq], &[reporter]),
            Self::Note(no) => numbers(5, &[no], &[]),
        }
        bytes
    }
}

fn fault(what: impl Into<String>) -> StoreError {
    StoreError::Fault(what.into())
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| fault("the system gave no random bytes"))?;
    Ok(bytes)
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, StoreError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| fault("a key has another length"))
}

/// The key of one room, opened.
#[derive(Clone)]
pub struct RoomKey(Arc<Zeroizing<[u8; KEY]>>);

impl RoomKey {
    /// The key of one value.
    fn derived(&self, salt: &[u8]) -> Result<LessSafeKey, StoreError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        cipher(hmac::sign(&key, salt).as_ref())
    }

    /// # Errors
    /// Where there are no random bytes.
    pub fn seal(&self, room: i64, place: Place<'_>, text: &str) -> Result<String, StoreError> {
        let fresh: [u8; SALT + NONCE] = random()?;
        let (salt, nonce) = fresh.split_at(SALT);
        let mut bytes = text.as_bytes().to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fault("a nonce has another length"))?;
        self.derived(salt)?
            .seal_in_place_append_tag(nonce, Aad::from(place.bytes(room)), &mut bytes)
            .map_err(|_| fault("a text can't be encrypted"))?;
        let mut sealed = String::with_capacity(MARK.len() + (fresh.len() + bytes.len()).div_ceil(3) * 4);
        sealed.push_str(MARK);
        bytes.splice(0..0, fresh);
        STANDARD_NO_PAD.encode_string(&bytes, &mut sealed);
        Ok(sealed)
    }

    /// # Errors
    /// A fault where the value was changed, or is not of this place.
    pub fn open(&self, room: i64, place: Place<'_>, sealed: &str) -> Result<String, StoreError> {
        let damaged =
            || fault(format!("room number {room}: {place:?} can't be decrypted: it was changed, or moved here"));
        let mut bytes =
            STANDARD_NO_PAD.decode(sealed.strip_prefix(MARK).ok_or_else(damaged)?).map_err(|_| damaged())?;
        let (fresh, text) = bytes.split_at_mut_checked(SALT + NONCE).ok_or_else(damaged)?;
        let (salt, nonce) = fresh.split_at(SALT);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let text =
            self.derived(salt)?.open_in_place(nonce, Aad::from(place.bytes(room)), text).map_err(|_| damaged())?;
        String::from_utf8(text.to_vec()).map_err(|_| damaged())
    }
}

/// A room's key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Name of the key of the ring.
    pub ring_key: String,
    pub bytes: Vec<u8>,
}

/// The keys that rooms' keys are under.
pub struct KeyRing {
    active: String,
    keys: BTreeMap<String, LessSafeKey>,
    rooms: EncryptedRooms,
}

impl KeyRing {
    /// `None`: no keys are set.
    ///
    /// # Errors
    /// What is wrong with the settings, in a line.
    pub fn new(settings: &Encryption) -> Result<Option<Self>, String> {
        let Some((named, active)) = settings.ring().map_err(|invalid| invalid.to_string())? else { return Ok(None) };
        let mut keys = BTreeMap::new();
        for (name, bytes) in named {
            let bytes = Zeroizing::new(bytes);
            keys.insert(name, cipher(bytes.as_slice()).map_err(|error| error.to_string())?);
        }
        Ok(Some(Self { active, keys, rooms: settings.rooms }))
    }

    fn bound(room: &str, ring_key: &str) -> Vec<u8> {
        [b"roundtable room key 1", ring_key.as_bytes(), b"\0", room.as_bytes()].concat()
    }

    fn wrap(&self, room: &str, key: &[u8; KEY]) -> Result<Wrapped, StoreError> {
        let ring_key = self.active.clone();
        let cipher = self.keys.get(&ring_key).ok_or_else(|| missing(&ring_key))?;
        let nonce: [u8; NONCE] = random()?;
        let mut bytes = key.to_vec();
        cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(Self::bound(room, &ring_key)),
                &mut bytes,
            )
            .map_err(|_| fault("a room's key can't be encrypted"))?;
        bytes.splice(0..0, nonce);
        Ok(Wrapped { ring_key, bytes })
    }

    fn unwrap(&self, room: &str, wrapped: &Wrapped) -> Result<RoomKey, StoreError> {
        let name = &wrapped.ring_key;
        let cipher = self.keys.get(name).ok_or_else(|| missing(name))?;
        let wrong = || {
            fault(format!(
                "the key of room {room} can't be opened with {name:?} of encryption.keys: that is another key of this \
                 name, or the stored key was changed"
            ))
        };
        let mut bytes = Zeroizing::new(wrapped.bytes.clone());
        let (nonce, key) = bytes.split_at_mut_checked(NONCE).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let opened = cipher.open_in_place(nonce, Aad::from(Self::bound(room, name)), key).map_err(|_| wrong())?;
        let key = <[u8; KEY]>::try_from(&*opened).map_err(|_| wrong())?;
        Ok(RoomKey(Arc::new(Zeroizing::new(key))))
    }
}

/// There are rooms whose keys are under a key that the settings don't have.
fn missing(name: &str) -> StoreError {
    fault(format!("encryption.keys has no key {name:?}, and the keys of rooms are under it: give it back"))
}

struct Known {
    epoch: i64,
    key: Option<RoomKey>,
}

/// What a store needs to seal and open: the ring, and the keys of rooms in use. Reading and appending ask no more of the
/// database than without it, but for rooms that are not remembered.
#[derive(Default)]
pub struct Sealing {
    ring: Option<KeyRing>,
    known: Mutex<HashMap<i64, Known>>,
}

impl Sealing {
    pub fn new(ring: Option<KeyRing>) -> Self {
        Self { ring, known: Mutex::default() }
    }

    /// Whether anything may have to be sealed.
    pub fn is_on(&self) -> bool {
        self.ring.is_some()
    }

    /// Kinds of rooms that get a key.
    pub fn kinds(&self) -> &'static [i16] {
        match self.ring.as_ref().map_or(EncryptedRooms::None, |ring| ring.rooms) {
            EncryptedRooms::None => &[],
            EncryptedRooms::Private => &[1, 2],
            EncryptedRooms::All => &[0, 1, 2],
        }
    }

    /// The name of the key that rooms' keys are to be under.
    pub fn active(&self) -> Option<&str> {
        self.ring.as_ref().map(|ring| ring.active.as_str())
    }

    /// A key for the room of this id.
    ///
    /// # Errors
    /// Where there is no ring or no random bytes.
    pub fn new_key(&self, room: &str) -> Result<Wrapped, StoreError> {
        let key = Zeroizing::new(random()?);
        self.ring()?.wrap(room, &key)
    }

    fn ring(&self) -> Result<&KeyRing, StoreError> {
        self.ring
            .as_ref()
            .ok_or_else(|| fault("texts in the store are encrypted, and encryption.keys is empty: give the keys back"))
    }

    /// # Errors
    /// A fault that names the key, where the ring has none or another one of its name.
    pub fn unwrap(&self, room: &str, wrapped: &Wrapped) -> Result<RoomKey, StoreError> {
        self.ring()?.unwrap(room, wrapped)
    }

    /// The same key under the active one.
    ///
    /// # Errors
    /// As [`Self::unwrap`].
    pub fn rewrap(&self, room: &str, wrapped: &Wrapped) -> Result<Wrapped, StoreError> {
        let ring = self.ring()?;
        ring.wrap(room, &ring.unwrap(room, wrapped)?.0)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read together with the room's epoch.
    pub fn remember(&self, room: i64, epoch: i64, key: Option<RoomKey>) {
        let mut known = self.known();
        if known.len() >= KNOWN
            && !known.contains_key(&room)
            && let Some(&another) = known.keys().next()
        {
            known.remove(&another);
        }
        let now = known.entry(room).or_insert(Known { epoch, key: None });
        now.epoch = now.epoch.max(epoch);
        // A key that is there stays.
        now.key = key.or(now.key.take());
    }

    /// The key to append with at `epoch`; the outer `None`: to be looked up.
    pub fn to_append(&self, room: i64, epoch: i64) -> Option<Option<RoomKey>> {
        let known = self.known();
        let room = known.get(&room).filter(|known| known.key.is_some() || known.epoch >= epoch)?;
        Some(room.key.clone())
    }

    /// The key to read with; `None`: to be looked up.
    pub fn to_read(&self, room: i64) -> Option<RoomKey> {
        self.known().get(&room)?.key.clone()
    }
}

/// A sealed value of a room that has no key.
pub fn no_key(room: i64) -> StoreError {
    fault(format!("room number {room} has an encrypted text and no key"))
}

/// A value as it is to be stored.
///
/// # Errors
/// Where there are no random bytes.
pub fn sealed(key: Option<&RoomKey>, room: i64, place: Place<'_>, text: String) -> Result<String, StoreError> {
    match key {
        Some(key) if !is_sealed(&text) => key.seal(room, place, &text),
        _ => Ok(text),
    }
}

/// A stored value as it was given.
///
/// # Errors
/// A fault where it can't be opened.
pub fn opened(
    key: impl FnOnce(i64) -> Result<RoomKey, StoreError>,
    room: i64,
    place: Place<'_>,
    stored: String,
) -> Result<String, StoreError> {
    if is_sealed(&stored) { key(room)?.open(room, place, &stored) } else { Ok(stored) }
}

/// A message's present text, as an edit or a delete of it has to know it. A damaged one counts as empty, so that its author
/// can give it another text or take it away, and no append of other rooms fails by it.
pub fn present(key: Option<&RoomKey>, room: i64, user: &UserId, id: &MessageId, stored: String) -> String {
    let place = Place::Text { user: user.as_str(), id: id.as_str() };
    opened(|no| key.cloned().ok_or_else(|| no_key(no)), room, place, stored).unwrap_or_else(|error| {
        tracing::error!(error = %error, "store.sealed.damaged");
        String::new()
    })
}

impl EntryRow {
    /// Whether something in it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.text.as_deref().is_some_and(is_sealed) || self.data.as_deref().is_some_and(is_sealed)
    }

    /// Does `change` to what people wrote: a message's text and data, an edit's text. Names of reactions and changes of the
    /// room stay as they are.
    fn each(&mut self, change: impl Fn(Place<'_>, String) -> Result<String, StoreError>) -> Result<(), StoreError> {
        match self.kind {
            codes::MESSAGE => {
                let (user, id) = (self.user.as_str(), self.message_id.as_deref().unwrap_or_default());
                self.text = self.text.take().map(|text| change(Place::Text { user, id }, text)).transpose()?;
                self.data = self.data.take().map(|data| change(Place::Data { user, id }, data)).transpose()?;
            }
            codes::EDIT => {
                let place = Place::Edit(self.seq);
                self.text = self.text.take().map(|text| change(place, text)).transpose()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// # Errors
    /// As [`sealed`].
    pub fn seal(&mut self, room: i64, key: Option<&RoomKey>) -> Result<(), StoreError> {
        if key.is_some() { self.each(|place, text| sealed(key, room, place, text)) } else { Ok(()) }
    }

    /// # Errors
    /// A fault where something in it can't be opened.
    pub fn open(mut self, key: impl Fn(i64) -> Result<RoomKey, StoreError>) -> Result<Self, StoreError> {
        if self.is_sealed() {
            let room = self.room;
            self.each(|place, stored| opened(&key, room, place, stored))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn sealing(keys: &str, active: &str) -> Sealing {
        let keys = Secret::new(keys);
        let settings = Encryption { rooms: EncryptedRooms::All, keys, active: active.into(), ..Encryption::default() };
        Sealing::new(KeyRing::new(&settings).expect("valid"))
    }

    const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const OTHER_A: &str = "a:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const B: &str = "b:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    #[test]
    fn a_value_opens_in_its_place_alone() {
        let sealing = sealing(A, "a");
        let key = sealing.unwrap("r", &sealing.new_key("r").expect("a key")).expect("opens");
        let place = Place::Text { user: "alice", id: "1" };
        let value = key.seal(7, place, "Grüße").expect("sealed");
        assert!(is_sealed(&value) && !value.contains("Grüße"));
        assert_eq!(key.open(7, place, &value).as_deref(), Ok("Grüße"));
        assert_ne!(key.seal(7, place, "Grüße").expect("sealed"), value, "never the same twice");
        for (room, other) in [
            (8, place),
            (7, Place::Data { user: "alice", id: "1" }),
            (7, Place::Text { user: "alice1", id: "" }),
            (7, Place::Edit(7)),
            (7, Place::Note(7)),
        ] {
            assert!(matches!(key.open(room, other, &value), Err(StoreError::Fault(_))), "{room} {other:?}");
        }
        let edit = key.seal(7, Place::Edit(7), "x").expect("sealed");
        assert!(key.open(7, Place::Note(7), &edit).is_err() && key.open(7, Place::Edit(8), &edit).is_err());
        for at in MARK.len()..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(key.open(7, place, &changed).is_err(), "a changed byte at {at}");
        }
        assert!(key.open(7, place, MARK).is_err() && key.open(7, place, "\u{1}1:AAAA").is_err());
    }

    #[test]
    fn a_rooms_key_opens_with_its_own_ring_and_room() {
        let one = sealing(A, "a");
        let wrapped = one.new_key("r").expect("a key");
        let key = one.unwrap("r", &wrapped).expect("opens");
        assert!(one.unwrap("s", &wrapped).is_err(), "of another room");
        let error = |sealing: &Sealing| sealing.unwrap("r", &wrapped).map(drop).expect_err("no key").to_string();
        assert!(error(&sealing(B, "b")).contains("no key \"a\""));
        assert!(error(&sealing(OTHER_A, "a")).contains("another key"));
        assert!(error(&Sealing::default()).contains("encryption.keys is empty"));
        let both = sealing(&format!("{A},{B}"), "b");
        let again = both.rewrap("r", &wrapped).expect("rewrapped");
        assert_eq!(again.ring_key, "b");
        assert_eq!(sealing(B, "b").unwrap("r", &again).expect("opens").0, key.0, "the same key");
    }

    #[test]
    fn who_appends_knows_as_much_as_the_epoch_says() {
        let sealing = sealing(A, "a");
        assert!(sealing.to_append(1, 1).is_none());
        sealing.remember(1, 1, None);
        assert!(sealing.to_append(1, 1).is_some_and(|key| key.is_none()));
        assert!(sealing.to_append(1, 2).is_none(), "it may have a key by now");
        let key = sealing.unwrap("r", &sealing.new_key("r").expect("a key")).expect("opens");
        sealing.remember(1, 2, Some(key));
        sealing.remember(1, 1, None);
        assert!(sealing.to_append(1, 2).is_some_and(|key| key.is_some()), "what came late changes nothing");
        for room in 0..KNOWN as i64 + 10 {
            sealing.remember(room, 0, None);
        }
        assert_eq!(sealing.known().len(), KNOWN);
    }
}
