//! Roundtable itself, and the bare broadcaster that speaks as much of its protocol as this needs.

use std::fs;
use std::process::Command;

use roundtable_client::scan::{self, types};

use crate::compare::dialect::{Dialect, Heard, Person, Step, StoredSign, odd};
use crate::compare::peers::Places;
use crate::compare::server::{Held, Server};
use crate::crowd::names;
use crate::fail::{Fail, Result};
use crate::net::fleet::Door;
use crate::net::token::Mint;
use crate::stack::child::{Child, TempDir};
use crate::stack::ports::loopback;
use crate::stack::{PATIENCE, Parts, Setup, Stack, Store};

/// Nodes with PostgreSQL, and Redis where there are several, as every command of the harness starts them: no limits of
/// messages and requests a minute, otherwise its defaults.
pub fn start(places: &Places, nodes: usize) -> Result<Server> {
    let setup = Setup {
        programs: places.programs.clone(),
        nodes,
        store: Store::Postgres,
        settings: places.stack.settings.clone(),
        env: places.stack.env.clone(),
        proxied: false,
        spare: 0,
    };
    let stack = Stack::start(&setup, &mut |_| {})?;
    let target = stack.target();
    let dialect = Box::new(Roundtable { mint: Mint::new(&target.secret), stores: true });
    Ok(Server { dialect, doors: target.servers, parts: stack.parts(), held: Held::Stack(Box::new(stack)) })
}

/// The bare broadcaster, from this same program.
pub fn start_raw() -> Result<Server> {
    let files = TempDir::new("raw")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("raw-server");
    let mut child = Child::start("raw", &mut command, files.path().join("raw.log"), libc::SIGTERM)?;
    let log = child.log().to_owned();
    let mut port = None;
    child.wait_until(PATIENCE, || {
        port = fs::read_to_string(&log).ok().and_then(|text| text.lines().next()?.parse::<u16>().ok());
        port.is_some()
    })?;
    let port = port.ok_or_else(|| Fail::Setup("the bare broadcaster told no port".into()))?;
    let parts = Parts { nodes: vec![child.pid()], ..Parts::default() };
    let dialect = Box::new(Roundtable { mint: Mint::new("unused"), stores: false });
    let held = Held::Own { children: vec![child], _redis: None, _postgres: None, _files: files };
    Ok(Server { dialect, doors: vec![loopback(port)], parts, held })
}

pub struct Roundtable {
    pub mint: Mint,
    /// The bare broadcaster answers before anything is stored.
    pub stores: bool,
}

/// Everybody's user, by its number.
fn user(number: usize) -> String {
    format!("person-{number}")
}

impl Dialect for Roundtable {
    fn door(&self, person: &Person) -> Door {
        Door::roundtable(person.server)
    }

    fn ask(&self, person: &Person, step: u8, out: &mut Vec<u8>) {
        let (room, token) = (&person.room, self.mint.token(&user(person.number)));
        match step {
            0 => scan::hello(out, 0, names::CLIENT, &token),
            1 => scan::join(out, 1, room),
            _ => scan::subscribe(out, 2, room, None),
        }
    }

    fn entering(&self, step: u8, frame: &[u8]) -> std::result::Result<Step, String> {
        match (scan::string(frame, &scan::TYPE).unwrap_or_default(), step) {
            (types::WELCOME, 0) => Ok(Step::Next(1)),
            (types::OK, 1) => Ok(Step::Next(2)),
            (types::SUBSCRIBED, 2) => match scan::number(frame, &scan::HEAD) {
                Some(0) => Ok(Step::In),
                _ => Err(format!("the room is not new: {}", odd(frame))),
            },
            (types::ERROR, _) if scan::RETRYABLE.find(frame).is_some() => {
                Ok(Step::Again(scan::number(frame, &scan::RETRY).unwrap_or(100)))
            }
            (types::PRESENCE | types::NOTICE, _) => Ok(Step::Stay),
            _ => Err(odd(frame)),
        }
    }

