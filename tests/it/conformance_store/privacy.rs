//! Erasure leaves nothing and no gap; exports give everything; bans from the server are found.

use roundtable::domain::audit::{Deed, What, Whence};
use roundtable::entry::Body;
use roundtable::entry::RoomPatch;
use roundtable::ids::{AttachmentId, ObjectId};
use roundtable::ports::{
    Attachment, Bounds, CutOff, Device, Erasing, Kept, NewCredential, Pinned, Place, Reported, Standing, StoreError,
};

use super::*;

on_both_stores!(
    erasure_leaves_no_text_and_no_gap,
    erasure_goes_on_wherever_it_was_cut_off,
    what_was_under_way_is_found_in_the_second_round,
    a_room_gets_the_longest_known_moderator_as_its_owner,
    an_erased_person_stays_away,
    an_export_reads_everything_of_ones_own_and_nothing_else,
    bans_from_the_server_are_found_by_every_node,
);

/// Stands in every text that the person who is erased wrote, and in nothing else.
const MARKER: &str = "xyzzyplugh";

fn deed(by: &str, what: What) -> Deed {
    let from = Some(Whence("192.0.2.1".into()));
    Deed { at: AT, by: user(by), from, what, whom: None, seq: None, detail: None }
}

fn react(target: Seq, emoji: &str) -> Change {
    Change::React { target, emoji: emoji.into(), active: true }
}

/// Tables in which a text that somebody wrote, or that says who they are, can stand; each has one of Alice's.
const WITH_TEXTS: [&str; 10] = [
    "attachments",
    "entries",
    "logins",
    "mentions",
    "oidc_people",
    "reactions",
    "reports",
    "revisions",
    "search",
    "users",
];
/// Tables with ids, numbers and our own words alone, or with what is the room's: its name and topic, who is told of what
/// is logged. A new table stands in one of the two, and whoever adds it thinks of erasure.
const WITHOUT_TEXTS: [&str; 21] = [
    "attachment_link_key",
    "attachment_usage",
    "audit",
    "backups",
    "doomed_objects",
    "doomed_rooms",
    "erasures",
    "expiring_rooms",
    "invitations",
    "jobs",
    "people",
    "pins",
    "refinery_schema_history",
    "revocations",
    "room_heads",
    "room_keys",
    "rooms",
    "server_bans",
    "webhook_cursors",
    "webhook_dead",
    "webhooks",
];

/// Steps until a round has ended; gives how many steps it took.
async fn round(b: &Backend, limit: u32) -> usize {
    let rounds = async || b.raw.texts("SELECT CAST(round AS text) FROM erasures").await;
    let before = rounds().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    for steps in 1.. {
        match b.store.erase_some(limit).await {
            Ok(Erasing::Round(whose)) => {
                assert_eq!(whose, user("alice"));
                return steps;
            }
            Ok(Erasing::Step(whose)) => assert_eq!(whose, user("alice")),
            // A busy store: the outcome is unknown, or a step that was given up on holds the next one off for a moment.
            Err(StoreError::Unavailable(_)) | Ok(Erasing::Nothing) => {
                if rounds().await != before {
                    return steps;
                }
                assert!(std::time::Instant::now() < deadline, "a round never ended");
            }
            other => panic!("{other:?}"),
        }
    }
    unreachable!()
}

/// Makes the second round due.
async fn later(b: &Backend) {
    b.raw.execute("UPDATE erasures SET due_at = 1 WHERE due_at IS NOT NULL").await;
}

async fn begins(b: &Backend) {
    assert_eq!(b.store.erase(&deed("alice", What::PersonErased)).await, Ok(true));
}

