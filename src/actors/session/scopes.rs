//! Which scope each frame needs: the one place for the WebSocket.

use crate::domain::scopes::{Need, Scope};
use crate::protocol::Request;

/// What a request needs of the credentials of its session.
pub fn need(request: &Request) -> Need<'_> {
    match request {
        Request::Hello { .. } | Request::Refresh { .. } | Request::Ping | Request::Unsubscribe { .. } => Need::Nothing,
        Request::Subscribe { room, .. } | Request::History { room, .. } | Request::Read { room, .. } => {
            Need::Scope(Scope::Read, Some(room))
        }
        Request::Send { room, .. }
        | Request::Edit { room, .. }
        | Request::Delete { room, .. }
        | Request::React { room, .. }
        | Request::Typing { room, .. } => Need::Scope(Scope::Write, Some(room)),
        Request::Join { room } | Request::Leave { room } => Need::Scope(Scope::Rooms, Some(room)),
    }
}
