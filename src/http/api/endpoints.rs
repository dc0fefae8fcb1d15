//! Every address of the API, in one table: `endpoint` makes the routes and the OpenAPI document of it.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::web::to;
use utoipa::openapi::schema::{OneOfBuilder, Schema};

use super::endpoint::{self, Endpoint, delete, get, optional, patch, post, put, required};
use super::{
    account, admin, attachments, audit, export, invitations, members, messages, moderation, oidc, pins, privacy, rooms,
    search, sessions, streams, webhooks,
};
use crate::domain::scopes::Scope;
use crate::entry::{Data, KINDS, Role};
use crate::ids::{MessageId, RoomId, UserId};
use crate::limits::{PAGE_MAX, WIRE_INTEGER_MAX};
use crate::protocol::asyncapi;
use crate::protocol::schemas::{
    at, boolean, integer, list_of, message_text, name, password, reference, seq, text, topic, word,
};

/// All of them; more special paths before more general ones.
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = accounts();
    all.extend(of_rooms());
    all.extend(of_members());
    all.extend(of_invitations());
    all.extend(of_messages());
    all.extend(of_pins());
    all.extend(of_admins());
    all.extend(of_webhooks());
    all.extend(of_attachments());
    all.extend(of_logins_elsewhere());
    all.extend(of_streams());
    all.push(
        get("/search", || to(search::search), "Messages that say something, best first, as plain text")
            .query([required("q", text(1..=200)), optional("room", reference::<RoomId>())])
            .query([optional("from", reference::<UserId>())])
            .gives_page_of::<search::Found>("A page")
            .refuses([404]),
    );
    all.push(get("/openapi.json", || to(openapi), "This document").open().gives_content(
        200,
        "OpenAPI 3.1",
        "application/json",
        endpoint::any_object(),
    ));
    all.push(get("/asyncapi.json", || to(asyncapi), "What the WebSocket says and takes").open().gives_content(
        200,
        "AsyncAPI 3.0",
        "application/json",
        endpoint::any_object(),
    ));
    all
}

fn accounts() -> Vec<Endpoint> {
    vec![
        post("/register", || to(account::register), "Makes a password account and logs in")
            .open()
            .takes([
                required("user", reference::<UserId>()),
                required("password", password()),
                optional("name", name()),
            ])
            .gives::<account::Session>(201, "Made and logged in")
            .refuses([403, 409]),
        post("/login", || to(account::login), "Logs in with a password")
            .open()
            .takes([required("user", reference::<UserId>()), required("password", text(0..=10_000))])
            .gives::<account::Session>(200, "Logged in")
            .refuses([401, 403]),
        post("/logout", || to(account::logout), "Ends this login everywhere").gives_nothing("Logged out"),
        get("/me", || to(account::me), "Who one is").gives::<account::Me>(200, "One's own record"),
        patch("/me", || to(account::rename), "Changes one's own record")
            .takes([required("name", name())])
            .gives::<account::Renamed>(200, "As it is now"),
        delete("/me", || to(privacy::erase), "Erases oneself: texts, name, credentials").gives_nothing("Being erased"),
        get("/me/export", || to(export::export), "Everything of one's own, as JSON Lines")
            .gives_content(200, "A stream", "application/x-ndjson", text(0..=usize::MAX))
            .refuses([409]),
        post("/me/password", || to(account::change_password), "A new password; all other logins end")
            .takes([required("old", text(0..=10_000)), required("new", password())])
            .gives_nothing("Changed"),
        get("/me/sessions", || to(sessions::sessions), "One's own logins").gives_page_of::<sessions::Session>("A page"),
        delete("/me/sessions", || to(sessions::end_others), "Ends all logins but the one that asks")
            .gives_nothing("Ended"),
        delete("/me/sessions/{id}", || to(sessions::end_session), "Ends a login").gives_nothing("Ended"),
        get("/me/tokens", || to(sessions::tokens), "One's own access tokens, without their secrets")
            .gives_page_of::<sessions::Token>("A page"),
        post("/me/tokens", || to(sessions::make_token), "Makes an access token; it is shown once")
            .takes([
                required("name", name()),
                required("scopes", list_of(word(Scope::ALL.map(Scope::as_str)))),
                optional("expires_in_s", integer(1..=sessions::TOKEN_SECONDS)),
                optional("room", reference::<RoomId>()),
            ])
            .gives::<sessions::NewToken>(201, "Made")
            .refuses([404, 409]),
        delete("/me/tokens/{id}", || to(sessions::end_token), "Ends an access token").gives_nothing("Ended"),
        get("/me/rooms", || to(rooms::mine), "One's own rooms").gives_page_of::<rooms::Mine>("A page, by id"),
        post("/direct", || to(rooms::direct), "The room of oneself and another, made when it is first asked for")
            .takes([required("user", reference::<UserId>())])
            .gives::<rooms::Shown>(200, "It was there")
            .gives::<rooms::Shown>(201, "It was made")
            .refuses([404, 409]),
    ]
}

