//! Loopback ports for servers that are stopped and started again on the same one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::fail::{Fail, Result};

/// Below the range from which the kernel picks ports for connections: nobody else takes them while their server is down.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody listens on, and that this process has not given out before.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    (0..COUNT)
        .map(|_| (FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT) as u16)
        .find(|&port| TcpListener::bind(loopback(port)).is_ok())
        .ok_or_else(|| Fail::Setup(format!("no free port from {FIRST} to {}", FIRST + COUNT - 1)))
}
