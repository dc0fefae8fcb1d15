//! Carries a connection by WebSocket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::closing::Ending;
use crate::connection::{Connection, ending_of, message, read};
use crate::driver::Shared;
use crate::frames::{ClientFrame, ServerFrame};

/// For a close frame, in either direction.
const FAREWELL: Duration = Duration::from_secs(1);

/// Until it ends, or nobody has anything to say any more.
pub(crate) async fn carry(
    shared: Arc<Shared>,
    number: u64,
    address: usize,
    token: Option<String>,
    mut frames: UnboundedReceiver<ClientFrame>,
) {
    if let Some(ending) = connection(&shared, number, address, token.is_some(), &mut frames).await {
        shared.with(|core| core.ended(number, &ending));
    }
}

async fn open(shared: &Shared, url: &str, headers: &[(&str, String)]) -> Result<Connection, tungstenite::Error> {
    let encoding = shared.options.encoding;
    #[cfg(feature = "tls")]
    if let Some(tls) = &shared.tls {
        return Connection::open_trusting(url, encoding, headers, Arc::clone(tls)).await;
    }
    Connection::open(url, encoding, headers).await
}

async fn connection(
    shared: &Shared,
    number: u64,
    address: usize,
    has_token: bool,
    frames: &mut UnboundedReceiver<ClientFrame>,
) -> Option<Ending> {
    let base = shared.address(address);
    let url = format!("{}/ws", base.replacen("http", "ws", 1));
    let encoding = shared.options.encoding;
    let mut headers = Vec::new();
    if let Some(cookie) = shared.options.cookie.as_ref().filter(|_| !has_token) {
        headers.push(("Cookie", format!("roundtable_session={cookie}")));
        headers.push(("Origin", base.to_owned()));
    }
    let opened = tokio::select! {
        opened = open(shared, &url, &headers) => opened,
        // Nothing is written before it is open: this is its end.
        _ = frames.recv() => return None,
    };
    let socket = match opened {
        Ok(connection) => connection.into_socket(),
        Err(error) => return Some(ending_of(&error)),
    };
    shared.with(|core| core.opened(number));
    let (mut sink, mut stream) = socket.split();
    // Both at once: a server that waits for us to read must not wait for us to write.
    let reading = async {
        loop {
            match stream.next().await {
                Some(Ok(message)) => match read::<ServerFrame>(&message, encoding) {
                    Some(Ok(frame)) => shared.with(|core| core.frame(number, frame)),
                    Some(Err(ending)) => return ending,
                    None => {}
                },
                Some(Err(error)) => return ending_of(&error),
                None => return Ending::broken("the connection ended"),
            }
        }
    };
    let writing = async {
        while let Some(frame) = frames.recv().await {
            let sent = match message(&frame, encoding) {
                Ok(message) => sink.send(message).await.map_err(|error| ending_of(&error)),
                Err(ending) => Err(ending),
            };
            if let Err(ending) = sent {
                return Some(ending);
            }
            shared.with(|core| core.written(number, 1));
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // A peer that does not take it is gone all the same.
        let _ = tokio::time::timeout(FAREWELL, sink.send(Message::Close(Some(frame)))).await;
        None
    };
    tokio::pin!(reading, writing);
    let written = tokio::select! {
        ending = &mut reading => return Some(ending),
        written = &mut writing => written,
    };
    // What the server had to say before it hung up counts for more than that it did.
    Some(tokio::time::timeout(FAREWELL, reading).await.unwrap_or(written?))
}
