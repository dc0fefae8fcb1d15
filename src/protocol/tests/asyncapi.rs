//! The AsyncAPI document against the code: what it says of requests is what `decode` takes, what it says of the server's
//! frames is what `encode` gives, and it is the one that is checked in.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::super::asyncapi::{CLOSE_CODES, document};
use super::super::messages::{Message, requests, server_frames};
use super::*;
use crate::ids::RoomId;
use crate::limits::{DATA_BYTES, WIRE_INTEGER_MAX};
use crate::refusal::{Code, Refusal};

fn parsed() -> Value {
    serde_json::from_str(document()).expect("valid JSON")
}

/// The schema of one message; `closed`: with nothing but what it names.
fn validator(document: &Value, key: &str, closed: bool) -> Validator {
    let mut components = document["components"].clone();
    assert!(components["messages"][key].is_object(), "no message {key}");
    if closed {
        components["messages"][key]["payload"]["unevaluatedProperties"] = json!(false);
        close(&mut components);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/messages/{key}/payload"),
        "components": components,
    });
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a valid schema")
}

/// Allows in every object within a schema only the fields that it names. What a message's sender put into `data` is free.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(parts) => {
            for (name, part) in parts {
                match (name.as_str(), part) {
                    ("properties", Value::Object(fields)) => {
                        for (_, field) in fields.iter_mut().filter(|(name, _)| *name != "data") {
                            field["unevaluatedProperties"] = json!(false);
                            close(field);
                        }
                    }
                    ("items", part) => {
                        part["unevaluatedProperties"] = json!(false);
                        close(part);
                    }
                    (_, part) => close(part),
                }
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(close),
        _ => {}
    }
}

/// `UPDATE_DOCS=1 cargo test --workspace --lib asyncapi` writes it anew.
#[test]
fn the_asyncapi_document_that_is_checked_in_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/asyncapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, document()).expect("docs/ can be written");
    }
    let checked_in = std::fs::read_to_string(path).expect("docs/asyncapi.json is there");
    assert!(checked_in == document(), "docs/asyncapi.json is out of date: run with UPDATE_DOCS=1");
}

#[test]
fn every_message_has_a_golden_frame_and_every_golden_frame_a_message() {
    let document = parsed();
    let mut without: BTreeSet<&str> = requests().iter().chain(&server_frames()).map(|message| message.key).collect();
    let all: Vec<(Message, Validator)> = requests()
        .into_iter()
        .chain(server_frames())
        .map(|message| {
            let validator = validator(&document, message.key, true);
            (message, validator)
        })
        .collect();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("a folder") {
        let path = file.expect("readable").path();
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let direction = name.split('-').next().expect("a direction");
        let fitting: Vec<&str> = all
            .iter()
            .filter(|(message, _)| message.key.starts_with(direction) && golden["frame"]["type"] == message.kind)
            .filter(|(_, validator)| validator.is_valid(&golden["frame"]))
            .map(|(message, _)| message.key)
            .collect();
        assert!(!fitting.is_empty(), "{name} is no message: {}", golden["frame"]);
        fitting.iter().for_each(|key| _ = without.remove(key));
    }
    assert!(without.is_empty(), "no golden frame for {without:?}");
}

#[test]
fn examples_are_messages_and_answers_are_there() {
    let document = parsed();
    let answers: BTreeSet<&str> = server_frames().iter().map(|message| message.key).collect();
    for message in requests().iter().chain(&server_frames()) {
        let validator = validator(&document, message.key, true);
        if let Err(error) = validator.validate(&message.example) {
            panic!("{}: {error}", message.key);
        }
        for answer in message.answers {
            assert!(answers.contains(answer), "{}: no {answer}", message.key);
        }
    }
}

/// Values that are right in one place and wrong in another, on both sides of every bound.
fn values() -> Vec<Value> {
    let texts = [0, 1, 32, 33, 64, 65, 100, 101, 1_000, 1_001, 4_000, 4_001];
    let mut all: Vec<Value> = texts.into_iter().flat_map(|n| ["a".repeat(n), "É".repeat(n)]).map(Value::from).collect();
    all.extend([" ", "Lobby", "lobby", ".a", "-a", "a.b-c_d", "a b", "true", "1"].map(Value::from));
    all.extend([0, 1, 50, 200, 201, 10_000, WIRE_INTEGER_MAX, WIRE_INTEGER_MAX + 1].map(Value::from));
    all.extend([json!(-1), json!(1.5), json!(true), json!(false), json!(null), json!([]), json!({"a": [1]})]);
    all
}

