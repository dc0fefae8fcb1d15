//! The index of texts: what is found, by whom, and that nothing stays in it that is gone from the logs.

use roundtable::domain::search::CANDIDATES;
use roundtable::domain::search::wanted::Wanted;
use roundtable::entry::{Mentions, RoomPatch};
use roundtable::ports::{Match, Search};

use super::outage::ways_back;
use super::*;

on_both_stores!(
    words_phrases_and_pairs_of_characters_are_found,
    parts_of_words_are_found_where_whole_words_are_few,
    only_what_somebody_may_read_is_found,
    somebody_in_very_many_private_rooms_finds_theirs_alone,
    senders_and_rooms_narrow_a_search,
    the_index_follows_edits_and_deletes,
    what_is_forgotten_does_not_come_back,
    a_deleted_room_leaves_nothing_in_the_index,
    what_another_process_left_over_is_swept_up,
    of_very_many_the_newest_are_found,
    what_is_typed_means_nothing_to_the_store,
    what_has_expired_is_neither_shown_nor_kept,
);

fn wanted(query: &str) -> Wanted {
    Wanted::parse(query).expect("something to look for")
}

fn by(asker: &str, query: &str) -> Search {
    let asker = (asker != "admin").then(|| user(asker));
    Search { wanted: wanted(query), asker, room: None, from: None, newest: None }
}

impl Backend {
    /// Brings everything that was committed through this store into the index.
    async fn index(&self) {
        while self.store.index_news().await.expect("the store is there") > 0 {}
    }

    async fn matches(&self, search: Search) -> Vec<Match> {
        let mut found = self.store.search(search).await.expect("the store is there").found;
        found.sort_by_key(|one| one.id);
        found
    }

    /// As `room/seq`, in the order of the index.
    async fn finds(&self, search: Search) -> Vec<String> {
        self.matches(search).await.iter().map(|one| format!("{}/{}", one.room, one.seq)).collect()
    }

    async fn room_of_kind(&self, id: &str, kind: RoomKind, owner: &str, other: Option<&str>) -> Owned {
        for person in [Some(owner), other].into_iter().flatten() {
            self.account(person).await;
        }
        let room = Room { kind, ..public(id) };
        let created = self.store.create_room(&room, &user(owner), other.map(user).as_ref()).await;
        assert_eq!(created, Ok(Created::New));
        self.open(id).await
    }

    /// What the index holds, as its text columns tell.
    async fn indexed(&self) -> Vec<String> {
        self.raw.texts("SELECT body FROM search ORDER BY id").await
    }

    /// Every text that SQL can get at in the tables of the index, those of FTS5 itself included.
    async fn traces(&self, of: &str) -> usize {
        let mut all = self.raw.texts("SELECT body FROM search").await;
        all.extend(self.raw.texts("SELECT CAST(terms AS text) FROM search").await);
        if self.raw.path().is_some() {
            for table in ["search_terms_data", "search_within_data"] {
                let hex = self.raw.texts(&format!("SELECT hex(block) FROM {table}")).await;
                let text = |hex: String| {
                    let byte =
                        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or(""), 16).unwrap_or(0);
                    String::from_utf8_lossy(&hex.as_bytes().chunks(2).map(byte).collect::<Vec<_>>()).into_owned()
                };
                all.extend(hex.into_iter().map(text));
            }
        }
        all.iter().filter(|text| text.contains(of)).count()
    }
}

