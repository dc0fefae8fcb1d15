//! `roundtable migrate`: what would be done to a store's schema, and doing it between a copy and a look at the result.
//!
//! Invariants: asking changes nothing; without a copy that was asked for nothing is begun; a store that is not whole
//! afterwards is said loudly, with what to do.

use std::fmt;
use std::path::Path;

use crate::backup::{self, BackupError, Census};
use crate::config::StoreUrl;
use crate::infra::postgres::{PostgresOptions, PostgresStore};
use crate::infra::schema::{Schema, Version};
use crate::infra::sqlite::{self, SqliteStore};
use crate::ports::{MessageStore, StoreError};

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Wishes<'a> {
    /// The version to go back to; `None`: forward, to this release's.
    pub back_to: Option<Version>,
    /// The folder for a copy that is made before.
    pub backup: Option<&'a Path>,
    /// Look afterwards whether every log is whole.
    pub check: bool,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("nothing was migrated, since the backup failed: {0}")]
    Backup(BackupError),
    #[error(
        "THE STORE IS NOT AS IT HAS TO BE after the migration: {0}; stop every node now, keep a copy of the store as it is, and \
         restore the newest backup (docs/disaster-recovery.md)"
    )]
    Unsound(BackupError),
}

/// What would be done; its text tells of each statement.
#[derive(Clone, Debug)]
pub struct Plan(pub Schema);

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.0.steps.is_empty()
    }

    /// The same with the statements themselves.
    pub fn with_sql(&self) -> String {
        let steps =
            self.0.steps.iter().map(|step| format!("-- {}, {}\n{}\n", step.name, direction(step.forward), step.sql));
        format!("{self}\n{}", steps.collect::<Vec<_>>().join("\n"))
    }
}

fn direction(forward: bool) -> &'static str {
    if forward { "forward" } else { "back" }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schema { at, ours, newer, steps } = &self.0;
        writeln!(f, "the schema is at {at}, this release's is {ours}")?;
        for name in newer {
            writeln!(f, "{name} is of a newer release, and this one can work with it")?;
        }
        if steps.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        for step in steps {
            writeln!(f, "{}, {}:", step.name, direction(step.forward))?;
            for statement in &step.statements {
                writeln!(f, "  {statement}")?;
            }
        }
        Ok(())
    }
}

fn postgres(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::connect(url, PostgresOptions::default())
}

/// What [`run`] would do to the store of `url`. Changes nothing.
///
/// # Errors
/// Where the store is away, or its schema is none that this program may work on.
pub async fn plan(url: &StoreUrl, back_to: Option<Version>) -> Result<Plan, MigrationError> {
    Ok(Plan(match url {
        StoreUrl::Postgres(url) => postgres(url.expose())?.schema(back_to).await?,
        StoreUrl::Sqlite(path) => sqlite::schema::schema(path, back_to)?,
    }))
}

/// Brings the schema of the store of `url` to this release's version, or back, and says what it did.
///
/// # Errors
/// As [`plan`]; where the copy can't be made or a step fails; and where the store is not whole afterwards.
pub async fn run(url: &StoreUrl, wishes: Wishes<'_>, mut say: impl FnMut(String)) -> Result<(), MigrationError> {
    let Plan(schema) = plan(url, wishes.back_to).await?;
    // An empty store has nothing to copy.
    if let Some(folder) = wishes.backup.filter(|_| schema.at > 0 && !schema.steps.is_empty()) {
        let (made, manifest) = backup::make(url, folder).await.map_err(MigrationError::Backup)?;
        say(format!("copied {} to {}", counted(&manifest.census), made.display()));
    }
    let done = match (url, wishes.back_to) {
        (StoreUrl::Postgres(url), None) => postgres(url.expose())?.migrate().await?,
        (StoreUrl::Postgres(url), Some(to)) => postgres(url.expose())?.go_back(to).await?,
        (StoreUrl::Sqlite(path), None) => SqliteStore::open(path)?.migrate().await?,
        (StoreUrl::Sqlite(path), Some(to)) => SqliteStore::open(path)?.go_back(to).await?,
    };
    if done.is_empty() {
        say("nothing to do: the schema is as wished".to_owned());
        return Ok(());
    }
    done.into_iter().for_each(&mut say);
    // Back at nothing there is nothing to look at.
    if wishes.check && wishes.back_to != Some(0) {
        let census = backup::check(url).await.map_err(MigrationError::Unsound)?;
        let wanted = i64::from(wishes.back_to.unwrap_or(schema.ours));
        if census.schema < wanted {
            let what = format!("the schema is at {} in place of {wanted}", census.schema);
            return Err(MigrationError::Unsound(BackupError::Damaged(what)));
        }
        say(format!("every log is whole: {}", counted(&census)));
    }
    Ok(())
}

fn counted(census: &Census) -> String {
    format!("{} rooms, {} entries", census.rooms, census.entries)
}
