//! The room of two people: its id follows from theirs, so that there is one whoever asks, and that it is theirs can be told
//! from its id alone.

use sha2::{Digest, Sha256};

use crate::ids::{RoomId, UserId};

const PREFIX: &str = "dm-";
/// Bytes of the pair's hash in the id: as many as leave it a valid one.
const HASH_BYTES: usize = 30;

/// The id of two people's room, the same whoever asks.
pub fn direct_id(one: &UserId, other: &UserId) -> RoomId {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    // No user id holds a NUL, so no two pairs are hashed alike.
    let hash = Sha256::new().chain_update(first.as_str()).chain_update([0]).chain_update(second.as_str()).finalize();
    let hex: String = hash.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    RoomId::parse(&format!("{PREFIX}{hex}")).expect("63 characters, lower case")
}

/// Whether an id has the form of direct rooms: nobody may take the place of two people's room beforehand.
pub fn is_direct_id(id: &RoomId) -> bool {
    id.as_str()
        .strip_prefix(PREFIX)
        .is_some_and(|hex| hex.len() == 2 * HASH_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_two_is_the_same_whoever_asks() {
        let user = |id| UserId::parse(id).expect("a user id");
        let id = direct_id(&user("alice"), &user("bob"));
        assert_eq!(id, direct_id(&user("bob"), &user("alice")));
        assert_ne!(id, direct_id(&user("Alice"), &user("bob")), "case matters");
        assert_ne!(direct_id(&user("ab"), &user("c")), direct_id(&user("a"), &user("bc")));
        assert!(is_direct_id(&id));
        assert!(!is_direct_id(&RoomId::parse("dm-general").expect("a room id")));
        let longest = "x".repeat(64);
        direct_id(&user(&longest), &user("y"));
    }
}
