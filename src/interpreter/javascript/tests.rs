//! Real code in real isolates. Needs a directory for interpreters, which `scripts/test.sh` provides in
//! `CASEMATE_TEST_INTERPRETERS`; says so and passes without one.

use super::super::install::{Artifact, Install};
use super::super::{Ended, Interpreter, Interpreters, InterpretersConfig, Kept, KeptTurn, Run, typescript};
use crate::domain::event::{LogLevel, OutputStream, Progress};
use crate::domain::execution::Exit;
use crate::domain::input::{InputFile, Inputs};
use crate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use crate::domain::limits::{Limits, LimitsPolicy};
use crate::domain::output::{Content, RichOutput};
use crate::engine::{DenyAll, Engine, EngineConfig};
use bytes::Bytes;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Everything a run said.
#[derive(Default)]
struct Heard {
    out: Mutex<Vec<u8>>,
    err: Mutex<Vec<u8>>,
    rich: Mutex<Vec<RichOutput>>,
}

impl OutputSink for Heard {
    fn write(&self, stream: OutputStream, data: Bytes) {
        let to = if stream == OutputStream::Stdout { &self.out } else { &self.err };
        to.lock().extend_from_slice(&data);
    }
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
    fn rich(&self, output: RichOutput) {
        self.rich.lock().push(output);
    }
}

impl Heard {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock()).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.err.lock()).into_owned()
    }

    /// The plain text of the last rich output.
    fn value(&self) -> String {
        let rich = self.rich.lock();
        let forms = rich.last().map(|output| output.representations.clone()).unwrap_or_default();
        forms
            .into_iter()
            .find_map(|form| match form.content {
                Some(Content::Text(text)) if form.mime_type == "text/plain" => Some(text),
                _ => None,
            })
            .unwrap_or_default()
    }
}

struct Input(Mutex<Bytes>);

impl InputSource for Input {
    fn read(&self, max: usize) -> InputRead {
        let mut left = self.0.lock();
        let length = left.len().min(max);
        if length == 0 { InputRead::Eof } else { InputRead::Data(left.split_to(length)) }
    }
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

fn input() -> Arc<Input> {
    Arc::new(Input(Mutex::new(Bytes::from_static(b"1\n2\n39\n"))))
}

fn limits() -> Limits {
    Limits { memory_bytes: 64 << 20, wall_time: Duration::from_secs(20), ..LimitsPolicy::default().defaults }
}

async fn javascript() -> Option<Arc<Interpreter>> {
    let Some(directory) = std::env::var_os("CASEMATE_TEST_INTERPRETERS") else {
        eprintln!("skipped: CASEMATE_TEST_INTERPRETERS names no directory for interpreters");
        return None;
    };
    let directory = Path::new(&directory);
    let artifact = Artifact::of("javascript").unwrap();
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let installing = ONE.lock().await;
    let install = Install { directory, from: None, tell: &|line| eprintln!("{line}") };
    install.run(artifact).await.unwrap();
    drop(installing);
    let engine = Engine::new(EngineConfig { max_running: 4, ..EngineConfig::default() }).unwrap();
    let config = InterpretersConfig { directory: directory.into(), max_idle: 4, pagemap: true, packages: None };
    Interpreters::open(&config, &engine).get("javascript").cloned()
}

async fn run_with(
    interpreter: &Arc<Interpreter>,
    code: &str,
    files: Vec<InputFile>,
    limits: Limits,
) -> (Ended, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let run = Run {
        tenant: "test".into(),
        limits,
        code: Bytes::copy_from_slice(code.as_bytes()),
        inputs: Inputs { files, ..Inputs::default() },
        input: input(),
        output: heard.clone(),
        meter: Arc::new(Meter::default()),
        egress: Arc::new(DenyAll),
        children: None,
    };
    (interpreter.run(run).await.unwrap(), heard)
}

async fn run(interpreter: &Arc<Interpreter>, code: &str) -> (Ended, Arc<Heard>) {
    run_with(interpreter, code, Vec::new(), limits()).await
}

async fn turn(kept: Kept, number: u32, code: &str) -> (Option<Kept>, Ended, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let turn = KeptTurn {
        name: format!("<turn {number}>"),
        code: Bytes::copy_from_slice(code.as_bytes()),
        environment: Default::default(),
        inputs: Inputs::default(),
        return_all: false,
        limits: limits(),
        input: input(),
        output: heard.clone(),
        meter: Arc::new(Meter::default()),
        egress: Arc::new(DenyAll),
        children: None,
    };
    let (kept, ended) = kept.turn(turn).await.unwrap();
    (kept, ended, heard)
}

#[tokio::test]
async fn programs_say_what_they_say_elsewhere() {
    let Some(interpreter) = javascript().await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interpreters/javascript");
    let mut programs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|ending| ending == "js" || ending == "ts"));
    programs.sort();
    assert!(programs.len() >= 20, "{programs:?}");
    for path in programs {
        let source = std::fs::read_to_string(&path).unwrap();
        let code = match path.extension().unwrap() == "ts" {
            true => typescript::strip("main.ts", &source).unwrap(),
            false => source,
        };
        let (ended, heard) = run(&interpreter, &code).await;
        let expected = std::fs::read_to_string(path.with_extension("out")).unwrap();
        assert_eq!(heard.out(), expected, "{}: {}", path.display(), heard.err());
        let code = if path.ends_with("exit.js") { 7 } else { 0 };
        assert_eq!(ended.exit, Exit::Exited { code }, "{}", path.display());
    }
}

