//! The end of a person: their account, at their own wish, with everything they wrote.
//!
//! Invariant: who is erased can do nothing more from the moment of the answer; what they wrote is gone with the answer where
//! it is little, and soon after where it is much.

use std::time::{Duration, Instant};

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::audit::deed;
use super::credentials::{SignedIn, no_cookie};
use super::{Api, Client};
use crate::domain::audit::What;
use crate::domain::revoked::Revoked;
use crate::http::problem::Answer;
use crate::ports::Erasing;
use crate::refusal::Refusal;

/// Items of one step of erasing, and how long its call goes on with steps before it leaves the rest to the job.
const ERASE_STEP: u32 = 500;
const ERASE_AT_ONCE: Duration = Duration::from_secs(1);

/// Ends the account: its id is never given out again.
pub async fn erase(api: Data<Api>, request: HttpRequest, who: SignedIn) -> Answer {
    let user = who.caller.user.clone();
    if !api.store().erase(&deed(&who.caller, What::PersonErased)).await? {
        return Err(Refusal::unauthenticated("the user of these credentials is gone").into());
    }
    (api.shared.revoke)(Revoked::Person(user.clone()));
    let began = Instant::now();
    while began.elapsed() < ERASE_AT_ONCE {
        match api.store().erase_some(ERASE_STEP).await {
            Ok(Erasing::Step(_)) => {}
            Ok(Erasing::Round(whose)) => {
                // What rooms have read since they were told first.
                (api.shared.revoke)(Revoked::Person(whose.clone()));
                if whose == user {
                    break;
                }
            }
            Ok(Erasing::Nothing) => break,
            Err(error) => {
                // It is on the list: the job goes on with it.
                tracing::debug!(error = %error, "erasure.left.to.job");
                break;
            }
        }
    }
    Ok(HttpResponse::NoContent().cookie(no_cookie(Client::of(&request).https)).finish())
}