async fn words_phrases_and_pairs_of_characters_are_found(b: Backend) {
    let room = b.room("one").await;
    let texts = [
        "The weekly Meeting is at noon",
        "meeting notes: noon is fine",
        "明日の会議は第３会議室で",
        "会の議事録",
        "write to User@Example.com, don't call",
        "naïve ｶﾞｲﾄﾞ ＡＢＣ",
    ];
    let items = texts.iter().enumerate().map(|(n, text)| says("alice", &n.to_string(), text)).collect();
    room.append(items).await;
    b.index().await;
    for (query, found) in [
        ("meeting", &["one/1", "one/2"][..]),
        ("MEETING noon", &["one/1", "one/2"]),
        ("\"is at noon\"", &["one/1"]),
        ("\"noon is\"", &["one/2"]),
        ("\"meeting noon\"", &[]),
        ("meeting supper", &[]),
        ("会議", &["one/3"]),
        ("会議室", &["one/3"]),
        ("第3会議室", &["one/3"]),
        ("会議 明日", &["one/3"]),
        ("会議 会", &["one/3"]),
        ("議会", &[]),
        ("user@example.com", &["one/5"]),
        ("example.com", &["one/5"]),
        ("don't", &["one/5"]),
        ("ガイド", &["one/6"]),
        ("NAÏVE abc", &["one/6"]),
    ] {
        assert_eq!(b.finds(by("alice", query)).await, found, "{query}");
    }
    let present = [(room.no, 2), (room.no, 9), (room.no, 1)];
    let present = b.store.present_texts(&present).await.expect("the store is there");
    assert_eq!(present, [Some(texts[1].to_owned()), None, Some(texts[0].to_owned())]);
}

async fn parts_of_words_are_found_where_whole_words_are_few(b: Backend) {
    let room = b.room("one").await;
    let mut items = vec![says("alice", "a", "a Roundtable in the hall"), says("alice", "b", "the table, round")];
    items.extend((0..60).map(|n| says("alice", &format!("c{n}"), "cat")));
    items.push(says("alice", "d", "concatenate"));
    room.append(items).await;
    b.index().await;
    assert_eq!(b.finds(by("alice", "oundtab")).await, ["one/1"]);
    assert_eq!(b.finds(by("alice", "table")).await, ["one/1", "one/2"], "whole words and parts");
    assert_eq!(b.finds(by("alice", "able HALL")).await, ["one/1"]);
    assert_eq!(b.finds(by("alice", "cat")).await.len(), 60, "enough whole words: no parts");
    assert_eq!(b.finds(by("alice", "ta")).await, [""; 0], "two letters are a word or nothing");
    let room_search = Search { room: Some(room_id("one")), from: Some(user("bob")), ..by("alice", "oundtab") };
    assert_eq!(b.finds(room_search).await, [""; 0], "a part keeps to what else was asked");
}

async fn only_what_somebody_may_read_is_found(b: Backend) {
    let open = b.room("open").await;
    let closed = b.room_of_kind("closed", RoomKind::Private, "alice", None).await;
    let direct = b.room_of_kind("direct", RoomKind::Direct, "alice", Some("bob")).await;
    for person in ["bob", "carol", "dave"] {
        b.account(person).await;
    }
    closed.does("alice", Change::SetMember { user: user("carol"), role: Role::Muted }).await;
    open.does("alice", Change::SetMember { user: user("dave"), role: Role::Member }).await;
    for room in [&open, &closed, &direct] {
        room.append(vec![says("alice", "a", "the password is swordfish")]).await;
    }
    b.index().await;
    let all = ["open/1", "closed/1", "direct/1"];
    let finds = async |who: &str| {
        let mut found = b.finds(by(who, "swordfish")).await;
        // In whatever order they were indexed.
        found.sort_by_key(|one| all.iter().position(|all| all == one));
        found
    };
    assert_eq!(finds("alice").await, all);
    assert_eq!(finds("admin").await, all);
    assert_eq!(finds("bob").await, ["open/1", "direct/1"]);
    assert_eq!(finds("carol").await, ["open/1", "closed/1"]);
    assert_eq!(finds("dave").await, ["open/1"]);
    assert_eq!(finds("stranger").await, ["open/1"]);
    for whole in ["ordfis", "\"is swordfish\""] {
        assert_eq!(b.finds(by("dave", whole)).await, ["open/1"], "whichever way it is looked for");
    }
    open.does("alice", Change::Ban { user: user("dave") }).await;
    closed.does("alice", Change::RemoveMember { user: user("carol") }).await;
    assert_eq!(finds("dave").await, [""; 0]);
    assert_eq!(finds("carol").await, ["open/1"]);
    // A room that is named was asked for permission by the caller; a name alone shows nothing of others' rooms.
    let named = |who: &str| Search { room: Some(room_id("closed")), ..by(who, "swordfish") };
    assert_eq!(b.finds(named("alice")).await, ["closed/1"]);
    assert_eq!(b.finds(named("carol")).await, [""; 0]);
    let nowhere = Search { room: Some(room_id("nowhere")), ..by("admin", "swordfish") };
    assert_eq!(b.finds(nowhere).await, [""; 0]);
}

