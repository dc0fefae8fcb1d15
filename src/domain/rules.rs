//! Who may do what in a room: a pure table from a caller, the room and its members to a permission or a refusal.
//!
//! Invariant: a private room looks the same to a stranger as one that does not exist, in every answer.

use std::collections::{HashMap, HashSet};

use crate::domain::command::{Caller, Proof};
use crate::domain::direct::direct_id;
use crate::entry::{Role, Room, RoomKind};
use crate::ids::UserId;
use crate::refusal::Refusal;

/// A room's people, as its owner has them cached.
#[derive(Clone, Debug, Default)]
pub struct People {
    pub members: HashMap<UserId, Role>,
    pub bans: HashSet<UserId>,
}

impl People {
    pub fn role(&self, user: &UserId) -> Option<Role> {
        self.members.get(user).copied()
    }

    /// What the caller may act as; an admin acts as an owner everywhere.
    fn acts_as(&self, caller: &Caller) -> Option<Role> {
        if caller.admin { Some(Role::Owner) } else { self.role(&caller.user) }
    }

    fn is_last_owner(&self, user: &UserId) -> bool {
        self.role(user) == Some(Role::Owner) && self.members.values().filter(|&&role| role == Role::Owner).count() == 1
    }
}

/// May the caller know of the room and read its log? Gives their role in it.
pub fn read(room: &Room, people: &People, caller: &Caller) -> Result<Option<Role>, Refusal> {
    let role = people.role(&caller.user);
    if role.is_none() && !caller.admin {
        if room.kind != RoomKind::Public {
            return Err(Refusal::no_such_room());
        }
        if people.bans.contains(&caller.user) {
            return Err(Refusal::forbidden("you are banned from this room"));
        }
    }
    Ok(role)
}

/// May the caller write entries? (Archived rooms are judged apart, since a repeat is answered there too.)
pub fn write(room: &Room, people: &People, caller: &Caller) -> Result<Role, Refusal> {
    read(room, people, caller)?;
    match people.acts_as(caller) {
        None => Err(Refusal::forbidden("join the room to write in it")),
        Some(Role::Muted) => Err(Refusal::forbidden("you are muted in this room")),
        Some(role) => Ok(role),
    }
}

/// The refusal of every write to an archived room.
pub fn archived() -> Refusal {
    Refusal::conflict("the room is archived; an owner or moderator can open it again")
}

/// The refusal of what makes no sense between the two of a direct room, who are equals and stay two.
pub fn only_two() -> Refusal {
    Refusal::conflict("a direct room is for its two people: it has no roles, bans or invitations")
}

/// May the caller change the room's settings?
pub fn patch(room: &Room, people: &People, caller: &Caller) -> Result<(), Refusal> {
    read(room, people, caller)?;
    match people.acts_as(caller) {
        Some(Role::Owner | Role::Moderator) => Ok(()),
        Some(_) if room.kind == RoomKind::Direct => Ok(()),
        _ => Err(Refusal::forbidden("only owners and moderators change a room")),
    }
}

pub fn delete_room(room: &Room, people: &People, caller: &Caller) -> Result<(), Refusal> {
    read(room, people, caller)?;
    match people.acts_as(caller) {
        Some(Role::Owner) => Ok(()),
        _ => Err(Refusal::forbidden("only an owner deletes a room")),
    }
}

/// May the caller become a member? `Some`: they are one already.
pub fn join(room: &Room, people: &People, caller: &Caller) -> Result<Option<Role>, Refusal> {
    let role = read(room, people, caller)?;
    if role.is_none() && people.bans.contains(&caller.user) {
        return Err(Refusal::forbidden("you are banned from this room"));
    }
    if role.is_none() && room.kind == RoomKind::Direct {
        return Err(only_two());
    }
    Ok(role)
}

