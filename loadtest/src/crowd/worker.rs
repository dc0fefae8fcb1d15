//! A worker process: plays its people as the conductor orders, tells the news a few times a second, and leaves its
//! ledger in a file. It ends when its standard input does, so it never outlives its conductor.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::news::{Job, News, Order};
use crate::crowd::player::{Phase, Player};
use crate::crowd::schedule;
use crate::crowd::web::Web;
use crate::fail::{Fail, Result};
use crate::net::fleet::Fleet;
use crate::net::token::Mint;
use crate::sys;

/// Between two news.
const BEAT: Duration = Duration::from_millis(250);
/// Longest wait of a turn, so that orders are heard.
const TURN: Duration = Duration::from_millis(10);

fn tell(news: &News) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, news).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Runs until the last order is carried out.
pub fn run() -> Result<()> {
    sys::sharp_timers();
    sys::raise_file_limit()?;
    let mut lines = io::BufReader::new(io::stdin()).lines();
    let broken = |what: &str| Fail::Setup(format!("a worker was given {what}"));
    let first = lines.next().ok_or_else(|| broken("no job"))??;
    let job: Job =
        serde_json::from_str(&first).map_err(|error| broken(&format!("a job that it can't read: {error}")))?;
    let (order, orders) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for line in lines {
            let Ok(Ok(next)) = line.map(|line| serde_json::from_str(&line)) else { return };
            if order.send(next).is_err() {
                return;
            }
        }
    });
    let mut fleet = Fleet::new()?;
    // A second worker's connections come from addresses of their own, or they would run out of ports.
    fleet.source_net = job.worker as u8;
    let mut player = Player::new(job.clone());
    let mut web: Option<Web> = None;
    let (mut next_beat, mut was, mut told) = (Instant::now(), Phase::Entering, false);
    loop {
        match orders.try_recv() {
            Ok(Order::Go(begin_ns)) => {
                player.go(begin_ns);
                web = start_web(&job, begin_ns);
            }
            Ok(Order::Settle(within_s)) => player.settle(Duration::from_secs_f64(within_s)),
            Ok(Order::Heads(heads, within_s)) => player.finish(&mut fleet, heads, Duration::from_secs_f64(within_s)),
            Err(TryRecvError::Empty) => {}
            // The conductor is gone.
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let now = Instant::now();
        player.step(&mut fleet, now)?;
        if let Some(why) = player.take_failure() {
            tell(&News::Failed(why))?;
        }
        let phase = player.phase();
        if was == Phase::Entering && phase == Phase::Waiting {
            tell(&News::Ready)?;
        }
        was = phase;
        if player.settled(now) && !told {
            told = true;
            web = None;
            player.give_up_unanswered(now);
            tell(&News::Live(Box::new(player.interval())))?;
            tell(&News::Settled { unanswered: player.unanswered() })?;
        }
        if player.finished(&mut fleet, now) {
            player.ledger().save(&job.ledger)?;
            return tell(&News::Done(Box::new(player.totals())));
        }
        if now >= next_beat {
            next_beat = now + BEAT;
            for answer in web.iter().flat_map(|web| web.answers.try_iter()) {
                player.tally().took("http", answer.wait);
                player.tally().count("http_requests");
                if !answer.good {
                    player.tally().error("http");
                }
            }
            let (done, of) = player.entered();
            if phase == Phase::Entering {
                tell(&News::Entering { done: done as u64, of: of as u64 })?;
            } else {
                tell(&News::Live(Box::new(player.interval())))?;
            }
        }
        let until = player.next_due().map_or(now + TURN, |due| due.min(now + TURN)).min(next_beat);
        fleet.turn(&mut player, until)?;
    }
}

fn start_web(job: &Job, begin_ns: u64) -> Option<Web> {
    if job.load.http_per_s <= 0.0 || job.rooms.is_empty() {
        return None;
    }
    let begin = Instant::now() + Duration::from_nanos(begin_ns.saturating_sub(sys::monotonic_ns()));
    let token = Mint::new(&job.target.secret).token("lt-web");
    let seconds = schedule::length_s(&job.load);
    Some(Web::start(&job.target.servers, &token, &job.rooms, job.load.http_per_s, begin, seconds))
}
