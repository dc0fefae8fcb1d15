//! A WebSocket connection by hand, for frames that no library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::node::Node;
use super::within;

/// A connection after the upgrade. Frames are written byte by byte as the test wants them.
pub struct RawSocket {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A frame as it came in, unmasked.
#[derive(Debug)]
pub struct RawFrame {
    /// FIN, RSV1–3 and the opcode, as on the wire.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl RawSocket {
    /// Upgraded at `node`, with further header lines (each ending in CRLF).
    pub async fn open(node: &Node, headers: &str) -> Self {
        let (mut socket, head) = Self::request(node, headers).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        socket.read.clear();
        socket
    }

    /// Sends an upgrade request; gives the head of the answer.
    pub async fn request(node: &Node, headers: &str) -> (Self, String) {
        let stream = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("the node listens");
        let mut socket = Self { stream, read: Vec::new() };
        socket
            .write(
                format!(
                    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
                    node.http_port()
                )
                .as_bytes(),
            )
            .await;
        let head = within("an answer to the upgrade", async {
            loop {
                if let Some(at) = socket.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    let rest = socket.read.split_off(at + 4);
                    let head = String::from_utf8_lossy(&socket.read).into_owned();
                    socket.read = rest;
                    return head;
                }
                assert!(socket.more().await, "the server closed before an answer");
            }
        })
        .await;
        (socket, head)
    }

    /// Writes bytes as they are; a connection that the server closed takes them silently.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = within("the socket takes bytes", self.stream.write_all(bytes)).await;
    }

    /// Writes one masked frame; `first` is FIN, RSV and opcode.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first];
        let length = payload.len();
        if length < 126 {
            bytes.push(0x80 | length as u8);
        } else if length < 65_536 {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        } else {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.write(&bytes).await;
    }

    /// Writes one text frame.
    pub async fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// The next frame; `None` where the connection ended.
    pub async fn next(&mut self) -> Option<RawFrame> {
        within("a frame", async {
            loop {
                if let Some(frame) = self.parse() {
                    return Some(frame);
                }
                if !self.more().await {
                    return None;
                }
            }
        })
        .await
    }

    /// The code of the close frame that ends the connection (1006: none).
    pub async fn close_code(&mut self) -> u16 {
        while let Some(frame) = self.next().await {
            if frame.first & 0x0f == 8 {
                return frame.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
            }
        }
        1006
    }

    fn parse(&mut self) -> Option<RawFrame> {
        let (&first, &second) = (self.read.first()?, self.read.get(1)?);
        assert_eq!(second & 0x80, 0, "a server must not mask");
        let (length, head) = match second {
            126 => (usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(self.read.get(2..10)?.try_into().ok()?) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.read.get(head..head + length)?.to_vec();
        self.read.drain(..head + length);
        Some(RawFrame { first, payload })
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(n) if n > 0)
    }
}
