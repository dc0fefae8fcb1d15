//! PostgreSQL: `pg_dump` and `pg_restore` do the copying, in a snapshot that this process holds open and counts in.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio_postgres::Client;
use tokio_postgres::config::Host;

use super::BackupError;
use super::census::{Census, RoomLog, Rooms};
use crate::config::postgres_url::Trust;
use crate::infra::postgres::address::{Address, describe};

/// Rows that are asked for at a time.
const ROWS: i32 = 10_000;
/// What the system trusts, where Debian and its kin keep it; libpq itself can't find it before PostgreSQL 16.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn store_error(error: tokio_postgres::Error) -> BackupError {
    let why = error.as_db_error().map_or_else(|| describe(&error), |error| error.message().to_owned());
    BackupError::Store(why)
}

fn address(url: &str) -> Result<Address, BackupError> {
    Address::parse(url).map_err(|error| BackupError::Store(error.to_string()))
}

async fn connect(url: &str) -> Result<Client, BackupError> {
    let mut address = address(url)?;
    address.config.application_name("roundtable backup");
    let (client, connection) = address.connect_by(&address.config).await.map_err(store_error)?;
    actix_rt::spawn(connection);
    // The tables are read whole, for as long as that takes.
    client
        .batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET jit = off")
        .await
        .map_err(store_error)?;
    Ok(client)
}

/// A command of PostgreSQL's that works on the database of `url`, of which nothing stands in its arguments.
fn program(name: &'static str, url: &str) -> Result<Command, BackupError> {
    let Address { config, trust, .. } = address(url)?;
    let mut command = Command::new(name);
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports().iter().map(ToString::to_string);
    command.env("PGHOST", hosts.collect::<Vec<_>>().join(",")).env("PGAPPNAME", "roundtable backup");
    if config.get_ports().is_empty() {
        command.env_remove("PGPORT");
    } else {
        command.env("PGPORT", ports.collect::<Vec<_>>().join(","));
    }
    for (variable, value) in [("PGUSER", config.get_user()), ("PGDATABASE", config.get_dbname().or(config.get_user()))]
    {
        if let Some(value) = value {
            command.env(variable, value);
        }
    }
    match trust {
        Trust::Clear => command.env("PGSSLMODE", "disable").env_remove("PGSSLROOTCERT"),
        Trust::System => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", SYSTEM_ROOTS),
        Trust::File(path) => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", path),
    };
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", String::from_utf8_lossy(password).into_owned());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs it to its end, beside the connection that holds the snapshot.
async fn run(name: &'static str, mut command: Command) -> Result<(), BackupError> {
    let failed = |why: String| BackupError::Program { program: name, why };
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(format!("{error} (it comes with PostgreSQL's client programs)")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.lines().take(5).collect::<Vec<_>>().join(" ")))
}

pub(super) async fn make(url: &str, copy: &Path) -> Result<Census, BackupError> {
    let client = connect(url).await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(store_error)?;
    let row = client.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(store_error)?;
    let snapshot: String = row.get(0);
    let mut dump = program("pg_dump", url)?;
    dump.args(["--format=custom", "--no-owner", "--no-privileges", "--no-password"]);
    dump.arg(format!("--snapshot={snapshot}")).arg("--file").arg(copy);
    run("pg_dump", dump).await?;
    census(&client).await
}

pub(super) async fn check(url: &str) -> Result<Census, BackupError> {
    let client = connect(url).await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(store_error)?;
    census(&client).await
}

pub(super) async fn restore(copy: &Path, url: &str) -> Result<Census, BackupError> {
    let client = connect(url).await?;
    let is_empty = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace IN \
                    (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')";
    let there: i64 = client.query_one(is_empty, &[]).await.map_err(store_error)?.get(0);
    if there > 0 {
        let what =
            format!("store.url names a database that is not empty ({there} tables and sequences): nothing was done");
        return Err(BackupError::Refused(what));
    }
    let mut load = program("pg_restore", url)?;
    let database = address(url)?.config;
    let database = database.get_dbname().or(database.get_user()).unwrap_or("postgres").to_owned();
    load.args(["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-comments"]);
    load.args(["--no-password", "--dbname"]).arg(database).arg(copy);
    run("pg_restore", load).await?;
    client.batch_execute("ANALYZE").await.map_err(store_error)?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(store_error)?;
    census(&client).await
}

pub(super) async fn note(url: &str, taken_s: i64, bytes: i64) -> Result<(), BackupError> {
    let client = connect(url).await?;
    let note = "INSERT INTO backups (taken_at, bytes) VALUES ($1, $2) ON CONFLICT (one) DO UPDATE \
                SET taken_at = greatest(backups.taken_at, excluded.taken_at), bytes = excluded.bytes";
    client.execute(note, &[&taken_s, &bytes]).await.map_err(store_error)?;
    Ok(())
}

/// Inside the snapshot that `client` holds.
async fn census(client: &Client) -> Result<Census, BackupError> {
    let newest = "SELECT coalesce(max(version), 0)::bigint FROM refinery_schema_history";
    let schema: i64 = client.query_one(newest, &[]).await.map_err(store_error)?.get(0);
    let names = "SELECT relname::text FROM pg_class WHERE relkind = 'r' \
                 AND relnamespace = current_schema()::regnamespace ORDER BY relname";
    let mut tables = BTreeMap::new();
    for row in client.query(names, &[]).await.map_err(store_error)? {
        let name: String = row.get(0);
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = client.query_one(&count, &[]).await.map_err(store_error)?.get(0);
        tables.insert(name, u64::try_from(rows).unwrap_or_default());
    }
    let logs = "DECLARE logs NO SCROLL CURSOR FOR \
                SELECT r.no, r.id, h.head, h.oldest, coalesce(e.entries, 0), coalesce(e.first, 0), coalesce(e.last, 0) \
                FROM rooms r JOIN room_heads h USING (no) LEFT JOIN (\
                    SELECT room_no, count(*) AS entries, min(seq) AS first, max(seq) AS last FROM entries GROUP BY room_no\
                ) e ON e.room_no = r.no WHERE NOT r.deleted ORDER BY r.no";
    client.batch_execute(logs).await.map_err(store_error)?;
    let mut rooms = Rooms::default();
    let fetch = format!("FETCH {ROWS} FROM logs");
    loop {
        let some = client.query(&fetch, &[]).await.map_err(store_error)?;
        if some.is_empty() {
            break;
        }
        for row in &some {
            rooms.add(&RoomLog {
                no: row.get(0),
                id: row.get(1),
                head: row.get(2),
                oldest: row.get(3),
                entries: row.get(4),
                first: row.get(5),
                last: row.get(6),
            });
        }
    }
    // Added up, so that it needs no order and no memory.
    let digest = "SELECT coalesce(sum(hashtextextended(entries::text, 0)), 0)::text || '/' || count(*) FROM entries";
    let digest: String = client.query_one(digest, &[]).await.map_err(store_error)?.get(0);
    Ok(rooms.done(schema, tables, digest))
}