async fn somebody_in_very_many_private_rooms_finds_theirs_alone(b: Backend) {
    for n in 0..70 {
        let owner = if n % 10 == 9 { "bob" } else { "alice" };
        let room = b.room_of_kind(&format!("r{n}"), RoomKind::Private, owner, None).await;
        room.append(vec![says(owner, "a", "swordfish")]).await;
    }
    for n in 70..80 {
        let room = b.room_of_kind(&format!("r{n}"), RoomKind::Private, "alice", None).await;
        room.append(vec![says("alice", "a", "swordfish")]).await;
    }
    b.index().await;
    assert_eq!(b.finds(by("alice", "swordfish")).await.len(), 73);
    assert_eq!(b.finds(by("bob", "swordfish")).await.len(), 7);
}

async fn senders_and_rooms_narrow_a_search(b: Backend) {
    let (one, two) = (b.room("one").await, b.room("two").await);
    one.append(vec![says("alice", "a", "lunch"), says("Bob.1", "b", "lunch")]).await;
    b.index().await;
    two.append(vec![says("bob.1", "a", "lunch"), says("alice", "b", "dinner")]).await;
    b.index().await;
    let search = |room: Option<&str>, from: Option<&str>| Search {
        room: room.map(room_id),
        from: from.map(user),
        ..by("alice", "lunch")
    };
    assert_eq!(b.finds(search(None, None)).await, ["one/1", "one/2", "two/1"]);
    assert_eq!(b.finds(search(Some("one"), None)).await, ["one/1", "one/2"]);
    assert_eq!(b.finds(search(None, Some("bob.1"))).await, ["two/1"], "case matters in an id");
    assert_eq!(b.finds(search(Some("two"), Some("alice"))).await, [""; 0]);
    let first = b.store.search(search(None, None)).await.expect("the store is there");
    two.append(vec![says("alice", "c", "lunch again")]).await;
    b.index().await;
    let page = Search { newest: Some(first.newest), ..search(None, None) };
    assert_eq!(b.finds(page).await.len(), 3, "pages of one search fit together");
    assert_eq!(b.finds(search(None, None)).await.len(), 4);
}

async fn the_index_follows_edits_and_deletes(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "xylophone"), says("alice", "b", "zeppelin"), says("alice", "c", "plain")])
        .await;
    b.index().await;
    room.does("alice", Change::Edit { target: 1, text: "marimba".into(), mentions: Mentions::default() }).await;
    room.does("alice", Change::Delete { target: 2, moderator: false }).await;
    let texts = b.store.present_texts(&[(room.no, 1), (room.no, 2)]).await;
    assert_eq!(texts, Ok(vec![Some("marimba".to_owned()), None]), "what is shown is right before the index is");
    b.index().await;
    assert_eq!(b.finds(by("alice", "xylophone")).await, [""; 0]);
    assert_eq!(b.finds(by("alice", "marimba")).await, ["one/1"]);
    assert_eq!(b.finds(by("alice", "zeppelin")).await, [""; 0]);
    let ids: Vec<i64> = b.matches(by("alice", "plain")).await.iter().map(|one| one.id).collect();
    assert!(b.matches(by("alice", "marimba")).await[0].id < ids[0], "an edit keeps its place in the order");
    assert_eq!(b.indexed().await, ["marimba", "plain"]);
    for gone in ["xylophone", "zeppelin", "zep", "xyl"] {
        assert_eq!(b.traces(gone).await, 0, "{gone}");
    }
    // Everything in one step: made, edited, deleted, and an edit of what an earlier step brought in.
    room.append(vec![
        says("alice", "d", "first"),
        says("alice", "e", "second"),
        item("alice", AT, Change::Edit { target: 6, text: "third".into(), mentions: Mentions::default() }),
        item("alice", AT, Change::Delete { target: 7, moderator: false }),
        item("alice", AT, Change::Edit { target: 3, text: "fancy".into(), mentions: Mentions::default() }),
        item("alice", AT, Change::React { target: 3, emoji: "👍".into(), active: true }),
    ])
    .await;
    b.index().await;
    assert_eq!(b.indexed().await, ["marimba", "fancy", "third"]);
}

