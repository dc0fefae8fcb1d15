//! Load and measurement for Roundtable, from outside: it starts the release program and talks to it as any client does,
//! and shares no code with it.

#![deny(unsafe_code)]

mod bench;
mod broadcast;
mod child;
mod client;
mod clock;
mod cluster;
mod enter;
mod fail;
mod http;
mod idle;
mod plan;
mod proc;
mod raw;
mod report;
mod sends;
mod sys;
mod token;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Load and measurement for Roundtable", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure sessions, deliveries and durable sends on this machine
    Bench(Box<bench::Options>),
    /// Compute the nodes, Redis shards and PostgreSQL that a load needs, from measured unit costs
    Plan(Box<plan::Options>),
    /// Serve as the bare broadcaster that `bench` compares with; prints its port
    RawServer,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::RawServer => raw::serve(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => {
            eprintln!("{fail}");
            ExitCode::from(fail.exit_code())
        }
    }
}
