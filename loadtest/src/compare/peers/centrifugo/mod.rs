//! Centrifugo (version 6), where its program is on the path: one process with its memory engine, which uses all cores.
//! Clients speak its JSON protocol and publish over the same WebSocket that they subscribe with. It keeps no message, so
//! durable sends are not measured: its history is a cache, in Redis too, and a publication is answered without asking
//! how safe Redis has it.

use std::fs;
use std::io::Write;
use std::process::Command;

use memchr::memmem;

use roundtable_client::scan;

use crate::compare::dialect::{Dialect, Heard, Person, Step, odd};
use crate::compare::install::{self, Missing};
use crate::compare::server::{Held, Server, listens};
use crate::fail::{Fail, Result};
use crate::net::fleet::Door;
use crate::net::wire;
use crate::stack::child::{Child, TempDir};
use crate::stack::ports::{free, loopback};
use crate::stack::{PATIENCE, Parts};

const CONFIG: &str = include_str!("config.json");

pub fn missing() -> Vec<Missing> {
    if install::program("centrifugo").is_some() { Vec::new() } else { vec![Missing::Program("centrifugo")] }
}

pub fn start() -> Result<Server> {
    let program = install::program("centrifugo").ok_or_else(|| Fail::Setup("no centrifugo on PATH".into()))?;
    let files = TempDir::new("centrifugo")?;
    let door = loopback(free()?);
    let config = files.path().join("config.json");
    fs::write(&config, CONFIG.replace("@PORT@", &door.port().to_string()))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).current_dir(files.path());
    let mut child = Child::start("centrifugo", &mut command, files.path().join("centrifugo.log"), libc::SIGTERM)?;
    child.wait_until(PATIENCE, || listens(door))?;
    let parts = Parts { nodes: vec![child.pid()], ..Parts::default() };
    let held = Held::Own { children: vec![child], _redis: None, _postgres: None, _files: files };
    Ok(Server { dialect: Box::new(Centrifugo), doors: vec![door], parts, held })
}

/// Commands and replies are JSON objects, several in a frame one a line; `{}` asks for a `{}`.
pub struct Centrifugo;

/// Publications are numbered from here on; lower ids are those of entering.
const FIRST_ID: u64 = 10;

fn id(line: &[u8]) -> Option<u64> {
    line.strip_prefix(b"{\"id\":").and_then(scan::digits)
}

fn lines(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    frame.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

impl Dialect for Centrifugo {
    fn door(&self, person: &Person) -> Door {
        let host = person.server.to_string();
        Door { server: person.server, request: wire::upgrade_request(&host, "/connection/websocket", None, "") }
    }

    fn ask(&self, person: &Person, step: u8, out: &mut Vec<u8>) {
        let said = match step {
            0 => write!(out, r#"{{"id":1,"connect":{{}}}}"#),
            _ => write!(out, r#"{{"id":2,"subscribe":{{"channel":"{}"}}}}"#, person.room),
        };
        said.expect("a Vec takes everything");
    }

    fn entering(&self, step: u8, frame: &[u8]) -> std::result::Result<Step, String> {
        if memmem::find(frame, b"\"error\":").is_some() || frame.is_empty() {
            return Err(odd(frame));
        }
        for line in lines(frame) {
            match (id(line), step) {
                (Some(1), 0) => return Ok(Step::Next(1)),
                (Some(2), 1) => return Ok(Step::In),
                (None, _) if line == b"{}" => return Ok(Step::Say(b"{}")),
                (None, _) if line.starts_with(b"{\"push\":") => {}
                _ => return Err(odd(frame)),
            }
        }
        Ok(Step::Stay)
    }

    fn publish(&self, person: &Person, number: u64, text: &[u8], out: &mut Vec<u8>) {
        let (id, room) = (FIRST_ID + number, &person.room);
        write!(out, r#"{{"id":{id},"publish":{{"channel":"{room}","data":""#).expect("a Vec takes everything");
        out.extend_from_slice(text);
        out.extend_from_slice(b"\"}}");
    }

    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> std::result::Result<(), String> {
        if frame.is_empty() {
            return Err(odd(frame));
        }
        for line in lines(frame) {
            if line == b"{}" {
                visit(Heard::Answer(b"{}"));
            } else if line.starts_with(b"{\"push\":") {
                let data = memmem::find(line, b"\"data\":\"").map(|at| &line[at + 8..]);
                let text = data.and_then(|rest| Some(&rest[..memchr::memchr(b'"', rest)?]));
                visit(Heard::Message { text: text.ok_or_else(|| odd(line))?, seq: None, stored: false });
            } else {
                let number = id(line).and_then(|id| id.checked_sub(FIRST_ID)).ok_or_else(|| odd(line))?;
                if memmem::find(line, b"\"error\":").is_some() {
                    visit(Heard::Refused { number: Some(number), again_ms: None });
                } else {
                    visit(Heard::Ack { number: Some(number), seq: None });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_replies_in_a_frame_are_all_heard() {
        let frame = concat!(
            r#"{"push":{"channel":"r","pub":{"data":"t=1;"}}}"#,
            "\n",
            r#"{"id":15,"publish":{}}"#,
            "\n{}\n",
            r#"{"id":16,"error":{"code":103,"message":"permission denied"}}"#
        );
        let mut heard = Vec::new();
        Centrifugo.hear(frame.as_bytes(), &mut |one| heard.push(format!("{one:?}"))).expect("makes sense");
        let expected = [
            Heard::Message { text: b"t=1;", seq: None, stored: false },
            Heard::Ack { number: Some(5), seq: None },
            Heard::Answer(b"{}"),
            Heard::Refused { number: Some(6), again_ms: None },
        ];
        assert_eq!(heard, expected.map(|one| format!("{one:?}")));
    }

    #[test]
    fn odd_frames_are_errors() {
        for frame in
            ["", "[]", "{\"id\":1,\"connect\":{}}", "{\"push\":{}}", "{\"push\":{\"data\":\"no end", "{\"id\":x}"]
        {
            assert!(Centrifugo.hear(frame.as_bytes(), &mut |_| ()).is_err(), "{frame}");
        }
        for frame in ["", "{\"id\":1,\"error\":{}}", "{\"id\":7}"] {
            assert!(Centrifugo.entering(0, frame.as_bytes()).is_err(), "{frame}");
        }
    }
}
