//! The schema's versions on PostgreSQL. Whatever changes them holds the advisory lock, so one program at a time does.

use refinery::{Migration, Runner};
use tokio_postgres::Client;

use super::PostgresStore;
use super::pool;
use crate::domain::ddl::Dialect;
use crate::infra::schema::{Known, Schema, Version};
use crate::ports::StoreError;

/// Key of the advisory lock under which migrations run: "roundtbl" in ASCII.
const LOCK: i64 = 0x726f_756e_6474_626c;

mod migrations {
    refinery::embed_migrations!("sql/postgres");
}

macro_rules! ways_back {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../../../sql/postgres/", $name, ".down.sql")))),*]
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
    Known { dialect: Dialect::Postgres, migrations, back: BACK }
}

fn runner() -> Runner {
    // What newer programs did is judged before, by `Known::newer`.
    migrations::migrations::runner().set_abort_missing(false)
}

fn failed(client: &Client, error: &refinery::Error) -> StoreError {
    let told = error.to_string();
    if client.is_closed() { StoreError::Unavailable(told) } else { StoreError::Fault(told) }
}

async fn applied(client: &mut Client) -> Result<Vec<Migration>, StoreError> {
    let there = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await;
    if !there.map_err(pool::store_error)?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let found = runner().get_applied_migrations_async(client).await;
    found.map_err(|error| failed(client, &error))
}

impl PostgresStore {
    async fn alone(&self) -> Result<Client, StoreError> {
        pool::connect_alone(self.thread.handle(), &self.address, self.options.connect_within).await
    }

    /// Waits for another node that migrates, however long that takes. The lock ends with the connection.
    async fn locked(&self) -> Result<Client, StoreError> {
        let client = self.alone().await?;
        let lock = format!("SET statement_timeout = 0; SELECT pg_advisory_lock({LOCK})");
        client.batch_execute(&lock).await.map_err(pool::store_error)?;
        Ok(client)
    }

    /// What is to be done to come to this release's version, or back to that of `back_to`. Changes nothing.
    ///
    /// # Errors
    /// Where the server is away, or its schema is none that this program may work on.
    pub async fn schema(&self, back_to: Option<Version>) -> Result<Schema, StoreError> {
        let applied = applied(&mut self.alone().await?).await?;
        back_to.map_or_else(|| known().forward(&applied), |to| known().backward(&applied, to))
    }

    /// Names of the migrations that were run, and of those that only newer programs know.
    pub(super) async fn bring_up(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let mut client = self.locked().await?;
        let newer = known().newer(&applied(&mut client).await?)?;
        let report = runner().run_async(&mut client).await.map_err(|error| failed(&client, &error))?;
        Ok((report.applied_migrations().iter().map(ToString::to_string).collect(), newer))
    }

    /// Goes the ways back until the schema is at `to`, each in a transaction; gives their names.
    ///
    /// # Errors
    /// As [`Self::schema`]; and where a statement fails: then that step was not done.
    pub async fn go_back(&self, to: Version) -> Result<Vec<String>, StoreError> {
        let mut client = self.locked().await?;
        let steps = known().backward(&applied(&mut client).await?, to)?.steps;
        let mut done = Vec::new();
        for step in steps {
            let transaction = client.transaction().await.map_err(pool::store_error)?;
            transaction.batch_execute(&step.sql).await.map_err(pool::store_error)?;
            transaction.commit().await.map_err(pool::store_error)?;
            done.push(step.name);
        }
        Ok(done)
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