async fn what_is_forgotten_does_not_come_back(b: Backend) {
    let (one, two) = (b.room("one").await, b.room("two").await);
    one.append(vec![says("alice", "a", "secret one"), says("bob", "b", "kept"), says("alice", "c", "secret two")])
        .await;
    two.append((0..1_100).map(|n| says("alice", &n.to_string(), "secret three")).collect()).await;
    two.append(vec![says("alicea", "b", "kept too")]).await;
    b.index().await;
    b.store.forget_texts(one.no, &[1, 9]).await.expect("the store is there");
    assert_eq!(b.indexed().await.iter().filter(|text| *text == "secret one").count(), 0);
    assert_eq!(b.indexed().await.len(), 1_103);
    while b.store.forget_texts_of(&user("alice")).await.expect("the store is there") {}
    one.append(vec![says("bob", "d", "later")]).await;
    b.index().await;
    let mut left = b.indexed().await;
    left.sort();
    assert_eq!(left, ["kept", "kept too", "later"]);
    assert_eq!((b.traces("secret").await, b.traces("sec").await, b.traces("#ualice ").await), (0, 0, 0));
}

async fn a_deleted_room_leaves_nothing_in_the_index(b: Backend) {
    let room = b.room("one").await;
    room.append((0..700).map(|n| says("alice", &n.to_string(), "swordfish")).collect()).await;
    b.index().await;
    room.append(vec![says("alice", "last", "swordfish")]).await;
    room.does("alice", Change::DeleteRoom).await;
    assert_eq!(b.finds(by("admin", "swordfish")).await, [""; 0], "at once");
    b.index().await;
    b.until_nothing_is_left("SELECT 'left' FROM doomed_rooms").await;
    assert_eq!(b.indexed().await, [""; 0]);
    assert_eq!(b.raw.texts("SELECT 'left' FROM search_progress").await, [""; 0]);
}

async fn what_another_process_left_over_is_swept_up(b: Backend) {
    for n in 0..70 {
        let room = b.room(&format!("r{n}")).await;
        room.append(vec![says("alice", "a", "swordfish")]).await;
    }
    // As if the process had died: what it would have brought in is not known to anybody.
    let other: Arc<dyn MessageStore> = match &b.raw {
        Raw::Postgres(url) => Arc::new(PostgresStore::connect(url, options()).expect("a PostgreSQL URL")),
        Raw::Sqlite { path, .. } => {
            let path = path.clone();
            drop(b.store);
            Arc::new(SqliteStore::open(&path).expect("the lock was let go"))
        }
    };
    assert_eq!(other.index_news().await, Ok(0));
    let (mut place, mut looks) = (RoomNo(0), 0);
    loop {
        let swept = other.index_behind(place).await.expect("the store is there");
        looks += 1;
        match swept.next {
            Some(next) => place = next,
            None => break,
        }
    }
    assert!(looks > 1, "a step is bounded");
    let found = other.search(by("alice", "swordfish")).await.expect("the store is there").found;
    assert_eq!(found.len(), 70);
    assert_eq!(other.index_behind(RoomNo(0)).await.map(|swept| swept.entries), Ok(0));
}

