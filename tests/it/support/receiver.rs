//! A small HTTP server that a test owns: keeps what it is sent and answers as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::until;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub raw: Vec<u8>,
    pub body: Value,
    pub at: Instant,
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// `name: value` lines.
    pub headers: Vec<String>,
    pub after: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn json(body: &Value) -> Self {
        Self { status: 200, body: body.to_string(), ..Self::default() }
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Answer = Box<dyn FnMut(&Received) -> Reply + Send>;

/// The server.
#[derive(Clone)]
pub struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    /// Answers 200 to everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let receiver = Self {
            port: listener.local_addr().expect("bound").port(),
            received: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(|_| Reply::status(200)))),
        };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = accepting.clone();
                tokio::spawn(async move { receiver.serve(stream).await });
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn answers(&self, answer: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.answer.lock().expect("no panic while held") = Box::new(answer);
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic while held").clone()
    }

    /// The `seq`s of all entries received of `room`, in the order they came.
    pub fn seqs(&self, room: &str) -> Vec<u64> {
        let requests = self.received();
        let of_room = requests.iter().filter(|request| request.body["room"] == room);
        of_room.flat_map(|request| seqs(&request.body)).collect()
    }

    /// Waits until `wanted` finds something in what was received.
    pub async fn until<T>(&self, what: &str, wanted: impl Fn(&[Received]) -> Option<T>) -> T {
        until(what, || async { wanted(&self.received()) }).await
    }

    pub async fn until_count(&self, count: usize) -> Vec<Received> {
        self.until(&format!("{count} requests"), |all| (all.len() >= count).then(|| all.to_vec())).await
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let head = loop {
                if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at;
                }
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
            let headers: HashMap<String, String> = text
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                .collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
            while bytes.len() < head + 4 + length {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let raw = bytes[head + 4..head + 4 + length].to_vec();
            bytes.drain(..head + 4 + length);
            // Null where it is not one JSON value.
            let body = serde_json::from_slice(&raw).unwrap_or_default();
            let request = Received { headers, raw, body, at: Instant::now() };
            let reply = (self.answer.lock().expect("no panic while held"))(&request);
            self.received.lock().expect("no panic while held").push(request);
            tokio::time::sleep(reply.after).await;
            let more: String = reply.headers.iter().map(|line| format!("{line}\r\n")).collect();
            let answer = format!(
                "HTTP/1.1 {} X\r\ncontent-length: {}\r\n{more}\r\n{}",
                reply.status,
                reply.body.len(),
                reply.body
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The `seq`s of the entries of one request.
pub fn seqs(body: &Value) -> Vec<u64> {
    body["events"].as_array().into_iter().flatten().filter_map(|event| event["seq"].as_u64()).collect()
}

impl Received {
    /// Fails unless it is signed with `secret`, just now. Written as a receiver would.
    #[track_caller]
    pub fn is_signed_with(&self, secret: &str) {
        let header = &self.headers["x-roundtable-signature"];
        let (time, signatures) = header.split_once(',').expect("t=…,v1=…");
        let time = time.strip_prefix("t=").expect("t=");
        let at: u64 = time.parse().expect("seconds");
        assert!(super::tokens::now_s().abs_diff(at) < 60, "{header}");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(&self.raw);
        let wanted: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(signatures.split(',').any(|one| one == format!("v1={wanted}")), "{header} is not v1={wanted}");
    }
}
