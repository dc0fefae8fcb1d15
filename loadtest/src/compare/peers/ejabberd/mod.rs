//! ejabberd of Debian: rooms are MUC rooms (XEP-0045), clients speak XMPP over WebSocket (RFC 7395) and log in
//! anonymously. Measured twice: keeping nothing, and with every room's messages archived in PostgreSQL (XEP-0313).
//!
//! Archived means here: the room's process hands the message to the database and waits for the answer before it sends
//! the message on, so a sender that sees its own message come back with a `stanza-id` knows that the store was asked and
//! had answered. (Should the store have refused, ejabberd sends the message on all the same.) A sender has to be in the
//! room and gets its own messages; so it is with every peer here.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use roundtable_client::scan;

use crate::compare::dialect::{Dialect, Heard, Person, Step, StoredSign, odd};
use crate::compare::install::{self, Missing};
use crate::compare::server::{Held, Server, listens};
use crate::fail::{Fail, Result};
use crate::net::fleet::Door;
use crate::net::wire;
use crate::stack::child::{Child, Server as _, TempDir};
use crate::stack::options::Programs;
use crate::stack::ports::{free, loopback};
use crate::stack::postgres::{self, Postgres};
use crate::stack::{PATIENCE, Parts};

const CONFIG: &str = include_str!("ejabberd.yml");
/// Comes after [`CONFIG`]'s modules.
const ARCHIVE: &str = include_str!("archive.yml");
/// What PostgreSQL admits; the archive's pool takes 50 of them.
const CONNECTIONS: usize = 200;

/// The directory above ejabberd's own libraries, where Debian has it.
fn libraries() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    [format!("/usr/lib/{machine}-linux-gnu"), "/usr/lib".to_owned()].into_iter().map(PathBuf::from).find(|dir| {
        let found = fs::read_dir(dir).into_iter().flatten().flatten();
        found.into_iter().any(|entry| {
            entry.file_name().to_string_lossy().starts_with("ejabberd-") && entry.path().join("ebin").is_dir()
        })
    })
}

fn schema() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/share/ejabberd/sql/pg.sql");
    path.is_file().then_some(path)
}

pub fn missing(archive: bool) -> Vec<Missing> {
    let mut missing = Vec::new();
    if install::program("erl").is_none() || libraries().is_none() {
        missing.push(Missing::Debian("ejabberd"));
    }
    let driver = fs::read_dir("/usr/lib/erlang/lib").into_iter().flatten().flatten();
    if archive && !driver.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("p1_pgsql-")) {
        missing.push(Missing::Debian("erlang-p1-pgsql"));
    }
    missing
}

pub fn start(programs: &Programs, archive: bool) -> Result<Server> {
    let gone = || Fail::Setup("ejabberd is not where Debian puts it".into());
    let erl = install::program("erl").ok_or_else(gone)?;
    let libraries = libraries().ok_or_else(gone)?;
    let files = TempDir::new("ejabberd")?;
    // PostgreSQL runs under another user and has its data in here.
    fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut parts = Parts::default();
    let door = loopback(free()?);
    let mut config = CONFIG.replace("@PORT@", &door.port().to_string()).replace("@MAM@", &archive.to_string());
    let mut store = None;
    if archive {
        let bin = programs.postgres_bin.clone();
        let mut postgres = Postgres::start(bin.as_deref(), files.path(), CONNECTIONS)?;
        postgres.until_ready(PATIENCE)?;
        parts.store.extend(postgres.pid());
        let bin = bin.or_else(|| postgres::find("initdb")).unwrap_or_default();
        make_tables(&bin.join("psql"), &postgres.url_at(postgres.port()))?;
        config.push_str(&ARCHIVE.replace("@POSTGRES_PORT@", &postgres.port().to_string()));
        store = Some(Box::new(postgres));
    }
    let config_file = files.path().join("ejabberd.yml");
    fs::write(&config_file, config)?;
    let spool = files.path().join("spool");
    fs::create_dir(&spool)?;
    let mut command = Command::new(erl);
    // As `ejabberdctl foreground` starts it, but without a node name: no cluster, so no daemon for one either.
    command
        .args(["-noinput", "+K", "true", "+P", "250000"])
        // Schedulers that wait for work don't spin: that would count as CPU that deliveries use.
        .args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"])
        .args(["-mnesia", "dir"])
        .arg(format!("\"{}\"", spool.display()))
        .args(["-s", "ejabberd"])
        .current_dir(files.path())
        .env("HOME", files.path())
        .env("ERL_LIBS", libraries)
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        .env("EJABBERD_CONFIG_PATH", &config_file)
        .env("EJABBERD_LOG_PATH", files.path().join("ejabberd-own.log"));
    let mut child = Child::start("ejabberd", &mut command, files.path().join("ejabberd.log"), libc::SIGKILL)?;
    child.wait_until(PATIENCE, || listens(door))?;
    parts.nodes.push(child.pid());
    let dialect = Box::new(Xmpp { archive });
    let held = Held::Own { children: vec![child], _redis: None, _postgres: store, _files: files };
    Ok(Server { dialect, doors: vec![door], parts, held })
}

