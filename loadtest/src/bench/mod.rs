//! `bench WHAT`: a private node on a PostgreSQL that is filled on purpose, and one kind of call timed against it, one
//! after the other. What a call takes among others is the `run` scenarios' matter.

mod language;
mod my_rooms;
mod search;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::fail::{Fail, Result};
use crate::net::http::Kept;
use crate::net::token::Mint;
use crate::report::Status;
use crate::report::table::{Table, machine};
use crate::stack::options::StackOptions;
use crate::stack::{Setup, Stack, Store};
use crate::sys;

#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// `GET me/rooms` for somebody in many rooms, with unread messages and mentions in them
    MeRooms(my_rooms::Options),
    /// `GET search` over very many messages, for words of every frequency
    Search(search::Options),
}

/// What every bench takes.
#[derive(Args, Debug)]
pub struct Common {
    /// Timed calls
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    stack: StackOptions,
}

pub fn run(options: &Options) -> Result<Status> {
    sys::watch_for_stop()?;
    match &options.what {
        What::MeRooms(options) => my_rooms::run(options),
        What::Search(options) => search::run(options),
    }
}

/// One node with its own PostgreSQL, and a client of it.
struct Bench {
    stack: Stack,
    mint: Mint,
    http: Kept,
}

impl Bench {
    fn start(common: &Common) -> Result<Self> {
        let setup = Setup {
            programs: common.stack.programs()?,
            nodes: 1,
            store: Store::Postgres,
            settings: common.stack.settings.clone(),
            env: common.stack.env.clone(),
            proxied: false,
            spare: 0,
        };
        let stack = Stack::start(&setup, &mut |what| eprintln!("{what}"))?;
        let target = stack.target();
        Ok(Self { mint: Mint::new(&target.secret), http: Kept::new(target.servers[0]), stack })
    }

    /// Has the node's PostgreSQL run a script, as fast as it goes: nothing of it is measured.
    fn sql(&mut self, script: &str) -> Result<()> {
        self.stack.postgres_mut()?.run(script)
    }

    /// One call, which must be answered with 2xx; its body.
    fn call(&mut self, method: &str, path: &str, token: &str, body: &str) -> Result<String> {
        let answer = self.http.call(method, &format!("/api/v1/{path}"), Some(token), body);
        let (status, body) = answer.map_err(|error| Fail::Broken(format!("{method} {path}: {error}")))?;
        if sys::stopped() {
            return Err(Fail::Interrupted);
        }
        if (200..300).contains(&status) {
            Ok(body)
        } else {
            Err(Fail::Broken(format!("{method} {path}: {status} {body}")))
        }
    }

    /// The same, as JSON.
    fn json(&mut self, method: &str, path: &str, token: &str, body: &str) -> Result<Value> {
        let answer = self.call(method, path, token, body)?;
        serde_json::from_str(&answer).map_err(|error| Fail::Broken(format!("{method} {path}: {error}")))
    }
}

/// The times of one kind of call.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Times one call.
    fn time<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let answer = call()?;
        self.0.push(began.elapsed());
        Ok(answer)
    }

    /// In milliseconds: the smallest time that so many of all were not above.
    fn quantile_ms(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map(|time| time.as_secs_f64() * 1e3)
    }
}

/// What a bench measured: its name, what was there, and the times of each kind of call.
struct Figures {
    bench: &'static str,
    about: Value,
    kinds: Vec<(&'static str, Times)>,
}

impl Figures {
    /// Prints the table, and writes the JSON where it is wanted.
    fn deliver(&self, common: &Common) -> Result<Status> {
        let quantiles = [("p50 ms", "p50_ms", 0.5), ("p95 ms", "p95_ms", 0.95), ("p99 ms", "p99_ms", 0.99)];
        let mut columns = vec![self.bench, "calls"];
        columns.extend(quantiles.iter().map(|(column, ..)| column));
        let mut table = Table::new(&columns);
        let mut kinds = serde_json::Map::new();
        for (name, times) in &self.kinds {
            let values: Vec<_> = quantiles.iter().map(|&(.., q)| times.quantile_ms(q)).collect();
            let mut row = vec![Some(times.0.len() as f64)];
            row.extend(&values);
            table.row(name, &row);
            let mut figures = serde_json::Map::from_iter([("calls".to_owned(), json!(times.0.len()))]);
            figures.extend(quantiles.iter().zip(values).map(|(&(_, key, _), value)| (key.to_owned(), json!(value))));
            kinds.insert((*name).to_owned(), figures.into());
        }
        print!("{}\n{}", table.render(), wording(&self.about));
        if let Some(path) = &common.json {
            let all = json!({"bench": self.bench, "about": self.about, "calls": kinds, "machine": machine()});
            fs::write(path, format!("{all:#}\n"))
                .map_err(|error| Fail::Unwritten(format!("{}: {error}", path.display())))?;
        }
        Ok(Status::Held)
    }
}

/// What was there, a line a figure.
fn wording(about: &Value) -> String {
    let pairs = about.as_object().into_iter().flatten();
    pairs.map(|(name, value)| format!("{}: {value}\n", name.replace('_', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = Times((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.quantile_ms(0.5), Some(100.0));
        assert_eq!(times.quantile_ms(0.95), Some(190.0));
        assert_eq!(times.quantile_ms(0.99), Some(198.0));
        assert_eq!(Times::default().quantile_ms(0.5), None);
        assert_eq!(Times(vec![Duration::from_millis(7)]).quantile_ms(0.99), Some(7.0));
    }
}
