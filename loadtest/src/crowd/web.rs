//! The HTTP part of a load: requests on a schedule over a few kept connections, each on a thread of its own, since what is
//! measured is one request after the other and not how many connections there may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::schedule::Stream;
use crate::net::http::Kept;

/// Requests a second that one connection is asked for.
const PER_CONNECTION: f64 = 50.0;
const MOST_CONNECTIONS: usize = 32;

/// One request that ended: how long after it was due, and whether the answer was a 200.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub wait: Duration,
    pub good: bool,
}

/// The threads at work; they end when this is dropped.
pub struct Web {
    pub answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
}

impl Web {
    /// `GET`s of the newest messages of `rooms` in turn, `per_s` a second for `seconds` from `begin` on.
    pub fn start(
        servers: &[SocketAddr],
        token: &str,
        rooms: &[String],
        per_s: f64,
        begin: Instant,
        seconds: f64,
    ) -> Self {
        let (answer, answers) = mpsc::sync_channel(1 << 16);
        let stop = Arc::new(AtomicBool::new(false));
        let connections = ((per_s / PER_CONNECTION).ceil() as usize).clamp(1, MOST_CONNECTIONS);
        for i in 0..connections {
            let (answer, stop, token) = (answer.clone(), Arc::clone(&stop), token.to_owned());
            let server = servers[i % servers.len()];
            let paths: Vec<String> =
                rooms.iter().skip(i).step_by(connections).take(100).map(|room| path(room)).collect();
            let paths = if paths.is_empty() { vec![path(&rooms[0])] } else { paths };
            let each = per_s / connections as f64;
            // The connections take turns.
            let mut stream = Stream::steady(each, i as f64 / per_s, seconds);
            thread::spawn(move || {
                let mut kept = Kept::new(server);
                for path in paths.iter().cycle() {
                    let Some(due_s) = stream.next() else { return };
                    let due = begin + Duration::from_secs_f64(due_s);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) || stream.take(f64::INFINITY).is_none() {
                        return;
                    }
                    let good = matches!(kept.call("GET", path, Some(&token), ""), Ok((200, _)));
                    let wait = Instant::now().saturating_duration_since(due);
                    // Only full when nobody has listened for very long.
                    if answer.try_send(Answer { wait, good }).is_err() && stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        Self { answers, stop }
    }
}

fn path(room: &str) -> String {
    format!("/api/v1/rooms/{room}/messages?limit=50")
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
