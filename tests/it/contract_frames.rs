//! Each request of a client and its answer (docs/protocol.md, "Frames from the client").

use serde_json::{Value, json};

use crate::support::load::whole_log;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person, makes};

async fn filled(node: &Node, room: &str, n: u64) -> Person {
    let mut alice = Person::at(node, "alice").await;
    alice.opens(node, room).await;
    for i in 1..=n {
        assert_eq!(alice.sends(room, &format!("m{i}"), &format!("text {i}")).await, i);
    }
    alice
}

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().expect("entries").iter().filter_map(|entry| entry["seq"].as_u64()).collect()
}

#[tokio::test]
async fn subscribe_tells_live_replay_and_reset_apart() {
    let node = Node::with(&[("limits.replay", "20")]).await;
    let _alice = filled(&node, "lobby", 30).await;
    let cases = [
        (json!({}), "live"),
        (json!({"after": 30}), "live"),
        (json!({"last": 0}), "live"),
        (json!({"after": 29}), "replay"),
        (json!({"after": 10}), "replay"),
        (json!({"last": 5}), "replay"),
        (json!({"after": 9}), "reset"),
        (json!({"after": 0}), "reset"),
        (json!({"after": 31}), "reset"),
        (json!({"after": 9_007_199_254_740_992_u64}), "reset"),
    ];
    for (bounds, verdict) in cases {
        let mut bob = Person::at(&node, "bob").await;
        let mut request = json!({"type": "subscribe", "room": "lobby"});
        for (key, value) in bounds.as_object().expect("an object") {
            request[key] = value.clone();
        }
        let answer = bob.does(request).await;
        assert_eq!((&answer["verdict"], &answer["head"]), (&json!(verdict), &json!(30)), "{bounds}");
        assert_eq!(answer["room"], "lobby");
        if verdict == "replay" {
            bob.sees_entry("lobby", 30).await;
        } else {
            bob.catches_up().await;
            assert!(bob.seen("lobby").is_empty(), "{bounds}");
        }
    }
    let mut bob = Person::at(&node, "bob").await;
    bob.refused(json!({"type": "subscribe", "room": "lobby", "after": 1, "last": 1}), "bad_request").await;
    let wide = bob.does(json!({"type": "subscribe", "room": "lobby", "last": 1_000})).await;
    assert_eq!(wide["verdict"], "replay");
}

#[tokio::test]
async fn a_new_room_is_empty_and_its_first_cursor_is_live() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    makes(&node, "alice", "empty").await;
    for bounds in [json!({}), json!({"after": 0}), json!({"last": 10})] {
        let mut request = json!({"type": "subscribe", "room": "empty"});
        request.as_object_mut().expect("an object").extend(bounds.as_object().expect("an object").clone());
        let answer = alice.does(request).await;
        assert_eq!(
            (&answer["verdict"], &answer["head"], &answer["role"]),
            (&json!("live"), &json!(0), &json!("owner"))
        );
    }
    assert_eq!(alice.history("empty", json!({})).await["events"], json!([]));
    assert_eq!(alice.sends("empty", "m1", "first").await, 1);
    alice.sees("empty", 1, "first").await;
}

#[tokio::test]
async fn a_second_subscribe_replaces_the_first_and_unsubscribe_ends_it() {
    let node = Node::alone().await;
    let mut alice = filled(&node, "lobby", 10).await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    bob.resumes("lobby", 4).await;
    bob.sees("lobby", 10, "text 10").await;
    bob.resumes("lobby", 8).await;
    bob.sees("lobby", 10, "text 10").await;
    alice.sends("lobby", "live", "now").await;
    bob.sees("lobby", 11, "now").await;
    let before = bob.seen("lobby").len();
    assert_eq!(bob.does(json!({"type": "unsubscribe", "room": "lobby"})).await["type"], "ok");
    alice.sends("lobby", "gone", "unseen").await;
    bob.catches_up().await;
    bob.sends("lobby", "b", "writing needs no subscription").await;
    bob.catches_up().await;
    assert_eq!(bob.seen("lobby").len(), before, "nothing comes after unsubscribe");
}