/// Alice with `messages` messages, some edited, with reactions, reports and notes, among others who wrote too.
async fn alice_was_here(b: &Backend, messages: usize) -> Owned {
    let alice = User { id: user("alice"), name: Some(format!("Alice {MARKER}")) };
    assert_eq!(b.store.create_account(&alice, &format!("phc {MARKER}")).await, Ok(Created::New));
    for other in ["bob", "carol"] {
        b.account(other).await;
    }
    let login = NewCredential {
        hash: [7; 32],
        user: alice.id.clone(),
        created_at: AT,
        expires_at: 4_000_000_000_000,
        device: Device { client: Some(format!("client {MARKER}")), address: Some("192.0.2.1".into()) },
        grant: None,
        name: None,
    };
    let token = NewCredential { hash: [8; 32], name: Some(format!("bot {MARKER}")), ..login.clone() };
    for new in [login, token] {
        b.store.create_credential(&new, 100).await.expect("the store is there").expect("there is room");
    }
    let room = b.room("one").await;
    for name in ["bob", "carol"] {
        room.does("alice", Change::SetMember { user: user(name), role: Role::Member }).await;
    }
    room.append(vec![says("bob", "b", "from bob")]).await;
    let own =
        |n: usize| item("alice", AT, with_data(&format!("m{n}"), &format!("{MARKER} {n}"), &format!("\"{MARKER}\"")));
    for first in (0..messages).step_by(500) {
        room.append((first..messages.min(first + 500)).map(own).collect()).await;
    }
    let kept = RoomPatch { edit_history: Some(true), ..RoomPatch::default() };
    room.does("alice", Change::Patch(kept)).await;
    for target in 2..=5 {
        let mentions = Mentions::new(vec![user(MARKER)], false);
        room.does("alice", Change::Edit { target, text: format!("{MARKER} edited"), mentions }).await;
    }
    room.does("alice", react(1, &format!("{MARKER}1"))).await;
    room.does("alice", react(2, "👍")).await;
    room.does("bob", react(2, "🎉")).await;
    room.does("bob", reply("r", "to alice", 2)).await;
    let report = async |seq, by: &str, reason: &str| {
        let made = b.store.report(&room_id("one"), seq, &user(by), AT, reason, 50).await;
        let Ok(Reported::New(no)) = made else { panic!("{made:?}") };
        no
    };
    report(1, "alice", &format!("{MARKER} because")).await;
    let no = report(2, "bob", "about alice").await;
    let (noted, by) = (format!("{MARKER} noted"), deed("alice", What::ReportClosed));
    let closed = b.store.close_report(&room_id("one"), no, "none", Some(&noted), &by).await;
    assert_eq!(closed, Ok(true));
    let pinned = b.store.pin(&room_id("one"), 3, &user("bob"), AT, 100).await;
    assert_eq!(pinned, Ok(Pinned::Done));
    while b.store.index_news().await.expect("the store is there") > 0 {}
    for message in ["m1", "unsent"] {
        let object = ObjectId::parse(&format!("{:032x}", message.len())).expect("a valid id");
        let upload = Attachment {
            id: AttachmentId::parse(object.as_str()).expect("a valid id"),
            object: object.clone(),
            room: room_id("one"),
            user: user("alice"),
            message: MessageId::parse(message).expect("a valid id"),
            name: format!("{MARKER}.png"),
            mime: "image/png".into(),
            bytes: 1,
            sha256: [1; 32],
            at: AT,
        };
        let minute = Duration::from_secs(60);
        let bounds = Bounds { per_user_bytes: 0, per_message: 1, unreferenced: minute };
        b.store.begin_upload(&object, &user("alice"), minute).await.expect("the store is there");
        assert_eq!(b.store.keep_upload(&upload, bounds).await, Ok(Kept::New));
    }
    // Whoever has a password may have come from elsewhere as well, some day.
    b.raw.execute(&format!("INSERT INTO oidc_people VALUES ('https://id.example', '{MARKER}', 'alice')")).await;
    let mut tables = b.raw.tables().await;
    // SQLite's own, and its full-text index: both are looked through as well.
    tables.retain(|table| !table.starts_with("sqlite_") && !table.starts_with("search_"));
    tables.sort();
    let mut known = [&WITH_TEXTS[..], &WITHOUT_TEXTS].concat();
    known.retain(|table| *table != "room_heads" || tables.iter().any(|there| there == table));
    known.sort_unstable();
    assert_eq!(tables, known);
    let found = b.raw.with(MARKER).await;
    for table in WITH_TEXTS {
        assert!(found.iter().any(|place| place.starts_with(&format!("{table}: "))), "{table} has it: {found:?}");
    }
    room
}