/// Whether document and decoder, which must agree, take a frame.
fn taken(validator: &Validator, frame: &Value) -> bool {
    let (valid, decoded) = (validator.is_valid(frame), decode(Encoding::Json, frame.to_string().as_bytes()));
    let frame = frame.to_string();
    let shown: String = frame.chars().take(300).collect();
    assert_eq!(valid, decoded.is_ok(), "{shown}: valid by the document: {valid}; decoded: {decoded:?}");
    valid
}

#[test]
fn what_the_document_says_of_requests_is_what_is_decoded() {
    let document = parsed();
    for message in requests() {
        let validator = validator(&document, message.key, false);
        assert!(taken(&validator, &message.example), "{}", message.key);
        let with = |name: &str, value: Option<&Value>| {
            let mut frame = message.example.clone();
            let fields = frame.as_object_mut().expect("an object");
            for rival in message.rivals.iter().flatten().filter(|rival| **rival != name) {
                fields.remove(*rival);
            }
            match value {
                Some(value) => _ = fields.insert(name.to_owned(), value.clone()),
                None => _ = fields.remove(name),
            }
            frame
        };
        for field in &message.fields {
            let name = field.name;
            assert_eq!(taken(&validator, &with(name, None)), !field.required, "{}.{name} left out", message.key);
            if name != "data" {
                let null = taken(&validator, &with(name, Some(&Value::Null)));
                assert_eq!(null, !field.required, "{}.{name} null", message.key);
            }
        }
        for name in message.fields.iter().map(|field| field.name).chain(["ref", "type", "unknown"]) {
            // How many bytes data has is nothing that a schema can say.
            for value in values().iter().filter(|value| name != "data" || value.to_string().len() <= DATA_BYTES) {
                taken(&validator, &with(name, Some(value)));
            }
        }
        // Fields that the document does not name are ignored: none is missing from it.
        for name in ["token", "client", "room", "after", "before", "last", "id", "text", "reply_to", "target", "emoji"]
            .into_iter()
            .chain(["active", "seq", "limit", "data"])
            .filter(|name| message.fields.iter().all(|field| field.name != *name))
        {
            for value in values() {
                assert!(taken(&validator, &with(name, Some(&value))), "{} looks at {name}", message.key);
            }
        }
        if let Some([one, other]) = message.rivals {
            for (first, second, expected) in [(json!(1), json!(1), false), (json!(1), json!(null), true)] {
                for (a, b) in [(&first, &second), (&second, &first)] {
                    let mut frame = message.example.clone();
                    (frame[one], frame[other]) = (a.clone(), b.clone());
                    assert_eq!(taken(&validator, &frame), expected, "{frame}");
                }
            }
        }
    }
}

#[test]
fn every_word_that_the_server_may_say_is_in_the_document() {
    let document = parsed();
    let (error, subscribed) =
        (validator(&document, "server-error", true), validator(&document, "server-subscribed", true));
    let hold = |validator: &Validator, frame: &ServerFrame, reference| {
        let frame: Value = serde_json::from_slice(&encode(Encoding::Json, frame, reference)).expect("JSON");
        if let Err(error) = validator.validate(&frame) {
            panic!("{frame}: {error}");
        }
    };
    for code in Code::ALL {
        hold(&error, &ServerFrame::Error(Refusal::new(code, "why")), None);
        hold(&error, &ServerFrame::Error(Refusal::new(code, "why").retry_after(0)), Some(0));
    }
    for verdict in [Verdict::Live, Verdict::Replay, Verdict::Reset] {
        let room = RoomId::parse("lobby").expect("a valid id");
        hold(&subscribed, &ServerFrame::Subscribed { room, head: 0, verdict, role: None, online: 0 }, Some(1));
    }
}

#[test]
fn the_close_codes_of_the_protocol_are_those_of_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md is there");
    let (_, section) = text.split_once("\n## Close codes\n").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut told = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| 1") || line.starts_with("| 4")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        for code in columns[1].split(',') {
            told.insert(code.trim().parse::<u16>().expect("a code"), columns[3].to_owned());
        }
    }
    for (code, why, then) in CLOSE_CODES {
        use super::super::asyncapi::Then;
        let does = told.remove(&code);
        // The protocol has one row for all that are as a connection that just ended.
        let expected = match then {
            Then::Backoff if code < 4000 => None,
            Then::Backoff => Some("come back after a backoff"),
            Then::Stop if code < 4000 => Some("mend the client"),
            Then::Stop => Some("don't come back"),
            Then::AtOnce if code == 4200 => Some("come back at once"),
            Then::AtOnce => Some("as 4200"),
            Then::Credentials => Some("get new credentials first"),
        };
        assert_eq!(does.is_some(), expected.is_some(), "{code} ({why})");
        assert!(does.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{code} ({why})");
    }
    assert!(told.is_empty(), "the server never closes with {told:?}");
}