    fn publish(&self, person: &Person, number: u64, text: &[u8], out: &mut Vec<u8>) {
        scan::send(out, number, &person.room, number, |out| out.extend_from_slice(text));
    }

    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> std::result::Result<(), String> {
        let number = || scan::number(frame, &scan::REF);
        match scan::string(frame, &scan::TYPE).unwrap_or_default() {
            types::EVENTS => {
                entries(frame, |seq, text| visit(Heard::Message { text, seq: Some(seq), stored: self.stores }));
                Ok(())
            }
            types::SENT => {
                visit(Heard::Ack { number: number(), seq: scan::number(frame, &scan::SEQ) });
                Ok(())
            }
            types::ERROR if number().is_some() => {
                let again = scan::RETRYABLE.find(frame).map(|_| scan::number(frame, &scan::RETRY).unwrap_or(20));
                visit(Heard::Refused { number: number(), again_ms: again });
                Ok(())
            }
            types::PRESENCE | types::NOTICE | types::TYPING | types::READ => Ok(()),
            _ => Err(odd(frame)),
        }
    }

    fn stored_sign(&self) -> StoredSign {
        if self.stores { StoredSign::Ack } else { StoredSign::None }
    }
}

/// Visits the entries of an `events` or `history` frame: `seq`, and its text, empty where it has none.
pub fn entries<'a>(json: &'a [u8], mut visit: impl FnMut(u64, &'a [u8])) {
    let mut rest = json;
    while let Some(at) = scan::SEQ.find(rest) {
        rest = &rest[at + scan::SEQ.needle().len()..];
        let Some(seq) = scan::digits(rest) else { continue };
        let entry = &rest[..scan::SEQ.find(rest).unwrap_or(rest.len())];
        visit(seq, scan::string(entry, &scan::TEXT_KEY).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect() -> Roundtable {
        Roundtable { mint: Mint::new("secret"), stores: true }
    }

    #[test]
    fn entries_acks_and_refusals_are_told_apart() {
        let mut heard = Vec::new();
        let frames = [
            r#"{"type":"events","room":"r","events":[{"seq":1,"kind":"message","text":"a"},{"seq":2,"kind":"delete"}]}"#,
            r#"{"type":"sent","ref":7,"room":"r","id":"7","seq":9,"duplicate":false}"#,
            r#"{"type":"error","ref":8,"code":"overloaded","retryable":true,"retry_after_ms":50}"#,
            r#"{"type":"error","ref":9,"code":"forbidden","retryable":false}"#,
            r#"{"type":"presence","room":"r","online":5}"#,
        ];
        for frame in frames {
            dialect().hear(frame.as_bytes(), &mut |one| heard.push(format!("{one:?}"))).expect("makes sense");
        }
        let text = |text: &[u8], seq| format!("{:?}", Heard::Message { text, seq: Some(seq), stored: true });
        assert_eq!(heard[..2], [text(b"a", 1), text(b"", 2)]);
        assert_eq!(heard[2], format!("{:?}", Heard::Ack { number: Some(7), seq: Some(9) }));
        assert_eq!(heard[3], format!("{:?}", Heard::Refused { number: Some(8), again_ms: Some(50) }));
        assert_eq!(heard[4], format!("{:?}", Heard::Refused { number: Some(9), again_ms: None }));
        assert_eq!(heard.len(), 5);
    }

    #[test]
    fn odd_frames_are_errors() {
        for frame in [&b""[..], b"{", b"\xff\xfe", br#"{"type":"error","code":"x"}"#, br#"{"type":"welcome"}"#] {
            assert!(dialect().hear(frame, &mut |_| ()).is_err());
        }
        assert!(dialect().entering(2, br#"{"type":"subscribed","room":"r","head":5}"#).is_err());
        assert!(dialect().entering(0, br#"{"type":"subscribed","room":"r","head":0}"#).is_err());
    }
}