/// No text of Alice's anywhere, and the log as long and as contiguous as it was.
async fn nothing_is_left(b: &Backend, length: usize, messages: usize) {
    assert_eq!(b.raw.with(MARKER).await, Vec::<String>::new());
    let log = b.log("one").await;
    assert_eq!(log.len(), length, "every entry keeps its place");
    let mut deleted = 0;
    for entry in &log {
        match &entry.body {
            Body::Message(message) if entry.user == user("alice") => {
                assert_eq!((&message.text, &message.data), (&None, &None));
                deleted += 1;
            }
            Body::Message(message) => assert!(message.text.is_some(), "others' stay: {entry:?}"),
            Body::Edit { text, .. } => assert_eq!(text, &None),
            Body::Reaction { emoji, active, .. } => {
                assert_eq!(entry.user == user("alice"), emoji.is_empty() && !active)
            }
            _ => {}
        }
    }
    assert_eq!(deleted, messages);
}

async fn erasure_leaves_no_text_and_no_gap(b: Backend) {
    let room = alice_was_here(&b, 40).await;
    let length = b.log("one").await.len();
    begins(&b).await;
    // At once: name and credentials.
    assert_eq!(b.store.user(&user("alice")).await, Ok(None));
    assert_eq!(b.store.password_hash(&user("alice")).await, Ok(None));
    assert_eq!(b.store.logins(&[[7; 32], [8; 32]], AT).await, Ok(Vec::new()));
    assert_eq!(b.store.standing(&user("alice")).await, Ok(Standing::Erased));
    round(&b, 2_000).await;
    nothing_is_left(&b, length, 40).await;
    // The room's owner has members cached that are none any more.
    assert_eq!(room.try_append(vec![says("alice", "late", "x")]).await, Appended::Fenced);
    let room = b.open("one").await;
    assert!(!room.opened.members.contains_key(&user("alice")));
    // A repeat of what she sent is still one.
    assert_eq!(room.append(vec![says("alice", "m0", "x")]).await, [duplicate(2)]);
    assert_eq!(b.store.erase(&deed("alice", What::PersonErased)).await, Ok(false), "once");
    assert_eq!(b.store.erase(&deed("nobody", What::PersonErased)).await, Ok(false));
    assert_eq!(b.store.erase_some(10).await, Ok(Erasing::Nothing), "the second round is not due yet");
    later(&b).await;
    round(&b, 2_000).await;
    nothing_is_left(&b, length, 40).await;
    assert_eq!(b.raw.texts("SELECT user_id FROM erasures WHERE due_at IS NOT NULL").await, Vec::<String>::new());
}

async fn erasure_goes_on_wherever_it_was_cut_off(b: Backend) {
    alice_was_here(&b, 30).await;
    let length = b.log("one").await.len();
    begins(&b).await;
    // Two nodes at once, a few items a step, until neither finds anything to do.
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let store = Arc::clone(&b.store);
        nodes.spawn(async move {
            let mut steps = 0;
            while store.erase_some(4).await.expect("the store is there") != Erasing::Nothing {
                steps += 1;
            }
            steps
        });
    }
    assert!(nodes.join_all().await.iter().sum::<usize>() > 8, "in steps");
    nothing_is_left(&b, length, 30).await;
}

async fn what_was_under_way_is_found_in_the_second_round(b: Backend) {
    alice_was_here(&b, 6).await;
    begins(&b).await;
    round(&b, 2_000).await;
    // Somebody whose caches were old let her in once more.
    let room = b.open("one").await;
    room.append(vec![says("alice", "straggler", MARKER)]).await;
    let direct = Room { kind: RoomKind::Direct, ..public("direct") };
    assert_eq!(b.store.create_room(&direct, &user("alice"), Some(&user("bob"))).await, Ok(Created::New));
    let length = b.log("one").await.len();
    later(&b).await;
    round(&b, 2_000).await;
    nothing_is_left(&b, length, 7).await;
    assert_eq!(b.store.role(&room_id("direct"), &user("alice")).await, Ok(None));
    assert_eq!(b.store.role(&room_id("direct"), &user("bob")).await, Ok(Some(Role::Member)), "it stays for the other");
}

