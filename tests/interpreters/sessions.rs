//! Sessions that hold Python: what stays between turns, what a cut-off turn takes, copies and snapshots.

use crate::harness::reason;
use crate::kit::{self, Python, code, limited, out_of, seconds, within};
use casemate::proto::v1;
use casemate::proto::v1::{ExecutionState, ExitReason, SessionInterruptionReason as Interrupted, SessionState};
use tonic::Code;

#[tokio::test]
async fn state_stays_between_turns() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    // Code, and what the next turn sees of it.
    let turns = [
        ("x = [1, 2]\ndef f(y): return sum(x) + y", ""),
        ("x.append(39)\nprint(f(0))", "42\n"),
        ("import numpy as np, pandas as pd\ndf = pd.DataFrame({'a': [1, 2, 3]})\nclass A:\n    n = 5", ""),
        ("print(df.a.sum(), np.__name__, A().n)", "6 numpy 5\n"),
        ("open('kept.txt', 'w').write('kept')\nlog = open('log.txt', 'w+')\nlog.write('one ')\nNone", ""),
        (
            "print(open('kept.txt').read())\nlog.write('two')\nlog.flush()\nlog.seek(0)\nprint(log.read())",
            "kept\none two\n",
        ),
        ("import os\nos.makedirs('d', exist_ok=True)\nos.chdir('d')\nos.environ['OWN'] = 'e'", ""),
        ("print(os.getcwd(), os.environ['OWN'], os.listdir('..') != [])", "/work/d e True\n"),
        ("import sqlite3\ndb = sqlite3.connect('/work/a.db')\ndb.execute('create table t (a)')\nNone", ""),
        (
            "db.execute('insert into t values (7)')\ndb.commit()\nprint(db.execute('select * from t').fetchall())",
            "[(7,)]\n",
        ),
        ("def gen():\n    for i in range(10): yield i\ng = gen()\nnext(g)\nnext(g)", ""),
        ("print(next(g), _)", "2 1\n"),
        ("print(next(g))\n1 / 0", "3\n"),
        ("print(next(g))", "4\n"),
        ("async def later():\n    return 5\nprint(await later())", "5\n"),
        ("from random import seed, random\nseed(3)\na = random()\nseed(3)\nb = random()", ""),
        ("print(a == b)", "True\n"),
    ];
    for (index, (text, wanted)) in turns.iter().enumerate() {
        let run = python.turn(&session, text).await;
        assert_eq!(run.out(), *wanted, "{text}: {:?}", run.0);
        assert_eq!(run.execution().session_id, session);
        assert_eq!(run.execution().session_turn, index as u64 + 1);
        if run.result().exit_code != 0 {
            let frame = run.exception().frames.last().unwrap();
            assert_eq!((frame.file.clone(), frame.line), (format!("<turn {}>", index + 1), 2));
        }
    }
    // An error in a function of an earlier turn points at that turn.
    let run = python.turn(&session, "x = None\nf(1)").await;
    let frames: Vec<(&str, u32, &str)> =
        run.exception().frames.iter().map(|frame| (frame.file.as_str(), frame.line, frame.source.as_str())).collect();
    assert_eq!(frames, [("<turn 18>", 2, "f(1)"), ("<turn 1>", 2, "def f(y): return sum(x) + y")]);
    let stop = python.turn(&session, "raise SystemExit(3)").await;
    assert_eq!((stop.reason(), stop.result().exit_code), (ExitReason::Exited, 3));
    assert_eq!(python.turn(&session, "print(A.n)").await.fine(), "5\n", "an exit ends the turn, not the session");
}

