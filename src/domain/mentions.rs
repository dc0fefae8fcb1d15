//! Whom a text calls: `@` and the id of a member, `@room` for everybody. Pure; the room's owner asks, who knows the
//! members.
//!
//! Invariants: a text without `@` costs one look through its bytes; an `@` within a word, as in an address, calls nobody;
//! what is called is there at most once, and [`MENTIONS`] users at most.

use crate::entry::Mentions;
use crate::ids::UserId;
use crate::limits::MENTIONS;

/// Calls everybody.
const ROOM: &str = "room";
/// Of the longest id.
const ID_BYTES: usize = 64;

/// `known` gives the member with an id; `may_call_room`: `@room` of this author counts.
pub fn of<'a>(text: &str, may_call_room: bool, known: impl Fn(&str) -> Option<&'a UserId>) -> Mentions {
    let (mut users, mut room) = (Vec::new(), false);
    for (at, _) in text.match_indices('@') {
        if !text[..at].chars().next_back().is_none_or(begins_behind) {
            continue;
        }
        let called = candidates(&text[at + 1..]).find_map(|id| match id {
            ROOM if may_call_room => Some(None),
            id => known(id).map(Some),
        });
        match called {
            Some(None) => room = true,
            Some(Some(user)) if users.len() < MENTIONS && !users.contains(user) => users.push(user.clone()),
            _ => {}
        }
    }
    Mentions::new(users, room)
}

/// The ids that may be meant at the start of `text`, the likeliest first: the longest, but with `.` and `-` at its end
/// only where it is nobody without them; then what stands before an earlier `.` or `-`.
fn candidates(text: &str) -> impl Iterator<Item = &str> {
    let run = text.bytes().take_while(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let run = &text[..run.count()];
    // A letter that no id has goes on with the word: then nobody is meant by what stands before it.
    let whole = text[run.len()..].chars().next().is_none_or(|next| !next.is_alphanumeric() || is_cjk(next));
    let ends = run.char_indices().filter(|&(_, c)| is_mark(c)).map(|(at, _)| at);
    let mut ends: Vec<usize> =
        ends.chain(whole.then_some(run.len())).filter(|end| (1..=ID_BYTES).contains(end)).collect();
    let trimmed = |end: usize| run[..end].trim_end_matches(is_mark).len();
    // Groups that differ only in the marks at their end: longest group first, within it the shortest.
    ends.sort_unstable_by_key(|&end| (std::cmp::Reverse(trimmed(end)), end));
    ends.into_iter().map(|end| &run[..end])
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | '-')
}

/// Whether an `@` behind this character calls somebody.
fn begins_behind(c: char) -> bool {
    c.is_whitespace() || "([{<\"'`«‹“‘„‚¿¡".contains(c) || is_cjk(c)
}

/// Written without spaces between words: han, kana, hangul, and the punctuation and wide forms that go with them.
fn is_cjk(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x11ff | 0x2e80..=0x9fff | 0xa960..=0xa97f | 0xac00..=0xd7ff | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f | 0xff00..=0xffef | 0x2_0000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn members(ids: &[&str]) -> HashSet<UserId> {
        ids.iter().map(|id| UserId::parse(id).expect("a valid id")).collect()
    }

    /// The users that a text calls, and `@room` where it does, separated by blanks.
    fn called(text: &str, ids: &[&str], may_call_room: bool) -> String {
        let members = members(ids);
        let mentions = of(text, may_call_room, |id| members.get(id));
        let users = mentions.users().iter().map(UserId::as_str);
        users.chain(mentions.room().then_some("@room")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn members_are_called_where_a_word_begins() {
        let ids = ["alice", "Bob", "bob.b", "x-1", "a_b", "0"];
        for (text, expected) in [
            ("@alice", "alice"),
            ("hi @alice, and @Bob!", "alice Bob"),
            ("(@alice) [@Bob] \"@x-1\" '@0' “@a_b”", "alice Bob x-1 0 a_b"),
            ("line\n@alice\t@Bob", "alice Bob"),
            ("@alice @Bob @alice", "alice Bob"),
            ("こんにちは@aliceさん、@Bobさん。", "alice Bob"),
            ("「@alice」（@Bob）你好@x-1안녕@0", "alice Bob x-1 0"),
            ("alice@example.com, x@alice, é@alice, -@alice, @@alice, /@alice", ""),
            ("@ALICE @bob @nobody @ alice @", ""),
            ("@alicelonger @alice_ @Bobé @aliceд", ""),
            ("@bob.b @x-1 @a_b", "bob.b x-1 a_b"),
            ("", ""),
        ] {
            assert_eq!(called(text, &ids, false), expected, "{text}");
        }
    }

    #[test]
    fn the_longest_member_is_meant_and_marks_at_the_end_are_the_sentence_s() {
        let ids = ["bob", "bob.", "bob.smith", "ann-", "eve", "eve-x", "eve-x-y"];
        for (text, expected) in [
            ("ask @bob.", "bob"),
            ("ask @bob...", "bob"),
            ("ask @bob-", "bob"),
            ("ask @bob.smith.", "bob.smith"),
            ("ask @bob.jones", "bob"),
            ("ask @bob.smithé", "bob"),
            ("ask @ann-", "ann-"),
            ("ask @ann--", "ann-"),
            ("ask @eve-x-z", "eve-x"),
            ("ask @eve-x-y-z.", "eve-x-y"),
        ] {
            assert_eq!(called(text, &ids, false), expected, "{text}");
        }
    }

    #[test]
    fn the_room_is_called_only_by_those_who_may() {
        assert_eq!(called("@room: lunch, @bob", &["bob"], true), "bob @room");
        assert_eq!(called("@room. @room", &[], true), "@room");
        assert_eq!(called("@room @bob", &["bob"], false), "bob");
        assert_eq!(called("@rooms x@room", &["bob"], true), "");
        assert_eq!(called("@room-b, @room-c", &["room-b"], true), "room-b @room", "the longest");
        assert_eq!(called("@room", &["room"], false), "room", "of those who may not it is a name like others");
    }

    #[test]
    fn so_many_are_called_and_no_more() {
        let ids: Vec<String> = (0..MENTIONS + 5).map(|n| format!("u{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let text: String = ids.iter().map(|id| format!("@{id} ")).collect();
        assert_eq!(called(&text, &ids, false).split(' ').collect::<Vec<_>>(), ids[..MENTIONS]);
    }

    #[test]
    fn an_id_of_the_longest_length_is_found() {
        let id = "a".repeat(ID_BYTES);
        assert_eq!(called(&format!("@{id}."), &[&id], false), id);
        assert_eq!(called(&format!("@{id}a"), &[&id], false), "");
    }

    proptest! {
        #[test]
        fn only_members_are_called(text in "[@ab.\\- é日(]{0,60}") {
            let ids = ["a", "b", "a.b", "a-b", "ab.", "b-"];
            let members = members(&ids);
            for user in of(&text, true, |id| members.get(id)).users() {
                let shown = format!("@{user}");
                prop_assert!(text.contains(&shown));
            }
        }
    }
}