#[tokio::test]
async fn an_error_names_its_line() {
    let Some(interpreter) = javascript().await else { return };
    for (code, kind, line, column) in [
        ("let a = 1;\nlet b = ;\n", "SyntaxError", 2, 9),
        ("function f() {\n  null.x;\n}\n\nf();", "TypeError", 2, 3),
        ("import fs from 'fs';\nimport {\n  join,\n} from 'path';\njoin('a');\nnope;", "ReferenceError", 6, 1),
        ("setTimeout(() => {\n  throw new RangeError('late');\n}, 1);", "RangeError", 2, 13),
        ("await null;\nawait Promise.reject(new EvalError('x'));", "EvalError", 2, 26),
        ("Promise.reject(new URIError('x')); 1", "URIError", 1, 20),
        ("export const x = 1;\n\nfoo();", "ReferenceError", 3, 1),
        ("JSON.parse('{');", "SyntaxError", 1, 5),
        ("const e = new Error('x');\ne.name = 'Mine';\nthrow e;", "Mine", 1, 15),
    ] {
        let (ended, heard) = run(&interpreter, code).await;
        assert_eq!(ended.exit, Exit::Exited { code: 1 }, "{code}");
        let exception = ended.exception.unwrap();
        assert_eq!(exception.type_name, kind, "{code}: {exception:?}");
        let frame = exception.frames.last().unwrap_or_else(|| panic!("{code}: {exception:?}"));
        assert_eq!((frame.file.as_str(), frame.line, frame.column), ("<code>", line, column), "{code}: {exception:?}");
        assert_eq!(frame.source, code.lines().nth(line as usize - 1).unwrap());
        assert_eq!(heard.err(), exception.traceback, "{code}");
        assert!(!exception.traceback.contains("casemate"), "{code}: {}", exception.traceback);
    }
    let (ended, heard) = run(&interpreter, "console.log('a'); throw 'just text'").await;
    assert_eq!((ended.exit, ended.exception.unwrap().message.as_str()), (Exit::Exited { code: 1 }, "'just text'"));
    assert_eq!(heard.out(), "a\n");
}

#[tokio::test]
async fn what_cannot_be_says_what_to_do_instead() {
    let Some(interpreter) = javascript().await else { return };
    for (code, expected) in [
        ("require('child_process')", "there are no processes here"),
        ("import { spawn } from 'node:child_process'", "there are no processes here"),
        ("import net from 'net'; export {}", "there are no sockets here"),
        ("await import('worker_threads')", "there are no threads here"),
        ("import x from 'lodash'", "nothing can be installed here"),
        ("require('./missing.js')", "there is no file /work/missing.js"),
        ("import './missing.js'", "there is no file \"missing.js\""),
        ("await fetch('https://example.com/')", "fetch failed"),
        ("await tools.nothing({})", "tools cannot be called from here"),
        ("import { nope } from 'fs'", "does not provide an export named 'nope'"),
    ] {
        let (ended, _) = run(&interpreter, code).await;
        assert_eq!(ended.exit, Exit::Exited { code: 1 }, "{code}");
        assert!(ended.message.contains(expected), "{code}: {}", ended.message);
    }
}

