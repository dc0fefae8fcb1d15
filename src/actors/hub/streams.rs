//! Streams: sessions whose frames come by posts. What was posted waits here, like bytes in a socket's buffer, until the
//! session may read, and is then handed over by the connection's pump.
//!
//! Invariants: a post is handed over once, and in the order of its number, however often it is repeated. Bounds: one post
//! of a stream waits, with at most [`REPEATS`] calls that wait for it; its size is the HTTP side's business.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::ws::Message;
use tokio::sync::oneshot;

use super::{Hub, State};
use crate::actors::frame;
use crate::actors::messages::{Post, SessionKey};
use crate::actors::session::core::SessionCore;
use crate::actors::stream_id::{Proof, StreamId};
use crate::refusal::Refusal;

/// Calls that wait for the same post to be handed over: the client repeats what was not answered in time.
const REPEATS: usize = 4;

/// Told once the session has the frames, or why it has not.
pub type Handed = oneshot::Sender<Result<(), Refusal>>;

/// What a stream has beside its session.
pub struct Stream {
    proof: Proof,
    posts: RefCell<Posts>,
}

#[derive(Default)]
struct Posts {
    /// Number of the last post that was handed over.
    handed: u64,
    waiting: Option<Waiting>,
}

/// The post after `handed`.
struct Waiting {
    frames: Vec<String>,
    calls: Vec<Handed>,
}

impl Stream {
    /// For the pump, when the session may read: hands the waiting post over. Gives its bytes; `None` where there is none.
    pub fn take(&self, core: &SessionCore) -> Option<usize> {
        let mut posts = self.posts.borrow_mut();
        let Waiting { frames, calls } = posts.waiting.take()?;
        posts.handed += 1;
        let bytes = frames.iter().map(String::len).sum();
        core.inbox.borrow_mut().extend(frames.into_iter().map(|frame| Message::Text(frame.into())));
        for call in calls {
            // Whoever waits no longer repeats it, and is told then.
            let _ = call.send(Ok(()));
        }
        Some(bytes)
    }

    fn offer(&self, post: Post, call: Handed) -> Result<(), (Handed, Result<(), Refusal>)> {
        let mut posts = self.posts.borrow_mut();
        if post.n <= posts.handed {
            return Err((call, Ok(())));
        }
        if post.n > posts.handed + 1 {
            let detail = format!("n: the next post of this stream is {}", posts.handed + 1);
            return Err((call, Err(Refusal::conflict(detail))));
        }
        let waiting = posts.waiting.get_or_insert_with(|| Waiting { frames: post.frames, calls: Vec::new() });
        waiting.calls.retain(|call| !call.is_closed());
        if waiting.calls.len() >= REPEATS {
            let detail = "this post waits for its session already; repeat it with the same n";
            return Err((call, Err(Refusal::overloaded(detail))));
        }
        waiting.calls.push(call);
        Ok(())
    }
}

impl State {
    /// The session is over: whoever waits for it is told at once.
    pub(super) fn close_stream(&mut self, key: SessionKey) {
        if let Some(stream) = self.streams.remove(&key) {
            stream.posts.borrow_mut().waiting = None;
        }
    }
}

impl Hub {
    /// Makes a session that was just opened a stream, and tells its client what it is called.
    pub fn open_stream(&self, core: &Rc<SessionCore>) -> Rc<Stream> {
        let (name, proof) = StreamId::make(&self.context.node, core.key);
        let stream = Rc::new(Stream { proof, posts: RefCell::default() });
        self.state.borrow_mut().streams.insert(core.key, Rc::clone(&stream));
        self.push(core, frame::opened(&name));
        stream
    }

    /// Somebody posted to a session of this thread.
    pub(super) fn posted(&self, key: SessionKey, post: Post, call: Handed) {
        let known = {
            let state = self.state.borrow();
            let stream = state.streams.get(&key).filter(|stream| stream.proof.matches(&post.proof));
            stream.cloned().zip(state.session(key).cloned())
        };
        let Some((stream, core)) = known.filter(|(_, core)| !core.outbox.is_finished()) else {
            let _ = call.send(Err(gone()));
            return;
        };
        core.state.borrow_mut().pings_unanswered = 0;
        match stream.offer(post, call) {
            Ok(()) => core.outbox.wake(),
            Err((call, answer)) => {
                let _ = call.send(answer);
            }
        }
    }
}

/// One answer for streams that have ended, were never there, or are another's.
pub fn gone() -> Refusal {
    Refusal::not_found("no such stream, or it has ended: open another and resume")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::messages::HubIndex;
    use crate::ids::NodeId;

    fn stream() -> Stream {
        let key = SessionKey { hub: HubIndex(0), slot: 0, generation: 1 };
        let (_, proof) = StreamId::make(&NodeId::parse("n").expect("an id"), key);
        Stream { proof, posts: RefCell::default() }
    }

    type Answer = Result<(), Refusal>;

    fn offer(stream: &Stream, n: u64) -> (Option<Answer>, oneshot::Receiver<Answer>) {
        let (call, told) = oneshot::channel();
        let post = Post { proof: stream.proof, n, frames: vec![format!("frame {n}")] };
        (stream.offer(post, call).err().map(|(_, answer)| answer), told)
    }

    #[test]
    fn one_post_waits_and_its_repeats_wait_with_it() {
        let stream = stream();
        let refused = |offered: Option<Answer>| offered.and_then(Result::err).map(|r| r.code.as_str());
        assert_eq!(refused(offer(&stream, 2).0), Some("conflict"), "the first is 1");
        let waiting: Vec<_> = (0..REPEATS).map(|_| offer(&stream, 1)).collect();
        assert!(waiting.iter().all(|(answer, _)| answer.is_none()));
        assert_eq!(refused(offer(&stream, 1).0), Some("overloaded"));
        assert_eq!(refused(offer(&stream, 2).0), Some("conflict"), "not before the first was handed over");
        drop(waiting);
        assert!(offer(&stream, 1).0.is_none(), "those who went make room");
        let posts = stream.posts.borrow();
        assert_eq!(posts.waiting.as_ref().map(|waiting| waiting.frames.len()), Some(1), "repeats bring nothing");
    }
}
