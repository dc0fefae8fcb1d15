//! The bare broadcaster that Roundtable is compared with: one thread, one epoll, every entry made into a frame once
//! and written to each member with one call each. It speaks as much of the protocol as the same clients need and keeps
//! nothing: no store, no checks, no other node. What it uses is about the least that a broadcast over TCP can use.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use roundtable_client::scan;

use crate::clock;
use crate::fail::Result;
use crate::net::wire;
use crate::sys::{self, Epoll, READ, WRITE};

const LISTENER: usize = usize::MAX;

struct Member {
    socket: TcpStream,
    upgraded: bool,
    inbox: Vec<u8>,
    /// What the socket did not take.
    outbox: Vec<u8>,
    user: String,
    rooms: Vec<usize>,
}

#[derive(Default)]
struct Room {
    id: String,
    seq: u64,
    readers: Vec<usize>,
}

#[derive(Default)]
struct Rooms {
    numbers: HashMap<Vec<u8>, usize>,
    all: Vec<Room>,
}

impl Rooms {
    fn number(&mut self, id: &[u8]) -> usize {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        self.numbers.insert(id.to_vec(), self.all.len());
        self.all.push(Room { id: String::from_utf8_lossy(id).into_owned(), ..Room::default() });
        self.all.len() - 1
    }
}

struct Broadcaster {
    epoll: Epoll,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    rooms: Rooms,
}

/// Serves on a free loopback port, which it prints, until it is signalled.
pub fn serve() -> Result<()> {
    sys::watch_for_stop()?;
    sys::raise_file_limit()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let mut broadcaster =
        Broadcaster { epoll: Epoll::new()?, members: Vec::new(), free: Vec::new(), rooms: Rooms::default() };
    broadcaster.epoll.add(listener.as_raw_fd(), LISTENER, READ)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut ready = Vec::new();
    while !sys::stopped() {
        broadcaster.epoll.wait(Duration::from_secs(1), &mut ready)?;
        for readiness in &ready {
            if readiness.token == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    broadcaster.welcome(socket)?;
                }
                continue;
            }
            if readiness.writable {
                broadcaster.send(readiness.token, &[]);
            }
            if readiness.readable {
                broadcaster.read(readiness.token, &mut buffer);
            }
        }
    }
    Ok(())
}