#[tokio::test]
async fn excess_ends_well() {
    let Some(interpreter) = javascript().await else { return };
    for code in [
        "(function f() { f(); })()",
        "const o = { toString() { return '' + o; } }; `${o}`",
        "[1].map(function f(x) { return [x].map(f); })",
        "eval('('.repeat(2000) + '1' + ')'.repeat(2000)); (function f(n) { return [n].sort(f).map(f); })(1)",
        "class A { constructor() { new this.constructor(); } } new A()",
    ] {
        let (ended, _) = run(&interpreter, code).await;
        assert_eq!(ended.exit, Exit::Exited { code: 1 }, "{code}: {}", ended.message);
        assert_eq!(ended.exception.unwrap().type_name, "RangeError", "{code}");
        let (ended, heard) = run(&interpreter, &format!("try {{ {code} }} catch (e) {{ console.log(e.name) }}")).await;
        assert_eq!((ended.exit, heard.out().as_str()), (Exit::Exited { code: 0 }, "RangeError\n"), "{code}");
    }
    let short = Limits { wall_time: Duration::from_millis(300), ..limits() };
    for code in [
        "for (;;) {}",
        "try { for (;;) {} } catch {} finally { for (;;) {} }",
        "(function f() { Promise.resolve().then(f); })()",
        "setInterval(() => {}, 1)",
        "await new Promise((resolve) => setTimeout(resolve, 1e9))",
        "/^(a+)+$/.test('a'.repeat(40) + 'b')",
        "3n ** (10n ** 9n)",
        "new Array(1e6).fill('x'.repeat(1e5)).join('').length",
    ] {
        let (ended, _) = run_with(&interpreter, code, Vec::new(), short).await;
        let ended_well = matches!(ended.exit, Exit::TimedOut | Exit::OutOfMemory)
            || ended
                .exception
                .is_some_and(|exception| ["InternalError", "RangeError"].contains(&&*exception.type_name));
        assert!(ended_well, "{code}: {:?}", ended.exit);
    }
    for code in ["JSON.parse('['.repeat(1e6))", "let a = []; for (let i = 0; i < 2e5; i++) a = [a]; JSON.stringify(a)"]
    {
        let (ended, _) = run(&interpreter, code).await;
        assert_eq!(ended.exit, Exit::StackOverflow, "{code}");
    }
    let (ended, _) = run(&interpreter, "const a = []; for (;;) a.push('x'.repeat(1e5) + a.length)").await;
    assert!(ended.exit != Exit::Exited { code: 0 }, "{:?}", ended.exit);
    let (ended, heard) =
        run(&interpreter, "let a = []; for (let i = 0; i < 2e5; i++) a = [a]; a = null; console.log('freed')").await;
    assert_eq!((ended.exit, heard.out().as_str()), (Exit::Exited { code: 0 }, "freed\n"));
}

#[tokio::test]
async fn isolates_share_nothing_and_their_randomness_differs() {
    let Some(interpreter) = javascript().await else { return };
    let marks = "globalThis.mark = 'mine'; Array.prototype.mark = Object.prototype.mark = 1; process.env.MARK = 'x';\
                 require('fs').writeFileSync('/tmp/mark', 'x'); require('fs').mark = 1; console.mark = 1; Math.mark = 1; [Math.random(), crypto.randomUUID()].join()";
    let look = "[typeof mark, [].mark, process.env.MARK, require('fs').existsSync('/tmp/mark'), require('fs').mark, console.mark, Math.mark].join()";
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let (ended, heard) = run(&interpreter, marks).await;
        assert_eq!(ended.exit, Exit::Exited { code: 0 }, "{}", heard.err());
        assert!(seen.insert(heard.value()), "{}", heard.value());
        let (_, heard) = run(&interpreter, look).await;
        assert_eq!(heard.value(), "'undefined,,,false,,,'");
    }
}

