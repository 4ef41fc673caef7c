//! Executions without gRPC: a tool's run with a journal, a result, replay and a record that survives.
//!
//!     cargo run --example execution

use casemate::domain::event::{Event, EventKind};
use casemate::domain::execution::Subject;
use casemate::domain::limits::LimitsPolicy;
use casemate::engine::{DenyAll, Engine, EngineConfig, Run};
use casemate::execution::{Begun, Ended, Lane, Live, NoObserver, Registry, RegistryConfig, Start};
use casemate::store::Store;
use std::sync::Arc;

#[tokio::main]
async fn main() -> casemate::Result<()> {
    let module = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tools/text_stats.wasm"))
        .map_err(|error| casemate::Error::Internal(error.to_string()))?;
    let engine = Engine::new(EngineConfig { max_running: 8, ..EngineConfig::default() })?;
    let program = engine.load("text_stats", module.into()).await?;
    let store = Arc::new(Store::in_memory()?);
    let registry = Registry::open(store, RegistryConfig::default(), Arc::new(NoObserver)).await?;

    let start = Start {
        id: None,
        subject: Subject::Tool { name: "text_stats".into(), version: "1".into(), digest: program.digest().clone() },
        principal: "example".into(),
        request: None,
        labels: Default::default(),
        limits: LimitsPolicy::default().defaults,
        stdin: r#"{"text": "All the world is a stage."}"#.into(),
        stdin_given: Default::default(),
        stdin_open: false,
        session: None,
        parent: None,
        target: "".into(),
        lane: Lane::new("tool \"text_stats\"", 4),
    };
    let Begun::New(run) = registry.begin(start).await? else { return Ok(()) };
    let live = run
        .drive(|live: Arc<Live>| async move {
            let run = Run {
                limits: live.origin().limits,
                args: vec!["text_stats".into()],
                environment: Arc::default(),
                directories: Arc::from([]),
                input: live.clone(),
                output: live.clone(),
                meter: live.meter().clone(),
                egress: Arc::new(DenyAll),
            };
            match program.run(run).await {
                Ok(ended) => Ended::new(ended.exit, ended.message),
                Err(error) => Ended::new(casemate::domain::execution::Exit::Internal, error.to_string()),
            }
        })
        .await?;

    // Everything that happened, from the first event on, as often as one likes.
    for Event { sequence, kind, .. } in live.journal().export(1) {
        match kind {
            EventKind::Output { stream, data, .. } => {
                println!("{sequence} {stream:?}: {}", String::from_utf8_lossy(&data).trim_end());
            }
            EventKind::Finished { state, outcome } => {
                println!("{sequence} {} in {:?}", state.name(), outcome.usage.run_time)
            }
            other => println!("{sequence} {other:?}"),
        }
    }
    println!("recorded: {} execution(s)", registry.list(Default::default(), None, 10).await?.len());
    Ok(())
}
