use super::*;
use crate::domain::execution::{Exit, Origin, Outcome, Usage};
use crate::domain::id::ExecutionId;
use crate::domain::limits::LimitsPolicy;
use crate::domain::time::Timestamp;

fn ended(tool: &str) -> Execution {
    let subject = Subject::Tool { name: tool.into(), version: "".into(), digest: "".into() };
    let origin = Origin {
        id: ExecutionId::new(),
        subject,
        principal: "p".into(),
        request_id: None,
        labels: Default::default(),
        limits: LimitsPolicy::default().defaults,
        created: Timestamp::now(),
        session: None,
        parent: None,
        target: "".into(),
    };
    let usage = Usage { run_time: Duration::from_micros(20), dropped_bytes: 5, ..Usage::default() };
    let outcome = Outcome::new(Exit::Exited { code: 0 }, "", usage);
    Execution {
        origin: Arc::new(origin),
        state: outcome.exit.state(),
        started: None,
        ended: None,
        last_sequence: 1,
        stdin_offset: 0,
        session_turn: 0,
        outcome: Some(Arc::new(outcome)),
    }
}

#[test]
fn every_metric_is_documented_and_the_other_way_round() {
    let metrics = Metrics::new(["Tools/ExecuteTool".to_owned()]);
    metrics.rpc(0).answered(0, Duration::from_millis(1));
    metrics.tool("echo").ended(ExecutionState::Failed);
    metrics.render();
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"));
    let documented: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(name, _)| name)).collect();
    let mut families: Vec<_> = metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
    families.sort();
    let mut sorted = documented.clone();
    sorted.sort_unstable();
    assert_eq!(families, sorted, "docs/metrics.md and the metrics differ");
}

#[test]
fn a_tool_that_does_not_exist_is_no_label() {
    let metrics = Metrics::new([]);
    metrics.tool("echo");
    metrics.execution_ended(&ended("echo"));
    metrics.execution_ended(&ended("made-up-by-a-client"));
    let text = metrics.render();
    assert!(text.contains("casemate_tool_executions_total{state=\"succeeded\",tool=\"echo\"} 1"), "{text}");
    assert!(text.contains("casemate_executions_total{state=\"succeeded\"} 2"));
    assert!(text.contains("casemate_journal_dropped_bytes_total 10"));
    assert!(text.contains("casemate_execution_seconds_count 2"));
    assert!(!text.contains("made-up"));
    metrics.remove_tool("echo");
    metrics.remove_tool("echo");
    assert!(!metrics.render().contains("tool=\"echo\""));
    assert!(metrics.tool("echo").ended[0].get() == 0, "a new tool of the name begins at zero");
}

#[test]
fn methods_and_codes_are_closed_sets() {
    let metrics = Metrics::new(["a/B".to_owned()]);
    metrics.rpc(0).answered(5, Duration::from_millis(2));
    metrics.rpc(77).answered(1234, Duration::ZERO);
    let text = metrics.render();
    assert!(text.contains("casemate_rpc_requests_total{code=\"NOT_FOUND\",method=\"a/B\"} 1"), "{text}");
    assert!(text.contains("casemate_rpc_requests_total{code=\"UNKNOWN\",method=\"other\"} 1"), "{text}");
    assert!(text.contains("casemate_rpc_seconds_bucket{method=\"a/B\",le=\"0.0025\"} 1"), "{text}");
}

#[test]
fn readings_are_taken_when_somebody_scrapes() {
    let metrics = Metrics::new([]);
    metrics.read_from(|| Readings { running: 3, queued: 2, store_pending: 1, tools_stale: 4, ..Readings::default() });
    metrics.read_modules_from(|| ModuleReadings { from_cache: 5, compiled: 6 });
    metrics.render();
    let text = metrics.render();
    for line in [
        "casemate_module_cache_total{result=\"hit\"} 5",
        "casemate_module_cache_total{result=\"miss\"} 6",
        "casemate_executions_running 3",
        "casemate_executions_queued 2",
        "casemate_store_pending 1",
        "casemate_tools_loaded{state=\"stale\"} 4",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
}
