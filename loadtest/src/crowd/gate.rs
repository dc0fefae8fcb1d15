//! Before a run: is there a Roundtable at the target, does it take our tokens, and the rooms that the run needs. Each
//! answer that is no is one clear line.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use roundtable_client::scan::{self, codes, types};

use crate::crowd::job::Target;
use crate::crowd::names;
use crate::fail::{Fail, Result};
use crate::net::fleet::{Door, Fleet, Lost, Scenario};
use crate::net::http::Kept;
use crate::net::token::Mint;
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(10);
const MAKERS: usize = 4;

struct Knock {
    token: String,
    opened: bool,
    found: Option<std::result::Result<(), String>>,
}

impl Scenario for Knock {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        self.opened = true;
        let mut json = Vec::new();
        scan::hello(&mut json, 0, names::CLIENT, &self.token);
        fleet.send(conn, &json);
        Ok(())
    }

    fn frame(&mut self, _: &mut Fleet, _: usize, json: &[u8]) -> Result<()> {
        let text = || String::from_utf8_lossy(&json[..json.len().min(300)]).into_owned();
        self.found = Some(match scan::string(json, &scan::TYPE).unwrap_or_default() {
            types::WELCOME => Ok(()),
            types::ERROR if scan::string(json, &scan::CODE) == Some(codes::UNAUTHENTICATED.as_bytes()) => {
                Err("refuses the token: ROUNDTABLE__AUTH__JWT__SECRET must be the target's auth.jwt.secret".into())
            }
            types::ERROR => Err(format!("refuses us: {}", text())),
            _ => Err(format!("is not a Roundtable: it answered {}", text())),
        });
        Ok(())
    }

    fn lost(&mut self, _: &mut Fleet, _: usize, why: Lost) -> Result<()> {
        let what = match why {
            Lost::Connect(error) => format!("is not there: {error}"),
            Lost::Refused(_, line) => format!("is not a Roundtable: no WebSocket at /ws ({line})"),
            Lost::Closed(code, reason) => format!("closed at once with {code} {reason}"),
            Lost::Broken(error) if self.opened => format!("is not a Roundtable: {error}"),
            Lost::Broken(error) => format!("is not a WebSocket server: {error}"),
        };
        self.found.get_or_insert(Err(what));
        Ok(())
    }
}

/// Says hello at one server.
pub fn knock(server: SocketAddr, token: &str) -> std::result::Result<(), String> {
    let attempt = || -> Result<std::result::Result<(), String>> {
        let mut fleet = Fleet::new()?;
        let mut knock = Knock { token: token.to_owned(), opened: false, found: None };
        fleet.connect(&Door::roundtable(server))?;
        let until = Instant::now() + PATIENCE;
        while knock.found.is_none() && Instant::now() < until {
            fleet.turn(&mut knock, Instant::now() + Duration::from_millis(50))?;
        }
        let silent = if knock.opened { "does not answer `hello`" } else { "does not answer" };
        Ok(knock.found.unwrap_or_else(|| Err(format!("{silent} within {} s", PATIENCE.as_secs()))))
    };
    attempt().unwrap_or_else(|fail| Err(fail.to_string()))
}

/// At least one server lets us in; else why the first does not.
pub fn check(target: &Target) -> Result<()> {
    let token = Mint::new(&target.secret).token("lt-gate");
    let mut first = None;
    for &server in &target.servers {
        match knock(server, &token) {
            Ok(()) => return Ok(()),
            Err(_) if sys::stopped() => return Err(Fail::Interrupted),
            Err(why) => {
                first.get_or_insert(format!("ws://{server} {why}"));
            }
        }
    }
    Err(Fail::Setup(first.unwrap_or_else(|| "no target".into())))
}

/// Makes public rooms, over a few connections; tells how many there are after each.
pub fn make_rooms(target: &Target, rooms: &[String], tell: &(dyn Fn(usize) + Sync)) -> Result<()> {
    let token = Mint::new(&target.secret).token("lt-owner");
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed: Mutex<Option<String>> = Mutex::new(None);
    let make = |maker: usize| {
        let mut kept: Vec<Kept> = target.servers.iter().map(|&server| Kept::new(server)).collect();
        let mut turn = maker;
        while let Some(room) = rooms.get(next.fetch_add(1, Ordering::Relaxed)) {
            if sys::stopped() || failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            let until = Instant::now() + PATIENCE;
            let body = format!(r#"{{"id":"{room}","kind":"public"}}"#);
            // An attempt without an answer may have made it all the same; nobody else knows this run's names.
            let mut unknown = false;
            let trouble = loop {
                turn += 1;
                let at = turn % kept.len();
                let trouble = match kept[at].call("POST", "/api/v1/rooms", Some(&token), &body) {
                    Ok((201, _)) => break None,
                    Ok((409, _)) if unknown => break None,
                    Ok((status, body)) => {
                        unknown |= status >= 500;
                        format!("{status} {body}")
                    }
                    Err(error) => {
                        unknown = true;
                        error.to_string()
                    }
                };
                // Other servers may be up; and a target's own limits may ask for patience.
                if Instant::now() > until || sys::stopped() {
                    break Some(trouble);
                }
                thread::sleep(Duration::from_millis(50));
            };
            if let Some(trouble) = trouble {
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(format!("making room {room}: {trouble}"));
                }
                return;
            }
            tell(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || make(maker));
        }
    });
    match failed.into_inner() {
        _ if sys::stopped() => Err(Fail::Interrupted),
        Ok(Some(why)) => Err(Fail::Setup(why)),
        _ => Ok(()),
    }
}