/// May the caller become a member by their proof? `Some`: they are one already. Whether an invitation is still good is for
/// the store to say.
pub fn enter(room: &Room, people: &People, caller: &Caller, proof: &Proof) -> Result<Option<Role>, Refusal> {
    let theirs = match proof {
        Proof::Invitation(_) => room.kind != RoomKind::Direct,
        Proof::Pair(other) => room.kind == RoomKind::Direct && room.id == direct_id(&caller.user, other),
    };
    let role = people.role(&caller.user);
    if !theirs {
        Err(Refusal::no_such_room())
    } else if role.is_none() && people.bans.contains(&caller.user) {
        Err(Refusal::forbidden("you are banned from this room"))
    } else {
        Ok(role)
    }
}

/// May the caller stop being a member? `false`: they are none.
pub fn leave(room: &Room, people: &People, caller: &Caller) -> Result<bool, Refusal> {
    let role = read(room, people, caller)?;
    if people.is_last_owner(&caller.user) {
        return Err(Refusal::conflict("the last owner can't leave; make somebody else an owner first"));
    }
    Ok(role.is_some())
}

/// May the caller give `user` the role?
pub fn set_role(room: &Room, people: &People, caller: &Caller, user: &UserId, role: Role) -> Result<(), Refusal> {
    read(room, people, caller)?;
    if room.kind == RoomKind::Direct {
        return Err(only_two());
    }
    let present = people.role(user);
    match people.acts_as(caller) {
        Some(Role::Owner) => {}
        // Moderators mute and unmute members; every other role is an owner's to give.
        Some(Role::Moderator)
            if matches!(present, Some(Role::Member | Role::Muted)) && matches!(role, Role::Member | Role::Muted) => {}
        Some(Role::Moderator) => return Err(Refusal::forbidden("moderators only mute and unmute members")),
        _ => return Err(Refusal::forbidden("only owners give roles")),
    }
    if people.bans.contains(user) {
        return Err(Refusal::conflict("they are banned from this room; lift the ban first"));
    }
    if role != Role::Owner && people.is_last_owner(user) {
        return Err(Refusal::conflict("a room needs an owner; make somebody else one first"));
    }
    Ok(())
}

/// May the caller remove or ban `user`? `member`: whether they are a member now.
pub fn remove(room: &Room, people: &People, caller: &Caller, user: &UserId) -> Result<bool, Refusal> {
    read(room, people, caller)?;
    if room.kind == RoomKind::Direct {
        return Err(only_two());
    }
    let present = people.role(user);
    match (people.acts_as(caller), present) {
        (Some(Role::Owner), _) => {}
        (Some(Role::Moderator), None | Some(Role::Member | Role::Muted)) => {}
        (Some(Role::Moderator), _) => {
            return Err(Refusal::forbidden("moderators remove members only, not owners or moderators"));
        }
        _ => return Err(Refusal::forbidden("only owners and moderators remove people")),
    }
    if people.is_last_owner(user) {
        return Err(Refusal::conflict("a room needs an owner; make somebody else one first"));
    }
    Ok(present.is_some())
}

