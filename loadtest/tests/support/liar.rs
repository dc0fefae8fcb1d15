//! A server that speaks as much of the protocol as a run needs and can be told to lie in one way. It keeps its rooms in
//! memory; told no lie it is honest, so that a run against it is a check of the checker and of nothing else.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// What it does wrong, once in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Acks a message and stores nothing.
    Lost,
    /// Acks a message, shows it to everybody, and does not have it in the history.
    Forgotten,
    /// Stores a message twice.
    Doubled,
    /// Shows one reader an entry twice.
    ShownTwice,
    /// Stores two messages of a sender in the other order.
    Reordered,
    /// Makes up an entry.
    Invented,
    /// Changes a text in the history.
    Altered,
    /// Leaves an entry out for one reader.
    Skipped,
    /// Shows one reader another text.
    Disagreeing,
    /// Never answers some message, however often it is sent.
    Mute,
    /// Gives a repeated message a new seq.
    NotIdempotent,
    /// Acks a message by the name of another one.
    AckOfAnother,
    /// Shows one reader nothing more, and tells a head of 0 to whoever asks.
    Deaf,
    /// Tells newcomers a head that is far ahead, and shows them nothing.
    HeadAhead,
    /// Forgets who is a member.
    MemberForgotten,
    /// Refuses a message that it has.
    RepeatRefused,
    /// Answers a `before` page with nothing.
    EmptyPages,
    /// Makes a room and does not answer; nothing else is wrong.
    RoomUnanswered,
    /// Refuses every token.
    TokenRefused,
    /// Takes connections and never says a word.
    Silent,
    /// Answers everything with 404.
    NoWebSocket,
    /// Ends all connections after a second of load and takes no more.
    Dying,
}

/// Every so many messages it lies.
const EVERY: usize = 25;

#[derive(Default)]
struct Room {
    log: Vec<Value>,
    readers: Vec<(usize, Sender<Value>)>,
    seqs: HashMap<String, u64>,
    /// Kept back to come after the next one of the same sender.
    held: Option<(Value, Sender<Value>)>,
    sends: usize,
    forgotten: Option<u64>,
}

struct State {
    lie: Lie,
    rooms: HashMap<String, Room>,
    first_send: Option<Instant>,
    connections: usize,
    users: HashMap<usize, String>,
    /// Bodies of the requests for rooms so far.
    posted: HashSet<String>,
}

/// Serves on a free port for as long as the test process lives.
pub fn start(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let state = Arc::new(Mutex::new(State {
        lie,
        rooms: HashMap::new(),
        first_send: None,
        connections: 0,
        users: HashMap::new(),
        posted: HashSet::new(),
    }));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if dead(&lock(&state)) {
                return;
            }
            let state = Arc::clone(&state);
            thread::spawn(move || serve(socket, &state));
        }
    });
    address
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while held")
}

fn dead(state: &State) -> bool {
    state.lie == Lie::Dying && state.first_send.is_some_and(|at| at.elapsed() > Duration::from_secs(1))
}

fn serve(mut socket: TcpStream, state: &Mutex<State>) {
    let lie = lock(state).lie;
    let mut start = [0; 4];
    if lie == Lie::Silent {
        return thread::sleep(Duration::from_secs(60));
    }
    while socket.peek(&mut start).is_ok_and(|n| n < 4 && n > 0) {}
    if lie == Lie::NoWebSocket || &start == b"POST" {
        let status = |body: &str| match lie {
            Lie::NoWebSocket => Some("404 Not Found"),
            Lie::RoomUnanswered if lock(state).posted.insert(body.to_owned()) => None,
            Lie::RoomUnanswered => Some("409 Conflict"),
            _ => Some("201 Created"),
        };
        return answer_http(&mut socket, status);
    }
    #[allow(clippy::result_large_err)]
    let choose = |request: &Request, mut response: Response| {
        if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
        }
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(socket, choose) else { return };
    socket.get_mut().set_read_timeout(Some(Duration::from_millis(3))).expect("a timeout that is not 0");
    let (tell, told) = mpsc::channel();
    let number = {
        let mut state = lock(state);
        state.connections += 1;
        state.connections
    };
    converse(&mut socket, state, number, &tell, &told);
}

