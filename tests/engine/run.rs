//! Running: streams, exits, host calls, directories, ending early, many at once.

use crate::guests::{self, *};
use crate::kit::*;
use casemate::domain::event::{LogLevel, OutputStream};
use casemate::domain::execution::Exit;
use casemate::domain::limits::Limits;
use casemate::domain::manifest::DirectoryGrant;
use casemate::engine::{Denied, Egress, Engine, EngineConfig};
use casemate::error::Error;
use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn echo_gives_back_what_it_reads() {
    let program = load(&engine(), ECHO).await;
    for size in [0, 1, 1024, 300_000] {
        let input: String = (0..size).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        let bench = Bench::new(limits(), Source::of(input.clone()));
        let ended = bench.go(&program).await;
        assert_eq!((ended.exit, ended.message.as_str()), (Exit::Exited { code: 0 }, ""));
        assert_eq!(bench.sink.stdout(), input);
    }
}

#[tokio::test]
async fn arguments_and_environment_are_what_the_run_says_and_nothing_of_the_host() {
    let program = load(&engine(), ARGS_AND_ENVIRONMENT).await;
    let mut bench = Bench::new(limits(), Source::of(""));
    bench.run.args.push("x y".into());
    bench.run.environment = Arc::new([("KEY".to_owned(), "value".to_owned())].into());
    bench.go(&program).await;
    assert_eq!(bench.sink.stdout(), "guest\0x y\0");
    assert_eq!(bench.sink.text(OutputStream::Stderr), "KEY=value\0");
    let (_, bare) = run(&program, limits()).await;
    assert_eq!(bare.sink.text(OutputStream::Stderr), "");
}

#[tokio::test]
async fn output_arrives_in_the_order_it_was_written_while_the_guest_runs() {
    let engine = engine();
    let (_, bench) = run(&load(&engine, INTERLEAVED).await, limits()).await;
    let writes: Vec<_> = bench.sink.writes.lock().unwrap().iter().map(|(of, data)| (*of, data.to_vec())).collect();
    let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
    assert_eq!(writes, [(out, b"a".to_vec()), (err, b"b".to_vec()), (out, b"c".to_vec())]);

    let program = load(&engine, ECHO).await;
    let bench = Arc::new(Bench::new(limits(), Source::default()));
    let running = tokio::spawn({
        let bench = bench.clone();
        async move { bench.go(&program).await }
    });
    bench.source.feed("first");
    until("the first answer", || bench.sink.stdout() == "first").await;
    assert!(!running.is_finished());
    bench.source.feed(" second");
    until("the second answer", || bench.sink.stdout() == "first second").await;
    bench.source.close();
    assert_eq!(running.await.unwrap().exit, Exit::Exited { code: 0 });
}

#[tokio::test]
async fn exit_codes_have_eight_bits() {
    let engine = engine();
    for (code, seen) in [(0, 0), (1, 1), (125, 125), (127, 127), (255, 255), (-1, 255), (256, 0)] {
        let (ended, _) = run(&load(&engine, &exit(code)).await, limits()).await;
        assert_eq!(ended.exit, Exit::Exited { code: seen }, "{code}");
    }
}

#[tokio::test]
async fn a_trap_tells_its_code_and_place() {
    let (ended, _) = run(&load(&engine(), TRAP).await, limits()).await;
    let Exit::Trapped(trap) = ended.exit else { panic!("expected a trap") };
    assert_eq!(trap.code, "unreachable");
    assert_eq!(trap.backtrace.len(), 2, "{trap:?}");
    assert!(trap.backtrace[0].starts_with("inner at 0x"), "{trap:?}");
    assert!(trap.backtrace[1].starts_with("outer at 0x"), "{trap:?}");
    assert!(ended.message.contains("unreachable") && ended.message.contains("inner"), "{}", ended.message);
}

