//! `roundtable smoke URL`: registers a person, makes a private room, joins it over WebSocket, sends, reads it live and from
//! history, and erases both again. The whole way that clients take, proxies included, by a program that is in every image.
//!
//! Invariant: it ends within a minute, and what it made is erased, also after a step that failed.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Client, Method, Response, StatusCode, Upgraded};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use url::Url;

/// Longest for what is between registering and erasing.
const WITHIN: Duration = Duration::from_secs(30);
/// Longest for one request or frame.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Frames that may come before the one that is waited for.
const FRAMES_BETWEEN: usize = 100;
const TEXT: &str = "a smoke test";

/// Runs the steps against the server at `base` (http or https). `told` gets a line for each.
///
/// # Errors
/// One line with the step that failed.
pub async fn run(base: &str, told: impl Fn(&str)) -> Result<(), String> {
    let base = Url::parse(base)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| format!("{base:?} is not where a server is: http://HOST[:PORT] or https://HOST[:PORT]"))?;
    let _already = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(STEP_WITHIN)
        .user_agent(concat!("roundtable-smoke/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no client: {error}"))?;
    let started = Instant::now();
    let step = |what: &str| told(&format!("{:>6} ms  {what}", started.elapsed().as_millis()));

    let name = format!("smoke-{:024x}", rand::random::<u128>() >> 32);
    let password = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
    let mut server = Server { http, base, token: None };
    let made = server
        .call(Method::POST, "register", Some(json!({"user": name, "password": password})), StatusCode::CREATED)
        .await
        .map_err(|why| format!("register: {why}"))?;
    let token = made["token"].as_str().ok_or("register: the answer has no token")?;
    server.token = Some(token.to_owned());
    step("registered");

    let used = tokio::time::timeout(WITHIN, chat(&server, &name, &step)).await;
    // Whatever happened: nothing of it is to stay.
    let room = server.call(Method::DELETE, &format!("rooms/{name}"), None, StatusCode::NO_CONTENT).await;
    let person = server.call(Method::DELETE, "me", None, StatusCode::NO_CONTENT).await;
    used.map_err(|_| format!("not done within {} s", WITHIN.as_secs()))??;
    room.map_err(|why| format!("delete the room: {why}"))?;
    person.map_err(|why| format!("erase the person: {why}"))?;
    step("erased room and person");
    Ok(())
}

/// Everything between registering and erasing.
async fn chat(server: &Server, room: &str, step: &impl Fn(&str)) -> Result<(), String> {
    let wanted = json!({"id": room, "kind": "private"});
    server
        .call(Method::POST, "rooms", Some(wanted), StatusCode::CREATED)
        .await
        .map_err(|why| format!("make a room: {why}"))?;
    step("made a room");

    let mut socket = server.connect().await.map_err(|why| format!("connect: {why}"))?;
    socket.says(json!({"type": "hello", "client": "smoke"})).await?;
    let welcome = socket.hears("welcome").await?;
    step(&format!("connected to node {}", welcome["node"].as_str().unwrap_or("?")));
    socket.says(json!({"type": "subscribe", "room": room, "last": 0})).await?;
    socket.hears("subscribed").await?;
    step("joined");

    let id = "smoke-1";
    socket.says(json!({"type": "send", "room": room, "id": id, "text": TEXT})).await?;
    // The answer and the entry come in either order.
    let (mut sent, mut seen) = (false, false);
    while !(sent && seen) {
        let frame = socket.hears_any(&["sent", "events"]).await?;
        if frame["type"] == "sent" {
            sent = frame["seq"] == 1;
        } else {
            seen = is_ours(&frame["events"][0], id);
        }
        if !sent && !seen {
            return Err(format!("send: not what was sent came back: {frame}"));
        }
    }
    step("sent, and read it live");

    socket.says(json!({"type": "history", "room": room})).await?;
    let history = socket.hears("history").await?;
    if !is_ours(&history["events"][0], id) {
        return Err(format!("history: not what was sent: {history}"));
    }
    step("read it from history");
    Ok(())
}

fn is_ours(entry: &Value, id: &str) -> bool {
    entry["seq"] == 1 && entry["id"] == id && entry["text"] == TEXT
}

struct Server {
    http: Client,
    base: Url,
    token: Option<String>,
}

impl Server {
    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, String> {
        let url = self.base.join(path).map_err(|error| error.to_string())?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// A call of the HTTP API that has to end with `expected`.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        expected: StatusCode,
    ) -> Result<Value, String> {
        let mut request = self.request(method, &format!("/api/v1/{path}"))?.timeout(STEP_WITHIN);
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(failure)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failure)?;
        if status != expected {
            return Err(format!("status {} instead of {}: {}", status.as_u16(), expected.as_u16(), first_line(&text)));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The upgrade, by the client that knows TLS and certificates already.
    async fn connect(&self) -> Result<Socket, String> {
        let request = self
            .request(Method::GET, "/ws")?
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, STANDARD.encode(rand::random::<[u8; 16]>()));
        let answer: Response = tokio::time::timeout(STEP_WITHIN, request.send())
            .await
            .map_err(|_| "no answer to the upgrade".to_owned())?
            .map_err(failure)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap_or_default();
            return Err(format!("status {status} instead of 101: {}", first_line(&text)));
        }
        let stream = answer.upgrade().await.map_err(failure)?;
        Ok(Socket(WebSocketStream::from_raw_socket(stream, Role::Client, None).await))
    }
}

/// A WebSocket with frames of the protocol.
struct Socket(WebSocketStream<Upgraded>);

impl Socket {
    async fn says(&mut self, frame: Value) -> Result<(), String> {
        let what = frame["type"].as_str().unwrap_or_default().to_owned();
        tokio::time::timeout(STEP_WITHIN, self.0.send(Message::text(frame.to_string())))
            .await
            .map_err(|_| format!("{what}: could not be sent"))?
            .map_err(|error| format!("{what}: {error}"))
    }

    async fn hears(&mut self, kind: &str) -> Result<Value, String> {
        self.hears_any(&[kind]).await
    }

    /// The next frame of one of these types; an error ends it.
    async fn hears_any(&mut self, kinds: &[&str]) -> Result<Value, String> {
        let waited_for = kinds.join(" or ");
        for _ in 0..FRAMES_BETWEEN {
            let message = tokio::time::timeout(STEP_WITHIN, self.0.next())
                .await
                .map_err(|_| format!("waited for {waited_for}: nothing came"))?
                .ok_or_else(|| format!("waited for {waited_for}: the connection ended"))?
                .map_err(|error| format!("waited for {waited_for}: {error}"))?;
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text)
                        .map_err(|_| format!("waited for {waited_for}: a frame that is not JSON"))?;
                    if frame["type"] == "error" {
                        return Err(format!("waited for {waited_for}: {}", frame["message"]));
                    }
                    if kinds.iter().any(|kind| frame["type"] == *kind) {
                        return Ok(frame);
                    }
                }
                Message::Close(why) => {
                    return Err(format!("waited for {waited_for}: closed, {why:?}"));
                }
                _ => {}
            }
        }
        Err(format!("waited for {waited_for}: too much else came"))
    }
}

/// Causes say more than their effect, which is only that it failed.
fn failure(error: reqwest::Error) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}