#[tokio::test]
async fn inputs_are_of_their_turn() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    let call = v1::ToolCall {
        files: vec![v1::InputFile { path: "in.csv".into(), data: "a,b\n1,2\n".into(), mode: None }],
        arguments: vec!["one".into()],
        environment: [("OWN".to_owned(), "e".to_owned())].into(),
        stdin: "typed\nmore\n".into(),
        return_files: vec!["*.out".into()],
        ..code(
            "import os, sys\nprint(open('in.csv').read().split(), sys.argv[1:], os.environ['OWN'], input())\nopen('a.out', 'w').write('result')\nNone",
        )
    };
    let run = python.call(within(&session, call)).await.unwrap();
    assert_eq!(run.fine(), "['a,b', '1,2'] ['one'] e typed\n");
    assert_eq!(
        run.0.files.iter().map(|file| (&*file.path, &file.data[..])).collect::<Vec<_>>(),
        [("a.out", &b"result"[..])]
    );
    let text = "print(sorted(os.listdir('.')), sys.argv[1:], os.environ.get('OWN'), sys.stdin.read())";
    let run = python.turn(&session, text).await;
    assert_eq!(run.fine(), "['a.out', 'in.csv'] [] None \n");
    assert_eq!(run.0.files, []);
}

/// Puts a session into a state, and says its turn.
async fn with_state(python: &Python, session: &str) -> u64 {
    python.turn(session, "n = 1\nf = open('log', 'w+')\nf.write('1')\nf.flush()").await.fine();
    python.turn(session, "n += 1").await.fine();
    python.durable(session).await
}

/// A session that goes on from a turn, and says so.
async fn goes_on(python: &Python, session: &str, turn: u64, why: Interrupted) {
    let seen = python.look(session).await;
    let interruption = seen.interruption.as_ref().unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!((interruption.reason(), interruption.resumed_turn), (why, turn));
    let run = python.turn(session, "n += 1\nf.seek(0)\nprint(n, f.read(), 'lost' in globals())").await;
    assert_eq!(run.fine(), "3 1 False\n");
    assert_eq!(run.execution().session_turn, turn + 1);
}

#[tokio::test]
async fn a_turn_that_is_cut_off_is_as_if_it_had_not_been() {
    let Some(python) = kit::start().await else { return };
    let cases = [
        ("lost = 1\nn = 100\nwhile True: pass", ExitReason::TimedOut, Interrupted::TimedOut),
        (
            "lost = 1\nn = 100\nf.write('x' * 100)\nf.flush()\nimport os\nos.abort()",
            ExitReason::Trapped,
            Interrupted::Trapped,
        ),
        (
            "lost = 1\nn = 100\nx = []\nfor i in range(10 ** 6): x = [x]\ndel x",
            ExitReason::StackOverflow,
            Interrupted::Trapped,
        ),
        ("lost = 1\nn = 100\nf.close()\nimport time\ntime.sleep(1e9)", ExitReason::TimedOut, Interrupted::TimedOut),
    ];
    for (text, exit, why) in cases {
        let session = python.session().await;
        let turn = with_state(&python, &session).await;
        let run = python.call(within(&session, limited(seconds(2), code(text)))).await.unwrap();
        assert_eq!(run.reason(), exit, "{text}");
        let told = run.result().session_interruption.as_ref().unwrap();
        assert_eq!((told.reason(), told.last_turn, told.resumed_turn), (why, turn, turn), "{text}");
        goes_on(&python, &session, turn, why).await;
    }
}

#[tokio::test]
async fn a_turn_that_is_cancelled_is_as_if_it_had_not_been() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    let turn = with_state(&python, &session).await;
    let text = "lost = 1\nn = 100\nprint('going', flush=True)\nwhile True: pass";
    let (id, _stream) = python.begin(within(&session, code(text)), "going").await;
    assert_eq!(python.look(&session).await.state(), SessionState::Busy);
    let cancel = v1::CancelExecutionRequest { execution_id: id.clone(), ..Default::default() };
    python.executions().cancel_execution(cancel).await.unwrap();
    let wait = v1::WaitExecutionRequest { execution_id: id.clone(), timeout: None };
    let done = python.executions().wait_execution(wait).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(done.state(), ExecutionState::Cancelled);
    goes_on(&python, &session, turn, Interrupted::Cancelled).await;
}

