//! A manager over a data directory, and copies of that directory as a kill would leave it.

use super::adder::{Adders, Switches};
use crate::domain::event::OutputStream;
use crate::domain::execution::{Outcome, Subject};
use crate::domain::id::{RequestId, SessionId};
use crate::domain::limits::LimitsPolicy;
use crate::domain::session::{Durability, Session, SessionLimitsRequest};
use crate::error::Result;
use crate::execution::{Lane, Live, NoObserver as NobodyHears, Registry, RegistryConfig, Start};
use crate::session::{
    Caller, NewSession, NoBuiltIns, SessionCall, SessionCalled, SessionObserver, SessionRun, Sessions, SessionsConfig,
    SessionsParts,
};
use crate::store::shelf::Shelf;
use crate::store::{NoObserver, Store};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub struct House {
    pub directory: TempDir,
    pub store: Arc<Store>,
    pub sessions: Arc<Sessions>,
    pub switches: Arc<Switches>,
    pub told: Arc<Told>,
}

/// What the manager said about durability.
#[derive(Default)]
pub struct Told(pub Mutex<Option<String>>);

impl SessionObserver for Told {
    fn durability(&self, problem: Option<(usize, &str)>) {
        *self.0.lock() = problem.map(|(_, text)| text.to_owned());
    }
}

pub fn me() -> Caller {
    Caller { name: "me".into(), administers: false }
}

pub fn new_session(durability: Durability) -> NewSession {
    NewSession {
        tool: "adder".into(),
        snapshot: None,
        home: None,
        limits: SessionLimitsRequest::default(),
        durability: Some(durability),
        parameters: "{}".into(),
        environment: Default::default(),
        labels: Default::default(),
        principal: "me".into(),
        request: None,
    }
}

impl House {
    pub async fn new() -> House {
        House::with(SessionsConfig::default()).await
    }

    pub async fn with(config: SessionsConfig) -> House {
        House::on(tempfile::tempdir().unwrap(), config, Adders::new()).await
    }

    pub async fn on(directory: TempDir, config: SessionsConfig, adders: Adders) -> House {
        let store = Arc::new(Store::open(directory.path(), Arc::new(NoObserver)).unwrap());
        let registry = Registry::open(store.clone(), RegistryConfig::default(), Arc::new(NobodyHears)).await.unwrap();
        let (switches, told) = (adders.switches.clone(), Arc::new(Told::default()));
        let shelf = Shelf::open(&store, config.max_snapshots, |_| false).await.unwrap();
        let parts = SessionsParts {
            shelf,
            store: store.clone(),
            registry,
            directory: directory.path().to_owned(),
            config,
            kernels: vec![Arc::new(adders)],
            built_ins: Arc::new(NoBuiltIns),
            observer: told.clone(),
        };
        let sessions = Sessions::open(parts).await.unwrap();
        House { directory, store, sessions, switches, told }
    }

    /// A server that starts on what a kill at this moment leaves on disk.
    pub async fn killed(&self) -> House {
        self.killed_with(SessionsConfig::default(), Adders::new()).await
    }

    pub async fn killed_with(&self, config: SessionsConfig, adders: Adders) -> House {
        // A copy takes a while, a kill does not: nothing is half written meanwhile. What a kill in the middle of
        // writing leaves has tests of its own.
        let entries: Vec<_> = self.sessions.entries.iter().map(|entry| entry.value().clone()).collect();
        let mut saving = Vec::new();
        for entry in &entries {
            saving.push(entry.saving.lock().await);
        }
        // An answered write is committed: whatever was handed over before is in the files now.
        self.store.write(|_| Ok(())).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.directory.path(), copy.path());
        House::on(copy, config, adders).await
    }

    pub async fn create(&self, durability: Durability) -> SessionId {
        self.sessions.create(new_session(durability)).await.unwrap().origin.id
    }

    pub fn get(&self, id: SessionId) -> Session {
        self.sessions.get(id, &me()).unwrap()
    }

    pub fn session_call(&self, session: SessionId, parameters: Value) -> SessionCall {
        SessionCall {
            session,
            expected_turn: None,
            wall_time: None,
            inputs: Default::default(),
            parameters,
            tool: "adder".into(),
            start: Start {
                id: None,
                subject: Subject::Tool { name: "adder".into(), version: "1".into(), digest: "".into() },
                principal: "me".into(),
                request: None,
                labels: Default::default(),
                limits: LimitsPolicy::default().defaults,
                stdin: Default::default(),
                stdin_given: Default::default(),
                stdin_open: false,
                session: None,
                parent: None,
                target: "".into(),
                lane: Lane::new("tool \"adder\"", 64),
            },
        }
    }

    pub async fn accept(&self, call: SessionCall) -> Result<Box<SessionRun>> {
        match self.sessions.call(call).await? {
            SessionCalled::New(run) => Ok(run),
            SessionCalled::Existing(_) => panic!("the call is new"),
        }
    }

    pub async fn call(&self, session: SessionId, parameters: Value) -> Result<Arc<Live>> {
        self.accept(self.session_call(session, parameters)).await?.drive().await
    }

    /// Adds, and answers the sum.
    pub async fn add(&self, session: SessionId, number: i64) -> i64 {
        let live = self.call(session, json!({ "add": number })).await.unwrap();
        said(&live).trim().parse().unwrap()
    }

    /// Waits until the last turn of a session is durable.
    pub async fn settled(&self, session: SessionId) {
        until(|| {
            let session = self.get(session);
            session.checkpoint_turn == session.turn && session.checkpoint_time.is_some()
        })
        .await;
    }
}

pub fn said(live: &Live) -> String {
    String::from_utf8(live.journal().collect(OutputStream::Stdout).0.to_vec()).unwrap()
}

pub fn outcome(live: &Live) -> Arc<Outcome> {
    live.execution().outcome.expect("it is over")
}

pub fn request(byte: u8) -> RequestId {
    RequestId::from_bytes([byte; 16])
}

/// Waits for what other tasks bring about.
pub async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes about");
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&path, &target);
        } else if path.file_name().is_some_and(|name| name != "casemate.lock") {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
