//! The JSON Schemas of what stands on the wire: ids, texts and log entries. The OpenAPI and AsyncAPI documents are made of
//! them, and tests hold them against what is really sent.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AllOfBuilder, AnyOfBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{ArrayBuilder, KnownFormat, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::entry::{Data, Entry, ReactionCount, Shown};
use crate::ids::{AttachmentId, MessageId, RoomId, UserId};
use crate::limits::{EMOJI_CHARS, MENTIONS, NAME_CHARS, PASSWORD_CHARS, TEXT_CHARS, TOPIC_CHARS, WIRE_INTEGER_MAX};

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A text of any length: a frame's bound is its own.
pub fn any_text() -> Schema {
    string().into()
}

/// A text of that many Unicode scalar values.
pub fn text(chars: std::ops::RangeInclusive<usize>) -> Schema {
    string().min_length(Some(*chars.start())).max_length(Some(*chars.end())).into()
}

/// A message's text.
pub fn message_text() -> Schema {
    let text = string().min_length(Some(1)).max_length(Some(TEXT_CHARS));
    // Not blank.
    text.pattern(Some(r"\S")).into()
}

/// A user's or room's name.
pub fn name() -> Schema {
    text(0..=NAME_CHARS)
}

pub fn topic() -> Schema {
    text(0..=TOPIC_CHARS)
}

pub fn password() -> Schema {
    let (min, max) = (*PASSWORD_CHARS.start(), *PASSWORD_CHARS.end());
    let format = SchemaFormat::KnownFormat(KnownFormat::Password);
    string().min_length(Some(min)).max_length(Some(max)).format(Some(format)).into()
}

pub fn emoji() -> Schema {
    string().min_length(Some(1)).max_length(Some(EMOJI_CHARS)).pattern(Some(r"\S")).into()
}

/// A time, RFC 3339 UTC with milliseconds.
pub fn at() -> Schema {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
}

pub fn boolean() -> Schema {
    Object::with_type(Type::Boolean).into()
}

/// A whole number within bounds.
pub fn integer(range: std::ops::RangeInclusive<u64>) -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(*range.start() as f64)).maximum(Some(*range.end() as f64)).into()
}

/// A place in a log.
pub fn seq() -> Schema {
    integer(0..=WIRE_INTEGER_MAX)
}

/// One of a few words.
pub fn word<const N: usize>(words: [&str; N]) -> Schema {
    string().enum_values(Some(words)).into()
}

/// The same, or null.
pub fn nullable(schema: impl Into<RefOr<Schema>>) -> Schema {
    AnyOfBuilder::new().item(schema).item(Object::with_type(Type::Null)).into()
}

pub fn list_of(items: impl Into<RefOr<Schema>>) -> Schema {
    ArrayBuilder::new().items(items.into()).into()
}

/// Where a type stands among the components.
pub fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// A text that keeps a rule of its own.
macro_rules! id {
    ($type:ty, $pattern:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let id = string().min_length(Some(1)).max_length(Some(64)).pattern(Some($pattern));
                Schema::from(id.description(Some(<$type>::RULE))).into()
            }
        }

        impl ToSchema for $type {}
    };
}

id!(UserId, r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");
id!(RoomId, r"^[a-z0-9][a-z0-9._-]{0,63}$");
id!(MessageId, r"^[^\x00-\x1f\x7f-\x9f]{1,64}$");
id!(AttachmentId, r"^[0-9a-f]{32}$");

impl PartialSchema for Data {
    fn schema() -> RefOr<Schema> {
        let any = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        Schema::from(any.description(Some("Any JSON of at most 4,096 bytes and depth 32, kept as given"))).into()
    }
}

impl ToSchema for Data {}

impl PartialSchema for Entry {
    fn schema() -> RefOr<Schema> {
        let kinds = [
            kind("message")
                .property("id", reference::<MessageId>())
                .required("id")
                .property("text", message_text())
                .property("deleted", word_true())
                .property("reply_to", seq())
                .property("data", reference::<Data>())
                .property("edited_at", at())
                .property("mentions", called())
                .property("mentions_room", word_true()),
            kind("edit")
                .property("target", seq())
                .required("target")
                .property("text", message_text())
                .property("mentions", called())
                .property("mentions_room", word_true()),
            kind("delete").property("target", seq()).required("target"),
            kind("reaction")
                .property("target", seq())
                .required("target")
                // Empty where the person was erased.
                .property("emoji", text(0..=EMOJI_CHARS))
                .required("emoji")
                .property("active", boolean())
                .required("active"),
            kind("room")
                .property("name", name())
                .property("topic", topic())
                .property("slow_mode_s", integer(0..=u64::from(u32::MAX)))
                .property("archived", boolean())
                .property("ttl_s", integer(0..=u64::from(u32::MAX)))
                .property("edit_history", boolean()),
        ];
        let one_of = kinds.into_iter().fold(OneOfBuilder::new(), |all, kind| all.item(Schema::from(kind)));
        Schema::from(one_of.description(Some("An entry of a room's log"))).into()
    }
}

impl ToSchema for Entry {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((UserId::name().into(), UserId::schema()));
        schemas.push((MessageId::name().into(), MessageId::schema()));
        schemas.push((Data::name().into(), Data::schema()));
    }

    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Entry")
    }
}

impl PartialSchema for Shown {
    fn schema() -> RefOr<Schema> {
        let tally = ObjectBuilder::new()
            .property("replies", integer(1..=WIRE_INTEGER_MAX))
            .property("reactions", list_of(reference::<ReactionCount>()));
        let both = AllOfBuilder::new().item(reference::<Entry>()).item(Schema::from(tally));
        Schema::from(both.description(Some("An entry on a page of history, with what others made of it"))).into()
    }
}

impl ToSchema for Shown {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Entry::name().into(), Entry::schema()));
        schemas.push((ReactionCount::name().into(), ReactionCount::schema()));
        Entry::schemas(schemas);
    }

    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ShownEntry")
    }
}

fn kind(kind: &'static str) -> ObjectBuilder {
    ObjectBuilder::new()
        .title(Some(kind))
        .property("seq", integer(1..=WIRE_INTEGER_MAX))
        .required("seq")
        .property("kind", word([kind]))
        .required("kind")
        .property("user", reference::<UserId>())
        .required("user")
        .property("at", at())
        .required("at")
}

/// Whom a text calls.
fn called() -> Schema {
    ArrayBuilder::new().items(reference::<UserId>()).max_items(Some(MENTIONS)).into()
}

fn word_true() -> Schema {
    ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])).into()
}
