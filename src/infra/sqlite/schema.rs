//! The schema's versions in SQLite. Whatever changes them holds the file's lock, so no server runs meanwhile.

use std::path::Path;

use refinery::{Migration, Runner};
use rusqlite::{Connection, OpenFlags};

use super::SqliteStore;
use super::threads::store_error;
use crate::domain::ddl::Dialect;
use crate::infra::schema::{Known, Schema, Version};
use crate::ports::StoreError;

mod migrations {
    refinery::embed_migrations!("sql/sqlite");
}

macro_rules! ways_back {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../../../sql/sqlite/", $name, ".down.sql")))),*]
    };
}

/// A migration has its line here.
const BACK: &[(&str, &str)] = ways_back![
    "V1__log",
    "V2__jobs",
    "V3__chat",
    "V4__rooms",
    "V5__credentials",
    "V6__privacy",
    "V7__search",
    "V8__webhooks",
    "V9__oidc",
    "V10__attachments",
    "V11__encryption",
    "V12__backups",
];

fn known() -> Known {
    // They were embedded in the order of their files' names, V10 before V1.
    let mut migrations = migrations::migrations::runner().get_migrations().clone();
    migrations.sort();
    Known { dialect: Dialect::Sqlite, migrations, back: BACK }
}

fn runner() -> Runner {
    // What newer programs did is judged before, by `Known::newer`.
    migrations::migrations::runner().set_abort_missing(false)
}

fn failed(error: refinery::Error) -> StoreError {
    StoreError::Fault(error.to_string())
}

fn applied(connection: &mut Connection) -> Result<Vec<Migration>, StoreError> {
    let there = "SELECT count(*) FROM sqlite_master WHERE name = 'refinery_schema_history'";
    let there: i64 = connection.query_row(there, [], |row| row.get(0)).map_err(store_error)?;
    if there == 0 {
        return Ok(Vec::new());
    }
    runner().get_applied_migrations(connection).map_err(failed)
}

/// What is to be done with the file at `path` to come to this release's version, or back to that of `back_to`. Changes
/// nothing, also where no file is there, and while a server uses it.
///
/// # Errors
/// Where it can't be read, or its schema is none that this program may work on.
pub fn schema(path: &Path, back_to: Option<Version>) -> Result<Schema, StoreError> {
    let mut done = Vec::new();
    if path.exists() {
        // Not read-only: a file in WAL mode can't be read without the files beside it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(store_error)?;
        done = applied(&mut connection)?;
    }
    back_to.map_or_else(|| known().forward(&done), |to| known().backward(&done, to))
}

/// Names of the migrations that were run, and of those that only newer programs know.
pub(super) fn bring_up(connection: &mut Connection) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let newer = known().newer(&applied(connection)?)?;
    let report = runner().run(connection).map_err(failed)?;
    Ok((report.applied_migrations().iter().map(ToString::to_string).collect(), newer))
}

impl SqliteStore {
    /// Goes the ways back until the schema is at `to`, each in a transaction; gives their names.
    ///
    /// # Errors
    /// As [`schema`]; and where a statement fails: then that step was not done.
    pub async fn go_back(&self, to: Version) -> Result<Vec<String>, StoreError> {
        let went = self.writer.run(move |connection| {
            let steps = known().backward(&applied(connection)?, to)?.steps;
            let mut done = Vec::new();
            for step in steps {
                let transaction = connection.transaction().map_err(store_error)?;
                transaction.execute_batch(&step.sql).map_err(store_error)?;
                transaction.commit().map_err(store_error)?;
                done.push(step.name);
            }
            Ok(done)
        });
        went.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_has_its_way_back_and_is_understood() {
        let known = known();
        let names: Vec<String> = known.migrations.iter().map(ToString::to_string).collect();
        assert!(BACK.iter().map(|(name, _)| *name).eq(names.iter().map(String::as_str)), "{names:?}");
        for step in known.forward(&[]).expect("nothing is there").steps {
            assert!(!step.statements.is_empty(), "{}", step.name);
        }
    }
}