fn of_admins() -> Vec<Endpoint> {
    vec![
        get("/admin/audit", || to(audit::all), "Privileged acts, the newest first")
            .gives_page_of::<audit::AuditLine>("A page"),
        get("/admin/bans", || to(moderation::bans), "Who is banned from the server")
            .gives_page_of::<moderation::ServerBan>("A page"),
        put("/admin/bans/{user}", || to(moderation::ban), "Bans somebody from the server").gives_nothing("Banned"),
        delete("/admin/bans/{user}", || to(moderation::unban), "Lifts a ban").gives_nothing("Not banned"),
        get("/reports", || to(moderation::all), "Reports of all rooms, the oldest first")
            .query([optional("state", word(["open", "closed"]))])
            .gives_page_of::<moderation::Report>("A page"),
        post("/admin/users/{user}/disconnect", || to(admin::disconnect), "Closes every session of a user")
            .takes([optional("revoke", boolean())])
            .gives_nothing("Closed"),
    ]
}

fn of_rooms() -> Vec<Endpoint> {
    vec![
        get("/rooms", || to(rooms::all), "Public rooms and one's own").gives_page_of::<rooms::Shown>("A page, by id"),
        post("/rooms", || to(rooms::create), "Makes a room; the maker owns it")
            .takes([
                required("id", reference::<RoomId>()),
                required("kind", word(["public", "private"])),
                optional("name", name()),
                optional("topic", topic()),
                optional("ttl_s", ttl()),
                optional("edit_history", boolean()),
            ])
            .gives::<rooms::Shown>(201, "Made")
            .refuses([409]),
        get("/rooms/{room}", || to(rooms::get), "One room").gives::<rooms::Shown>(200, "It"),
        patch("/rooms/{room}", || to(rooms::patch), "Changes a room; one `room` entry where anything differs")
            .takes([
                optional("name", name()),
                optional("topic", topic()),
                optional("slow_mode_s", integer(0..=rooms::SLOW_MODE_MAX_S.into())),
                optional("archived", boolean()),
                optional("ttl_s", ttl()),
                optional("edit_history", boolean()),
            ])
            .gives::<rooms::Patched>(200, "As it is now"),
        delete("/rooms/{room}", || to(rooms::delete), "Deletes a room and its log").gives_nothing("Gone"),
        post("/rooms/{room}/join", || to(rooms::join), "Becomes a member").gives::<rooms::Joined>(200, "A member"),
        post("/rooms/{room}/leave", || to(rooms::leave), "Is a member no more")
            .gives_nothing("Not a member")
            .refuses([409]),
    ]
}

fn of_members() -> Vec<Endpoint> {
    vec![
        get("/rooms/{room}/members", || to(members::members), "Who belongs to a room")
            .gives_page_of::<members::Member>("A page, by id"),
        put("/rooms/{room}/members/{user}", || to(members::set), "Gives somebody a role")
            .takes([required("role", reference::<Role>())])
            .gives::<members::Member>(200, "As it is now")
            .refuses([409]),
        delete("/rooms/{room}/members/{user}", || to(members::remove), "Removes somebody")
            .gives_nothing("Not a member")
            .refuses([409]),
        get("/rooms/{room}/bans", || to(members::bans), "Who is banned from a room")
            .gives_page_of::<members::Banned>("A page, by id"),
        put("/rooms/{room}/bans/{user}", || to(members::ban), "Bans somebody from a room")
            .gives_nothing("Banned")
            .refuses([409]),
        delete("/rooms/{room}/bans/{user}", || to(members::unban), "Lifts a ban").gives_nothing("Not banned"),
    ]
}

