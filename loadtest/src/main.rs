//! Load and measurement for Roundtable, from outside: it starts the release program and talks to it as any client does,
//! and shares no code with it.

#![deny(unsafe_code)]

mod bench;
mod broadcast;
mod clock;
mod compare;
mod crowd;
mod enter;
mod fail;
mod idle;
mod net;
mod proc;
mod raw;
mod report;
mod sends;
mod stack;
mod sys;

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
    /// The same work against Roundtable and what people would pick instead
    Compare(Box<compare::Options>),
    /// Serve as the bare broadcaster that `bench` compares with; prints its port
    RawServer,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Compare(options) => compare::run(&options),
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