#[tokio::test]
async fn exceptions_are_caught_and_count_as_memory() {
    // All slots at once: the heaps of exceptions take room in the pool too.
    let engine = Engine::new(EngineConfig { max_running: 4, ..config() }).unwrap();
    let program = load(&engine, &exceptions(10)).await;
    let benches: Vec<_> = (0..4).map(|_| Arc::new(Bench::new(limits(), Source::default()))).collect();
    let running: Vec<_> = benches
        .iter()
        .map(|bench| {
            let (program, bench) = (program.clone(), bench.clone());
            tokio::spawn(async move { bench.go(&program).await.exit })
        })
        .collect();
    until("all have thrown", || benches.iter().all(|bench| bench.meter.read().peak_memory_bytes > 65536)).await;
    benches.iter().for_each(|bench| bench.source.close());
    for run in running {
        assert_eq!(run.await.unwrap(), Exit::Exited { code: 0 });
    }
    let (ended, bench) =
        run(&load(&engine, &exceptions(1_000_000)).await, Limits { memory_bytes: 1 << 20, ..limits() }).await;
    assert_eq!(ended.exit, Exit::OutOfMemory);
    assert!((65537..=1 << 20).contains(&bench.meter.read().peak_memory_bytes), "{:?}", bench.meter.read());
    let uncaught = r#"(module (tag $oops) (func (export "_start") (throw $oops)))"#;
    let (ended, _) = run(&load(&engine, uncaught).await, limits()).await;
    assert!(matches!(&ended.exit, Exit::Trapped(trap) if trap.code == "uncaught_exception"), "{ended:?}");
}

#[tokio::test]
async fn components_run_and_report_how_they_ended() {
    let engine = engine();
    for (result, code) in [(0, 0), (1, 1)] {
        let (ended, _) = run(&load(&engine, &component(result)).await, limits()).await;
        assert_eq!(ended.exit, Exit::Exited { code });
    }
    let (ended, bench) = run(&load(&engine, HELLO_COMPONENT).await, limits()).await;
    assert_eq!((ended.exit, bench.sink.stdout().as_str()), (Exit::Exited { code: 0 }, "hello"));
    assert_eq!(bench.meter.read().peak_memory_bytes, 65536);
}

#[tokio::test]
async fn host_calls_log_progress_and_are_counted() {
    let engine = engine();
    let log = r#"{"method":"log","params":{"level":"warn","message":"careful"}}"#;
    let progress = r#"{"method":"progress","params":{"message":"half","current":1,"total":2,"detail":[1]}}"#;
    for module in ["clawbox", "casemate"] {
        let (_, bench) = run(&load(&engine, &host_calls(module, log, 2, 1024)).await, limits()).await;
        assert_eq!(*bench.sink.logs.lock().unwrap(), vec![(LogLevel::Warn, "careful".to_owned()); 2]);
        assert_eq!(bench.sink.stdout(), "{\"ok\":null}\n{\"ok\":null}\n");
        assert_eq!(bench.meter.read().host_calls, 2);
    }
    let (_, bench) = run(&load(&engine, &host_calls("casemate", progress, 1, 1024)).await, limits()).await;
    let progress = bench.sink.progress.lock().unwrap().pop().unwrap();
    assert_eq!((progress.current, progress.total, progress.detail.as_deref()), (1.0, 2.0, Some("[1]")));
}