/// The same for the hooks of a room and for those of all rooms.
fn of_webhooks() -> Vec<Endpoint> {
    let kinds = || list_of(word(KINDS));
    let addresses = [
        [
            "/rooms/{room}/webhooks",
            "/rooms/{room}/webhooks/{hook}",
            "/rooms/{room}/webhooks/{hook}/dead",
            "/rooms/{room}/webhooks/{hook}/dead/{dead}",
            "/rooms/{room}/webhooks/{hook}/dead/{dead}/retry",
        ],
        [
            "/admin/webhooks",
            "/admin/webhooks/{hook}",
            "/admin/webhooks/{hook}/dead",
            "/admin/webhooks/{hook}/dead/{dead}",
            "/admin/webhooks/{hook}/dead/{dead}/retry",
        ],
    ];
    let of = |[all, one, dead, letter, again]: [&'static str; 5]| {
        [
            get(all, || to(webhooks::all), "Webhooks, without their secrets")
                .gives_page_of::<webhooks::Shown>("A page"),
            post(all, || to(webhooks::create), "Makes a webhook; its secret is shown once")
                .takes([required("url", text(1..=webhooks::URL_BYTES)), optional("kinds", kinds())])
                .gives::<webhooks::Shown>(200, "It was there")
                .gives::<webhooks::Shown>(201, "Made")
                .refuses([409]),
            get(one, || to(webhooks::get), "One webhook").gives::<webhooks::Shown>(200, "It"),
            patch(one, || to(webhooks::patch), "Changes a webhook, or makes it a new secret")
                .takes([
                    optional("url", text(1..=webhooks::URL_BYTES)),
                    optional("kinds", kinds()),
                    optional("active", boolean()),
                    optional("rotate_secret", boolean()),
                ])
                .gives::<webhooks::Shown>(200, "As it is now")
                .refuses([409]),
            delete(one, || to(webhooks::delete), "Ends a webhook").gives_nothing("Gone"),
            get(dead, || to(webhooks::dead), "What could not be delivered").gives_page_of::<webhooks::Dead>("A page"),
            delete(letter, || to(webhooks::drop_dead), "Gives a batch up for good").gives_nothing("Gone"),
            post(again, || to(webhooks::retry_dead), "Has a batch tried again")
                .gives_status(202, "It will be tried again"),
        ]
    };
    addresses.into_iter().flat_map(of).collect()
}

fn of_attachments() -> Vec<Endpoint> {
    vec![
        get("/rooms/{room}/attachments", || to(attachments::list), "Several files, with fresh addresses")
            .query([required("ids", text(1..=10_000))])
            .gives::<attachments::Files>(200, "Those that may be seen"),
        post("/rooms/{room}/attachments", || to(attachments::upload), "Uploads a file for a message")
            .query([required("message", reference::<MessageId>()), optional("id", text(1..=64))])
            .query([optional("name", text(1..=200))])
            .takes_bytes()
            .gives::<attachments::File>(200, "A repeat: it is there already")
            .gives::<attachments::File>(201, "Kept")
            .refuses([409]),
        get("/rooms/{room}/attachments/{attachment}", || to(attachments::get), "One file, with a fresh address")
            .gives::<attachments::File>(200, "It"),
    ]
}

fn of_logins_elsewhere() -> Vec<Endpoint> {
    vec![
        get("/auth", || to(oidc::ways), "How one can log in").open().gives::<oidc::Ways>(200, "The ways there are"),
        get("/oidc/login", || to(oidc::login), "Sends the browser to the provider")
            .open()
            .gives_status(302, "To the provider")
            .refuses([404]),
        get("/oidc/callback", || to(oidc::callback), "Where the provider sends the browser back to")
            .open()
            .query([optional("state", text(0..=oidc::STATE_CHARS)), optional("code", text(0..=oidc::CODE_CHARS))])
            .query([optional("error", text(0..=oidc::STATE_CHARS))])
            .gives_status(303, "Logged in")
            .refuses([401, 403, 404]),
    ]
}

fn of_streams() -> Vec<Endpoint> {
    let frames = list_of(endpoint::any_object());
    vec![
        get(streams::PATH, || to(streams::open), "A session where WebSocket is blocked: server-sent events")
            .open()
            .gives_content(
                200,
                "Frames as they come, until either side ends it",
                "text/event-stream",
                text(0..=usize::MAX),
            )
            .refuses([401, 403]),
        post(streams::PATH, || to(streams::post), "Frames of the client of a stream, on any node")
            .open()
            .header(streams::HEADER, text(1..=200))
            .takes([required("n", integer(1..=WIRE_INTEGER_MAX)), required("frames", frames)])
            .gives_nothing("The session has them; answers come in the stream")
            .refuses([404, 409]),
    ]
}

fn ttl() -> Schema {
    let least = u64::from(*rooms::TTL_S.start());
    OneOfBuilder::new().item(integer(0..=0)).item(integer(least..=u64::from(*rooms::TTL_S.end()))).into()
}

fn of_invitations() -> Vec<Endpoint> {
    vec![
        get("/rooms/{room}/invitations", || to(invitations::invitations), "A room's invitations, without their tokens")
            .gives_page_of::<invitations::Invitation>("A page"),
        post("/rooms/{room}/invitations", || to(invitations::invite), "Makes an invitation; its token is shown once")
            .takes([
                optional("expires_in_s", integer(invitations::LASTS_S)),
                optional("uses", integer(invitations::USES)),
            ])
            .gives::<invitations::MadeInvitation>(201, "Made")
            .refuses([409]),
        delete("/rooms/{room}/invitations/{invitation}", || to(invitations::revoke), "Revokes an invitation")
            .gives_nothing("Revoked"),
        post("/invitations/{token}/accept", || to(invitations::accept), "Becomes a member by an invitation")
            .gives::<rooms::Shown>(200, "A member"),
    ]
}

