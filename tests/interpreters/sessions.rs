//! Sessions with the real kernels: state, copies, what a kill takes, and what does not come back.

use crate::kit::{Run, code, limited, out_of, start, start_with, within};
use casemate::proto::v1;

/// The value of the last expression, as text.
fn value(run: &Run) -> String {
    let value = run.0.value.as_ref().unwrap_or_else(|| panic!("no value: {:?}", run.0));
    let text = value.representations.iter().find(|form| form.mime_type == "text/plain").unwrap();
    match text.content.as_ref().unwrap() {
        v1::representation::Content::Text(text) => text.clone(),
        v1::representation::Content::Data(_) => panic!("the text is no text"),
    }
}

#[tokio::test]
async fn state_files_and_open_files_live_between_turns() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "x = [1]\nf = open('notes.txt', 'w')\nf.write('one ')").await.fine();
    let next = python.turn(&session, "x.append(2)\nf.write('two')\nf.close()\nx, open('notes.txt').read()").await;
    assert_eq!(value(&next), "([1, 2], 'one two')");
    let failed = python.turn(&session, "y = 1\n1 / 0").await;
    assert_eq!(failed.exception().type_name, "ZeroDivisionError");
    assert_eq!(value(&python.turn(&session, "y + len(x)").await), "3");
    assert_eq!(python.look(&session).await.turn, 4);
}

#[tokio::test]
async fn a_fork_goes_on_by_itself_with_randomness_of_its_own() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "import random, uuid, numpy as np\nx = 1").await.fine();
    let request = v1::ForkSessionRequest { session_id: session.clone(), count: 3, ..Default::default() };
    let forks = python.sessions().fork_session(request).await.unwrap().into_inner().sessions;
    let mut drawn = std::collections::BTreeSet::new();
    for id in forks.iter().map(|fork| &fork.id).chain([&session]) {
        drawn.insert(value(&python.turn(id, "x += 1\n(random.random(), uuid.uuid4(), np.random.rand(), x)").await));
    }
    assert_eq!(drawn.len(), 4, "{drawn:?}");
    assert!(drawn.iter().all(|value| value.ends_with(", 2)")), "{drawn:?}");
}

#[tokio::test]
async fn a_snapshot_starts_isolates_and_sessions() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "import random\nx = 41\nopen('f.txt', 'w').write('kept')").await.fine();
    let request = v1::SnapshotSessionRequest { session_id: session, name: "with-x".into(), ..Default::default() };
    python.sessions().snapshot_session(request).await.unwrap();
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let call = out_of("with-x", code("x += 1\nprint(x, open('f.txt').read())\nrandom.random()"));
        let run = python.call(call).await.unwrap();
        assert_eq!(run.fine(), "42 kept\n");
        drawn.insert(value(&run));
    }
    assert_eq!(drawn.len(), 3, "{drawn:?}");
    let from = v1::SessionTarget { target: Some(v1::session_target::Target::SnapshotId("with-x".into())) };
    let session = python.session_with(v1::CreateSessionRequest { target: Some(from), ..Default::default() }).await;
    assert_eq!(value(&python.turn(&session.id, "x").await), "41");
}

#[tokio::test]
async fn a_session_goes_on_as_of_its_last_checkpoint_after_a_kill() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "import random\nx = {'a': 1}\nopen('f', 'w').write('1')").await.fine();
    python.durable(&session).await;
    let first = value(&python.turn(&session, "x['b'] = 2\nrandom.random()").await);
    let turn = python.durable(&session).await;
    let python = python.kill_and_restart().await;
    let found = python.look(&session).await;
    assert_eq!((found.turn, found.checkpoint_turn), (turn, turn));
    let state = value(&python.turn(&session, "(x, open('f').read())").await);
    assert_eq!(state, "({'a': 1, 'b': 2}, '1')");
    assert_ne!(value(&python.turn(&session, "random.random()").await), first);
}

#[tokio::test]
async fn a_turn_that_a_kill_cut_off_reads_as_lost() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "x = 1").await.fine();
    python.durable(&session).await;
    // Known to the disk before it runs, so that its fate can be read.
    let request_id = uuid::Uuid::now_v7().to_string();
    let endless = code("x = 2\nprint('begun', flush=True)\nwhile True: pass");
    let call = within(&session, v1::ToolCall { request_id, ..endless });
    let (execution, _stream) = python.begin(call, "begun").await;
    let python = python.kill_and_restart().await;
    assert_eq!(python.execution(&execution).await.state(), v1::ExecutionState::Lost);
    assert_eq!(value(&python.turn(&session, "x").await), "1");
}

#[tokio::test]
async fn a_turn_past_its_time_falls_back_to_the_checkpoint_and_says_so() {
    let Some(python) = start().await else { return };
    let session = python.session().await;
    python.turn(&session, "x = 1").await.fine();
    python.durable(&session).await;
    let limits = v1::ExecutionLimits {
        wall_time: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        ..Default::default()
    };
    let call = limited(limits, within(&session, code("x = 2\nwhile True: pass")));
    let run = python.call(call).await.unwrap();
    assert_eq!(run.execution().state(), v1::ExecutionState::TimedOut);
    let interruption = run.result().session_interruption.clone().unwrap();
    assert_eq!((interruption.last_turn, interruption.resumed_turn), (1, 1));
    assert_eq!(value(&python.turn(&session, "x").await), "1");
}

#[tokio::test]
async fn idle_sessions_leave_memory_and_come_back() {
    let config = "[sessions]\nsuspend_idle = \"1s\"\n";
    let Some(python) = start_with(|setup| setup.config(config)).await else { return };
    let session = python.session().await;
    python.turn(&session, "import pandas as pd\ndf = pd.DataFrame({'a': range(1000)})").await.fine();
    let suspended = |found: &v1::Session| found.state() == v1::SessionState::Suspended;
    python.session_until(&session, "suspension", suspended).await;
    assert_eq!(value(&python.turn(&session, "int(df.a.sum())").await), "499500");
}