async fn a_room_gets_the_longest_known_moderator_as_its_owner(b: Backend) {
    for name in ["alice", "zoe", "bob", "carol"] {
        b.account(name).await;
    }
    let gives = |name: &str, role| Change::SetMember { user: user(name), role };
    let with = async |room: &str, roles: &[(&str, Role)]| {
        let owned = b.room(room).await;
        for &(name, role) in roles {
            owned.does("alice", gives(name, role)).await;
        }
    };
    with("moderated", &[("bob", Role::Member), ("zoe", Role::Moderator), ("carol", Role::Moderator)]).await;
    with("members", &[("zoe", Role::Muted), ("carol", Role::Member), ("bob", Role::Member)]).await;
    with("owned", &[("bob", Role::Owner), ("zoe", Role::Moderator)]).await;
    with("muted", &[("bob", Role::Muted)]).await;
    // Who came when, whatever clock the tests run by.
    for (n, name) in ["zoe", "carol", "bob"].iter().enumerate() {
        b.raw.execute(&format!("UPDATE people SET known_since = {} WHERE user_id = '{name}'", n + 1)).await;
    }
    begins(&b).await;
    round(&b, 2_000).await;
    let owners = async |room: &str| {
        let members = b.store.members(&room_id(room), None, 10).await.expect("the store is there");
        assert!(members.iter().all(|(member, _)| *member != user("alice")));
        members.into_iter().filter(|(_, role)| *role == Role::Owner).map(|(user, _)| user).collect::<Vec<_>>()
    };
    assert_eq!(owners("moderated").await, [user("zoe")]);
    assert_eq!(owners("members").await, [user("carol")], "not the muted one");
    assert_eq!(owners("owned").await, [user("bob")], "it has one");
    assert_eq!(owners("muted").await, [], "nobody who could be");
    let audited = b.store.audited(Some(&room_id("moderated")), None, 10).await.expect("the store is there");
    assert_eq!((audited[0].act.as_str(), &audited[0].whom), ("member.role", &Some(user("zoe"))));
}

async fn an_erased_person_stays_away(b: Backend) {
    b.store.ensure_jwt_user(&user("alice"), Some("Alice")).await.expect("the store is there");
    let room = {
        b.account("bob").await;
        assert_eq!(b.store.create_room(&public("one"), &user("bob"), None).await, Ok(Created::New));
        b.open("one").await
    };
    let joins = Change::SetMember { user: user("alice"), role: Role::Member };
    assert_eq!(room.does("alice", joins.clone()).await, is_now(Role::Member));
    begins(&b).await;
    round(&b, 10).await;
    assert_eq!(b.store.ensure_jwt_user(&user("alice"), Some("Alice")).await, Ok(Created::Taken));
    let again = User { id: user("alice"), name: None };
    assert_eq!(b.store.create_account(&again, "phc").await, Ok(Created::Taken), "the id is never given out again");
    assert_eq!(b.open("one").await.does("alice", joins).await, Outcome::NoSuchTarget);
    let audited = b.store.audited(None, None, 1).await.expect("the store is there").remove(0);
    assert_eq!(
        (audited.act.as_str(), audited.by, audited.from.as_deref()),
        ("person.erased", user("alice"), Some("192.0.2.1"))
    );
}

