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
    use super::super::endpoint::Endpoint;
    use super::super::endpoints::endpoints;
    use super::*;

    /// Every address that takes credentials, and what an access token needs for it. A new one is decided on here.
    #[rustfmt::skip]
    const DECIDED: &[(&str, &[&str])] = &[
        ("nothing", &["GET /me", "POST /logout"]),
        ("read", &[
            "GET /me/rooms", "GET /search", "GET /rooms", "GET /rooms/{room}", "GET /rooms/{room}/members",
            "GET /rooms/{room}/messages", "GET /rooms/{room}/messages/{seq}", "GET /rooms/{room}/messages/{seq}/thread",
            "GET /rooms/{room}/messages/{seq}/revisions", "GET /rooms/{room}/pins", "GET /rooms/{room}/attachments",
            "GET /rooms/{room}/attachments/{attachment}", "PUT /rooms/{room}/read",
        ]),
        ("write", &[
            "POST /rooms/{room}/messages", "POST /rooms/{room}/messages/{seq}/reports", "POST /rooms/{room}/attachments",
        ]),
        ("rooms", &[
            "POST /rooms", "PATCH /rooms/{room}", "DELETE /rooms/{room}", "POST /rooms/{room}/join",
            "POST /rooms/{room}/leave", "POST /direct", "POST /invitations/{token}/accept",
            "PUT /rooms/{room}/members/{user}", "DELETE /rooms/{room}/members/{user}", "GET /rooms/{room}/bans",
            "PUT /rooms/{room}/bans/{user}", "DELETE /rooms/{room}/bans/{user}", "GET /rooms/{room}/invitations",
            "POST /rooms/{room}/invitations", "DELETE /rooms/{room}/invitations/{invitation}",
            "PUT /rooms/{room}/pins/{seq}", "DELETE /rooms/{room}/pins/{seq}", "GET /rooms/{room}/reports",
            "PUT /rooms/{room}/reports/{report}", "GET /rooms/{room}/audit", "GET /rooms/{room}/webhooks",
            "POST /rooms/{room}/webhooks", "GET /rooms/{room}/webhooks/{hook}", "PATCH /rooms/{room}/webhooks/{hook}",
            "DELETE /rooms/{room}/webhooks/{hook}", "GET /rooms/{room}/webhooks/{hook}/dead",
            "DELETE /rooms/{room}/webhooks/{hook}/dead/{dead}",
            "POST /rooms/{room}/webhooks/{hook}/dead/{dead}/retry",
        ]),
        ("account", &[
            "PATCH /me", "DELETE /me", "GET /me/export", "POST /me/password", "GET /me/sessions", "DELETE /me/sessions",
            "DELETE /me/sessions/{id}", "GET /me/tokens", "POST /me/tokens", "DELETE /me/tokens/{id}", "GET /reports",
            "GET /admin/audit", "GET /admin/bans", "PUT /admin/bans/{user}", "DELETE /admin/bans/{user}",
            "POST /admin/users/{user}/disconnect", "GET /admin/webhooks", "POST /admin/webhooks",
            "GET /admin/webhooks/{hook}", "PATCH /admin/webhooks/{hook}", "DELETE /admin/webhooks/{hook}",
            "GET /admin/webhooks/{hook}/dead", "DELETE /admin/webhooks/{hook}/dead/{dead}",
            "POST /admin/webhooks/{hook}/dead/{dead}/retry",
        ]),
    ];

    #[test]
    fn each_address_has_the_scope_that_was_decided_on() {
        let mut decided: Vec<(&str, &str)> =
            DECIDED.iter().flat_map(|(scope, calls)| calls.iter().map(move |call| (*call, *scope))).collect();
        let all = endpoints();
        let closed: Vec<_> = all.iter().filter_map(Endpoint::signed_in).collect();
        let mut found: Vec<(String, &str)> = closed
            .iter()
            .map(|(method, path)| {
                let scope = scope(method, &format!("/api/v1{path}"));
                (format!("{method} {path}"), scope.map_or("nothing", Scope::as_str))
            })
            .collect();
        found.sort_unstable();
        decided.sort_unstable();
        let found: Vec<(&str, &str)> = found.iter().map(|(call, scope)| (&**call, *scope)).collect();
        assert_eq!(found, decided);
    }

    #[test]
    fn what_nobody_thought_of_is_closed() {
        assert_eq!(scope(&Method::HEAD, "/api/v1/rooms/{room}/members"), Some(Scope::Read));
        for unknown in ["/api/v1/something/new", "/elsewhere", ""] {
            assert_eq!(scope(&Method::GET, unknown), Some(Scope::Account), "{unknown}");
        }
    }
}