fn converse(
    socket: &mut WebSocket<TcpStream>,
    state: &Mutex<State>,
    number: usize,
    tell: &Sender<Value>,
    told: &Receiver<Value>,
) {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let request: Value = serde_json::from_str(&text).expect("the harness sends JSON");
                request_of(&mut lock(state), number, &request, tell);
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        for frame in told.try_iter() {
            if socket.send(Message::text(frame.to_string())).is_err() {
                return;
            }
        }
        if dead(&lock(state)) {
            return;
        }
    }
}

/// Reads requests with their bodies, and answers each with a status; ends the connection where there is none.
fn answer_http(socket: &mut TcpStream, status: impl Fn(&str) -> Option<&'static str>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n) = socket.read(&mut piece) {
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if n == 0 {
            return;
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let Some(status) = status(body) else { return };
        bytes.clear();
        if socket.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn request_of(state: &mut State, number: usize, request: &Value, tell: &Sender<Value>) {
    let lie = state.lie;
    let reference = request["ref"].clone();
    let answer = |mut frame: Value| {
        frame["ref"] = reference.clone();
        // Whoever is gone needs no answer.
        let _ = tell.send(frame);
    };
    let name = request["room"].as_str().unwrap_or_default().to_owned();
    let room = state.rooms.entry(name.clone()).or_default();
    match request["type"].as_str().unwrap_or_default() {
        "hello" if lie == Lie::TokenRefused => {
            answer(json!({"type": "error", "code": "unauthenticated", "message": "no", "retryable": false}));
        }
        "hello" => {
            state.users.insert(number, user_of(request["token"].as_str().unwrap_or_default()));
            answer(json!({"type": "welcome", "reconnect": {"jitter_ms": 100, "backoff_max_ms": 1000}}));
        }
        "subscribe" => {
            let head = if lie == Lie::HeadAhead { 1_000_000 } else { room.log.len() };
            answer(json!({"type": "subscribed", "room": name, "head": head, "verdict": "live"}));
            let missed: Vec<&Value> = match request["after"].as_u64() {
                Some(after) => room.log.iter().filter(|entry| entry["seq"].as_u64() > Some(after)).collect(),
                None => Vec::new(),
            };
            if !missed.is_empty() {
                let _ = tell.send(json!({"type": "events", "room": name, "events": missed}));
            }
            if lie != Lie::HeadAhead {
                room.readers.push((number, tell.clone()));
            }
        }
        "send" => {
            state.first_send.get_or_insert_with(Instant::now);
            let mut request = request.clone();
            request["user"] = json!(state.users.get(&number));
            send(room, lie, &name, &request, tell);
        }
        "history" => {
            let log: Vec<Value> =
                room.log.iter().filter(|entry| entry["seq"].as_u64() != room.forgotten).cloned().collect();
            let limit = request["limit"].as_u64().unwrap_or(50) as usize;
            let page: Vec<Value> = match request["after"].as_u64() {
                Some(after) => {
                    log.iter().filter(|entry| entry["seq"].as_u64() > Some(after)).take(limit).cloned().collect()
                }
                None if lie == Lie::Deaf => Vec::new(),
                None => {
                    let before = request["before"].as_u64().unwrap_or(u64::MAX);
                    let limit = if lie == Lie::EmptyPages && before != u64::MAX { 0 } else { limit };
                    let mut page: Vec<Value> = log
                        .iter()
                        .rev()
                        .filter(|entry| entry["seq"].as_u64() < Some(before))
                        .take(limit)
                        .cloned()
                        .collect();
                    page.reverse();
                    page
                }
            };
            let last = page.last().map_or(0, |entry| entry["seq"].as_u64().unwrap_or(0));
            let more = log.iter().any(|entry| entry["seq"].as_u64() > Some(last)) && request.get("after").is_some();
            answer(json!({"type": "history", "room": name, "events": page, "more": more}));
        }
        _ => answer(json!({"type": "ok"})),
    }
}

/// The `sub` of a JWT. Its signature is none of this server's business.
fn user_of(token: &str) -> String {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    claims["sub"].as_str().unwrap_or_default().to_owned()
}

fn send(room: &mut Room, lie: Lie, name: &str, request: &Value, tell: &Sender<Value>) {
    let id = request["id"].as_str().unwrap_or_default().to_owned();
    let refuse = |code: &str| {
        let frame = json!({"type": "error", "ref": request["ref"], "code": code, "message": "", "retryable": false});
        let _ = tell.send(frame);
    };
    if room.seqs.contains_key(&id) && lie == Lie::RepeatRefused {
        return refuse("conflict");
    }
    if room.sends > 0 && room.sends.is_multiple_of(EVERY) && lie == Lie::MemberForgotten {
        room.sends += 1;
        return refuse("forbidden");
    }
    if let Some(&seq) = room.seqs.get(&id) {
        let seq = if lie == Lie::NotIdempotent { seq + 1 } else { seq };
        let _ = tell.send(sent(request, name, &id, seq, true));
        return;
    }
    room.sends += 1;
    let lies = room.sends.is_multiple_of(EVERY);
    if lies && lie == Lie::Mute {
        return;
    }
    if lies && lie == Lie::Lost {
        let seq = room.log.len() as u64 + 1;
        let _ = tell.send(sent(request, name, &id, seq, false));
        return;
    }
    if lies && lie == Lie::Invented {
        let seq = room.log.len() as u64 + 1;
        let entry = entry(seq, "lt-0", "made-up", "t=1;nobody said this");
        show(room, lie, false, name, &entry);
    }
    if lies && lie == Lie::Reordered && room.held.is_none() {
        room.held = Some((request.clone(), tell.clone()));
        return;
    }
    store(room, lie, lies, name, request, tell);
    if let Some((held, tell)) = room.held.take() {
        store(room, lie, false, name, &held, &tell);
    }
}

fn entry(seq: u64, user: &str, id: &str, text: &str) -> Value {
    json!({"seq": seq, "kind": "message", "user": user, "at": "2026-01-01T00:00:00.000Z", "id": id, "text": text})
}

fn store(room: &mut Room, lie: Lie, lies: bool, name: &str, request: &Value, tell: &Sender<Value>) {
    let seq = room.log.len() as u64 + 1;
    let (id, text) = (request["id"].as_str().unwrap_or_default(), request["text"].as_str().unwrap_or_default());
    let user = request["user"].as_str().unwrap_or_default();
    let made = entry(seq, user, id, text);
    room.seqs.insert(id.to_owned(), seq);
    show(room, lie, lies, name, &made);
    match lie {
        Lie::Doubled if lies => show(room, lie, false, name, &entry(seq + 1, user, id, text)),
        Lie::Forgotten => room.forgotten = Some(room.log.len() as u64),
        Lie::Altered if lies => room.log[seq as usize - 1]["text"] = json!("t=1;another text"),
        _ => {}
    }
    let id = if lies && lie == Lie::AckOfAnother { "another" } else { id };
    let _ = tell.send(sent(request, name, id, seq, false));
}

fn sent(request: &Value, room: &str, id: &str, seq: u64, duplicate: bool) -> Value {
    json!({"type": "sent", "ref": request["ref"], "room": room, "id": id, "seq": seq, "duplicate": duplicate})
}

/// Puts an entry into the log and before everybody's eyes.
fn show(room: &mut Room, lie: Lie, lies: bool, name: &str, entry: &Value) {
    room.log.push(entry.clone());
    for (place, (_, reader)) in room.readers.iter().enumerate() {
        let chosen = lies && place == 0;
        let mut frame = json!({"type": "events", "room": name, "events": [entry]});
        if lie == Lie::Deaf && place == 0 && entry["seq"].as_u64() > Some(EVERY as u64) {
            continue;
        }
        if chosen && lie == Lie::Skipped {
            continue;
        }
        if chosen && lie == Lie::Disagreeing {
            frame["events"][0]["text"] = json!("t=1;for your eyes only");
        }
        let _ = reader.send(frame.clone());
        if chosen && lie == Lie::ShownTwice {
            let _ = reader.send(frame);
        }
    }
}
