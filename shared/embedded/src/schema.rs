//! The tables, and how connections to them are set up.

use std::{fs, path::Path};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};
use slipway_model::Timestamp;

use crate::{OpenError, folder::keep_to_owner};

/// The version of the tables that this program writes.
pub(crate) const SCHEMA_VERSION: i64 = 1;

/// The pages that the log may hold before they are copied to the database file. Copying costs two more fsyncs, so it
/// should be rare; but a log that grows costs more to sync than one that is written over, so it should be small.
const CHECKPOINT_PAGES: u32 = 1000;

/// The largest database, in bytes, that is looked through whenever it is opened: some 20 ms.
const LARGEST_CHECKED: u64 = 16 << 20;

/// One tree per table: keys are text, and rows are found by key only. The indexes are sparse, so that an item that
/// is neither due nor listed costs one page.
const TABLES: &str = "
CREATE TABLE items (
    partition TEXT NOT NULL,
    sort TEXT NOT NULL,
    body TEXT NOT NULL,
    version INTEGER NOT NULL,
    due_shard INTEGER,
    due_at INTEGER,
    list TEXT,
    position TEXT,
    attributes TEXT,
    expires_at INTEGER,
    PRIMARY KEY (partition, sort)
) WITHOUT ROWID;
CREATE INDEX items_due ON items (due_shard, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX items_listed ON items (list, position) WHERE list IS NOT NULL;
CREATE INDEX items_expiring ON items (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE joins (
    partition TEXT NOT NULL,
    sort TEXT NOT NULL,
    ok INTEGER NOT NULL,
    bad INTEGER NOT NULL,
    PRIMARY KEY (partition, sort)
) WITHOUT ROWID;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    visible_at INTEGER NOT NULL,
    receive_count INTEGER NOT NULL
);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('epoch', 0);
";

/// Opens the one connection that writes; creates the tables when they are not there. Returns the epoch too: it is
/// greater by one at every start.
pub(crate) fn open_writer(path: &Path) -> Result<(Connection, u64), OpenError> {
    let refuse = |source| OpenError::of_database(path, source);
    refuse_lost_file(path)?;
    keep_to_owner(path).map_err(|source| OpenError::Folder {
        path: path.to_owned(),
        operation: "written",
        source,
    })?;
    let mut connection = Connection::open(path).map_err(refuse)?;
    set_up(&connection).map_err(refuse)?;
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
        ))
        .map_err(refuse)?;

    check(&connection, path)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(refuse)?;
    let found: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(refuse)?;
    match found {
        0 => transaction
            .execute_batch(&format!("{TABLES} PRAGMA user_version = {SCHEMA_VERSION};"))
            .map_err(refuse)?,
        SCHEMA_VERSION => {}
        _ => {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
                known: SCHEMA_VERSION,
            });
        }
    }
    let epoch = transaction
        .query_row(
            "UPDATE counters SET value = value + 1 WHERE name = 'epoch' RETURNING value",
            [],
            |row| row.get(0),
        )
        .map_err(refuse)?;
    transaction.commit().map_err(refuse)?;
    Ok((connection, epoch))
}

/// Refuses a log whose database is gone: SQLite would begin anew and throw the log away.
fn refuse_lost_file(path: &Path) -> Result<(), OpenError> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if length(path) == 0 && length(Path::new(&log)) > 0 {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            source: "the file is missing or empty, but its write-ahead log is there".into(),
        });
    }
    Ok(())
}

/// Looks whether every page is what it should be, while the database is so small that this takes no time worth mention.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let refuse = |source| OpenError::of_database(path, source);
    let count = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    let size = count("page_count").map_err(refuse)? * count("page_size").map_err(refuse)?;
    if size > LARGEST_CHECKED {
        return Ok(());
    }
    let said: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(refuse)?;
    if said == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: path.to_owned(),
        source: said.into(),
    })
}

/// The latest time that a control plane has recorded here.
pub(crate) fn time_seen(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let seen: Option<i64> = connection
        .query_row("SELECT value FROM counters WHERE name = 'clock'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(Timestamp::from_millis(seen.unwrap_or(0)))
}

/// Opens a connection that only reads: each of its statements sees what was committed before it began.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;")
}