#[tokio::test]
async fn without_a_checkpoint_an_interrupted_session_is_closed() {
    let Some(python) = kit::start().await else { return };
    let request = v1::CreateSessionRequest { durability: v1::SessionDurability::None.into(), ..Default::default() };
    let session = python.session_with(request).await.id;
    // No turn was complete: it begins anew.
    python.turn(&session, "import os\nos.abort()").await;
    assert_eq!(python.turn(&session, "n = 5\nprint('os' in globals())").await.fine(), "False\n");
    python.turn(&session, "import os\nos.abort()").await;
    let seen = python.look(&session).await;
    assert_eq!(seen.state(), SessionState::Closed);
    assert_eq!(seen.closure.unwrap().reason(), v1::SessionClosureReason::Interrupted);
    let refused = python.call(within(&session, code("1"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn calls_run_in_their_order() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    python.turn(&session, "order = []").await.fine();
    let mut calls = Vec::new();
    for number in 0..10 {
        // The journal's first event comes when the call has its place in the line.
        let text = format!("print('{number}')\norder.append({number})");
        let request = v1::ExecuteToolStreamRequest { call: Some(within(&session, code(&text))), keepalive_seconds: 0 };
        calls.push(python.tools().execute_tool_stream(request).await.unwrap().into_inner());
    }
    for call in &mut calls {
        while call.message().await.unwrap().is_some() {}
    }
    assert_eq!(python.turn(&session, "print(order)").await.fine(), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
    let wrong =
        v1::ToolTarget { target: Some(v1::tool_target::Target::SessionId(session.clone())), expected_turn: Some(3) };
    let status = python.call(v1::ToolCall { target: Some(wrong), ..code("1") }).await.unwrap_err();
    assert_eq!(reason(&status), "TURN_MISMATCH", "{status}");
}

#[tokio::test]
async fn forks_go_on_by_themselves() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    let big = "import pandas as pd, numpy as np\ndf = pd.DataFrame({'a': np.arange(100_000, dtype='int64')})\nn = 1\nopen('f', 'w').write('first')\nlog = open('log', 'w')";
    python.turn(&session, big).await.fine();
    let fork = v1::ForkSessionRequest { session_id: session.clone(), count: 5, ..Default::default() };
    let forked = python.sessions().fork_session(fork).await.unwrap().into_inner();
    assert_eq!((forked.turn, forked.sessions.len()), (1, 5));
    for (index, fork) in forked.sessions.iter().enumerate() {
        assert_eq!((fork.forked_from_session_id.as_str(), fork.turn), (session.as_str(), 1));
        let text = format!(
            "print(df.a.sum(), n, open('f').read())\nn = {index} * 10\ndf.loc[0, 'a'] = n\nopen('f', 'w').write(str(n))\nlog.write('x' * n)\nlog.flush()"
        );
        assert_eq!(python.turn(&fork.id, &text).await.fine(), "4999950000 1 first\n");
    }
    for (index, fork) in forked.sessions.iter().enumerate() {
        let n = index * 10;
        let wanted = format!("{n} {n} {n} {n}\n");
        let text = "import os\nprint(n, df.a[0], open('f').read(), os.path.getsize('log'))";
        assert_eq!(python.turn(&fork.id, text).await.fine(), wanted);
    }
    assert_eq!(python.turn(&session, "print(n, df.a.iloc[0], open('f').read())").await.fine(), "1 0 first\n");
    let last = &forked.sessions[4].id;
    python.durable(last).await;
    let python = python.kill_and_restart().await;
    assert_eq!(python.turn(last, "print(n, df.a[0], open('f').read())").await.fine(), "40 40 40\n");
}

#[tokio::test]
async fn snapshots_start_sessions_and_isolates() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    python.turn(&session, "import collections\nmodel = {'w': list(range(1000))}\nopen('data.txt', 'w').write('data')\nlog = open('log', 'w')").await.fine();
    let freeze = v1::SnapshotSessionRequest { session_id: session.clone(), name: "model".into(), ..Default::default() };
    let snapshot = python.sessions().snapshot_session(freeze).await.unwrap().into_inner().snapshot.unwrap();
    python.turn(&session, "model['w'] = None\nopen('data.txt', 'w').write('changed')").await.fine();
    let look = "print(sum(model['w']), open('data.txt').read(), log.write('x'), globals().get('mine'))\nmine = 1\nmodel.clear()";
    let wanted = "499500 data 1 None\n";
    for _ in 0..3 {
        assert_eq!(python.call(out_of("model", code(look))).await.unwrap().fine(), wanted);
        assert_eq!(python.call(out_of(&snapshot.id, code(look))).await.unwrap().fine(), wanted);
    }
    let from = |name: &str| v1::CreateSessionRequest {
        target: Some(v1::SessionTarget { target: Some(v1::session_target::Target::SnapshotId(name.into())) }),
        ..Default::default()
    };
    let second = python.session_with(from("model")).await.id;
    assert_eq!(python.turn(&second, look).await.fine(), wanted);
    python.durable(&second).await;
    // A snapshot of a session that began from one.
    let freeze = v1::SnapshotSessionRequest { session_id: second.clone(), name: "second".into(), ..Default::default() };
    python.sessions().snapshot_session(freeze).await.unwrap();
    let python = python.kill_and_restart().await;
    assert_eq!(python.turn(&second, "print(mine, model)").await.fine(), "1 {}\n");
    assert_eq!(python.call(out_of("model", code(look))).await.unwrap().fine(), wanted);
    assert_eq!(python.call(out_of("second", code("print(mine, model)"))).await.unwrap().fine(), "1 {}\n");
    let third = python.session_with(from("second")).await.id;
    assert_eq!(python.turn(&third, "print(mine, model)").await.fine(), "1 {}\n");
    let delete = v1::DeleteSnapshotRequest { snapshot_id: "model".into(), ..Default::default() };
    python.snapshots().delete_snapshot(delete).await.unwrap();
    let gone = python.call(out_of("model", code("1"))).await.unwrap_err();
    assert_eq!(reason(&gone), "SNAPSHOT_NOT_FOUND");
    assert_eq!(python.turn(&second, "mine += 1\nprint(mine)").await.fine(), "2\n", "what runs on it keeps it");
}

#[tokio::test]
async fn quiet_sessions_leave_memory_and_come_back() {
    let lines = "[sessions]\nsuspend_idle = \"1s\"";
    let Some(python) = kit::start_with(|setup| setup.config(lines)).await else { return };
    let session = python.session().await;
    python
        .turn(&session, "n = 0\nlog = open('log', 'w+')\nimport pandas as pd\ndf = pd.DataFrame({'a': [1]})")
        .await
        .fine();
    for round in 1..=5 {
        let away = python.session_until(&session, "the suspension", |s| s.state() == SessionState::Suspended).await;
        assert_eq!(away.checkpoint_turn, away.turn);
        assert_eq!(away.memory_bytes, 0, "{away:?}");
        let text = "n += 1\nlog.write(str(n))\nlog.flush()\nlog.seek(0)\nprint(n, log.read(), df.a.sum())";
        let written: String = (1..=round).map(|n| n.to_string()).collect();
        assert_eq!(python.turn(&session, text).await.fine(), format!("{round} {written} 1\n"));
    }
    python.session_until(&session, "the suspension", |s| s.state() == SessionState::Suspended).await;
    let python = python.stop_and_restart().await;
    assert_eq!(python.turn(&session, "print(n)").await.fine(), "5\n");
}

#[tokio::test]
async fn a_session_may_grow_and_shrink() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    for round in 0..6 {
        let text =
            format!("big = bytearray({round} * (10 << 20))\nbig[::4096] = b'x' * len(big[::4096])\nprint(len(big))");
        assert_eq!(python.turn(&session, &text).await.fine(), format!("{}\n", round * (10 << 20)));
        python.durable(&session).await;
    }
    python.turn(&session, "size, marks = len(big), big.count(b'x')\ndel big").await.fine();
    python.durable(&session).await;
    let python = python.kill_and_restart().await;
    assert_eq!(
        python.turn(&session, "print(size, marks)\nmore = bytearray(40 << 20)").await.fine(),
        format!("{} {}\n", 50 << 20, (50 << 20) / 4096)
    );
    let run = python.turn(&session, "try:\n    bytearray(1 << 30)\nexcept MemoryError:\n    print('caught')").await;
    assert_eq!(run.fine(), "caught\n");
}
