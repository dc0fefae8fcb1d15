//! The command line: no arguments serves; the rest checks settings or runs migrations.
//!
//! Exit status: 0 done; 1 could not be done (a port is taken, the store refuses); 2 a setting or an argument is wrong.
//! What goes wrong before the log is set up is one line on standard error, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roundtable::auth::keys::Keys;
use roundtable::config::Config;
use roundtable::http::tls::Certificate;
use roundtable::ports::EncryptionLeft;
use roundtable::{startup, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted chat backend: every room a durable, totally ordered log.
///
/// Settings come from built-in defaults, then the file named by --config, then the environment
/// (ROUNDTABLE__SECTION__KEY). config/default.toml lists them all.
#[derive(Debug, Parser)]
#[command(name = "roundtable", version, about)]
struct Cli {
    /// A TOML file with settings
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (what happens without a command, too)
    Serve,
    /// Bring the store's schema to this release's version, and end
    Migrate,
    /// Encrypt what is left in the clear of rooms that are to be encrypted, bring all rooms' keys under the active one, and
    /// end; a running server does the same in the background
    Rekey,
    /// Read and check the settings, and end
    CheckConfig,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "seeded-bugs")]
    if let Err(line) = roundtable::seeded_bug::choose() {
        eprintln!("{line}");
        return ExitCode::from(2);
    }
    let checked = Config::load(cli.config.as_deref()).and_then(|config| {
        // Read again by whoever uses them; here so that a key that can't be used is said before anything else happens.
        Keys::load(&config.auth.jwt)?;
        Certificate::load(&config.server.tls)?;
        Ok(config)
    });
    let config = match checked {
        Ok(config) => config,
        Err(invalid) => {
            eprintln!("{invalid}");
            return ExitCode::from(2);
        }
    };
    match cli.command {
        Some(Command::CheckConfig) => {
            println!("the settings are fine");
            ExitCode::SUCCESS
        }
        Some(Command::Migrate) => migrate(&config),
        Some(Command::Rekey) => rekey(&config),
        Some(Command::Serve) | None => serve(config),
    }
}

fn serve(config: Config) -> ExitCode {
    telemetry::init(&config.log);
    #[cfg(feature = "seeded-bugs")]
    if let Ok(Some(bug)) = roundtable::seeded_bug::choose() {
        tracing::warn!(%bug, "this server has a bug on purpose: it will lie");
    }
    done(actix_rt::System::new().block_on(startup::run(config)))
}

fn migrate(config: &Config) -> ExitCode {
    telemetry::init(&config.log);
    done(actix_rt::System::new().block_on(async {
        let done = startup::migrate(config).await?;
        if done.is_empty() {
            println!("nothing to do: the schema is this release's");
        }
        for migration in done {
            println!("{migration}");
        }
        Ok(())
    }))
}

fn rekey(config: &Config) -> ExitCode {
    telemetry::init(&config.log);
    let say = |left: EncryptionLeft| {
        if left.is_nothing() {
            println!("nothing is left: every room that is to be encrypted is, and every key is under the active one");
        } else {
            let EncryptionLeft { rooms, entries, keys } = left;
            println!("left: {rooms} rooms without a key, {entries} entries in the clear, {keys} keys under another");
        }
    };
    done(actix_rt::System::new().block_on(startup::rekey(config, say)))
}

fn done(result: Result<(), startup::StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(startup::StartError::Setting(line)) => {
            eprintln!("{line}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