#[tokio::test]
async fn history_pages_in_both_directions() {
    let node = Node::alone().await;
    let mut alice = filled(&node, "lobby", 12).await;
    for (bounds, expected, more) in [
        (json!({"limit": 5}), 8..=12, true),
        (json!({"limit": 12}), 1..=12, false),
        (json!({}), 1..=12, false),
        (json!({"before": 8, "limit": 5}), 3..=7, true),
        (json!({"before": 3}), 1..=2, false),
        (json!({"after": 3, "limit": 5}), 4..=8, true),
        (json!({"after": 7}), 8..=12, false),
        (json!({"after": 7, "limit": 5}), 8..=12, false),
    ] {
        let page = alice.history("lobby", bounds.clone()).await;
        assert_eq!(seqs(&page), expected.collect::<Vec<u64>>(), "{bounds}");
        assert_eq!((&page["more"], &page["room"]), (&json!(more), &json!("lobby")), "{bounds}");
    }
    assert!(seqs(&alice.history("lobby", json!({"before": 1})).await).is_empty());
    assert!(seqs(&alice.history("lobby", json!({"after": 12})).await).is_empty());
    for bad in [json!({"before": 3, "after": 1}), json!({"limit": 0}), json!({"limit": 201}), json!({"after": -1})] {
        let mut request = json!({"type": "history", "room": "lobby"});
        request.as_object_mut().expect("an object").extend(bad.as_object().expect("an object").clone());
        alice.refused(request, "bad_request").await;
    }
}

#[tokio::test]
async fn edits_deletes_and_reactions_are_entries_and_change_what_is_read_again() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    let data = json!({"n": 1, "list": [null, "\u{0}", 1.5]});
    let send = json!({"type": "send", "room": "lobby", "id": "m1", "text": "helo", "data": data});
    alice.does(send).await;
    alice.does(json!({"type": "send", "room": "lobby", "id": "m2", "text": "yes", "reply_to": 1})).await;
    assert_eq!(alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": "hello"})).await["seq"], 3);
    let react = json!({"type": "react", "room": "lobby", "target": 2, "emoji": "❤️", "active": true});
    assert_eq!(bob.does(react).await["seq"], 4);
    // Live: what was said when it was said.
    let first = bob.sees("lobby", 1, "helo").await;
    assert_eq!(first["data"], data);
    assert!(first.get("edited_at").is_none(), "{first}");
    assert_eq!(bob.sees_entry("lobby", 2).await["reply_to"], 1);
    let edit = bob.sees_entry("lobby", 3).await;
    assert_eq!((&edit["kind"], &edit["target"], &edit["text"]), (&json!("edit"), &json!(1), &json!("hello")));
    let reaction = bob.sees_entry("lobby", 4).await;
    assert_eq!((&reaction["kind"], &reaction["user"]), (&json!("reaction"), &json!("bob")));
    assert_eq!((&reaction["target"], &reaction["emoji"], &reaction["active"]), (&json!(2), &json!("❤️"), &json!(true)));
    // Read again: as it is now.
    let page = bob.history("lobby", json!({})).await;
    let present = &page["events"][0];
    assert_eq!((&present["text"], &present["seq"], &present["at"]), (&json!("hello"), &json!(1), &first["at"]));
    assert!(present["edited_at"].is_string(), "{present}");
    // Deleted: the place stays, the texts go, those of its edits too.
    assert_eq!(alice.does(json!({"type": "delete", "room": "lobby", "target": 1})).await["seq"], 5);
    let delete = bob.sees_entry("lobby", 5).await;
    assert_eq!((&delete["kind"], &delete["target"]), (&json!("delete"), &json!(1)));
    let mut carol = Person::at(&node, "carol").await;
    carol.resumes("lobby", 0).await;
    carol.sees_entry("lobby", 5).await;
    let replayed = carol.seen("lobby").to_vec();
    let page = bob.history("lobby", json!({})).await;
    let events = page["events"].as_array().expect("events").iter().cloned().map(bare).collect::<Vec<_>>();
    assert_eq!(events, replayed, "replay and history say the same");
    let erased = &replayed[0];
    assert_eq!((&erased["deleted"], &erased["id"], &erased["user"]), (&json!(true), &json!("m1"), &json!("alice")));
    assert!(erased.get("text").is_none() && erased.get("data").is_none(), "{erased}");
    assert!(replayed[2].get("text").is_none(), "{}", replayed[2]);
    assert!(!json!(replayed).to_string().contains("hel"), "no trace of the text");
    alice.refused(json!({"type": "edit", "room": "lobby", "target": 1, "text": "back"}), "conflict").await;
    // The same after a restart, from the store.
    node.kill();
    node.restart().await;
    let log: Vec<Value> = whole_log(&node, "lobby").await.into_iter().map(bare).collect();
    assert_eq!(log, replayed);
}

