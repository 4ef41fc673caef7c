//! The embedded database: one file, one writer thread, every table in one place.
//!
//! Writers hand a job to the writer thread; it runs all jobs that wait in one transaction and commits
//! once (group commit), so an fsync is shared by everybody who waits for one. A job that fails takes
//! back only its own changes. Readers have connections of their own and never wait for the writer.

pub mod container_snapshots;
pub mod containers;
mod containers_before;
pub mod executions;
mod journal;
pub mod once;
pub mod pools;
mod record;
pub mod requests;
mod schema;
pub mod sessions;
pub mod shelf;
pub mod snapshots;
mod version1;
mod version2;

use crate::error::{Error, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

pub use schema::SCHEMA_VERSION;

/// What the fuzz target needs: events as the database keeps them.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::journal::{decode, encode};
}

/// Jobs in one transaction at most; more would make the first wait long for its commit.
const BATCH: usize = 512;
/// Connections for reading.
const READERS: usize = 2;

/// The database. Cheap to clone through an `Arc`; closes when the last handle goes.
pub struct Store {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    reader_free: tokio::sync::Semaphore,
    path: StorePath,
    problem: watch::Receiver<Option<String>>,
    observer: Arc<dyn CommitObserver>,
    pending: Arc<AtomicU64>,
    // Held for its lock: one server per data directory.
    _lock: Option<std::fs::File>,
}

/// Hears of every commit; the metrics do.
pub trait CommitObserver: Send + Sync + 'static {
    /// A transaction took this long; `Err` tells why it failed.
    fn committed(&self, seconds: f64, jobs: usize, result: std::result::Result<(), &str>);
}

/// Hears nothing.
pub struct NoObserver;

impl CommitObserver for NoObserver {
    fn committed(&self, _: f64, _: usize, _: std::result::Result<(), &str>) {}
}

enum StorePath {
    File(PathBuf),
    Memory(String),
}

/// One unit of work: runs inside the transaction, then learns whether that was committed.
struct Job {
    run: Box<dyn FnOnce(&Connection) -> Completion + Send>,
}

/// What a job does once its fate is known.
struct Completion {
    failed: bool,
    tell: Box<dyn FnOnce(std::result::Result<(), String>) + Send>,
}