async fn of_very_many_the_newest_are_found(b: Backend) {
    let room = b.room("one").await;
    for part in 0..12 {
        room.append((0..500).map(|n| says("alice", &format!("{part}.{n}"), "common word")).collect()).await;
    }
    room.append(vec![says("alice", "rare", "uncommon")]).await;
    b.index().await;
    let found = b.matches(by("alice", "common")).await;
    assert_eq!(found.len(), CANDIDATES);
    assert_eq!((found[0].seq, found[CANDIDATES - 1].seq), (5_001, 6_000));
    let early = Search { newest: Some(3_000), ..by("alice", "common") };
    let found = b.matches(early).await;
    assert_eq!((found[0].seq, found[CANDIDATES - 1].seq), (2_001, 3_000));
    assert_eq!(b.finds(by("alice", "uncommon")).await, ["one/6001"]);
}

async fn what_is_typed_means_nothing_to_the_store(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "100% o'reilly a_b c\\d <b>x</b> \"q\" NEAR(a b) it's")]).await;
    b.index().await;
    for query in [
        "o'reilly", "100%", "a_b", "c\\d", "<b>x</b>", "NEAR(a", "it's", "\"it's\"", "a:*", "!a", "a & b", "a OR b",
        "a*", "(a", "#r1 a", "x');--",
    ] {
        let found = b.store.search(by("alice", query)).await;
        assert!(found.is_ok(), "{query}: {found:?}");
    }
    assert_eq!(b.finds(by("alice", "o'reilly 100%")).await, ["one/1"]);
    assert_eq!(b.finds(by("alice", "axb")).await, [""; 0], "_ stands for itself");
}

/// The file that undoes the migration does, and what it undoes can be done again.
#[tokio::test]
async fn the_way_back_from_the_index_leads_back() {
    let b = Backend::postgres().await;
    b.room("one").await.append(vec![says("alice", "a", "swordfish")]).await;
    b.index().await;
    let Raw::Postgres(url) = &b.raw else { panic!("not PostgreSQL") };
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
    tokio::spawn(connection);
    let back = ways_back("postgres", 7);
    for step in &back {
        client.batch_execute(step).await.expect("nothing is left over");
    }
    assert_eq!(b.store.migrate().await.map(|ran| ran.len()), Ok(back.len()));
    assert_eq!(b.store.index_behind(RoomNo(0)).await.map(|swept| swept.entries), Ok(1));

    let b = Backend::sqlite().await;
    b.room("one").await.append(vec![says("alice", "a", "swordfish")]).await;
    b.index().await;
    let connection = rusqlite::Connection::open(b.raw.path().expect("a file")).expect("the file is there");
    let back = ways_back("sqlite", 7);
    for step in &back {
        connection.execute_batch(step).expect("nothing is left over");
    }
    assert_eq!(b.store.migrate().await.map(|ran| ran.len()), Ok(back.len()));
    assert_eq!(b.store.index_behind(RoomNo(0)).await.map(|swept| swept.entries), Ok(1));
}

async fn what_has_expired_is_neither_shown_nor_kept(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "ephemeral words")]).await;
    b.index().await;
    let there = [(room.no, 1)];
    assert_eq!(b.store.present_texts(&there).await, Ok(vec![Some("ephemeral words".to_owned())]));
    assert!(b.traces("ephemeral").await > 0);
    let disappearing = RoomPatch { ttl_s: Some(60), ..RoomPatch::default() };
    room.does("alice", Change::Patch(disappearing)).await;
    assert_eq!(b.store.present_texts(&there).await, Ok(vec![None]), "at once, whenever it is erased");
    while b.store.expire(AT + 61_000, 200).await.expect("the store is there") {}
    assert_eq!(b.traces("ephemeral").await, 0);
}
