//! SIGKILL between turns, in a turn and during a checkpoint, with real interpreters.

use crate::kit::{self, Python, code, within};
use casemate::proto::v1;
use casemate::proto::v1::{ExecutionState, SessionInterruptionReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const KILLS: u32 = 30;
const SESSIONS: usize = 4;

#[tokio::test]
async fn a_kill_between_turns_loses_nothing_that_is_on_disk() {
    let Some(mut python) = kit::start().await else { return };
    let session = python.session().await;
    python.turn(&session, "n = 0\nlog = open('log', 'w+')").await.fine();
    for round in 1..=5 {
        assert_eq!(
            python.turn(&session, "n += 1\nlog.write('x')\nlog.flush()\nprint(n)").await.fine(),
            format!("{round}\n")
        );
        let turn = python.durable(&session).await;
        python = python.kill_and_restart().await;
        let seen = python.look(&session).await;
        assert_eq!((seen.turn, seen.checkpoint_turn), (turn, turn));
        assert_eq!(seen.interruption, None, "nothing was lost");
    }
    assert_eq!(python.turn(&session, "log.seek(0)\nprint(n, log.read())").await.fine(), "5 xxxxx\n");
}

#[tokio::test]
async fn a_kill_in_a_turn_loses_that_turn_and_says_so() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    python.turn(&session, "n = 1").await.fine();
    let turn = python.durable(&session).await;
    let text = "n = 2\nopen('lost', 'w').close()\nprint('going', flush=True)\nwhile True: pass";
    let call = v1::ToolCall { request_id: uuid::Uuid::now_v7().to_string(), ..within(&session, code(text)) };
    let (id, _stream) = python.begin(call.clone(), "going").await;
    let python = python.kill_and_restart().await;
    let lost = python.execution(&id).await;
    assert_eq!(lost.state(), ExecutionState::Lost, "{lost:?}");
    let seen = python.look(&session).await;
    let interruption = seen.interruption.unwrap();
    assert_eq!(interruption.reason(), SessionInterruptionReason::ServerLost);
    assert_eq!(interruption.resumed_turn, turn);
    // A kill within moments of the turn's beginning can leave its id unknown; then it is empty, never another.
    assert!(interruption.execution_id.is_empty() || interruption.execution_id == id, "{interruption:?}");
    // The same call is not run again: it reads as lost.
    let again = python.call(call).await.unwrap();
    assert_eq!((again.execution().id.as_str(), again.execution().state()), (id.as_str(), ExecutionState::Lost));
    let run = python.turn(&session, "import os\nprint(n, os.path.exists('lost'))").await;
    assert_eq!(run.fine(), "1 False\n");
}

/// What a client knows of a session.
struct Watched {
    id: String,
    /// Turns that were answered.
    turn: AtomicU64,
    /// Turns that the server said are on disk.
    durable: AtomicU64,
    /// The call that is under way.
    asked: parking_lot::Mutex<Option<v1::ToolCall>>,
}

/// Memory, variables, and a file: one step for each turn.
const STEP: &str = "n += 1\nblocks[n % 64] = bytearray(str(n).encode() * 5000)\nlog.write('x')\nlog.flush()\nprint(n)";

async fn work(python: &Python, session: Arc<Watched>) {
    let (mut tools, mut sessions) = (python.tools(), python.sessions());
    loop {
        let call = v1::ToolCall { request_id: uuid::Uuid::now_v7().to_string(), ..within(&session.id, code(STEP)) };
        *session.asked.lock() = Some(call.clone());
        let Ok(answer) = tools.execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await else { return };
        let execution = answer.into_inner().execution.unwrap();
        if execution.state() == ExecutionState::Succeeded {
            session.turn.store(execution.session_turn, Ordering::Relaxed);
        }
        *session.asked.lock() = None;
        let Ok(seen) = sessions.get_session(v1::GetSessionRequest { session_id: session.id.clone() }).await else {
            return;
        };
        session.durable.store(seen.into_inner().session.unwrap().checkpoint_turn, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_puts_sessions_back_to_a_checkpoint() {
    let Some(mut python) = kit::start().await else { return };
    let seed = uuid::Uuid::now_v7().as_u128() as u64;
    eprintln!("seed {seed}");
    let mut random = seed;
    let mut watched = Vec::new();
    for _ in 0..SESSIONS {
        let id = python.session().await;
        python
            .turn(&id, "n = 1\nblocks = [b''] * 64\nlog = open('log', 'w+')\nlog.write('x')\nlog.flush()")
            .await
            .fine();
        let turn = python.durable(&id).await;
        let asked = parking_lot::Mutex::default();
        watched.push(Arc::new(Watched { id, turn: turn.into(), durable: turn.into(), asked }));
    }
    let (mut lost, mut steps) = (0, 0);
    for kill in 0..KILLS {
        let python_now = Arc::new(python);
        let mut workers = tokio::task::JoinSet::new();
        for session in &watched {
            let (python, session) = (python_now.clone(), session.clone());
            workers.spawn(async move { work(&python, session).await });
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The moment is what is random: there is no condition to wait for.
        tokio::time::sleep(Duration::from_millis(20 + (random >> 33) % 400)).await;
        python_now.server.signal(rustix::process::Signal::KILL);
        workers.join_all().await;
        let stopped = Arc::into_inner(python_now).unwrap();
        python = stopped.kill_and_restart().await;
        for session in &watched {
            let seen = python.look(&session.id).await;
            let (answered, durable) = (session.turn.load(Ordering::Relaxed), session.durable.load(Ordering::Relaxed));
            let what = format!("kill {kill}: answered {answered}, durable {durable}: {seen:?}");
            assert!(seen.turn >= durable, "what was on disk is lost: {what}");
            assert!(seen.turn <= answered + 1, "{what}");
            assert_eq!(seen.turn, seen.checkpoint_turn, "{what}");
            if seen.turn < answered {
                let interruption = seen.interruption.as_ref().unwrap_or_else(|| panic!("{what}"));
                assert_eq!(
                    (interruption.reason(), interruption.resumed_turn),
                    (SessionInterruptionReason::ServerLost, seen.turn),
                    "{what}"
                );
                lost += answered - seen.turn;
            }
            // The call that was under way ended, or is lost, or never began; none runs a second time.
            let asked = session.asked.lock().take();
            if let Some(call) = asked {
                let first = python.call(call.clone()).await.unwrap();
                assert!(
                    [ExecutionState::Succeeded, ExecutionState::Lost].contains(&first.execution().state()),
                    "{what}"
                );
                assert_eq!(python.call(call).await.unwrap().0, first.0, "{what}");
            }
            // Memory, variables and files are of one and the same turn.
            let text = "import os\nlog.seek(0)\nprint(n, len(log.read()), sum(len(b) for b in blocks) == sum(len(str(i)) * 5000 for i in range(max(2, n - 63), n + 1)))\nn += 1\nblocks[n % 64] = bytearray(str(n).encode() * 5000)\nlog.write('x')\nlog.flush()";
            let run = python.turn(&session.id, text).await;
            let before = run.execution().session_turn - 1;
            assert_eq!(run.fine(), format!("{before} {before} True\n"), "{what}");
            session.turn.store(before + 1, Ordering::Relaxed);
            steps = steps.max(before);
        }
    }
    eprintln!("{steps} turns of the longest session, {lost} turns put back in all");
    assert!(steps > u64::from(KILLS), "the load was none");
}