#[tokio::test]
async fn host_calls_beyond_the_limit_are_refused_and_the_run_goes_on() {
    let log = r#"{"method":"log","params":{"message":"x"}}"#;
    let program = load(&engine(), &host_calls("clawbox", log, 3, 1024)).await;
    let (ended, bench) = run(&program, Limits { host_calls: 2, ..limits() }).await;
    assert_eq!(ended.exit, Exit::Exited { code: 0 });
    assert_eq!(bench.sink.logs.lock().unwrap().len(), 2);
    let last = bench.sink.stdout().lines().last().unwrap().to_owned();
    assert_eq!(last, r#"{"error":"host_call limit exceeded (max 2)"}"#);
    assert_eq!(bench.meter.read().host_calls, 3);
}

#[tokio::test]
async fn host_calls_that_make_no_sense_are_answered() {
    let engine = engine();
    for (request, word) in [
        (r#"{"method":"exec"}"#, "host call 'exec' not available"),
        (r#"{"method":"log","params":5}"#, "invalid params of log"),
        ("no json", "invalid host_call request"),
        (r#"{"method":"http_request","params":{"url":"https://example.com"}}"#, r#""reason":"not_available""#),
    ] {
        let (ended, bench) = run(&load(&engine, &host_calls("clawbox", request, 1, 1024)).await, limits()).await;
        assert_eq!(ended.exit, Exit::Exited { code: 0 });
        assert!(bench.sink.stdout().contains(word), "{}", bench.sink.stdout());
    }
    // Where the answer has no room, clawbox's tools get what fits; others get -1, at which this one traps.
    for (module, capacity, fits) in [("clawbox", 3, true), ("casemate", 3, false), ("clawbox", u32::MAX, false)] {
        let program = load(&engine, &host_calls(module, "no json", 1, capacity)).await;
        let (ended, bench) = run(&program, limits()).await;
        assert_eq!(!matches!(ended.exit, Exit::Trapped(_)), fits, "{module} {capacity}: {ended:?}");
        if fits {
            assert_eq!(bench.sink.stdout(), "{\"e\n");
        }
    }
}

#[tokio::test]
async fn http_requests_go_to_the_egress_of_the_run() {
    struct Gate;
    impl Egress for Gate {
        fn http_request(&self, params: Value) -> BoxFuture<'_, Result<Value, Denied>> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(json!({ "status": 200, "asked": params["url"] }))
            })
        }
    }
    let request = r#"{"method":"http_request","params":{"url":"u"}}"#;
    let program = load(&engine(), &host_calls("clawbox", request, 1, 1024)).await;
    let mut bench = Bench::new(limits(), Source::of(""));
    bench.run.egress = Arc::new(Gate);
    bench.go(&program).await;
    let answer: Value = serde_json::from_str(&bench.sink.stdout()).unwrap();
    assert_eq!(answer, json!({ "ok": { "status": 200, "asked": "u" } }));
}

#[tokio::test]
async fn a_directory_is_seen_only_as_granted() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let granted = base.join("root/granted");
    std::fs::create_dir_all(&granted).unwrap();
    std::fs::write(base.join("root/secret"), "secret").unwrap();
    std::fs::write(granted.join("file"), "content").unwrap();
    std::os::unix::fs::symlink("../secret", granted.join("link")).unwrap();
    let engine = Engine::new(EngineConfig { directory_roots: vec![base.join("root")], ..config() }).unwrap();
    let grant =
        |host: &std::path::Path, writable| DirectoryGrant { host: host.into(), guest: "/data".into(), writable };
    let attempt = async |path: &str, grants: Vec<DirectoryGrant>| {
        let program = load(&engine, &files(path)).await;
        let mut bench = Bench::new(limits(), Source::of(""));
        bench.run.directories = grants.into();
        program.run(bench.run.clone()).await.map(|_| bench.sink.stdout())
    };
    assert_eq!(attempt("file", vec![]).await.unwrap(), "11");
    assert_eq!(attempt("file", vec![grant(&granted, false)]).await.unwrap(), "0content1");
    assert!(!granted.join("made").exists());
    for escape in ["../secret", "link", "/etc/passwd"] {
        assert_eq!(attempt(escape, vec![grant(&granted, false)]).await.unwrap(), "11", "{escape}");
    }
    assert_eq!(attempt("file", vec![grant(&granted, true)]).await.unwrap(), "0content0");
    assert!(granted.join("made").exists());
    for outside in [base.clone(), base.join("root/../root2")] {
        let refused = attempt("file", vec![grant(&outside, false)]).await;
        assert!(matches!(&refused, Err(Error::ToolBroken { name, .. }) if name == "guest"), "{refused:?}");
        assert!(engine.check_directory(&grant(&outside, false)).is_err());
    }
    engine.check_directory(&grant(&granted, true)).unwrap();
}

