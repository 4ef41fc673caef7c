//! Loading: what is refused and why, the cache, the process that compiles.

use crate::guests::*;
use crate::kit::*;
use bytes::Bytes;
use casemate::domain::execution::Exit;
use casemate::domain::limits::Limits;
use casemate::engine::{Compiler, Engine, EngineConfig, ModuleKind, Program};
use casemate::error::Error;
use std::path::{Path, PathBuf};

async fn refusal(engine: &Engine, module: impl Into<Bytes>) -> String {
    match engine.load("bad", module.into()).await {
        Err(Error::ModuleInvalid { tool, problem }) => {
            assert_eq!(tool, "bad");
            problem
        }
        Err(other) => panic!("expected ModuleInvalid: {other}"),
        Ok(_) => panic!("expected a refusal"),
    }
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_the_reason() {
    let engine = engine();
    let memory = r#"(memory (export "memory") 1)"#;
    let start = r#"(func (export "_start"))"#;
    for (text, word) in [
        (r#"(module)"#.to_owned(), "_start"),
        (r#"(module (func (export "_initialize")))"#.to_owned(), "reactor"),
        (r#"(module (func (export "_start") (param i32)))"#.to_owned(), "_start"),
        (format!(r#"(module (import "env" "abort" (func)) {memory} {start})"#), "env"),
        (format!(r#"(module (import "clawbox" "host_call" (func)) {memory} {start})"#), "host_call"),
        (format!(r#"(module (import "casemate" "host_cal" (func)) {memory} {start})"#), "host_cal"),
        (format!(r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) {start})"#), "memory"),
        (format!(r#"(module (memory 1 1 shared) {start})"#), "thread"),
        (format!(r#"(module (memory i64 1) {start})"#), "memory64"),
        (r#"(component)"#.to_owned(), "wasi:cli/run"),
        (r#"(component (import "wasi:http/types@0.2.0" (instance (export "f" (func)))))"#.to_owned(), "wasi:http"),
    ] {
        let problem = refusal(&engine, wasm(&text)).await;
        assert!(problem.contains(word), "{text}: {problem}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_wasm_are_refused() {
    let engine = Engine::new(EngineConfig { max_module_bytes: 4096, ..config() }).unwrap();
    assert!(refusal(&engine, "").await.contains("empty"));
    // The text format is not taken, though wasmtime could read it.
    assert!(refusal(&engine, NOTHING).await.contains("not a WebAssembly binary"));
    assert!(refusal(&engine, "\0asm\x07\0\0\0").await.contains("unknown version"));
    assert!(refusal(&engine, vec![0; 4097]).await.contains("at most 4096"));
    // Without names: a module cut off before its section of names is whole.
    let whole = wasm(r#"(module (memory 1) (func (export "_start") (drop (memory.grow (i32.const 1)))))"#);
    for length in 0..whole.len() {
        refusal(&engine, whole.slice(..length)).await;
    }
    let mut garbage = whole.to_vec();
    garbage[8..].fill(0xff);
    refusal(&engine, garbage).await;
}

#[tokio::test]
async fn a_program_says_what_it_is() {
    let engine = engine();
    let module = wasm(ECHO);
    let program = engine.load("echo", module.clone()).await.unwrap();
    assert_eq!((program.kind(), program.size()), (ModuleKind::WasiP1, module.len() as u64));
    assert_eq!(program.initial_memory_bytes(), 131072);
    assert_eq!(program.digest().len(), 64);
    assert_eq!(load(&engine, &component(0)).await.kind(), ModuleKind::Component);
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn works(program: &Program) {
    assert_eq!(run(program, limits()).await.0.exit, Exit::Exited { code: 0 });
}

#[tokio::test]
async fn compiled_code_is_kept_used_and_rebuilt_when_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let start = || Engine::new(EngineConfig { cache_dir: Some(cache.clone()), ..config() }).unwrap();
    let counts = |engine: &Engine| (engine.facts().compiled, engine.facts().from_cache);

    let first = start();
    assert_eq!(first.facts().cache_dir.as_ref(), Some(&cache));
    works(&load(&first, CONTENT).await).await;
    works(&load(&first, &component(0)).await).await;
    assert_eq!(counts(&first), (2, 0));
    assert_eq!(entries(&cache).len(), 2);
    works(&load(&first, CONTENT).await).await;
    assert_eq!(counts(&first), (2, 1));

    let second = start();
    let program = load(&second, CONTENT).await;
    works(&program).await;
    works(&load(&second, &component(0)).await).await;
    assert_eq!(counts(&second), (0, 2));
    // Another stack class runs the same code, metering does not.
    run(&program, Limits { stack_bytes: 1 << 20, ..limits() }).await;
    assert_eq!(counts(&second), (0, 3));
    program.prepare(&Limits { fuel: Some(1), ..limits() }).await.unwrap();
    assert_eq!(counts(&second), (1, 3));

    for path in entries(&cache) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let third = start();
    works(&load(&third, CONTENT).await).await;
    assert_eq!(counts(&third), (1, 0));
    let fourth = start();
    works(&load(&fourth, CONTENT).await).await;
    assert_eq!(counts(&fourth), (0, 1));
}

#[tokio::test]
async fn the_same_bytes_are_compiled_once_under_however_many_names() {
    let engine = engine();
    let counts = |engine: &Engine| (engine.facts().compiled, engine.facts().from_cache);
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..16 {
        let engine = engine.clone();
        loads.spawn(async move { engine.load(&format!("guest-{number}"), wasm(CONTENT)).await.unwrap() });
    }
    let programs = loads.join_all().await;
    assert_eq!(counts(&engine), (1, 0));
    for program in &programs {
        works(program).await;
    }
    let metered = Limits { fuel: Some(1), ..limits() };
    for program in &programs {
        program.prepare(&metered).await.unwrap();
    }
    assert_eq!(counts(&engine), (2, 0));
    // Errors still name the one that was meant, and nothing of a refused module stays.
    let bad = wasm("(module)");
    for name in ["one", "two"] {
        match engine.load(name, bad.clone()).await {
            Err(Error::ModuleInvalid { tool, .. }) => assert_eq!(tool, name),
            other => panic!("expected a refusal, got {:?}", other.map(|program| program.kind())),
        }
    }
    assert_eq!(counts(&engine), (4, 0));
    // With the last of them its code is gone.
    drop(programs);
    works(&load(&engine, CONTENT).await).await;
    assert_eq!(counts(&engine), (5, 0));
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let engine = Engine::new(EngineConfig { cache_dir: Some(file), ..config() }).unwrap();
    assert_eq!(engine.facts().cache_dir, None);
    works(&load(&engine, NOTHING).await).await;
    // One that goes away later neither.
    let gone = dir.path().join("gone");
    let engine = Engine::new(EngineConfig { cache_dir: Some(gone.clone()), ..config() }).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
    works(&load(&engine, NOTHING).await).await;
}

#[tokio::test]
async fn a_refused_module_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(EngineConfig { cache_dir: Some(dir.path().into()), ..config() }).unwrap();
    refusal(&engine, wasm("(module)")).await;
    assert_eq!(entries(dir.path()).len(), 0);
}

fn process(memory: u64) -> EngineConfig {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_casemate"));
    EngineConfig { compiler: Compiler::Process(program), compile_memory: memory, ..config() }
}

#[tokio::test]
async fn a_process_compiles_within_its_bounds() {
    let engine = Engine::new(process(2 << 30)).unwrap();
    let program = load(&engine, CONTENT).await;
    works(&program).await;
    program.prepare(&Limits { fuel: Some(1), ..limits() }).await.unwrap();
    works(&load(&engine, &component(0)).await).await;
    assert_eq!(engine.facts().compiled, 3);
    let mut garbage = wasm(ECHO).to_vec();
    garbage.truncate(60);
    let problem = refusal(&engine, garbage).await;
    assert!(problem.contains("unexpected end"), "{problem}");
}

#[tokio::test]
async fn a_module_too_large_to_compile_in_the_memory_given_is_refused() {
    // Ten thousand functions of some length: far more than a few megabytes hold while they compile.
    let body = "(drop (i32.mul (local.get 0) (i32.const 3)))".repeat(40);
    let functions = format!("(func (param i32) {body})").repeat(10_000);
    let module = wasm(&format!(r#"(module (func (export "_start")) {functions})"#));
    let engine = Engine::new(process(96 << 20)).unwrap();
    let problem = refusal(&engine, module).await;
    assert!(problem.contains("more than 96 MiB"), "{problem}");
    // The engine is none the worse for it.
    works(&load(&Engine::new(process(2 << 30)).unwrap(), NOTHING).await).await;
}

#[tokio::test]
async fn the_tools_that_ship_load_and_run() {
    let engine = engine();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tools");
    let modules: Vec<_> =
        entries(&directory).into_iter().filter(|path| path.extension() == Some("wasm".as_ref())).collect();
    assert!(modules.len() >= 5, "{modules:?}");
    for path in modules {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let program = engine.load(name, std::fs::read(&path).unwrap().into()).await.unwrap();
        assert_eq!(program.kind() == ModuleKind::Component, name.ends_with("_component"));
        let bench = Bench::new(limits(), Source::of(r#"{"text":"hello"}"#));
        let ended = bench.go(&program).await;
        assert!(matches!(ended.exit, Exit::Exited { .. }), "{name}: {ended:?}");
        if name.starts_with("echo") {
            assert!(bench.sink.stdout().contains("hello"), "{name}: {}", bench.sink.stdout());
        }
    }
}
