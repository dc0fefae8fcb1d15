//! The command line: no arguments serves; the rest checks settings, runs migrations, or asks a running server how it is.
//!
//! Exit status: 0 done; 1 could not be done (a port is taken, the store refuses); 2 a setting or an argument is wrong; 3 with
//! `migrate --plan` that something is to be done; 4 the store is not as it has to be after a migration.
//! What goes wrong before the log is set up is one line on standard error, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use roundtable::auth::keys::Keys;
use roundtable::backup;
use roundtable::config::{BlobsUrl, Config};
use roundtable::health::{self, Question};
use roundtable::http::tls::Certificate;
use roundtable::migration::{self, MigrationError, Wishes};
use roundtable::ports::EncryptionLeft;
use roundtable::{smoke, startup, telemetry};

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
    /// Bring the store's schema to this release's version, look whether the store is whole then, and end
    Migrate(Migrate),
    /// Encrypt what is left in the clear of rooms that are to be encrypted, bring all rooms' keys under the active one, and
    /// end; a running server does the same in the background
    Rekey,
    /// Copy the store, look whether it is whole, or bring a copy back
    #[command(subcommand)]
    Backup(Backup),
    /// Read and check the settings, and end
    CheckConfig,
    /// Ask the node that runs here with these settings whether it should get traffic; status 0: yes
    Health {
        /// Ask only whether the process runs
        #[arg(long)]
        live: bool,
    },
    /// Join, send and read at a running server as clients do, and erase it all again
    Smoke {
        /// http://HOST[:PORT] or https://HOST[:PORT]
        url: String,
    },
}

#[derive(Debug, Args)]
struct Migrate {
    /// Change nothing; print what would be done. Status 0: nothing to do; 3: something is
    #[arg(long)]
    plan: bool,
    /// With --plan: print the statements, too
    #[arg(long, requires = "plan")]
    sql: bool,
    /// Copy the store into a new folder in FOLDER before anything is done
    #[arg(long, value_name = "FOLDER", conflicts_with = "plan")]
    backup: Option<PathBuf>,
    /// Leave out the look at every room's log afterwards, which reads the whole store
    #[arg(long, conflicts_with = "plan")]
    no_check: bool,
    /// Go back to the schema of this version. What is lost, each way back says at its top (--plan --sql)
    #[arg(long, value_name = "VERSION")]
    back_to: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum Backup {
    /// Copy the store of these settings into a new folder in FOLDER, while nodes use it or not
    Make { folder: PathBuf },
    /// Put the backup in FOLDER into the empty store of these settings, and compare what is there then with what was copied
    Restore { folder: PathBuf },
    /// Look whether the log of every room of the store of these settings is whole
    Check,
    /// Note in the store of these settings that the backup in FOLDER was verified, for the metric of its age
    Note { folder: PathBuf },
}

/// Status of `migrate --plan` where something is to be done.
const PENDING: u8 = 3;
/// Status of `migrate` where the store is not whole afterwards: what was run must not be taken for done, nor be tried again.
const UNSOUND: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "seeded-bugs")]
    if let Err(line) = roundtable::seeded_bug::choose() {
        eprintln!("{line}");
        return ExitCode::from(2);
    }
    if let Some(Command::Smoke { url }) = &cli.command {
        // Asked from anywhere: the settings of this place don't matter.
        return smoke_test(url);
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
        Some(Command::Backup(command)) => back_up(&config, &command),
        Some(Command::Health { live }) => healthy(&config, live),
        Some(Command::Migrate(wished)) => migrate(&config, &wished),
        Some(Command::Rekey) => rekey(&config),
        // Smoke has been and gone.
        Some(Command::Serve | Command::Smoke { .. }) | None => serve(config),
    }
}

fn serve(config: Config) -> ExitCode {
    let _reporting = telemetry::init_and_report(&config.log, &config.sentry);
    #[cfg(feature = "seeded-bugs")]
    if let Ok(Some(bug)) = roundtable::seeded_bug::choose() {
        tracing::warn!(%bug, "this server has a bug on purpose: it will lie");
    }
    done(actix_rt::System::new().block_on(startup::run(config)))
}

fn healthy(config: &Config, live: bool) -> ExitCode {
    let question = if live { Question::Live } else { Question::Ready };
    said(health::ask(config.admin.bind, question))
}

fn smoke_test(url: &str) -> ExitCode {
    said(actix_rt::System::new().block_on(smoke::run(url, |line| println!("{line}"))))
}

fn back_up(config: &Config, command: &Backup) -> ExitCode {
    let url = &config.store.url;
    let counted = |census: &backup::Census| format!("{} rooms, {} entries", census.rooms, census.entries);
    let done = actix_rt::System::new().block_on(async {
        Ok::<_, backup::BackupError>(match command {
            Backup::Make { folder } => {
                let (made, manifest) = backup::make(url, folder).await?;
                if !matches!(config.attachments.url, BlobsUrl::Off) {
                    eprintln!("the files of attachments.url are not in it: copy that folder or bucket after this");
                }
                eprintln!("copied {}, {} bytes", counted(&manifest.census), manifest.bytes);
                made.display().to_string()
            }
            Backup::Restore { folder } => {
                let manifest = backup::restore(folder, url).await?;
                format!("restored the state of {}: {}", manifest.taken_at, counted(&manifest.census))
            }
            Backup::Check => format!("every log is whole: {}", counted(&backup::check(url).await?)),
            Backup::Note { folder } => format!("noted the backup of {}", backup::note(folder, url).await?.taken_at),
        })
    });
    said(done.map(|line| println!("{line}")).map_err(|error| error.to_string()))
}

fn said(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn migrate(config: &Config, wished: &Migrate) -> ExitCode {
    telemetry::init(&config.log);
    let url = &config.store.url;
    let wishes = Wishes { back_to: wished.back_to, backup: wished.backup.as_deref(), check: !wished.no_check };
    let system = actix_rt::System::new();
    if !wished.plan {
        let ran = system.block_on(migration::run(url, wishes, |line| println!("{line}")));
        return match ran {
            Err(error @ MigrationError::Unsound(_)) => {
                eprintln!("{error}");
                ExitCode::from(UNSOUND)
            }
            ran => said(ran.map_err(|error| error.to_string())),
        };
    }
    match system.block_on(migration::plan(url, wishes.back_to)) {
        Ok(plan) => {
            print!("{}", if wished.sql { plan.with_sql() } else { plan.to_string() });
            if plan.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PENDING) }
        }
        Err(error) => said(Err(error.to_string())),
    }
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
