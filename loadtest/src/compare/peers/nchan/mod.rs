//! nchan, the publish-subscribe module of nginx, from Debian: channels in memory, shared by two worker processes.
//! Clients subscribe and publish over one WebSocket, the module's own cheapest way to publish: no HTTP request each, no
//! answer each.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::compare::dialect::{Dialect, Heard, Person, Step};
use crate::compare::install::{self, Missing};
use crate::compare::server::{Held, Server, listens};
use crate::fail::{Fail, Result};
use crate::net::fleet::Door;
use crate::net::wire;
use crate::stack::child::{Child, TempDir};
use crate::stack::ports::{free, loopback};
use crate::stack::{PATIENCE, Parts};

const CONFIG: &str = include_str!("nginx.conf");
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub fn missing() -> Vec<Missing> {
    let mut missing = Vec::new();
    if install::program("nginx").is_none() {
        missing.push(Missing::Debian("nginx"));
    }
    if !PathBuf::from(MODULE).is_file() {
        missing.push(Missing::Debian("libnginx-mod-nchan"));
    }
    missing
}

/// Room for `connections` at most.
pub fn start(connections: usize) -> Result<Server> {
    let nginx = install::program("nginx").ok_or_else(|| Fail::Setup("no nginx on PATH".into()))?;
    let files = TempDir::new("nchan")?;
    // The workers run under another user.
    fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let door = loopback(free()?);
    let config = CONFIG
        .replace("@MODULE@", MODULE)
        .replace("@PORT@", &door.port().to_string())
        .replace("@CONNECTIONS@", &(connections + 500).to_string());
    let config_file = files.path().join("nginx.conf");
    fs::write(&config_file, config)?;
    // Workers outlive a master that is killed; this has the kernel end the master in order should we be.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(nginx).arg("-p").arg(files.path()).arg("-c").arg(&config_file);
    command.args(["-e", "stderr"]);
    let mut child = Child::start("nginx", &mut command, files.path().join("nginx.log"), libc::SIGTERM)?;
    child.wait_until(PATIENCE, || listens(door))?;
    let parts = Parts { nodes: vec![child.pid()], ..Parts::default() };
    let held = Held::Own { children: vec![child], _redis: None, _postgres: None, _files: files };
    Ok(Server { dialect: Box::new(Nchan), doors: vec![door], parts, held })
}

/// A frame is a message, bare, in both directions; being upgraded is being subscribed.
pub struct Nchan;

impl Dialect for Nchan {
    fn door(&self, person: &Person) -> Door {
        let (host, path) = (person.server.to_string(), format!("/room/{}", person.room));
        Door { server: person.server, request: wire::upgrade_request(&host, &path, None, "") }
    }

    fn first(&self) -> Step {
        Step::In
    }

    fn ask(&self, _: &Person, _: u8, _: &mut Vec<u8>) {}

    fn entering(&self, _: u8, _: &[u8]) -> std::result::Result<Step, String> {
        Ok(Step::Stay)
    }

    fn publish(&self, _: &Person, _: u64, text: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(text);
    }

    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> std::result::Result<(), String> {
        visit(Heard::Message { text: frame, seq: None, stored: false });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_message_whatever_it_holds() {
        // What bears no tag is counted as a stray by whoever listens.
        for frame in [&b"t=1;"[..], b"", b"\xff\x00"] {
            let mut heard = Vec::new();
            Nchan.hear(frame, &mut |one| heard.push(format!("{one:?}"))).expect("always a message");
            assert_eq!(heard, [format!("{:?}", Heard::Message { text: frame, seq: None, stored: false })]);
        }
    }

    #[test]
    fn the_channel_is_the_room() {
        let person = Person { number: 0, room: "r-1".into(), server: loopback(80) };
        assert!(Nchan.door(&person).request.starts_with("GET /room/r-1 HTTP/1.1\r\n"));
    }
}
