//! Tables, their migrations, and the settings of every connection.

use crate::error::{Error, Result};
use rusqlite::{Connection, ErrorCode};
use std::time::{Duration, Instant};

/// Marks the file as ours ("CsMt").
const APPLICATION_ID: i32 = 0x4373_4d74;

/// Version of the tables below. A database of a newer version is refused.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// Each entry takes the database one version further; entries never change once released.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE executions (
    id          BLOB PRIMARY KEY NOT NULL,  -- 16 bytes, sorts by creation
    state       TEXT NOT NULL,
    tool        TEXT,
    container   TEXT,
    principal   TEXT NOT NULL,
    request_id  BLOB,                       -- 16 bytes
    fingerprint BLOB,                       -- of the call that carried request_id
    created     INTEGER NOT NULL,           -- microseconds since 1970, as all times here
    started     INTEGER,
    ended       INTEGER,
    sequence    INTEGER NOT NULL,           -- of the newest event
    stdin       INTEGER NOT NULL,           -- bytes accepted
    labels      TEXT,                       -- JSON object
    detail      BLOB NOT NULL,              -- subject, limits, outcome
    journal     BLOB,                       -- events, once it is over
    bytes       INTEGER NOT NULL            -- what it counts against retention
);
CREATE UNIQUE INDEX executions_request ON executions (principal, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX executions_tool ON executions (tool, id) WHERE tool IS NOT NULL;
CREATE INDEX executions_container ON executions (container, id) WHERE container IS NOT NULL;
CREATE INDEX executions_unfinished ON executions (id) WHERE ended IS NULL;

-- What a running execution has said so far: evidence for the case that the server is killed.
CREATE TABLE journal_chunks (
    execution      BLOB NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    events         BLOB NOT NULL,
    PRIMARY KEY (execution, first_sequence)
) WITHOUT ROWID;

-- Request ids of mutations other than executions.
CREATE TABLE requests (
    principal   TEXT NOT NULL,
    request_id  BLOB NOT NULL,
    method      TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    created     INTEGER NOT NULL,
    done        INTEGER NOT NULL,
    PRIMARY KEY (principal, request_id)
) WITHOUT ROWID;
CREATE INDEX requests_created ON requests (created);

-- Running totals, so that retention and start-up need no scan.
CREATE TABLE totals (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES ('executions', 0), ('execution_bytes', 0);
CREATE TRIGGER executions_added AFTER INSERT ON executions BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'executions';
    UPDATE totals SET value = value + new.bytes WHERE name = 'execution_bytes';
END;
CREATE TRIGGER executions_changed AFTER UPDATE OF bytes ON executions BEGIN
    UPDATE totals SET value = value + new.bytes - old.bytes WHERE name = 'execution_bytes';
END;
CREATE TRIGGER executions_removed AFTER DELETE ON executions BEGIN
    UPDATE totals SET value = value - 1 WHERE name = 'executions';
    UPDATE totals SET value = value - old.bytes WHERE name = 'execution_bytes';
END;
",
    "
-- The totals are kept by the code that writes the rows, once in a transaction: a trigger for each row
-- was a third of the cost of a record.
DROP TRIGGER executions_added;
DROP TRIGGER executions_changed;
DROP TRIGGER executions_removed;
-- Checksums: of a record, of its journal, of a chunk. The database notices broken pages, not changed bytes.
-- Records of version 1 have none.
ALTER TABLE executions ADD COLUMN crc INTEGER;
ALTER TABLE executions ADD COLUMN journal_crc INTEGER;
ALTER TABLE journal_chunks ADD COLUMN crc INTEGER;
",
    "
-- The session of a run, and the run whose code started it: to list by. What counts is in the detail.
ALTER TABLE executions ADD COLUMN session BLOB;
ALTER TABLE executions ADD COLUMN parent BLOB;
CREATE INDEX executions_session ON executions (session, id) WHERE session IS NOT NULL;
CREATE INDEX executions_parent ON executions (parent, id) WHERE parent IS NOT NULL;
",
    "
CREATE TABLE sessions (
    id     BLOB PRIMARY KEY NOT NULL,  -- 16 bytes, sorts by creation
    closed INTEGER,                    -- when; NULL while it is open
    record BLOB NOT NULL,
    crc    INTEGER NOT NULL            -- of the record
) WITHOUT ROWID;

CREATE TABLE snapshots (
    id     BLOB PRIMARY KEY NOT NULL,
    name   TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL,
    crc    INTEGER NOT NULL,
    used   INTEGER                     -- when something last started from it
) WITHOUT ROWID;
",
    "
-- Recorded before the backend is asked for a container: whatever a crash leaves half done is found again by this.
CREATE TABLE containers (
    id     BLOB PRIMARY KEY NOT NULL,  -- 16 bytes, sorts by creation
    ended  INTEGER,                    -- when; NULL while it is not over
    record BLOB NOT NULL,
    crc    INTEGER NOT NULL            -- of the record
) WITHOUT ROWID;

-- Names this database, and with it the containers that belong to it.
CREATE TABLE installation (id TEXT NOT NULL);
",
    "
-- Which containers a pool has, and who has them on loan, is in the records of the containers.
CREATE TABLE pools (
    name       TEXT PRIMARY KEY NOT NULL,
    record     BLOB NOT NULL,
    crc        INTEGER NOT NULL,       -- of the record
    leases     INTEGER NOT NULL,       -- counted in the transaction that records each
    totals     BLOB NOT NULL,          -- the other figures, written behind
    totals_crc INTEGER NOT NULL
) WITHOUT ROWID;
",
    "
-- Snapshots of containers stand beside those of interpreters: a name is given once, whatever has it.
ALTER TABLE snapshots ADD COLUMN kind TEXT NOT NULL DEFAULT 'interpreter';
",
];

/// How long the check of the whole file may take at the start. What it does not reach is checked when it is read.
const CHECK_TIME: Duration = Duration::from_millis(25);

/// Settings every connection needs.
pub fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // FULL: a commit that was answered is on disk, also after a power cut.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA read_uncommitted = ON; -- matters for databases in memory only, whose readers would be refused
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 67108864;
         PRAGMA wal_autocheckpoint = 8192; -- 32 MiB: pages of indexes change often, and are copied back once",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Brings the tables to the present version, or refuses the file.
pub fn prepare(connection: &Connection, path: String) -> Result<()> {
    let refused = |error: rusqlite::Error| refuse(path.clone(), &error);
    let read = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let version = read("user_version").map_err(refused)?;
    let owner = read("application_id").map_err(refused)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(refused)?;
    if owner != i64::from(APPLICATION_ID) && (owner != 0 || tables != 0) {
        return Err(Error::StoreUnavailable {
            problem: format!("{path} is a database of another program; set store.directory to another directory"),
        });
    }
    let Some(missing) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..)) else {
        return Err(Error::StoreUnavailable {
            problem: format!(
                "{path} has version {version}, this build knows versions up to {SCHEMA_VERSION}; \
                 run the newer casemate that wrote it, or set store.directory to another directory"
            ),
        });
    };
    check(connection, &path)?;
    for (done, migration) in missing.iter().enumerate() {
        let version = version + done as i64 + 1;
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; {migration} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
            ))
            .map_err(refused)?;
    }
    Ok(())
}

/// Looks for broken pages, as far as that goes quickly.
fn check(connection: &Connection, path: &str) -> Result<()> {
    /// Steps between two looks at the clock.
    const STEPS: i32 = 1000;
    let end = Instant::now() + CHECK_TIME;
    let refused = |error: rusqlite::Error| refuse(path.to_owned(), &error);
    connection.progress_handler(STEPS, Some(move || Instant::now() >= end));
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>);
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(damaged(path, &found)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

fn damaged(path: &str, what: &str) -> Error {
    Error::StoreDamaged {
        problem: format!(
            "{path}: {}; restore a copy, or move it and its -wal and -shm files away (executions recorded there \
             are then forgotten)",
            what.replace('\n', " ")
        ),
    }
}

/// A file that cannot be opened: what is wrong and what to do.
pub fn refuse(path: String, error: &rusqlite::Error) -> Error {
    if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
        return damaged(&path, &error.to_string());
    }
    Error::StoreUnavailable {
        problem: format!(
            "cannot open {path}: {error}; if the file is damaged, move it and its -wal and -shm files away \
             (executions recorded there are then forgotten) or restore a copy"
        ),
    }
}