/// The tables of its archive, by PostgreSQL's own client beside the server or on the path.
fn make_tables(beside: &Path, url: &str) -> Result<()> {
    let psql = if beside.is_file() { beside } else { Path::new("psql") };
    let schema = schema().ok_or_else(|| Fail::Setup("ejabberd's pg.sql is not where Debian puts it".into()))?;
    let mut command = Command::new(psql);
    command.args(["-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(schema).arg(url);
    let made = command.output().map_err(|error| Fail::Setup(format!("psql: {error}")))?;
    if made.status.success() {
        return Ok(());
    }
    Err(Fail::Setup(format!("ejabberd's tables: {}", String::from_utf8_lossy(&made.stderr))))
}

/// XMPP: whole stanzas, one a frame. They are scanned for what they must have, not parsed.
pub struct Xmpp {
    archive: bool,
}

const OPEN: &str = r#"<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="localhost" version="1.0"/>"#;

fn has(frame: &[u8], what: &str) -> bool {
    memmem::find(frame, what.as_bytes()).is_some()
}

impl Dialect for Xmpp {
    fn door(&self, person: &Person) -> Door {
        let host = person.server.to_string();
        Door { server: person.server, request: wire::upgrade_request(&host, "/ws", Some("xmpp"), "") }
    }

    fn ask(&self, person: &Person, step: u8, out: &mut Vec<u8>) {
        let (room, number) = (&person.room, person.number);
        let said = match step {
            0 | 2 => write!(out, "{OPEN}"),
            1 => write!(out, r#"<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="ANONYMOUS"/>"#),
            3 => write!(
                out,
                r#"<iq xmlns="jabber:client" type="set" id="b"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></iq>"#
            ),
            _ => write!(
                out,
                r#"<presence xmlns="jabber:client" to="{room}@conference.localhost/p{number}"><x xmlns="http://jabber.org/protocol/muc"><history maxstanzas="0"/></x></presence>"#
            ),
        };
        said.expect("a Vec takes everything");
    }

    fn entering(&self, step: u8, frame: &[u8]) -> std::result::Result<Step, String> {
        let is = |start: &str| frame.starts_with(start.as_bytes());
        if is("<open ") {
            return if matches!(step, 0 | 2) { Ok(Step::Stay) } else { Err(odd(frame)) };
        }
        match step {
            0 if is("<stream:features") && has(frame, "ANONYMOUS") => Ok(Step::Next(1)),
            1 if is("<success") => Ok(Step::Next(2)),
            2 if is("<stream:features") && has(frame, "xmpp-bind") => Ok(Step::Next(3)),
            3 if is("<iq ") && has(frame, "type='result'") => Ok(Step::Next(4)),
            // One's own presence ends the list of occupants; the subject, empty, ends what a newcomer is told.
            4 if is("<presence ") && !has(frame, "type='error'") => Ok(Step::Stay),
            4 if is("<message ") && has(frame, "<subject") => Ok(Step::In),
            _ => Err(odd(frame)),
        }
    }

    fn publish(&self, person: &Person, number: u64, text: &[u8], out: &mut Vec<u8>) {
        let room = &person.room;
        write!(
            out,
            r#"<message xmlns="jabber:client" type="groupchat" to="{room}@conference.localhost" id="{number}"><body>"#
        )
        .expect("a Vec takes everything");
        out.extend_from_slice(text);
        out.extend_from_slice(b"</body></message>");
    }

    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> std::result::Result<(), String> {
        if frame.starts_with(b"<presence ") && !has(frame, "type='error'") {
            return Ok(());
        }
        if !frame.starts_with(b"<message ") {
            return Err(odd(frame));
        }
        if has(frame, "type='error'") {
            let id = memmem::find(frame, b" id='").and_then(|at| scan::digits(&frame[at + 5..]));
            visit(Heard::Refused { number: id, again_ms: None });
            return Ok(());
        }
        if has(frame, "<subject") {
            return Ok(());
        }
        let body = memmem::find(frame, b"<body>").map(|at| &frame[at + 6..]);
        let body = body.and_then(|rest| Some(&rest[..memchr::memchr(b'<', rest)?]));
        let text = body.ok_or_else(|| odd(frame))?;
        visit(Heard::Message { text, seq: None, stored: self.archive && has(frame, "<stanza-id ") });
        Ok(())
    }

    fn stored_sign(&self) -> StoredSign {
        if self.archive { StoredSign::Echo } else { StoredSign::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(archive: bool, frame: &str) -> std::result::Result<Vec<String>, String> {
        let mut heard = Vec::new();
        Xmpp { archive }.hear(frame.as_bytes(), &mut |one| heard.push(format!("{one:?}"))).map(|()| heard)
    }

    #[test]
    fn messages_refusals_and_presence_are_told_apart() {
        let plain = "<message xmlns='jabber:client' from='r@c/p1' type='groupchat' id='7'><body>t=1;</body></message>";
        let kept = plain.replace("</body>", "</body><stanza-id xmlns='urn:xmpp:sid:0' id='1' by='r@c'/>");
        let message = |stored| format!("{:?}", Heard::Message { text: b"t=1;", seq: None, stored });
        assert_eq!(hear(true, plain), Ok(vec![message(false)]));
        assert_eq!(hear(true, &kept), Ok(vec![message(true)]));
        assert_eq!(hear(false, &kept), Ok(vec![message(false)]), "nothing was to be stored");
        let refused = "<message from='r@c' type='error' id='8'><error type='wait'/><body>t=1;</body></message>";
        let expected = format!("{:?}", Heard::Refused { number: Some(8), again_ms: None });
        assert_eq!(hear(false, refused), Ok(vec![expected]));
        assert_eq!(hear(false, "<presence from='r@c/p2'/>"), Ok(vec![]));
    }

    #[test]
    fn odd_frames_are_errors() {
        for frame in ["", "<", "<message >", "<message ><body>no end", "<stream:error/>", "<close xmlns='x'/>", "{}"] {
            assert!(hear(true, frame).is_err(), "{frame}");
        }
        let entering = |step, frame: &str| Xmpp { archive: false }.entering(step, frame.as_bytes());
        assert!(entering(1, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").is_err());
        assert!(entering(4, "<presence type='error'/>").is_err());
        assert!(entering(1, "<open />").is_err());
        assert_eq!(entering(4, "<message type='groupchat'><subject/></message>"), Ok(Step::In));
    }
}