impl Broadcaster {
    fn welcome(&mut self, socket: TcpStream) -> Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let number = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.epoll.add(socket.as_raw_fd(), number, READ)?;
        self.members[number] = Some(Member {
            socket,
            upgraded: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            user: String::new(),
            rooms: Vec::new(),
        });
        Ok(())
    }

    fn remove(&mut self, number: usize) {
        if let Some(member) = self.members[number].take() {
            for room in member.rooms {
                self.rooms.all[room].readers.retain(|&reader| reader != number);
            }
            self.free.push(number);
        }
    }

    fn read(&mut self, number: usize, buffer: &mut [u8]) {
        let Some(member) = &mut self.members[number] else { return };
        match member.socket.read(buffer) {
            Ok(0) => return self.remove(number),
            Ok(n) => member.inbox.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.remove(number),
        }
        // The inbox is taken out so that handling a frame may write to any member, this one included.
        let mut inbox = std::mem::take(&mut member.inbox);
        let mut used = 0;
        if !member.upgraded {
            let Some(end) = wire::http_head(&inbox) else {
                member.inbox = inbox;
                return;
            };
            member.upgraded = true;
            used = end;
            let head = String::from_utf8_lossy(&inbox[..end]).into_owned();
            self.upgrade(number, &head);
        }
        while let Some(head) = wire::head(&inbox[used..]) {
            let payload = &mut inbox[used + head.start..used + head.end];
            used += head.end;
            if let Some(mask) = head.mask {
                wire::unmask(payload, mask);
            }
            match head.opcode {
                wire::TEXT => self.request(number, payload),
                wire::PING => self.frame(number, wire::PONG, payload),
                wire::CLOSE => {
                    self.frame(number, wire::CLOSE, payload);
                    return self.remove(number);
                }
                _ => {}
            }
        }
        inbox.drain(..used);
        if let Some(member) = &mut self.members[number] {
            member.inbox = inbox;
        }
    }

    fn upgrade(&mut self, number: usize, head: &str) {
        let key = wire::header(head, "sec-websocket-key").unwrap_or_default();
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            wire::accept(key)
        );
        if wire::header(head, "sec-websocket-protocol").is_some() {
            answer.push_str("Sec-WebSocket-Protocol: roundtable.v1.json\r\n");
        }
        answer.push_str("\r\n");
        self.send(number, answer.as_bytes());
    }

    fn request(&mut self, number: usize, json: &[u8]) {
        let reference = scan::number(json, &scan::REF).unwrap_or(0);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let room = scan::string(json, &scan::ROOM).map(|id| self.rooms.number(id));
        let answer = match (scan::string(json, &scan::TYPE).unwrap_or_default(), room) {
            (b"hello", _) => {
                if let Some(member) = &mut self.members[number] {
                    member.user = format!("u{number}");
                }
                format!(r#"{{"type":"welcome","ref":{reference},"server":"raw"}}"#)
            }
            (b"subscribe", Some(room)) => {
                self.rooms.all[room].readers.push(number);
                if let Some(member) = &mut self.members[number] {
                    member.rooms.push(room);
                }
                let Room { id, seq, .. } = &self.rooms.all[room];
                format!(r#"{{"type":"subscribed","ref":{reference},"room":"{id}","head":{seq},"verdict":"live"}}"#)
            }
            (b"send", Some(room)) => {
                let id = text(scan::string(json, &scan::ID).unwrap_or_default());
                let body = text(scan::string(json, &scan::TEXT_KEY).unwrap_or_default());
                let (seq, at) = self.broadcast(number, room, &id, &body);
                let room = &self.rooms.all[room].id;
                format!(
                    r#"{{"type":"sent","ref":{reference},"room":"{room}","id":"{id}","seq":{seq},"at":"{at}","duplicate":false}}"#
                )
            }
            _ => format!(r#"{{"type":"ok","ref":{reference}}}"#),
        };
        self.frame(number, wire::TEXT, answer.as_bytes());
    }

    fn broadcast(&mut self, from: usize, room: usize, id: &str, text: &str) -> (u64, String) {
        let user = self.members[from].as_ref().map_or("", |member| &member.user);
        let at = clock::rfc3339_now();
        let Room { id: name, seq, readers } = &mut self.rooms.all[room];
        *seq += 1;
        let json = format!(
            r#"{{"type":"events","room":"{name}","events":[{{"seq":{seq},"kind":"message","user":"{user}","at":"{at}","id":"{id}","text":"{text}"}}]}}"#
        );
        let mut frame = Vec::with_capacity(json.len() + 10);
        wire::frame(&mut frame, wire::TEXT, json.as_bytes(), None);
        let seq = *seq;
        let readers = std::mem::take(readers);
        for &reader in &readers {
            self.send(reader, &frame);
        }
        self.rooms.all[room].readers = readers;
        (seq, at)
    }

    fn frame(&mut self, number: usize, opcode: u8, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 10);
        wire::frame(&mut frame, opcode, payload, None);
        self.send(number, &frame);
    }

    /// Writes `bytes` after what waits; keeps what the socket does not take.
    fn send(&mut self, number: usize, bytes: &[u8]) {
        let Some(member) = &mut self.members[number] else { return };
        let waited = !member.outbox.is_empty();
        if !waited {
            // A dead socket shows up as readable and is removed there.
            let sent = member.socket.write(bytes).unwrap_or(0);
            if sent == bytes.len() {
                return;
            }
            member.outbox.extend_from_slice(&bytes[sent..]);
        } else {
            member.outbox.extend_from_slice(bytes);
            let sent = member.socket.write(&member.outbox).unwrap_or(0);
            member.outbox.drain(..sent);
        }
        let waits = !member.outbox.is_empty();
        if waits != waited {
            let interest = if waits { READ | WRITE } else { READ };
            if self.epoll.modify(member.socket.as_raw_fd(), number, interest).is_err() {
                self.remove(number);
            }
        }
    }
}