/// An entry of history without what only history tells.
fn bare(mut entry: Value) -> Value {
    let fields = entry.as_object_mut().expect("an entry");
    fields.remove("replies");
    fields.remove("reactions");
    entry
}

#[tokio::test]
async fn only_those_who_may_change_a_message() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    let mut carol = Person::at(&node, "carol").await;
    carol.joins("lobby").await;
    let bobs = bob.sends("lobby", "b1", "mine").await;
    let edit = json!({"type": "edit", "room": "lobby", "target": bobs, "text": "not yours"});
    carol.refused(edit.clone(), "forbidden").await;
    alice.refused(edit, "forbidden").await;
    carol.refused(json!({"type": "delete", "room": "lobby", "target": bobs}), "forbidden").await;
    for target in [99, 0] {
        let gone = json!({"type": "delete", "room": "lobby", "target": target});
        let answer = bob.asks(gone).await;
        assert!(["not_found", "bad_request"].contains(&answer["code"].as_str().unwrap_or("")), "{answer}");
    }
    let react = bob.does(json!({"type": "react", "room": "lobby", "target": bobs, "emoji": "x", "active": true})).await;
    // A reaction is no message: it can't be a target.
    let target = react["seq"].clone();
    bob.refused(json!({"type": "edit", "room": "lobby", "target": target, "text": "x"}), "not_found").await;
    let reply = json!({"type": "send", "room": "lobby", "id": "r", "text": "x", "reply_to": target});
    bob.refused(reply, "not_found").await;
    alice.does(json!({"type": "delete", "room": "lobby", "target": bobs})).await;
}

#[tokio::test]
async fn join_and_leave_are_durable_and_the_last_owner_stays() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.refused(json!({"type": "send", "room": "lobby", "id": "x", "text": "x"}), "forbidden").await;
    assert_eq!(bob.does(json!({"type": "join", "room": "lobby"})).await["role"], "member");
    assert_eq!(bob.does(json!({"type": "join", "room": "lobby"})).await["role"], "member");
    assert_eq!(alice.does(json!({"type": "join", "room": "lobby"})).await["role"], "owner");
    alice.refused(json!({"type": "leave", "room": "lobby"}), "conflict").await;
    node.kill();
    node.restart().await;
    let mut bob = Person::at(&node, "bob").await;
    bob.sends("lobby", "x", "still a member").await;
    assert_eq!(bob.does(json!({"type": "leave", "room": "lobby"})).await["type"], "ok");
    bob.refused(json!({"type": "send", "room": "lobby", "id": "y", "text": "x"}), "forbidden").await;
    for request in ["join", "leave", "subscribe", "history"] {
        bob.refused(json!({"type": request, "room": "nowhere"}), "not_found").await;
    }
    bob.refused(json!({"type": "send", "room": "nowhere", "id": "y", "text": "x"}), "not_found").await;
}

#[tokio::test]
async fn a_private_room_does_not_exist_for_strangers() {
    let node = Node::alone().await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "secret", "kind": "private", "name": "Secret"})).await.expect(201);
    let mut alice = Person::at(&node, "alice").await;
    alice.does(json!({"type": "subscribe", "room": "secret"})).await;
    let seq = alice.sends("secret", "m1", "psst").await;
    let mut bob = Person::at(&node, "bob").await;
    let of = |kind: &str, room: &str| match kind {
        "send" => json!({"type": kind, "room": room, "id": "x", "text": "x"}),
        "edit" => json!({"type": kind, "room": room, "target": seq, "text": "x"}),
        "delete" => json!({"type": kind, "room": room, "target": seq}),
        "react" => json!({"type": kind, "room": room, "target": seq, "emoji": "x", "active": true}),
        _ => json!({"type": kind, "room": room}),
    };
    for kind in ["subscribe", "join", "leave", "send", "edit", "delete", "react", "history"] {
        let hidden = bob.refused(of(kind, "secret"), "not_found").await;
        let absent = bob.refused(of(kind, "no-such"), "not_found").await;
        assert_eq!(hidden["message"], absent["message"], "{kind} tells them apart");
    }
    let theirs = node.api("bob");
    for path in ["rooms/secret", "rooms/secret/members", "rooms/secret/messages"] {
        theirs.get(path).await.problem(404, "not_found");
    }
    theirs.post("rooms/secret/join", json!({})).await.problem(404, "not_found");
    assert!(!theirs.get("rooms").await.expect(200).to_string().contains("secret"));
    // An invitation is a membership that an owner gives.
    api.put("rooms/secret/members/bob", json!({"role": "member"})).await.expect(200);
    bob.resumes("secret", 0).await;
    bob.sees("secret", seq, "psst").await;
    bob.does(json!({"type": "leave", "room": "secret"})).await;
    let gone = bob.next("unsubscribed").await;
    assert_eq!((&gone["room"], &gone["code"]), (&json!("secret"), &json!("left")));
    bob.refused(json!({"type": "history", "room": "secret"}), "not_found").await;
}

