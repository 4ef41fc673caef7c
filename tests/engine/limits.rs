//! Limits: memory, tables, stack, wall time, fuel.

use crate::guests::*;
use crate::kit::*;
use casemate::domain::execution::Exit;
use casemate::domain::limits::Limits;
use casemate::engine::{Engine, EngineConfig};
use casemate::error::Error;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_guest_that_does_not_survive_its_memory_limit_says_so() {
    let engine = engine();
    let tight = Limits { memory_bytes: 10 * 65536 + 1, ..limits() };
    let (ended, bench) = run(&load(&engine, HUNGRY).await, tight).await;
    assert_eq!(ended.exit, Exit::OutOfMemory);
    assert!(ended.message.contains("720896") && ended.message.contains("limits.memory_bytes"), "{}", ended.message);
    assert_eq!(bench.meter.read().peak_memory_bytes, 10 * 65536);
    // One that copes with the refusal has ended well.
    assert_eq!(run(&load(&engine, CONTENT).await, tight).await.0.exit, Exit::Exited { code: 0 });
}

#[tokio::test]
async fn the_caps_hold_whatever_the_limits_say() {
    let caps = Limits { memory_bytes: 4 << 20, ..EngineConfig::default().caps };
    let engine = Engine::new(EngineConfig { caps, ..config() }).unwrap();
    let program = load(&engine, CONTENT).await;
    let (ended, bench) = run(&program, Limits { memory_bytes: u64::MAX, ..limits() }).await;
    assert_eq!((ended.exit, bench.meter.read().peak_memory_bytes), (Exit::Exited { code: 0 }, 4 << 20));
    // A cap need not be a number of pages.
    let odd = Limits { memory_bytes: 1_000_001, table_elements: 1001, ..caps };
    let engine_of_odd_size = Engine::new(EngineConfig { caps: odd, ..config() }).unwrap();
    let (ended, bench) = run(&load(&engine_of_odd_size, CONTENT).await, limits()).await;
    assert_eq!((ended.exit, bench.meter.read().peak_memory_bytes), (Exit::Exited { code: 0 }, 15 * 65536));
    let large = r#"(module (memory (export "memory") 65) (func (export "_start")))"#;
    let refused = engine.load("large", wasm(large)).await.err().unwrap();
    assert!(
        matches!(&refused, Error::ModuleInvalid { problem, .. } if problem.contains("exceeds the limit")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_limit_below_what_the_program_starts_with_is_refused_with_the_size() {
    let engine = engine();
    let large = r#"(module (memory (export "memory") 32) (table 2000 funcref) (func (export "_start")))"#;
    let program = load(&engine, large).await;
    assert_eq!(program.initial_memory_bytes(), 2 << 20);
    for (limits, field, needed) in [
        (Limits { memory_bytes: 1 << 20, ..limits() }, "call.limits.memory_bytes", "2097152"),
        (Limits { table_elements: 1999, ..limits() }, "call.limits.table_elements", "2000"),
    ] {
        let refused = program.run(Bench::new(limits, Source::of("")).run).await;
        let Err(Error::InvalidArgument(violations)) = refused else { panic!("expected a refusal: {refused:?}") };
        assert_eq!(violations[0].field, field);
        assert!(violations[0].description.contains(needed), "{violations:?}");
    }
    assert_eq!(engine.facts().running, 0);
}

#[tokio::test]
async fn tables_are_limited() {
    let program = load(&engine(), TABLE).await;
    let (ended, _) = run(&program, Limits { table_elements: 1000, ..limits() }).await;
    assert_eq!(ended.exit, Exit::OutOfMemory);
    assert!(ended.message.contains("limits.table_elements"), "{}", ended.message);
    let (ended, _) = run(&program, Limits { table_elements: 1001, ..limits() }).await;
    assert_eq!(ended.exit, Exit::Exited { code: 0 });
}

#[tokio::test]
async fn every_stack_class_holds_more_than_the_one_below_and_ends_somewhere() {
    let engine = engine();
    let recurse = load(&engine, RECURSE).await;
    // A frame takes at least 16 bytes, so a class of n bytes cannot hold n / 16 calls, but holds n / 128.
    for stack in [128 << 10, 512 << 10, 2 << 20, 8 << 20_u64] {
        let limits = Limits { stack_bytes: stack, ..limits() };
        let (ended, _) = run(&recurse, limits).await;
        assert_eq!(ended.exit, Exit::StackOverflow, "{stack}");
        let calls = u32::try_from(stack / 128).unwrap();
        let (ended, _) = run(&load(&engine, &deep(calls)).await, limits).await;
        assert_eq!(ended.exit, Exit::Exited { code: 0 }, "{stack}");
    }
    let too_much = Limits { stack_bytes: (8 << 20) + 1, ..limits() };
    let refused = recurse.run(Bench::new(too_much, Source::of("")).run).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_time_ends_what_computes_what_sleeps_and_what_waits_for_input() {
    let engine = engine();
    let short = Limits { wall_time: Duration::from_millis(100), ..limits() };
    for guest in [LOOP, SLEEP, ECHO] {
        let program = load(&engine, guest).await;
        let bench = Bench::new(short, Source::default());
        let start = Instant::now();
        // On a worker, where it belongs: not on the thread that drives the test.
        let ended = tokio::spawn(async move { bench.go(&program).await }).await.unwrap();
        assert_eq!(ended.exit, Exit::TimedOut);
        assert!(ended.message.contains("100ms"), "{}", ended.message);
        assert!(start.elapsed() >= short.wall_time);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    assert_eq!(engine.facts().running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wall_time_holds_on_a_worker_that_is_never_idle() {
    let engine = engine();
    let program = load(&engine, LOOP).await;
    let short = Limits { wall_time: Duration::from_millis(100), ..limits() };
    let start = Instant::now();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let (program, run) = (program.clone(), Bench::new(short, Source::of("")).run);
            tokio::spawn(async move { program.run(run).await.unwrap().exit })
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap(), Exit::TimedOut);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn fuel_is_counted_only_where_asked_for_and_always_the_same() {
    let engine = engine();
    let program = load(&engine, &deep(100)).await;
    let metered = Limits { fuel: Some(1_000_000), ..limits() };
    let mut used = Vec::new();
    for _ in 0..3 {
        let (ended, bench) = run(&program, metered).await;
        assert_eq!(ended.exit, Exit::Exited { code: 0 });
        used.push(bench.meter.read().fuel);
    }
    assert!(used[0] > 100 && used.iter().all(|fuel| *fuel == used[0]), "{used:?}");
    assert_eq!(run(&program, limits()).await.1.meter.read().fuel, 0);
    // To the last unit.
    let (ended, _) = run(&program, Limits { fuel: Some(used[0]), ..limits() }).await;
    assert_eq!(ended.exit, Exit::Exited { code: 0 });
    let (ended, bench) = run(&load(&engine, LOOP).await, Limits { fuel: Some(50_000), ..limits() }).await;
    assert_eq!(ended.exit, Exit::OutOfFuel);
    assert!(ended.message.contains("50000"), "{}", ended.message);
    assert!(bench.meter.read().fuel >= 50_000, "{}", bench.meter.read().fuel);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_off_leaves_its_figures() {
    let program = load(&engine(), LOOP).await;
    let cut = Limits { wall_time: Duration::from_millis(50), fuel: Some(u64::MAX / 4), ..limits() };
    let bench = Bench::new(cut, Source::of(""));
    let meter = bench.meter.clone();
    let ended = tokio::spawn(async move { bench.go(&program).await }).await.unwrap();
    assert_eq!(ended.exit, Exit::TimedOut);
    assert!(meter.read().fuel > 1000, "{}", meter.read().fuel);
}
