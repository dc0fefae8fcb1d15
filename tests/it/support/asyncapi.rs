//! The AsyncAPI document against running nodes: every frame that a person in any test gets is one of its messages.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// By `type`: what the server may send.
fn validators() -> &'static HashMap<String, Validator> {
    static VALIDATORS: OnceLock<HashMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let document: Value = serde_json::from_str(include_str!("../../../docs/asyncapi.json")).expect("JSON");
        let messages = document["components"]["messages"].as_object().expect("messages");
        let mut kinds: HashMap<String, Vec<Value>> = HashMap::new();
        for (key, message) in messages.iter().filter(|(key, _)| key.starts_with("server-")) {
            let kind = message["name"].as_str().expect("a name").to_owned();
            kinds.entry(kind).or_default().push(json!({"$ref": format!("#/components/messages/{key}/payload")}));
        }
        let build = |(kind, any): (String, Vec<Value>)| {
            let draft = "https://json-schema.org/draft/2020-12/schema";
            let schema = json!({"$schema": draft, "anyOf": any, "components": document["components"]});
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            (kind, validator)
        };
        kinds.into_iter().map(build).collect()
    })
}

/// Fails the test where `frame` is none of the document's messages.
pub fn hold(frame: &Value) {
    let kind = frame["type"].as_str().expect("a frame has a type");
    let validator = validators().get(kind).unwrap_or_else(|| panic!("docs/asyncapi.json knows no {kind}: {frame}"));
    if let Err(error) = validator.validate(frame) {
        panic!("{frame} is not what docs/asyncapi.json says: {error}");
    }
}