#[tokio::test]
async fn roles_bans_and_mutes_hold_on_a_live_connection() {
    let node = Node::alone().await;
    let api = node.api("alice");
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    let send = |id: &str| json!({"type": "send", "room": "lobby", "id": id, "text": "x"});
    api.put("rooms/lobby/members/bob", json!({"role": "muted"})).await.expect(200);
    bob.refused(send("m1"), "forbidden").await;
    // Leaving lifts no mute.
    bob.does(json!({"type": "leave", "room": "lobby"})).await;
    assert_eq!(bob.does(json!({"type": "join", "room": "lobby"})).await["role"], "muted");
    bob.refused(send("m1"), "forbidden").await;
    api.put("rooms/lobby/members/bob", json!({"role": "moderator"})).await.expect(200);
    bob.does(send("m1")).await;
    // A moderator mutes, kicks and bans members, but touches no owner and gives no roles.
    let mut carol = Person::at(&node, "carol").await;
    carol.joins("lobby").await;
    let bobs = node.api("bob");
    bobs.put("rooms/lobby/members/carol", json!({"role": "muted"})).await.expect(200);
    bobs.put("rooms/lobby/members/carol", json!({"role": "owner"})).await.problem(403, "forbidden");
    bobs.delete("rooms/lobby/members/alice").await.problem(403, "forbidden");
    bobs.put("rooms/lobby/bans/alice", json!({})).await.problem(403, "forbidden");
    bobs.delete("rooms/lobby/members/carol").await.expect(204);
    assert_eq!(carol.next("unsubscribed").await["code"], "kicked");
    carol.joins("lobby").await;
    bobs.put("rooms/lobby/bans/carol", json!({})).await.expect(204);
    assert_eq!(carol.next("unsubscribed").await["code"], "banned");
    carol.refused(json!({"type": "join", "room": "lobby"}), "forbidden").await;
    carol.refused(json!({"type": "subscribe", "room": "lobby"}), "forbidden").await;
    carol.catches_up().await;
    bobs.delete("rooms/lobby/bans/carol").await.expect(204);
    carol.does(json!({"type": "join", "room": "lobby"})).await;
    // An administrator by token may do what an owner may.
    let admin = crate::support::api::Api::with(&node.http(), Some(crate::support::tokens::admin("root")));
    admin.put("rooms/lobby/members/carol", json!({"role": "moderator"})).await.expect(200);
    api.delete("rooms/lobby").await.expect(204);
    for person in [&mut alice, &mut bob] {
        assert_eq!(person.next("unsubscribed").await["code"], "deleted");
        person.refused(json!({"type": "subscribe", "room": "lobby"}), "not_found").await;
    }
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.problem(409, "conflict");
}

