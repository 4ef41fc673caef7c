//! Tables, their migrations, and the settings of every connection.

use crate::error::{Error, Result};
use rusqlite::Connection;

/// Marks the file as ours ("CsMt").
const APPLICATION_ID: i32 = 0x4373_4d74;

/// Version of the tables below. A database of a newer version is refused.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// Each entry takes the database one version further; entries never change once released.
const MIGRATIONS: &[&str] = &[
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
",
];

/// Settings every connection needs.
pub fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // FULL: a commit that was answered is on disk, also after a power cut.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA read_uncommitted = ON; -- matters for databases in memory only, whose readers would be refused
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 67108864;",
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

/// A file that cannot be opened: what is wrong and what to do.
pub fn refuse(path: String, error: &rusqlite::Error) -> Error {
    Error::StoreUnavailable {
        problem: format!(
            "cannot open {path}: {error}; if the file is damaged, move it and its -wal and -shm files away \
             (executions recorded there are then forgotten) or restore a copy"
        ),
    }
}
