//! The HTTP calls a run makes beside its WebSockets: making rooms, asking for readiness and metrics, and the HTTP part
//! of a load. Blocking, with a deadline on every wait.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer's body above this is not read.
const MOST_BYTES: usize = 16 << 20;

/// Status and body of one call on a connection of its own.
pub fn call(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> io::Result<(u16, String)> {
    call_within(TIMEOUT, server, method, path, token, body)
}

/// The same with another bound for the connection and for each piece of the answer.
pub fn call_within(
    timeout: Duration,
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> io::Result<(u16, String)> {
    Kept { timeout, ..Kept::new(server) }.call(method, path, token, body)
}

/// A connection that is kept between calls, and made anew where it was lost.
pub struct Kept {
    server: SocketAddr,
    timeout: Duration,
    stream: Option<BufReader<TcpStream>>,
}

impl Kept {
    pub fn new(server: SocketAddr) -> Self {
        Self { server, timeout: TIMEOUT, stream: None }
    }

    /// Status and body of the answer. After an error the next call connects anew.
    pub fn call(&mut self, method: &str, path: &str, token: Option<&str>, body: &str) -> io::Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let socket = TcpStream::connect_timeout(&self.server, self.timeout)?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(self.timeout))?;
                socket.set_write_timeout(Some(self.timeout))?;
                BufReader::new(socket)
            }
        };
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let content_type = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authorization}{content_type}Content-Length: {}\r\n\r\n{body}",
            self.server,
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let (answer, keeps) = read_answer(&mut stream)?;
        if keeps {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The answer, and whether the connection stays.
fn read_answer(from: &mut impl BufRead) -> io::Result<((u16, String), bool)> {
    let mut line = String::new();
    let mut next = |line: &mut String, from: &mut dyn BufRead| {
        line.clear();
        from.take(16 << 10).read_line(line)?;
        if line.ends_with('\n') { Ok(()) } else { Err(bad("not an HTTP answer")) }
    };
    next(&mut line, from)?;
    if !line.starts_with("HTTP/1.") {
        return Err(bad("not an HTTP answer"));
    }
    let status: u16 = line.split(' ').nth(1).and_then(|s| s.trim().parse().ok()).ok_or_else(|| bad("no status"))?;
    let (mut length, mut chunked, mut keeps) = (None, false, line.starts_with("HTTP/1.1"));
    loop {
        next(&mut line, from)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<usize>().map_err(|_| bad("a wrong content-length"))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keeps = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    let take = |n: usize, body: &mut Vec<u8>, from: &mut dyn BufRead| {
        if n > MOST_BYTES || body.len() + n > MOST_BYTES {
            return Err(bad("an answer of more than 16 MiB"));
        }
        let start = body.len();
        body.resize(start + n, 0);
        from.read_exact(&mut body[start..])
    };
    match (length, chunked) {
        (_, true) => loop {
            next(&mut line, from)?;
            let n = usize::from_str_radix(line.trim(), 16).map_err(|_| bad("a wrong chunk"))?;
            take(n, &mut body, from)?;
            next(&mut line, from)?;
            if n == 0 {
                break;
            }
        },
        (Some(n), _) => take(n, &mut body, from)?,
        (None, _) if matches!(status, 204 | 304) => {}
        (None, _) => {
            keeps = false;
            from.take(MOST_BYTES as u64).read_to_end(&mut body)?;
        }
    }
    Ok(((status, String::from_utf8_lossy(&body).into_owned()), keeps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<((u16, String), bool)> {
        read_answer(&mut text.as_bytes())
    }

    #[test]
    fn bodies_of_each_kind_are_read() {
        let sized = read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").expect("whole");
        assert_eq!(sized, ((200, "abc".into()), true));
        let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(read(chunked).expect("whole"), ((201, "abc".into()), false));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").expect("whole"), ((204, String::new()), true));
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabc").expect("whole"), ((200, "abc".into()), false));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
