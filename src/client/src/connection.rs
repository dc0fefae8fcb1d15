//! One WebSocket with its encoding agreed on: objects go in and come out. It knows no more of the protocol than that; for
//! everything else there is [`crate::Client`].

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::closing::{BROKEN, Ending};
use crate::frames::{Encoding, decode, encode};

/// The socket beneath.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Bytes of a frame that is taken: the server's are far smaller.
const FRAME_BYTES: usize = 16 << 20;
/// How the reason of an ending begins that a frame caused which can't be read.
const UNREADABLE: &str = "a frame that cannot be read";

/// See the module.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    encoding: Encoding,
}

impl Connection {
    /// Upgrades at `url` (`ws://…/ws`), with further headers.
    ///
    /// # Errors
    /// What the server answered instead of the upgrade, or why there is no connection.
    pub async fn open(url: &str, encoding: Encoding, headers: &[(&str, String)]) -> Result<Self, tungstenite::Error> {
        let request = upgrade(url, encoding, headers)?;
        // Frames are small and each waits for nothing.
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config()), true).await?;
        Ok(Self { socket, encoding })
    }

    /// As [`Self::open`], over TLS with a server that `tls` trusts (`wss://…/ws`).
    ///
    /// # Errors
    /// As [`Self::open`], and where the server is not trusted.
    #[cfg(feature = "tls")]
    pub async fn open_trusting(
        url: &str,
        encoding: Encoding,
        headers: &[(&str, String)],
        tls: std::sync::Arc<rustls::ClientConfig>,
    ) -> Result<Self, tungstenite::Error> {
        let request = upgrade(url, encoding, headers)?;
        let tls = Some(tokio_tungstenite::Connector::Rustls(tls));
        let (socket, _) = tokio_tungstenite::connect_async_tls_with_config(request, Some(config()), true, tls).await?;
        Ok(Self { socket, encoding })
    }

    /// Around a WebSocket that is there already.
    pub fn on(socket: Socket, encoding: Encoding) -> Self {
        Self { socket, encoding }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The socket beneath, for what is no frame of the protocol.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn send<T: Serialize>(&mut self, frame: &T) -> Result<(), Ending> {
        let message = message(frame, self.encoding)?;
        self.socket.send(message).await.map_err(|error| ending_of(&error))
    }

    /// The next frame.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Ending> {
        loop {
            match self.socket.next().await {
                Some(Ok(message)) => {
                    if let Some(result) = read(&message, self.encoding) {
                        return result;
                    }
                }
                Some(Err(error)) => return Err(ending_of(&error)),
                None => return Err(Ending::broken("the connection ended")),
            }
        }
    }

    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }
}

/// tungstenite refuses an answer that chose no subprotocol, or another one.
fn upgrade(url: &str, encoding: Encoding, headers: &[(&str, String)]) -> Result<Request, tungstenite::Error> {
    let mut request = url.into_client_request()?;
    let all = request.headers_mut();
    all.insert("Sec-WebSocket-Protocol", HeaderValue::from_static(encoding.subprotocol()));
    for (name, value) in headers {
        all.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(request)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(FRAME_BYTES)).max_frame_size(Some(FRAME_BYTES))
}

impl Ending {
    /// Whether the server said something that is no frame.
    pub fn is_unreadable(&self) -> bool {
        self.reason.starts_with(UNREADABLE)
    }
}

/// A frame as a message of a WebSocket.
pub(crate) fn message<T: Serialize>(frame: &T, encoding: Encoding) -> Result<Message, Ending> {
    let bytes = encode(frame, encoding).map_err(Ending::broken)?;
    Ok(match encoding {
        Encoding::MessagePack => Message::binary(bytes),
        Encoding::Json => Message::text(String::from_utf8(bytes).map_err(|error| Ending::broken(error.to_string()))?),
    })
}

/// The frame that a message is, or how it ends the connection; nothing where it is about the connection alone.
pub(crate) fn read<T: DeserializeOwned>(message: &Message, encoding: Encoding) -> Option<Result<T, Ending>> {
    let bytes = match (message, encoding) {
        (Message::Text(text), Encoding::Json) => text.as_bytes(),
        (Message::Binary(bytes), Encoding::MessagePack) => bytes,
        (Message::Text(_) | Message::Binary(_), _) => {
            return Some(Err(Ending::broken(format!("{UNREADABLE}: of the other encoding"))));
        }
        (Message::Close(frame), _) => {
            let (code, reason) = match frame {
                Some(frame) => (frame.code.into(), frame.reason.to_string()),
                None => (1005, String::new()),
            };
            return Some(Err(Ending { code, ..Ending::broken(reason) }));
        }
        _ => return None,
    };
    Some(decode(bytes, encoding).map_err(|error| Ending::broken(format!("{UNREADABLE}: {error}"))))
}

pub(crate) fn ending_of(error: &tungstenite::Error) -> Ending {
    let mut ending = Ending { code: BROKEN, ..Ending::broken(error.to_string()) };
    if let tungstenite::Error::Http(response) = error {
        ending.status = Some(response.status().as_u16());
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        ending.retry_after = after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    }
    ending
}