async fn an_export_reads_everything_of_ones_own_and_nothing_else(b: Backend) {
    alice_was_here(&b, 25).await;
    let other = b.room("other").await;
    other.append(vec![says("alice", "o", "elsewhere"), says("bob", "o", "not hers")]).await;
    other.does("alice", Change::SetMember { user: user("bob"), role: Role::Owner }).await;
    other.does("alice", Change::RemoveMember { user: user("alice") }).await;
    let gone = b.room("gone").await;
    gone.append(vec![says("alice", "g", "of a deleted room")]).await;
    gone.does("alice", Change::DeleteRoom).await;
    let alice = user("alice");
    let (mut messages, mut place) = (Vec::new(), Place::default());
    loop {
        let page = b.store.own_messages(&alice, place, 7).await.expect("the store is there");
        let Some((last, _)) = page.last() else { break };
        place = *last;
        messages.extend(page.into_iter().filter_map(|(_, message)| message));
    }
    assert_eq!(messages.len(), 26, "of the room that she left too");
    assert_eq!(messages[0].text.as_deref(), Some(&*format!("{MARKER} edited")), "as they are now");
    assert_eq!((messages[25].room.as_str(), messages[25].text.as_deref()), ("other", Some("elsewhere")));
    let rooms = b.store.own_rooms(&alice, 0, 10).await.expect("the store is there");
    let rooms: Vec<_> = rooms.iter().map(|own| (own.room.as_str(), own.role)).collect();
    assert_eq!(rooms, [("one", Some(Role::Owner)), ("other", None)]);
    let first = b.store.own_reactions(&alice, (Place::default(), ""), 1).await.expect("the store is there").remove(0);
    assert_eq!((first.target, &*first.emoji), (1, &*format!("{MARKER}1")));
    let rest = b.store.own_reactions(&alice, (first.place, &first.emoji), 10).await.expect("the store is there");
    assert_eq!(rest.iter().map(|own| (own.target, &*own.emoji)).collect::<Vec<_>>(), [(2, "👍")]);
    let uploads = b.store.attachments_of(&alice, None, 10).await.expect("the store is there");
    assert_eq!(uploads.iter().map(|own| own.message.as_str()).collect::<Vec<_>>(), ["m1", "unsent"]);
    let subject = b.store.oidc_subject(&alice).await.expect("the store is there");
    assert_eq!(subject.map(|own| own.subject), Some(MARKER.to_owned()));
    assert_eq!(b.store.oidc_subject(&user("bob")).await, Ok(None));
    let reports = b.store.own_reports(&alice, 0, 10).await.expect("the store is there");
    assert_eq!(reports.iter().map(|own| own.seq).collect::<Vec<_>>(), [1]);
}

async fn bans_from_the_server_are_found_by_every_node(b: Backend) {
    let bob = user("bob");
    let (before, found) = b.store.cut_off(Millis::MAX).await.expect("the store is there");
    assert_eq!(found, []);
    assert_eq!(b.store.standing(&bob).await, Ok(Standing::Good));
    assert_eq!(b.store.ban_from_server(&bob, &deed("root", What::ServerBanned)).await, Ok(true));
    assert_eq!(b.store.ban_from_server(&bob, &deed("root", What::ServerBanned)).await, Ok(false));
    assert_eq!(b.store.standing(&bob).await, Ok(Standing::Banned));
    let (now, found) = b.store.cut_off(before - 1).await.expect("the store is there");
    assert!(now >= before);
    assert!(matches!(&found[..], [CutOff { user, erased: false, .. }] if *user == bob), "{found:?}");
    let listed = b.store.server_bans(None, 10).await.expect("the store is there");
    assert_eq!(listed.iter().map(|(who, _, by)| (who, by)).collect::<Vec<_>>(), [(&bob, &user("root"))]);
    assert_eq!(b.store.server_bans(Some(&bob), 10).await, Ok(Vec::new()));
    assert_eq!(b.store.lift_server_ban(&bob, &deed("root", What::ServerBanLifted)).await, Ok(true));
    assert_eq!(b.store.lift_server_ban(&bob, &deed("root", What::ServerBanLifted)).await, Ok(false));
    assert_eq!(b.store.standing(&bob).await, Ok(Standing::Good));
    let acts = b.store.audited(None, None, 10).await.expect("the store is there");
    assert_eq!(acts.iter().map(|line| &*line.act).collect::<Vec<_>>(), ["server.unbanned", "server.banned"]);
    b.account("alice").await;
    begins(&b).await;
    let (_, found) = b.store.cut_off(before - 1).await.expect("the store is there");
    assert!(matches!(&found[..], [CutOff { user: who, erased: true, .. }] if *who == user("alice")), "{found:?}");
}

#[tokio::test]
async fn a_hundred_thousand_messages_leave_no_text_and_no_gap() {
    let url = Postgres::shared().await.database().await;
    let store = PostgresStore::connect(&url, PostgresOptions::default()).expect("a PostgreSQL URL");
    store.migrate().await.expect("a fresh database");
    let b = Backend { store: Arc::new(store), raw: Raw::Postgres(url) };
    alice_was_here(&b, 100_000).await;
    let length = b.log("one").await.len();
    begins(&b).await;
    assert!(round(&b, 500).await > 200, "in bounded steps");
    nothing_is_left(&b, length, 100_000).await;
}