#[tokio::test]
async fn open_files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    let engine = Engine::new(EngineConfig { directory_roots: vec![root.clone()], ..config() }).unwrap();
    let program = load(&engine, OPEN_FOREVER).await;
    let mut bench = Bench::new(limits(), Source::of(""));
    bench.run.directories = [DirectoryGrant { host: root, guest: "/".into(), writable: false }].into();
    let ended = bench.go(&program).await;
    assert!(matches!(&ended.exit, Exit::Trapped(trap) if trap.code == "host_error"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_run_ends_it_and_frees_its_slot() {
    // As many slots as a component may take, so that one run that stayed would be missed.
    let engine = Engine::new(EngineConfig { max_running: 4, ..config() }).unwrap();
    for guest in [LOOP, SLEEP, ECHO] {
        let program = load(&engine, guest).await;
        for _ in 0..10 {
            let runs: Vec<_> = (0..4)
                .map(|_| {
                    let (program, run) = (program.clone(), Bench::new(limits(), Source::default()).run);
                    tokio::spawn(async move { program.run(run).await })
                })
                .collect();
            until("all run", || engine.facts().running == 4).await;
            for run in runs {
                run.abort();
                assert!(run.await.unwrap_err().is_cancelled());
            }
            // What waits ends at once, what computes when it is next interrupted.
            until("all have ended", || engine.facts().running == 0).await;
        }
    }
}

#[tokio::test]
async fn a_run_that_finds_no_slot_in_time_is_refused() {
    let engine = Engine::new(EngineConfig { max_running: 1, ..config() }).unwrap();
    let program = load(&engine, ECHO).await;
    let slots = 4;
    let blocked: Vec<_> = (0..slots)
        .map(|_| {
            let (program, run) = (program.clone(), Bench::new(limits(), Source::default()).run);
            tokio::spawn(async move { program.run(run).await })
        })
        .collect();
    until("all run", || engine.facts().running == slots).await;
    let short = Limits { wall_time: Duration::from_millis(20), ..limits() };
    let refused = program.run(Bench::new(short, Source::of("")).run).await;
    assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
    let waiting = tokio::spawn({
        let (program, run) = (program.clone(), Bench::new(limits(), Source::of("")).run);
        async move { program.run(run).await }
    });
    blocked[0].abort();
    assert_eq!(waiting.await.unwrap().unwrap().exit, Exit::Exited { code: 0 });
    blocked.iter().for_each(|run| run.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_at_once_share_nothing() {
    let engine = engine();
    let (echo, dirty) = (load(&engine, ECHO).await, load(&engine, DIRTY).await);
    let runs: Vec<_> = (0..400)
        .map(|n| {
            let (echo, dirty) = (echo.clone(), dirty.clone());
            tokio::spawn(async move {
                let bench = Bench::new(limits(), Source::of(format!("run {n}")));
                assert_eq!(bench.go(&echo).await.exit, Exit::Exited { code: 0 });
                assert_eq!(bench.sink.stdout(), format!("run {n}"));
                assert_eq!(run(&dirty, limits()).await.0.exit, Exit::Exited { code: 0 });
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_compute_do_not_keep_others_from_running() {
    let engine = engine();
    let (busy, echo) = (load(&engine, LOOP).await, load(&engine, ECHO).await);
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let (busy, run) = (busy.clone(), Bench::new(limits(), Source::of("")).run);
            tokio::spawn(async move { busy.run(run).await })
        })
        .collect();
    until("all run", || engine.facts().running == 4).await;
    let before = Instant::now();
    let bench = Bench::new(limits(), Source::of("quick"));
    tokio::spawn(async move { bench.go(&echo).await }).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    loops.iter().for_each(|run| run.abort());
}

#[tokio::test]
async fn nothing_is_left_from_the_run_before() {
    for pagemap in [casemate::engine::Pagemap::Auto, casemate::engine::Pagemap::Off] {
        let engine = Engine::new(EngineConfig { pagemap, max_running: 1, ..config() }).unwrap();
        let program = load(&engine, guests::DIRTY).await;
        for _ in 0..20 {
            assert_eq!(run(&program, limits()).await.0.exit, Exit::Exited { code: 0 });
        }
    }
}
