//! `roundtable health`: asks the node of these settings, on this machine, how it is. For supervisors and containers whose
//! image holds nothing else that could ask.
//!
//! Invariant: an answer within [`WITHIN`], whatever the node does; no runtime is started, since it is asked every few seconds.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for the connection, and for each read of the answer.
const WITHIN: Duration = Duration::from_secs(2);
/// Bytes of the answer that are read: the first line is enough, and its reasons are short.
const ANSWER_BYTES: u64 = 4 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it should get traffic.
    Ready,
    /// Whether the process runs.
    Live,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Live => "/livez",
        }
    }
}

/// Asks the admin listener at `bind`.
///
/// # Errors
/// One line that says why the answer is no, or that there is none.
pub fn ask(bind: SocketAddr, question: Question) -> Result<(), String> {
    let address = reachable(bind);
    let no_answer = |error: std::io::Error| format!("the admin listener at {address} does not answer: {error}");
    let mut stream = TcpStream::connect_timeout(&address, WITHIN).map_err(no_answer)?;
    stream.set_read_timeout(Some(WITHIN)).map_err(no_answer)?;
    stream.set_write_timeout(Some(WITHIN)).map_err(no_answer)?;
    // HTTP/1.0: the answer ends where the connection does.
    let request = format!("GET {} HTTP/1.0\r\nHost: {address}\r\n\r\n", question.path());
    stream.write_all(request.as_bytes()).map_err(no_answer)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).map_err(no_answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")).and_then(|line| line.get(2..5));
    match status {
        Some("200") => Ok(()),
        Some(_) => Err(answer.split("\r\n\r\n").nth(1).unwrap_or_default().lines().collect()),
        None => Err(format!("what answers at {address} is no admin listener")),
    }
}

/// Whoever listens on every address is reached on this machine's own.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Asks something that gives one answer; also what it was asked.
    fn answered(bind: &str, answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind(bind).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = [0; 512];
            let n = stream.read(&mut asked).expect("a request");
            stream.write_all(answer.as_bytes()).expect("written");
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        (ask(address, Question::Ready), server.join().expect("served"))
    }

    #[test]
    fn the_status_decides() {
        let (ready, asked) = answered("127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\n{}");
        assert_eq!(ready, Ok(()));
        assert!(asked.starts_with("GET /readyz HTTP/1.0\r\n"), "{asked}");
        let (not, _) =
            answered("127.0.0.1:0", "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{\"reasons\":[\"starting\"]}");
        assert_eq!(not, Err("{\"reasons\":[\"starting\"]}".to_owned()));
        assert!(answered("127.0.0.1:0", "SSH-2.0-x\r\n").0.is_err_and(|why| why.contains("no admin listener")));
        assert!(answered("127.0.0.1:0", "").0.is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_the_loopback() {
        assert_eq!(answered("0.0.0.0:0", "HTTP/1.1 200 OK\r\n\r\n").0, Ok(()));
        assert_eq!(reachable("[::]:9".parse().expect("an address")).to_string(), "[::1]:9");
        assert_eq!(reachable("10.1.2.3:9".parse().expect("an address")).to_string(), "10.1.2.3:9");
    }

    #[test]
    fn nobody_there_is_said() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        assert!(ask(free, Question::Live).is_err_and(|why| why.contains("does not answer")));
    }
}
