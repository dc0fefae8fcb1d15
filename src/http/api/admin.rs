//! What administrators of the server (a JWT's role `admin`) may do to others' sessions.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::audit::deed;
use super::credentials::SignedIn;
use super::{Api, user_of};
use crate::domain::audit::{Deed, What};
use crate::domain::revoked::{Ending, Revoked};
use crate::http::problem::Answer;
use crate::http::query::Fields;
use crate::ports::Keep;
use crate::refusal::Refusal;

/// Closes every session of a user on every node. With `revoke` their logins and access tokens end too (4003); without,
/// they may come back with credentials that are good (4300). A JWT can't be taken back: it is good until it expires.
pub async fn disconnect(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    who.must_be_admin()?;
    let user = user_of(&request)?;
    let revoke = fields.optional("revoke")?.unwrap_or(false);
    if api.store().user(&user).await?.is_none() {
        return Err(Refusal::not_found("user: there is no such user").into());
    }
    let what = if revoke { What::CredentialsRevoked } else { What::Disconnected };
    let deed = Deed { whom: Some(user.clone()), ..deed(&who.caller, what) };
    if revoke {
        for hash in api.store().end_all(&user, Keep::Nothing).await? {
            api.revoked(Revoked::Login(hash));
        }
    }
    let ending = if revoke { Ending::Revoked } else { Ending::SignIn };
    api.end_sessions(Revoked::User { user, but: None, ending }).await?;
    api.audit(None, &deed).await?;
    Ok(HttpResponse::NoContent().finish())
}
