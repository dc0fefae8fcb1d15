//! Ports for servers that a test starts itself.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port on 127.0.0.1 that nobody listens on, below the range from which the kernel picks ports for outgoing
/// connections: it stays free while a server is down. Each one is given out once a process.
pub fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(101);
    (0..10_000)
        .map(|_| 12_000 + (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000) as u16)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("a free port")
}
