//! Who may come in: counts the connections of this node, which actix-server does not see, and closes the door while the
//! node starts or drains.
//!
//! Invariant: a [`Ticket`] is held for exactly as long as its connection lives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all worker threads.
pub struct Gate {
    open: AtomicBool,
    connections: AtomicUsize,
    /// `limits.connections_per_ip`; 0: no limit.
    per_ip: u32,
    by_ip: Mutex<HashMap<IpAddr, u32>>,
}

/// Why a connection may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The node is starting or draining.
    NotNow,
    /// As many of this address as `limits.connections_per_ip` allows.
    TooMany,
}

/// The right to a connection.
pub struct Ticket {
    gate: Arc<Gate>,
    /// Only where addresses are counted.
    ip: Option<IpAddr>,
}

impl Gate {
    /// Closed at first.
    pub fn new(per_ip: u32) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            per_ip,
            by_ip: Mutex::default(),
        })
    }

    /// Lets new connections in, or keeps them out; those that are in stay.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// WebSocket connections of this node.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection from this address in.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Ticket, Closed> {
        if !self.is_open() {
            return Err(Closed::NotNow);
        }
        let counted = (self.per_ip > 0).then_some(ip);
        if let Some(ip) = counted {
            let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_ip.entry(ip).or_default();
            if *count >= self.per_ip {
                return Err(Closed::TooMany);
            }
            *count += 1;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Ticket { gate: Arc::clone(self), ip: counted })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(ip) = self.ip {
            let mut by_ip = self.gate.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&ip);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn tickets_are_counted_per_address_and_given_back() {
        let gate = Gate::new(2);
        let (a, b) = (IpAddr::from(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::from(Ipv4Addr::new(2, 2, 2, 2)));
        assert_eq!(gate.enter(a).err(), Some(Closed::NotNow));
        gate.set_open(true);
        let first = gate.enter(a).ok();
        let _second = gate.enter(a).ok();
        assert_eq!(gate.enter(a).err(), Some(Closed::TooMany));
        assert!(gate.enter(b).is_ok());
        assert_eq!(gate.connections(), 2);
        drop(first);
        assert!(gate.enter(a).is_ok());
        assert_eq!(gate.connections(), 1);
    }
}
