//! Where WebSockets are blocked: a session as a stream of server-sent events, and posts for what its client says.
//!
//! A post is let in by its stream's secret alone, which travels in a header of our own: no cookie is looked at, so there is
//! nothing that a foreign page could make a browser send. Bounds: [`FRAMES`] a post, `limits.frame_bytes` a frame, four times
//! as much a post; posts have a rate by address of their own, since the people behind one address may be many.

use std::sync::Arc;

use actix_web::http::ConnectionType;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::value::RawValue;

use super::{Api, Client};
use crate::actors::posts::Posts;
use crate::actors::stream_id::StreamId;
use crate::http::problem::{Answer, Problem};
use crate::http::query::Fields;
use crate::http::socket::{Gate, stream_answer};
use crate::limits::WIRE_INTEGER_MAX;
use crate::refusal::Refusal;

/// Where streams stand, below the API's base.
pub const PATH: &str = "/stream";
/// The header that names a stream.
pub const HEADER: &str = "X-Roundtable-Stream";
/// Frames of one post.
pub const FRAMES: usize = 64;
/// A post may be as large as so many of the largest frames.
const LARGEST_FRAMES: usize = 4;

/// What streams need besides what every call has.
pub struct Streams {
    pub gate: Arc<Gate>,
    pub posts: Arc<Posts>,
}

pub async fn open(api: Data<Api>, request: HttpRequest) -> Answer {
    let gate = &api.streams()?.gate;
    let answer = stream_answer(&api.hub, gate, Client::of(&request).address, &request).await;
    answer.or_else(|problem| {
        if gate.is_open() {
            return Err(problem);
        }
        // A browser keeps its connections: without this it would ask the same node again, whatever is balanced before it.
        let mut answer = problem.response();
        answer.head_mut().set_connection_type(ConnectionType::Close);
        Ok(answer)
    })
}

pub async fn post(api: Data<Api>, request: HttpRequest, payload: Payload) -> Answer {
    let streams = api.streams()?;
    if let Some(rate) = &api.shared.rates.posts {
        rate.check(Client::of(&request).address)?;
    }
    let name = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let stream = StreamId::parse(name).map_err(|rule| Refusal::bad_request(format!("{HEADER}: {rule}")))?;
    let frame_bytes = api.hub.bounds().frame_bytes;
    let fields = Fields::read(&request, payload.into_inner(), LARGEST_FRAMES * frame_bytes).await?;
    let (n, frames) = read(&fields, frame_bytes)?;
    api.hub.context().metrics.stream_posts.inc();
    streams.posts.post(stream, n, frames).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn read(fields: &Fields, frame_bytes: usize) -> Result<(u64, Vec<String>), Problem> {
    let n: u64 = fields.required("n")?;
    if !(1..=WIRE_INTEGER_MAX).contains(&n) {
        return Err(Refusal::bad_request(format!("n: must be a whole number from 1 to {WIRE_INTEGER_MAX}")).into());
    }
    let frames: Vec<Box<RawValue>> = fields.required("frames")?;
    if frames.len() > FRAMES {
        return Err(Refusal::bad_request(format!("frames: must be at most {FRAMES}")).into());
    }
    if frames.iter().any(|frame| frame.get().len() > frame_bytes) {
        let refusal = Refusal::bad_request(format!("frames: each must have at most {frame_bytes} bytes"));
        return Err(Problem::with_status(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE, refusal));
    }
    Ok((n, frames.into_iter().map(|frame| Box::<str>::from(frame).into_string()).collect()))
}
