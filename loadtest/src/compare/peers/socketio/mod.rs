//! Socket.IO 4 with its Redis adapter: two processes of Node.js, one a core, with a server of a few lines that an
//! application would write too (`server.cjs`). Clients speak Engine.IO 4 over WebSocket from the first byte.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use crate::compare::dialect::{Dialect, Heard, Person, Step, odd};
use crate::compare::install::{self, Missing};
use crate::compare::server::{Held, Server, listens};
use crate::fail::{Fail, Result};
use crate::net::fleet::Door;
use crate::net::wire;
use crate::stack::child::{Child, Server as _, TempDir};
use crate::stack::options::Programs;
use crate::stack::ports::{free, loopback};
use crate::stack::redis::Redis;
use crate::stack::{PATIENCE, Parts};

const SERVER: &str = include_str!("server.cjs");
/// What npm is asked for: exact versions, so that a comparison can be repeated.
const PACKAGE: &str = include_str!("package.json");
/// As many as the other peers use cores.
const PROCESSES: usize = 2;

fn home(cache: &Path) -> PathBuf {
    cache.join("socketio")
}

pub fn missing(cache: &Path) -> Vec<Missing> {
    let mut missing = Vec::new();
    if install::program("node").is_none() {
        missing.push(Missing::Debian("nodejs"));
    }
    // What is there may be of an older list of versions.
    let same = fs::read_to_string(home(cache).join("package.json")).is_ok_and(|text| text == PACKAGE);
    if !same || !home(cache).join("node_modules/@socket.io/redis-adapter/package.json").is_file() {
        if install::program("npm").is_none() {
            missing.push(Missing::Debian("npm"));
        }
        missing.push(Missing::Npm { directory: home(cache), package: PACKAGE });
    }
    missing
}

pub fn start(programs: &Programs, cache: &Path) -> Result<Server> {
    let node = install::program("node").ok_or_else(|| Fail::Setup("no node on PATH".into()))?;
    let files = TempDir::new("socketio")?;
    let script = files.path().join("server.cjs");
    fs::write(&script, SERVER)?;
    let mut redis = Redis::start(&programs.redis, files.path())?;
    redis.until_ready(PATIENCE)?;
    let redis_url = redis.url_at(redis.port());
    let mut parts = Parts { bus: redis.pid().into_iter().collect(), ..Parts::default() };
    let mut children = Vec::new();
    let mut doors = Vec::new();
    for i in 0..PROCESSES {
        let door = loopback(free()?);
        let mut command = Command::new(&node);
        command
            .arg(&script)
            .args([door.port().to_string(), redis_url.clone()])
            .current_dir(files.path())
            .env("NODE_PATH", home(cache).join("node_modules"))
            .env("NODE_ENV", "production");
        let mut child = Child::start("node", &mut command, files.path().join(format!("node{i}.log")), libc::SIGTERM)?;
        child.wait_until(PATIENCE, || listens(door))?;
        doors.push(door);
        parts.nodes.push(child.pid());
        children.push(child);
    }
    let held = Held::Own { children, _redis: Some(Box::new(redis)), _postgres: None, _files: files };
    Ok(Server { dialect: Box::new(SocketIo), doors, parts, held })
}

/// Packets are text: `0` opens, `2` asks for a `3`, `4` carries Socket.IO's own: `40` connects to the namespace, `42` is
/// an event, `43` with a number answers the event of that number.
pub struct SocketIo;

impl Dialect for SocketIo {
    fn door(&self, person: &Person) -> Door {
        let host = person.server.to_string();
        Door {
            server: person.server,
            request: wire::upgrade_request(&host, "/socket.io/?EIO=4&transport=websocket", None, ""),
        }
    }

    fn ask(&self, person: &Person, step: u8, out: &mut Vec<u8>) {
        match step {
            0 => {}
            1 => out.extend_from_slice(b"40"),
            _ => write!(out, r#"420["join","{}"]"#, person.room).expect("a Vec takes everything"),
        }
    }

    fn entering(&self, step: u8, frame: &[u8]) -> std::result::Result<Step, String> {
        match (step, frame) {
            (_, b"2") => Ok(Step::Say(b"3")),
            (0, [b'0', b'{', ..]) => Ok(Step::Next(1)),
            (1, [b'4', b'0', b'{', ..]) => Ok(Step::Next(2)),
            (2, [b'4', b'3', b'0', b'[', ..]) => Ok(Step::In),
            _ => Err(odd(frame)),
        }
    }

    fn publish(&self, person: &Person, _: u64, text: &[u8], out: &mut Vec<u8>) {
        write!(out, r#"42["m","{}",""#, person.room).expect("a Vec takes everything");
        out.extend_from_slice(text);
        out.extend_from_slice(b"\"]");
    }

    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> std::result::Result<(), String> {
        if frame == b"2" {
            visit(Heard::Answer(b"3"));
            return Ok(());
        }
        let text = frame.strip_prefix(br#"42["m",""#).and_then(|rest| Some(&rest[..memmem::find(rest, b"\"]")?]));
        visit(Heard::Message { text: text.ok_or_else(|| odd(frame))?, seq: None, stored: false });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_keepalives_are_read() {
        let mut heard = Vec::new();
        for frame in [&br#"42["m","t=1;"]"#[..], b"2"] {
            SocketIo.hear(frame, &mut |one| heard.push(format!("{one:?}"))).expect("makes sense");
        }
        let message = Heard::Message { text: b"t=1;", seq: None, stored: false };
        assert_eq!(heard, [format!("{message:?}"), format!("{:?}", Heard::Answer(b"3"))]);
    }

    #[test]
    fn odd_frames_are_errors() {
        for frame in [&b""[..], b"4", b"42", br#"42["m""#, br#"42["m","no end"#, b"41", b"44{}", b"\xff"] {
            assert!(SocketIo.hear(frame, &mut |_| ()).is_err(), "{frame:?}");
        }
        for (step, frame) in [(0, &b""[..]), (0, b"40{}"), (1, b"44{\"message\":\"no\"}"), (2, b"431[]"), (9, b"3")] {
            assert!(SocketIo.entering(step, frame).is_err(), "{frame:?}");
        }
    }
}
