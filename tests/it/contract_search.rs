//! `GET search` (docs/protocol.md, "HTTP"), against whole nodes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::Person;
use crate::support::{tokens, until};

/// Results as `room/seq`, in the order given.
fn places(answer: &Value) -> Vec<String> {
    let items = answer["items"].as_array().expect("items");
    items.iter().map(|item| format!("{}/{}", item["room"].as_str().expect("a room"), item["seq"])).collect()
}

/// Searches until as many are found: the index follows the log within a second or so.
async fn finds(api: &Api, query: &str, wanted: usize) -> Value {
    until(&format!("{wanted} results for {query}"), || async {
        let answer = api.get(&format!("search?{query}")).await.expect(200);
        (answer["items"].as_array().is_some_and(|items| items.len() == wanted)).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn messages_are_found_as_they_are_now() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "1", "The weekly <b>Meeting</b> is at noon").await;
    alice.sends("lobby", "2", "明日の会議は第3会議室で").await;
    let api = node.api("alice");
    let found = finds(&api, "q=meeting", 1).await;
    let item = &found["items"][0];
    assert_eq!((&item["room"], &item["seq"], &item["user"]), (&json!("lobby"), &json!(1), &json!("alice")));
    assert_eq!(item["text"], "The weekly <b>Meeting</b> is at noon");
    assert_eq!(item["snippet"], item["text"], "plain text, as it was written");
    assert_eq!(item["highlights"], json!([[14, 21]]));
    assert!(item["at"].as_str().is_some_and(|at| at.ends_with('Z')) && item["score"].as_f64().is_some_and(|s| s > 0.0));
    assert_eq!(found["next"], Value::Null);
    let found = finds(&api, "q=%E4%BC%9A%E8%AD%B0", 1).await;
    assert_eq!(found["items"][0]["highlights"], json!([[3, 5], [8, 10]]), "{found}");

    alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": "The weekly lunch"})).await;
    // At once, without waiting for the index: nothing is shown that is not there any more.
    assert_eq!(places(&api.get("search?q=meeting").await.expect(200)), [""; 0]);
    finds(&api, "q=lunch", 1).await;
    alice.does(json!({"type": "delete", "room": "lobby", "target": 1})).await;
    assert_eq!(places(&api.get("search?q=lunch").await.expect(200)), [""; 0]);
    assert!(node.metric("roundtable_search_indexed_entries_total").await >= 3.0);
    assert!(!node.log().contains("lunch"), "a text is in the log");
}

#[tokio::test]
async fn only_readers_of_a_room_find_what_is_in_it() {
    let node = Node::alone().await;
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    alice.post("rooms", json!({"id": "open", "kind": "public"})).await.expect(201);
    alice.post("rooms", json!({"id": "closed", "kind": "private"})).await.expect(201);
    bob.post("rooms/open/join", json!({})).await.expect(200);
    for room in ["open", "closed"] {
        let body = json!({"id": "1", "text": "swordfish"});
        alice.post(&format!("rooms/{room}/messages"), body).await.expect(201);
    }
    finds(&alice, "q=swordfish", 2).await;
    assert_eq!(places(&finds(&alice, "q=swordfish&room=closed", 1).await), ["closed/1"]);
    assert_eq!(places(&bob.get("search?q=swordfish").await.expect(200)), ["open/1"]);
    bob.get("search?q=swordfish&room=closed").await.problem(404, "not_found");
    bob.get("search?q=swordfish&room=nowhere").await.problem(404, "not_found");
    let admin = Api::with(&node.http(), Some(tokens::admin("root")));
    assert_eq!(admin.get("search?q=swordfish").await.expect(200)["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(places(&admin.get("search?q=swordfish&room=closed").await.expect(200)), ["closed/1"]);
    assert_eq!(places(&bob.get("search?q=swordfish&from=alice").await.expect(200)), ["open/1"]);
    assert_eq!(places(&bob.get("search?q=swordfish&from=bob").await.expect(200)), [""; 0]);
    alice.put("rooms/open/bans/bob", json!({})).await.expect(204);
    assert_eq!(places(&bob.get("search?q=swordfish").await.expect(200)), [""; 0]);
    bob.get("search?q=swordfish&room=open").await.problem(403, "forbidden");
    Api::with(&node.http(), None).get("search?q=swordfish").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn results_come_best_first_in_pages() {
    let node = Node::alone().await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    for n in 1..=15 {
        let text = format!("{} soup {n}", "word ".repeat(15 - n));
        api.post("rooms/lobby/messages", json!({"id": n.to_string(), "text": text})).await.expect(201);
    }
    let all = finds(&api, "q=soup", 15).await;
    let scores: Vec<f64> =
        all["items"].as_array().expect("items").iter().filter_map(|item| item["score"].as_f64()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
    assert_eq!(places(&all)[0], "lobby/15", "says little else");

    let (mut paged, mut later) = (Vec::new(), 0);
    let mut path = "search?q=soup&limit=4".to_owned();
    loop {
        let page = api.get(&path).await.expect(200);
        paged.extend(places(&page));
        // What comes between two pages moves nothing.
        let text = json!({"id": format!("later{}", paged.len()), "text": format!("{}soup", "word ".repeat(40))});
        api.post("rooms/lobby/messages", text).await.expect(201);
        later += 1;
        finds(&api, "q=soup&limit=200", 15 + later).await;
        match page["next"].as_str() {
            Some(next) => path = format!("search?q=soup&limit=4&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, places(&all));
}

#[tokio::test]
async fn what_can_not_be_searched_for_is_said() {
    let node = Node::alone().await;
    let api = node.api("alice");
    let long = format!("search?q={}", "x".repeat(201));
    for (path, says) in [
        ("search", "q: is missing"),
        ("search?q=", "q: must have 1 to 200 characters"),
        ("search?q=%20%E3%80%80", "q: must have 1 to 200 characters"),
        (&*long, "q: must have 1 to 200 characters"),
        ("search?q=%21%3F", "q: must hold a letter or a digit"),
        ("search?q=%E6%9C%AC", "q: one character of a script without blanks"),
        ("search?q=x&room=A%20B", "room: a room id is"),
        ("search?q=x&from=-", "from: a user id is"),
        ("search?q=x&limit=0", "limit: "),
        ("search?q=x&limit=201", "limit: "),
        ("search?q=x&cursor=nonsense", "cursor: "),
    ] {
        let problem = api.get(path).await.problem(400, "bad_request");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.starts_with(says), "{path}: {detail}");
    }
    api.post("search?q=x", json!({})).await;
    for odd in ["%00", "%ff", "a%0ab", "'%3B--", "%22", "%25", "%5C", "(a%20OR", "a%3A*"] {
        let status = api.get(&format!("search?q=x{odd}")).await.status;
        assert_eq!(status, 200, "{odd}");
    }
}

#[tokio::test]
async fn search_may_be_turned_off() {
    let node = Node::with(&[("search.enabled", "false")]).await;
    let api = node.api("alice");
    let problem = api.get("search?q=word").await.problem(404, "not_found");
    assert_eq!(problem["detail"], "search is turned off on this server");
}

#[tokio::test]
async fn what_one_node_was_told_is_found_on_another() {
    let cluster = Cluster::start(2).await;
    let room = cluster.room_on(0, "alice").await;
    for (n, node) in cluster.nodes.iter().enumerate() {
        let text = json!({"id": n.to_string(), "text": "swordfish"});
        node.api("alice").post(&format!("rooms/{room}/messages"), text).await.expect(201);
    }
    for node in &cluster.nodes {
        finds(&node.api("alice"), "q=swordfish", 2).await;
    }
}

/// The sweep waits for its turn, and for the lease of one that was killed.
const SWEPT_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test]
async fn what_a_killed_node_had_not_got_to_is_found_later() {
    let node = Node::alone().await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    api.post("rooms/lobby/messages", json!({"id": "1", "text": "swordfish"})).await.expect(201);
    node.kill();
    node.restart().await;
    let deadline = Instant::now() + SWEPT_WITHIN;
    while places(&api.get("search?q=swordfish").await.expect(200)) != ["lobby/1"] {
        assert!(Instant::now() < deadline, "never found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