fn of_pins() -> Vec<Endpoint> {
    vec![
        get("/rooms/{room}/pins", || to(pins::pins), "Pinned messages, the newest pin first")
            .gives_page_of::<pins::Pinned>("A page"),
        put("/rooms/{room}/pins/{seq}", || to(pins::pin), "Pins a message").gives_nothing("Pinned").refuses([409]),
        delete("/rooms/{room}/pins/{seq}", || to(pins::unpin), "Takes a pin away")
            .gives_nothing("Not pinned")
            .refuses([409]),
    ]
}

fn of_messages() -> Vec<Endpoint> {
    vec![
        get("/rooms/{room}/messages", || to(messages::page), "A page of a room's log")
            .query([optional("before", seq()), optional("after", seq())])
            .query([optional("around", integer(1..=WIRE_INTEGER_MAX)), optional("at", at())])
            .query([optional("limit", integer(1..=PAGE_MAX.into())), optional("cursor", text(0..=1_000))])
            .gives::<messages::History>(200, "In rising seq"),
        get("/rooms/{room}/messages/{seq}", || to(messages::one), "One message, and its link")
            .gives::<messages::One>(200, "It"),
        get(
            "/rooms/{room}/messages/{seq}/revisions",
            || to(messages::revisions),
            "What edits replaced, where it is kept",
        )
        .gives_page_of::<messages::Replaced>("A page"),
        post("/rooms/{room}/messages/{seq}/reports", || to(moderation::report), "Reports a message to the moderators")
            .takes([required("reason", text(1..=1_000))])
            .gives::<moderation::MadeReport>(200, "It was reported before")
            .gives::<moderation::MadeReport>(201, "Reported"),
        get("/rooms/{room}/reports", || to(moderation::of_room), "Reports of a room, the oldest first")
            .query([optional("state", word(["open", "closed"]))])
            .gives_page_of::<moderation::Report>("A page"),
        put("/rooms/{room}/reports/{report}", || to(moderation::close), "Decides on a report")
            .takes([
                required("state", word(["closed"])),
                optional("action", word(["none", "deleted", "banned"])),
                optional("note", text(0..=1_000)),
            ])
            .gives::<moderation::Report>(200, "Decided")
            .refuses([409]),
        get("/rooms/{room}/audit", || to(audit::of_room), "Privileged acts in a room, the newest first")
            .gives_page_of::<audit::AuditLine>("A page"),
        get("/rooms/{room}/messages/{seq}/thread", || to(messages::thread), "The thread that a message is of")
            .query([optional("after", seq())])
            .query([optional("limit", integer(1..=PAGE_MAX.into())), optional("cursor", text(0..=1_000))])
            .gives::<messages::Thread>(200, "The root and the replies, in rising seq"),
        put("/rooms/{room}/read", || to(messages::read), "Raises one's read mark, at most to the head")
            .takes([required("seq", seq())])
            .gives_nothing("Raised, or it was there"),
        post("/rooms/{room}/messages", || to(messages::post), "Sends a message; repeat it with the same id at will")
            .takes([
                required("id", reference::<MessageId>()),
                required("text", message_text()),
                optional("reply_to", seq()),
                optional("data", reference::<Data>()),
            ])
            .gives::<messages::Sent>(200, "A repeat: it is in the log already")
            .gives::<messages::Sent>(201, "In the log")
            .refuses([409]),
    ]
}

/// The document, made once.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut text = endpoint::document(endpoints()).to_pretty_json().expect("maps with text keys can't fail");
        text.push('\n');
        text
    })
}

async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document())
}

async fn asyncapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(asyncapi::document())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_answers_share_a_name() {
        let mut known = std::collections::BTreeMap::new();
        for (name, schema) in endpoints().into_iter().flat_map(Endpoint::into_components) {
            let text = serde_json::to_string(&schema).expect("a schema");
            let first = known.entry(name.clone()).or_insert_with(|| text.clone());
            assert_eq!(*first, text, "{name} is the name of two schemas");
        }
    }

    /// `UPDATE_DOCS=1 cargo test --workspace --lib openapi` writes it anew.
    #[test]
    fn the_openapi_document_that_is_checked_in_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).expect("docs/ can be written");
        }
        let checked_in = std::fs::read_to_string(path).expect("docs/openapi.json is there");
        assert!(checked_in == document(), "docs/openapi.json is out of date: run with UPDATE_DOCS=1");
    }
}