/// May the caller lift a ban?
pub fn unban(room: &Room, people: &People, caller: &Caller) -> Result<(), Refusal> {
    read(room, people, caller)?;
    match people.acts_as(caller) {
        Some(_) if room.kind == RoomKind::Direct => Err(only_two()),
        Some(Role::Owner | Role::Moderator) => Ok(()),
        _ => Err(Refusal::forbidden("only owners and moderators lift bans")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RoomId;
    use crate::refusal::Code;

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("a valid id")
    }

    fn caller(name: &str) -> Caller {
        Caller { user: user(name), admin: false, from: None }
    }

    fn room(kind: RoomKind) -> Room {
        let id = RoomId::parse("r").expect("a valid id");
        Room::new(id, kind)
    }

    fn people() -> People {
        let members = [
            ("olga", Role::Owner),
            ("mori", Role::Moderator),
            ("mark", Role::Moderator),
            ("emma", Role::Member),
            ("mute", Role::Muted),
        ];
        People {
            members: members.into_iter().map(|(name, role)| (user(name), role)).collect(),
            bans: [user("bane")].into(),
        }
    }

    fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn strangers_learn_nothing_of_private_rooms() {
        let (room, people, eve) = (room(RoomKind::Private), people(), caller("eve"));
        let missing = Refusal::no_such_room();
        assert_eq!(read(&room, &people, &eve).unwrap_err(), missing);
        assert_eq!(write(&room, &people, &eve).unwrap_err(), missing);
        assert_eq!(join(&room, &people, &eve).unwrap_err(), missing);
        assert_eq!(leave(&room, &people, &eve).unwrap_err(), missing);
        assert_eq!(patch(&room, &people, &eve).unwrap_err(), missing);
        assert_eq!(remove(&room, &people, &eve, &user("emma")).unwrap_err(), missing);
        assert_eq!(read(&room, &people, &caller("bane")).unwrap_err(), missing);
    }

    #[test]
    fn public_rooms_are_read_by_all_but_the_banned_and_written_by_members() {
        let (room, people) = (room(RoomKind::Public), people());
        assert_eq!(read(&room, &people, &caller("eve")), Ok(None));
        assert_eq!(code(read(&room, &people, &caller("bane"))), Some(Code::Forbidden));
        assert_eq!(code(write(&room, &people, &caller("eve"))), Some(Code::Forbidden));
        assert_eq!(code(write(&room, &people, &caller("mute"))), Some(Code::Forbidden));
        assert_eq!(write(&room, &people, &caller("emma")), Ok(Role::Member));
        assert_eq!(code(join(&room, &people, &caller("bane"))), Some(Code::Forbidden));
        assert_eq!(write(&room, &people, &Caller { user: user("root"), admin: true, from: None }), Ok(Role::Owner));
    }

    #[test]
    fn a_proof_opens_one_room_and_lifts_no_ban() {
        let people = people();
        let (eve, invited) = (caller("eve"), Proof::Invitation([0; 32]));
        for kind in [RoomKind::Public, RoomKind::Private] {
            assert_eq!(enter(&room(kind), &people, &eve, &invited), Ok(None));
            assert_eq!(enter(&room(kind), &people, &caller("emma"), &invited), Ok(Some(Role::Member)));
            assert_eq!(code(enter(&room(kind), &people, &caller("bane"), &invited)), Some(Code::Forbidden));
            assert_eq!(code(enter(&room(kind), &people, &eve, &Proof::Pair(user("emma")))), Some(Code::NotFound));
        }
        let mut direct = room(RoomKind::Direct);
        direct.id = direct_id(&user("eve"), &user("emma"));
        assert_eq!(enter(&direct, &people, &eve, &Proof::Pair(user("emma"))), Ok(None));
        assert_eq!(code(enter(&direct, &people, &caller("mallory"), &Proof::Pair(user("emma")))), Some(Code::NotFound));
        assert_eq!(code(enter(&direct, &people, &eve, &invited)), Some(Code::NotFound));
    }

    #[test]
    fn nobody_touches_an_owner_but_an_owner_and_one_stays() {
        let (room, mut people) = (room(RoomKind::Public), people());
        let (olga, mori, emma) = (caller("olga"), caller("mori"), caller("emma"));
        assert_eq!(code(remove(&room, &people, &mori, &user("olga"))), Some(Code::Forbidden));
        assert_eq!(code(remove(&room, &people, &mori, &user("mark"))), Some(Code::Forbidden));
        assert_eq!(remove(&room, &people, &mori, &user("emma")), Ok(true));
        assert_eq!(code(remove(&room, &people, &emma, &user("mute"))), Some(Code::Forbidden));
        assert_eq!(code(set_role(&room, &people, &mori, &user("emma"), Role::Owner)), Some(Code::Forbidden));
        assert_eq!(set_role(&room, &people, &mori, &user("emma"), Role::Muted), Ok(()));
        assert_eq!(code(leave(&room, &people, &olga)), Some(Code::Conflict));
        assert_eq!(code(set_role(&room, &people, &olga, &user("olga"), Role::Member)), Some(Code::Conflict));
        people.members.insert(user("emma"), Role::Owner);
        assert_eq!(leave(&room, &people, &olga), Ok(true));
        assert_eq!(code(set_role(&room, &people, &olga, &user("bane"), Role::Member)), Some(Code::Conflict));
    }
}