impl Store {
    /// Opens, or makes, the database in `directory`. Refuses a directory that another server uses, and a
    /// database that is damaged or of a newer version, saying what to do.
    pub fn open(directory: &Path, observer: Arc<dyn CommitObserver>) -> Result<Store> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| unavailable(format!("cannot make the data directory {}: {error}", directory.display())))?;
        let lock = lock(directory)?;
        let path = StorePath::File(directory.join("casemate.db"));
        Store::start(path, Some(lock), observer)
    }

    /// A database that lives and dies with this process, for tests and for use as a library.
    pub fn in_memory() -> Result<Store> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("file:casemate-{}?mode=memory&cache=shared", NEXT.fetch_add(1, Ordering::Relaxed));
        Store::start(StorePath::Memory(name), None, Arc::new(NoObserver))
    }

    fn start(path: StorePath, lock: Option<std::fs::File>, observer: Arc<dyn CommitObserver>) -> Result<Store> {
        let connection = path.connect()?;
        schema::prepare(&connection, path.display())?;
        let readers = (0..READERS).map(|_| path.connect()).collect::<Result<Vec<_>>>()?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell_problem, problem) = watch::channel(None);
        let pending = Arc::new(AtomicU64::new(0));
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let (pending, observer) = (pending.clone(), observer.clone());
                move || write_loop(&connection, &queue, &pending, &tell_problem, observer.as_ref())
            })
            .map_err(|error| unavailable(format!("cannot start the writer thread: {error}")))?;
        Ok(Store {
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::new(readers),
            reader_free: tokio::sync::Semaphore::new(READERS),
            path,
            problem,
            observer,
            pending,
            _lock: lock,
        })
    }

    /// Runs `job` in the next transaction and answers once that is on disk.
    pub fn write<T, J>(&self, job: J) -> impl Future<Output = Result<T>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            run: Box::new(move |connection| {
                let result = job(connection);
                Completion {
                    failed: result.is_err(),
                    tell: Box::new(move |committed| {
                        let result = match (result, committed) {
                            (Err(error), _) => Err(failure(&error)),
                            (Ok(_), Err(problem)) => Err(unavailable(problem)),
                            (Ok(value), Ok(())) => Ok(value),
                        };
                        // Whoever asked may be gone.
                        let _ = reply.send(result);
                    }),
                }
            }),
        };
        let sent = match self.jobs.lock().as_ref() {
            Some(jobs) => {
                self.pending.fetch_add(1, Ordering::Relaxed);
                jobs.send(job).is_ok()
            }
            None => false,
        };
        async move {
            if !sent {
                return Err(unavailable("it is closed".into()));
            }
            answer.await.unwrap_or_else(|_| Err(unavailable("its writer stopped".into())))
        }
    }

    /// Runs a query beside the writer, off the async workers.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        let _turn = self.reader_free.acquire().await.map_err(|_| unavailable("it is closed".into()))?;
        tokio::task::spawn_blocking(move || {
            let connection = match store.readers.lock().pop() {
                Some(connection) => connection,
                // A query that panicked took its connection along.
                None => store.path.connect()?,
            };
            let result = query(&connection).map_err(|error| failure(&error));
            store.readers.lock().push(connection);
            result
        })
        .await
        .map_err(|error| Error::Internal(format!("a query of the store panicked: {error}")))?
    }

    /// Why the last transaction failed; `None` while all is well.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }

    /// Jobs that wait for their commit.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Finishes what was handed over and closes the database. Later writes are refused.
    pub fn close(&self) {
        self.reader_free.close();
        // The writer's connection goes last: the last one folds the log back into the file.
        self.readers.lock().clear();
        drop(self.jobs.lock().take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            self.observer.committed(0.0, 0, Err("the writer thread panicked"));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl StorePath {
    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let open = || -> rusqlite::Result<Connection> {
            let connection = match self {
                StorePath::File(path) => Connection::open_with_flags(path, flags)?,
                StorePath::Memory(name) => Connection::open_with_flags(name, flags)?,
            };
            schema::configure(&connection)?;
            Ok(connection)
        };
        open().map_err(|error| schema::refuse(self.display(), &error))
    }

    fn display(&self) -> String {
        match self {
            StorePath::File(path) => path.display().to_string(),
            StorePath::Memory(name) => name.clone(),
        }
    }
}

fn write_loop(
    connection: &Connection,
    queue: &mpsc::Receiver<Job>,
    pending: &AtomicU64,
    problem: &watch::Sender<Option<String>>,
    observer: &dyn CommitObserver,
) {
    while let Ok(first) = queue.recv() {
        let begun = Instant::now();
        let mut completions = Vec::new();
        let result = (|| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            for job in std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok())).take(BATCH) {
                connection.execute_batch("SAVEPOINT job")?;
                let completion = (job.run)(connection);
                let end = if completion.failed { "ROLLBACK TO job; RELEASE job" } else { "RELEASE job" };
                completions.push(completion);
                connection.execute_batch(end)?;
            }
            connection.execute_batch("COMMIT")
        })();
        let result = result.map_err(|error: rusqlite::Error| {
            if !connection.is_autocommit() {
                // Nothing to add if this fails too: the transaction ends with the connection then.
                let _ = connection.execute_batch("ROLLBACK");
            }
            explain(&error)
        });
        if let Err(text) = &result {
            tracing::error!(problem = %text, "the store could not commit");
        }
        problem.send_if_modified(|now| {
            let next = result.as_ref().err().cloned();
            let changed = *now != next;
            *now = next;
            changed
        });
        observer.committed(
            begun.elapsed().as_secs_f64(),
            completions.len(),
            result.as_ref().copied().map_err(String::as_str),
        );
        pending.fetch_sub(completions.len() as u64, Ordering::Relaxed);
        for completion in completions {
            (completion.tell)(result.clone());
        }
    }
}

/// How long a lock that is taken is waited for. A server that is killed just as it starts a compiler leaves its
/// lock with that child for the few milliseconds until the child becomes another program.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Takes the lock of a data directory, or says who has it.
fn lock(directory: &Path) -> Result<std::fs::File> {
    let path = directory.join("casemate.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| unavailable(format!("cannot open {}: {error}", path.display())))?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN) if Instant::now() < patience => std::thread::sleep(LOCK_PAUSE),
            Err(error) => {
                return Err(unavailable(format!(
                    "the data directory {} is in use by another casemate ({error}); stop that one, or set store.directory to another directory",
                    directory.display()
                )));
            }
        }
    }
}

fn unavailable(problem: String) -> Error {
    Error::StoreUnavailable { problem }
}

/// The error of a job or a query.
fn failure(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let damaged = matches!(error, rusqlite::Error::FromSqlConversionFailure(..))
        || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    if !damaged {
        return unavailable(explain(error));
    }
    Error::StoreDamaged {
        problem: format!(
            "{error}; stop the server, then restore a copy of casemate.db or move it and its -wal and -shm files away"
        ),
    }
}

/// SQLite's error with what to do about the ones an operator can mend.
fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("{error}: free space on the disk of store.directory"),
        Some(ErrorCode::ReadOnly) => format!("{error}: make store.directory writable"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{error}: the database is damaged; stop the server, move the file away and restore a copy")
        }
        _ => error.to_string(),
    }
}
