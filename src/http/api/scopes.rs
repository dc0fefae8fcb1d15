//! Which scope each call needs: the one place for HTTP, asked wherever somebody signs in ([`super::credentials`]).
//!
//! Invariant: an address that is not named here needs the scope `account`, so that a new one is closed to access tokens
//! until somebody says otherwise.

use actix_web::HttpRequest;
use actix_web::http::Method;

use crate::domain::scopes::{Need, Scope};
use crate::ids::RoomId;

/// What a call by `method` of the route `pattern` needs, as the router writes it: `/api/v1/rooms/{room}/messages`.
fn scope(method: &Method, pattern: &str) -> Option<Scope> {
    let reads = method.is_safe();
    let mut parts = pattern.strip_prefix("/api/v1/").unwrap_or_default().split('/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        // Whatever the credentials are good for, they may ask what that is, and be given back.
        ("me", None, _) if reads => None,
        ("logout", None, _) => None,
        ("me", Some("rooms"), _) | ("search", _, _) if reads => Some(Scope::Read),
        // Who moderates reads these, and whoever gives a token away to read along does not mean them.
        ("rooms", Some(_), Some("audit" | "bans" | "invitations" | "reports" | "webhooks")) => Some(Scope::Rooms),
        ("rooms", _, _) if reads => Some(Scope::Read),
        ("rooms", Some(_), Some("read")) => Some(Scope::Read),
        ("rooms", Some(_), Some("messages" | "attachments")) => Some(Scope::Write),
        ("rooms" | "direct" | "invitations", _, _) => Some(Scope::Rooms),
        _ => Some(Scope::Account),
    }
}

/// What a call needs of the credentials it comes with; `room`: the one of its path.
pub fn need<'a>(request: &HttpRequest, room: Option<&'a RoomId>) -> Need<'a> {
    let pattern = request.match_pattern().unwrap_or_default();
    scope(request.method(), &pattern).map_or(Need::Nothing, |scope| Need::Scope(scope, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_scope() {
        for (method, path, expected) in [
            (Method::GET, "me", None),
            (Method::POST, "logout", None),
            (Method::PATCH, "me", Some(Scope::Account)),
            (Method::DELETE, "me", Some(Scope::Account)),
            (Method::GET, "me/rooms", Some(Scope::Read)),
            (Method::GET, "me/sessions", Some(Scope::Account)),
            (Method::GET, "me/export", Some(Scope::Account)),
            (Method::POST, "me/tokens", Some(Scope::Account)),
            (Method::POST, "me/password", Some(Scope::Account)),
            (Method::GET, "search", Some(Scope::Read)),
            (Method::GET, "rooms", Some(Scope::Read)),
            (Method::HEAD, "rooms/{room}/members", Some(Scope::Read)),
            (Method::GET, "rooms/{room}/messages", Some(Scope::Read)),
            (Method::POST, "rooms/{room}/messages", Some(Scope::Write)),
            (Method::PUT, "rooms/{room}/messages/{seq}/pin", Some(Scope::Write)),
            (Method::PUT, "rooms/{room}/read", Some(Scope::Read)),
            (Method::POST, "invitations/{token}/accept", Some(Scope::Rooms)),
            (Method::POST, "rooms", Some(Scope::Rooms)),
            (Method::POST, "rooms/{room}/join", Some(Scope::Rooms)),
            (Method::PUT, "rooms/{room}/bans/{user}", Some(Scope::Rooms)),
            (Method::POST, "direct", Some(Scope::Rooms)),
            (Method::GET, "direct", Some(Scope::Rooms)),
            (Method::POST, "admin/users/{user}/disconnect", Some(Scope::Account)),
            (Method::GET, "something/new", Some(Scope::Account)),
        ] {
            assert_eq!(scope(&method, &format!("/api/v1/{path}")), expected, "{method} {path}");
        }
        assert_eq!(scope(&Method::GET, "/elsewhere"), Some(Scope::Account));
        assert_eq!(scope(&Method::GET, ""), Some(Scope::Account));
    }
}