#[tokio::test]
async fn a_session_keeps_what_turns_declare() {
    let Some(interpreter) = javascript().await else { return };
    let kept = interpreter.keep("test".into(), None, 64 << 20, 64 << 20).await.unwrap();
    let mut kept = Some(kept);
    for (number, (code, value)) in [
        ("let a = 1; const b = [2]; var c = 3; function f() { return a + b[0] + c; } class K { v = a; }", ""),
        ("f()", "6"),
        ("a = 10; b.push(5); f() + new K().v", "25"),
        ("const a = 100; let b = [1]; f()", "104"),
        ("class K { v = 'new' } new K().v", "'new'"),
        ("const f = () => 'replaced'; f()", "'replaced'"),
        ("function f() { return 'again' } f()", "'again'"),
        ("import fs from 'fs'; fs.writeFileSync('kept.txt', 'text'); fs", ""),
        ("fs.readFileSync('kept.txt', 'utf8') + require('path').sep", "'text/'"),
        ("await Promise.resolve(_ + '!')", "'text/!'"),
        ("try { process.exit(3) } catch {} console.log('not said')", ""),
        ("const broken = (() => { throw new Error('x') })()", ""),
        ("const broken = 'mended'; broken", "'mended'"),
        ("JSON.parse = JSON.stringify = Object.keys = Promise.prototype.then = Array.prototype.push = String.prototype.split = null", ""),
        ("console.log = 5; [1, { a: 2 }]", "[ 1, { a: 2 } ]"),
        ("setInterval(() => {}, 5); throw new Error('stops timers')", ""),
        ("1 + 1", "2"),
    ]
    .into_iter()
    .enumerate()
    {
        let (left, ended, heard) = turn(kept.take().unwrap(), number as u32 + 1, code).await;
        kept = left;
        let text = heard.value();
        assert!(kept.is_some(), "{code}: {ended:?}");
        assert!(value.is_empty() || text == value, "{code}: {text:?} {}", heard.err());
        assert!(!heard.out().contains("not said"));
        if code.contains("exit(3)") {
            assert_eq!(ended.exit, Exit::Exited { code: 3 });
        }
    }
    let kept = kept.unwrap();
    let mut texts = std::collections::HashSet::new();
    for _ in 0..2 {
        let fork = kept.fork().await.unwrap();
        let (_, _, heard) = turn(fork, 30, "[Math.random(), a, fs.readFileSync('kept.txt', 'utf8')].join()").await;
        assert!(heard.value().ends_with(",100,text'"), "{} {}", heard.value(), heard.err());
        texts.insert(heard.value());
    }
    assert_eq!(texts.len(), 2);
}

#[tokio::test]
async fn typescript_files_are_imported() {
    let Some(interpreter) = javascript().await else { return };
    let file = |path: &str, data: &'static str| InputFile {
        path: path.into(),
        data: Bytes::from_static(data.as_bytes()),
        mode: 0o644,
    };
    let files = || {
        vec![
            file(
                "lib/shape.ts",
                "export type Kind = 'a' | 'b';\nexport let made: number = 0;\nexport default class Shape<T> {\n  constructor(public_: T) { made++; }\n}\n",
            ),
            file(
                "use.ts",
                "import Shape, { made, type Kind } from './lib/shape';\nimport { one } from './one.js';\nexport const go = (k: Kind): number => { new Shape<Kind>(k); return made + one; };\n",
            ),
            file("one.ts", "export const one: number = 1;"),
            file("bad.ts", "export const x = 1;\n  enum Color { Red }\n"),
            file("types.d.ts", "declare const nothing: number;"),
            file("throws.ts", "type A = string;\nexport const f = (a: A): never => { throw new TypeError(a); };\n"),
        ]
    };
    let code =
        "import { go } from './use.ts';\nimport * as shape from './lib/shape.js';\n[go('a'), go('b'), shape.made]";
    let (ended, heard) = run_with(&interpreter, code, files(), limits()).await;
    assert_eq!((ended.exit, heard.value().as_str()), (Exit::Exited { code: 0 }, "[ 2, 3, 2 ]"), "{}", heard.err());
    let (ended, _) = run_with(&interpreter, "import { x } from './bad.ts'; x", files(), limits()).await;
    assert!(ended.message.contains("bad.ts:2:3: ") && ended.message.contains("enum"), "{}", ended.message);
    let (ended, _) = run_with(&interpreter, "import { f } from './throws';\nf('x')", files(), limits()).await;
    let exception = ended.exception.unwrap();
    let places: Vec<_> = exception.frames.iter().map(|frame| (frame.file.as_str(), frame.line, frame.column)).collect();
    assert_eq!(places, [("<code>", 2, 1), ("/work/throws.ts", 2, 57)], "{exception:?}");
}

#[tokio::test]
async fn files_go_in_and_out_and_are_imported() {
    let Some(interpreter) = javascript().await else { return };
    let file = |path: &str, data: &'static str| InputFile {
        path: path.into(),
        data: Bytes::from_static(data.as_bytes()),
        mode: 0o644,
    };
    let files = vec![
        file("lib/sum.mjs", "import { one } from '../one.js';\nexport const sum = (x) => x + one;\n"),
        file("one.js", "export const one = 1;\n"),
        file("data.json", "{\"n\": 41}"),
    ];
    let code = "import { sum } from './lib/sum.mjs';\nimport data from './data.json' with { type: 'json' };\n\
                require('fs').writeFileSync('out.txt', `${sum(data.n)}`); sum(data.n)";
    let (ended, heard) = run_with(&interpreter, code, files, limits()).await;
    assert_eq!((ended.exit, heard.value().as_str()), (Exit::Exited { code: 0 }, "42"), "{}", heard.err());
    let left: Vec<_> = ended.files.iter().map(|file| (file.path.as_str(), file.size_bytes)).collect();
    assert_eq!(left, [("out.txt", 2)]);
}
