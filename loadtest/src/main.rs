//! Load and measurement for Roundtable, from outside: it starts the release program and talks to it as any client does,
//! and shares no code with it, only the protocol's words with `roundtable-client`.

#![deny(unsafe_code)]

mod bench;
mod chaos;
mod checker;
mod clock;
mod compare;
mod crowd;
mod fail;
mod net;
mod plan;
mod proc;
mod raw;
mod report;
mod scenario;
mod stack;
mod sys;
mod upgrade;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Status;

#[derive(Parser)]
#[command(version, about = "Load and measurement for Roundtable", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put a load on Roundtable, measure it, and judge every history
    Run(Box<scenario::command::Options>),
    /// Start a private cluster and keep it until Ctrl-C
    Cluster(Box<stack::command::Options>),
    /// Compute the nodes, Redis shards and PostgreSQL that a load needs, from measured unit costs
    Plan(Box<plan::Options>),
    /// Break a private cluster in every way under load, and check that nothing was lost
    Chaos(Box<chaos::command::Options>),
    /// Roll a private cluster from one release to another under load, and back, and check that nothing was lost
    Upgrade(Box<upgrade::command::Options>),
    /// The same work against Roundtable and what people would pick instead
    Compare(Box<compare::Options>),
    /// Time one kind of call against a private node whose database was filled on purpose
    Bench(Box<bench::Options>),
    /// Serve as the bare broadcaster that `compare raw` compares with; prints its port
    RawServer,
    /// Play a share of a run's people; started by the other commands
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    let held = |()| Status::Held;
    let result = match Cli::parse().command {
        Command::Run(options) => scenario::command::run(&options),
        Command::Cluster(options) => stack::command::run(&options).map(held),
        Command::Plan(options) => plan::run(&options).map(held),
        Command::Chaos(options) => chaos::command::run(&options),
        Command::Upgrade(options) => upgrade::command::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::RawServer => raw::serve().map(held),
        Command::Worker => crowd::worker::run().map(held),
    };
    match result {
        Ok(status) => ExitCode::from(status.exit_code()),
        Err(fail) => {
            eprintln!("{fail}");
            ExitCode::from(fail.exit_code())
        }
    }
}