#[tokio::test]
async fn settings_of_a_room_are_entries() {
    let node = Node::alone().await;
    let api = node.api("alice");
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    api.patch("rooms/lobby", json!({"name": "Lobby", "topic": "all"})).await.expect(200);
    let entry = alice.sees_entry("lobby", 1).await;
    assert_eq!((&entry["kind"], &entry["name"], &entry["topic"]), (&json!("room"), &json!("Lobby"), &json!("all")));
    assert!(entry.get("archived").is_none() && entry.get("slow_mode_s").is_none(), "only what changed: {entry}");
    // Nothing changes: nothing is logged.
    api.patch("rooms/lobby", json!({"name": "Lobby"})).await.expect(200);
    api.patch("rooms/lobby", json!({"archived": true})).await.expect(200);
    assert_eq!(alice.sees_entry("lobby", 2).await["archived"], true);
    for request in [
        json!({"type": "send", "room": "lobby", "id": "x", "text": "x"}),
        json!({"type": "edit", "room": "lobby", "target": 1, "text": "x"}),
        json!({"type": "react", "room": "lobby", "target": 1, "emoji": "x", "active": true}),
    ] {
        alice.refused(request, "conflict").await;
    }
    api.patch("rooms/lobby", json!({"archived": false})).await.expect(200);
    assert_eq!(alice.sends("lobby", "x", "x").await, 4);
    node.api("mallory").patch("rooms/lobby", json!({"topic": "mine"})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn both_encodings_say_the_same() {
    let node = Node::alone().await;
    let mut alice = Person::at_url(&node.ws_url(), "alice", Encoding::MessagePack).await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at_url(&node.ws_url(), "bob", Encoding::Json).await;
    bob.joins("lobby").await;
    let data = json!({"π": [1, -2, 3.5, null, true, "\u{1F600}"], "big": 9_007_199_254_740_993_u64});
    let send = json!({"type": "send", "room": "lobby", "id": "m1", "text": "héllo", "data": data});
    let sent = alice.does(send).await;
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
    bob.sends("lobby", "b1", "hi").await;
    let (one, two) = (alice.sees_entry("lobby", 2).await, bob.sees_entry("lobby", 2).await);
    assert_eq!(one, two);
    assert_eq!(alice.seen("lobby"), bob.seen("lobby"));
    assert_eq!(alice.seen("lobby")[0]["data"], data);
    assert_eq!(alice.history("lobby", json!({})).await["events"], bob.history("lobby", json!({})).await["events"]);
    alice.refused(json!({"type": "nonsense"}), "bad_request").await;
}

#[tokio::test]
async fn a_refused_request_does_not_hold_back_the_next() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let refs = [
        alice.starts(json!({"type": "send", "room": "lobby", "id": "a", "text": "1"})).await,
        alice.starts(json!({"type": "send", "room": "lobby", "id": "b", "text": " "})).await,
        alice.starts(json!({"type": "edit", "room": "lobby", "target": 77, "text": "x"})).await,
        alice.starts(json!({"type": "send", "room": "lobby", "id": "c", "text": "2"})).await,
        alice.starts(json!({"type": "edit", "room": "lobby", "target": 2, "text": "3"})).await,
        alice.starts(json!({"type": "history", "room": "lobby"})).await,
    ];
    let mut answers = Vec::new();
    for request in refs {
        answers.push(alice.answer(request).await);
    }
    let of = |i: usize, key: &str| answers[i][key].clone();
    assert_eq!((of(0, "seq"), of(3, "seq"), of(4, "seq")), (json!(1), json!(2), json!(3)));
    assert_eq!((of(1, "code"), of(2, "code")), (json!("bad_request"), json!("not_found")));
    assert_eq!(seqs(&answers[5]), [1, 2, 3], "a read behind a write sees it");
    assert_eq!(answers[5]["events"][1]["text"], "3");
}

#[tokio::test]
async fn texts_are_normalised_and_checked() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut n = 0;
    let mut send = |text: &str| {
        n += 1;
        json!({"type": "send", "room": "lobby", "id": format!("m{n}"), "text": text})
    };
    for (text, kept) in [
        ("e\u{301}", "é".to_owned()),
        ("a\r\nb\tc", "a\nb\tc".to_owned()),
        (&"ロ".repeat(4_000), "ロ".repeat(4_000)),
        ("\u{200d}👩‍👩‍👧", "\u{200d}👩‍👩‍👧".to_owned()),
    ] {
        let seq = alice.does(send(text)).await["seq"].as_u64().expect("a seq");
        alice.sees("lobby", seq, &kept).await;
    }
    for text in ["", "  \n\t ", "a\u{0}b", "a\u{7f}", "a\u{85}b", &"ロ".repeat(4_001), "\u{3000}"] {
        let request = send(text);
        alice.refused(request, "bad_request").await;
    }
    for id in ["", "a\u{1}", &"x".repeat(65)] {
        let request = json!({"type": "send", "room": "lobby", "id": id, "text": "x"});
        alice.refused(request, "bad_request").await;
    }
    let mut deep = json!(1);
    for _ in 0..32 {
        deep = json!([deep]);
    }
    let with = |id: &str, data: &Value| json!({"type": "send", "room": "lobby", "id": id, "text": "x", "data": data});
    alice.does(with("deep", &deep)).await;
    alice.refused(with("deeper", &json!([deep])), "bad_request").await;
    alice.does(with("wide", &json!("x".repeat(4_094)))).await;
    alice.refused(with("wider", &json!("x".repeat(4_095))), "bad_request").await;
    assert_eq!(alice.repeats("lobby", "m1", "e").await, 1);
}
