//! Processes in containers: started, spoken with, ended.

use crate::harness::reason;
use crate::kit::{House, PYTHON, Ran, docker, image, shell};
use casemate::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use v1::exec_request::Message as Ask;
use v1::exec_response::Message as Told;

/// One stream with a process.
struct Talk {
    ask: mpsc::Sender<v1::ExecRequest>,
    told: Streaming<v1::ExecResponse>,
    id: String,
}

impl Talk {
    async fn open(house: &House, first: Ask) -> Result<Talk, tonic::Status> {
        let (ask, asked) = mpsc::channel(16);
        ask.send(v1::ExecRequest { message: Some(first) }).await.unwrap();
        let mut told = house.containers().await.exec(ReceiverStream::new(asked)).await?.into_inner();
        let Some(Told::Execution(execution)) = told.message().await?.unwrap().message else {
            panic!("the execution comes first")
        };
        Ok(Talk { ask, told, id: execution.id })
    }

    async fn start(house: &House, id: &str, process: v1::ProcessSpec) -> Talk {
        Talk::open(house, start(id, process, false)).await.unwrap()
    }

    async fn say(&self, message: Ask) {
        self.ask.send(v1::ExecRequest { message: Some(message) }).await.unwrap();
    }

    async fn stdin(&self, text: &str) {
        self.say(Ask::Stdin(v1::ExecStdin { data: text.to_owned().into(), ..Default::default() })).await;
    }

    /// Reads until its standard output has this in it.
    async fn until(&mut self, ran: &mut Ran, text: &str) {
        while !ran.text().contains(text) {
            let message = self.told.message().await.unwrap().expect("more to come").message.unwrap();
            if let Told::Event(event) = message {
                ran.take(event);
            }
        }
    }

    async fn end(mut self) -> Ran {
        let mut ran = Ran::default();
        self.rest(&mut ran).await;
        ran
    }

    async fn rest(&mut self, ran: &mut Ran) {
        while let Some(message) = self.told.message().await.unwrap() {
            if let Some(Told::Event(event)) = message.message {
                ran.take(event);
            }
        }
    }
}

fn start(id: &str, process: v1::ProcessSpec, cancel_on_disconnect: bool) -> Ask {
    let process = v1::StartProcessRequest { container_id: id.into(), process: Some(process), ..Default::default() };
    Ask::Start(v1::ExecStart { process: Some(process), cancel_on_disconnect, keepalive_interval: None })
}

#[tokio::test]
async fn a_process_has_what_it_was_given() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let process = v1::ProcessSpec {
        environment: [("GREETING".into(), "hello".into())].into(),
        working_directory: "/tmp".into(),
        stdin: "from stdin\n".into(),
        ..shell("echo $GREETING $HOME; pwd; id -u; id -g; cat; echo err >&2; exit 3")
    };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.text(), "hello /workspace\n/tmp\n1000\n1000\nfrom stdin\n");
    assert_eq!((&*ran.stderr, ran.code()), (&b"err\n"[..], 3));
    let bare = v1::ProcessSpec { clear_environment: true, command: vec!["/bin/env".into()], ..Default::default() };
    let execution = house.start(&container.id, bare).await.unwrap();
    assert_eq!(house.follow(&execution.id, 0).await.text(), "");
    // The workspace is there, and is its own.
    assert_eq!(house.run(&container.id, "cd /workspace && echo x > f && cat f").await.text(), "x\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error_that_says_why() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let command = |program: &str| v1::ProcessSpec { command: vec![program.into()], ..Default::default() };
    for (process, text) in [
        (command("/no/such/program"), "no such program"),
        (command("no-such-program"), "PATH"),
        (command("/etc/passwd"), "may not be run"),
        (v1::ProcessSpec { working_directory: "/none".into(), ..shell("true") }, "directory"),
        (v1::ProcessSpec { user: "nobody-at-all".into(), ..shell("true") }, "user"),
    ] {
        let error = house.start(&container.id, process).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::FailedPrecondition, "PROCESS_NOT_STARTED"), "{error:?}");
        assert!(error.message().contains(text), "{error:?}");
    }
    for process in [
        command(""),
        v1::ProcessSpec { environment: [("LD_PRELOAD".into(), "x".into())].into(), ..shell("true") },
        v1::ProcessSpec { terminal: Some(v1::TerminalSize { columns: 0, rows: 1 }), ..shell("true") },
    ] {
        let error = house.start(&container.id, process).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    }
    let root = v1::ProcessSpec { user: "0".into(), ..shell("true") };
    assert_eq!(&*reason(&house.start(&container.id, root).await.unwrap_err()), "POLICY_DENIED");
    let nowhere = house.start("nowhere", shell("true")).await.unwrap_err();
    assert_eq!((nowhere.code(), &*reason(&nowhere)), (Code::NotFound, "CONTAINER_NOT_FOUND"));
    // Nothing of it is left, and the container works.
    assert_eq!(house.get(&container.id).await.running_executions, 0);
    assert_eq!(house.run(&container.id, "echo fine").await.text(), "fine\n");
}

#[tokio::test]
async fn a_request_id_starts_one_process() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let container = house.idle().await;
    let request = v1::StartProcessRequest {
        container_id: container.id.clone(),
        process: Some(shell("echo $$ >> /workspace/started; sleep 1000")),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut containers, request) = (house.containers().await, request.clone());
        calls.spawn(async move { containers.start_process(request).await.unwrap().into_inner().execution.unwrap().id });
    }
    let ids = calls.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    house.kill_and_restart().await;
    let again = house.containers().await.start_process(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.execution.unwrap().id, ids[0]);
    assert_eq!(house.run(&container.id, "wc -l < /workspace/started").await.text().trim(), "1");
    // One that could not be started is not started later either.
    let failing = v1::StartProcessRequest {
        process: Some(v1::ProcessSpec { command: vec!["/workspace/later".into()], ..Default::default() }),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..request
    };
    for _ in 0..2 {
        let error = house.containers().await.start_process(failing.clone()).await.unwrap_err();
        assert_eq!(&*reason(&error), "PROCESS_NOT_STARTED");
        house.run(&container.id, "printf '#!/bin/sh\\n' > /workspace/later; chmod +x /workspace/later").await;
    }
}

#[tokio::test]
async fn exec_speaks_both_ways() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let mut talk =
        Talk::start(&house, &container.id, shell("while read line; do echo got $line; done; echo end")).await;
    let mut ran = Ran::default();
    for word in ["one", "two"] {
        talk.stdin(&format!("{word}\n")).await;
        talk.until(&mut ran, &format!("got {word}\n")).await;
    }
    // Half-closing the stream ends the input.
    let Talk { ask, told, id } = talk;
    drop(ask);
    let mut rest = Talk { ask: mpsc::channel(1).0, told, id };
    rest.rest(&mut ran).await;
    assert_eq!(ran.text(), "got one\ngot two\nend\n");
    assert_eq!(ran.code(), 0);
}

#[tokio::test]
async fn exec_detaches_and_attaches_again() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let script = "trap 'echo int' INT; while :; do read line && echo got $line || sleep 0.1; done";
    let mut talk = Talk::start(&house, &container.id, shell(script)).await;
    let mut ran = Ran::default();
    talk.stdin("one\n").await;
    talk.until(&mut ran, "got one\n").await;
    let (id, next) = (talk.id.clone(), ran.last + 1);
    // Nobody reads any more; the sender stays, for half-closing the stream would be the end of the input.
    let Talk { ask: _first, told, .. } = talk;
    drop(told);
    let attach =
        Ask::Attach(v1::ExecAttach { execution_id: id.clone(), from_sequence: next, keepalive_interval: None });
    let mut talk = Talk::open(&house, attach).await.unwrap();
    // What the first stream said is not said again.
    talk.say(Ask::Stdin(v1::ExecStdin { offset: Some(0), data: "one\ntwo\n".into(), eof: false })).await;
    talk.until(&mut ran, "got two\n").await;
    talk.say(Ask::Signal(v1::ExecSignal { signal: "SIGINT".into() })).await;
    talk.until(&mut ran, "int\n").await;
    talk.say(Ask::Signal(v1::ExecSignal { signal: "KILL".into() })).await;
    talk.rest(&mut ran).await;
    assert_eq!(ran.text(), "got one\ngot two\nint\n");
    assert_eq!(ran.result.as_ref().unwrap().signal, "SIGKILL");
    // A gap ends the stream and says where to go on.
    let talk = Talk::start(&house, &container.id, shell("cat")).await;
    talk.say(Ask::Stdin(v1::ExecStdin { offset: Some(9), data: "x".into(), eof: false })).await;
    let Talk { ask: _ask, mut told, id } = talk;
    let error = loop {
        match told.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.code(), &*reason(&error)), (Code::OutOfRange, "STDIN_GAP"));
    // That was the stream's end, not the process's.
    assert_eq!(house.execution(&id).await.state(), v1::ExecutionState::Running);
}

#[tokio::test]
async fn a_stream_that_asks_for_it_takes_its_process_along() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let talk = Talk::open(&house, start(&container.id, shell("sleep 1000"), true)).await.unwrap();
    let id = talk.id.clone();
    drop(talk);
    let ran = house.follow(&id, 0).await;
    assert_eq!(ran.reason(), v1::ExitReason::Cancelled);
}

#[tokio::test]
async fn terminals_have_a_size_and_pass_every_byte() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let terminal = Some(v1::TerminalSize { columns: 91, rows: 33 });
    let script = "stty size; tty; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut talk = Talk::start(&house, &container.id, v1::ProcessSpec { terminal, ..shell(script) }).await;
    let mut ran = Ran::default();
    talk.until(&mut ran, "ready").await;
    assert!(ran.text().starts_with("33 91\r\n/dev/pts/"), "{:?}", ran.text());
    talk.say(Ask::Resize(v1::TerminalSize { columns: 120, rows: 40 })).await;
    talk.until(&mut ran, "40 120").await;
    // Control-C is a byte, and the terminal makes a signal of it.
    talk.stdin("\u{3}").await;
    talk.rest(&mut ran).await;
    assert_eq!(ran.result.as_ref().unwrap().signal, "SIGINT");

    // Whatever a process writes first is data: bytes that would be a frame's head to some clients.
    let hostile = v1::ProcessSpec {
        terminal,
        ..shell(
            "stty raw -echo; printf '\\001\\000\\000\\000\\377\\377\\377\\377\\000\\002\\377forged'; head -c 100000 /dev/urandom | tee /workspace/sent",
        )
    };
    let ran = Talk::start(&house, &container.id, hostile).await.end().await;
    assert_eq!(&ran.stdout[..17], b"\x01\0\0\0\xff\xff\xff\xff\0\x02\xffforged");
    assert_eq!(ran.stdout.len(), 17 + 100_000);
    assert!(ran.stderr.is_empty());
    let sum = house.run(&container.id, "sha256sum < /workspace/sent").await.text();
    use sha2::Digest;
    assert_eq!(sum.split(' ').next().unwrap(), hex::encode(sha2::Sha256::digest(&ran.stdout[17..])));
}

#[tokio::test]
async fn a_timeout_or_a_cancel_takes_the_whole_tree() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let tree = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP INT; sleep 7777 & sleep 7777' & sleep 7777";
    let count = "ps | grep -c '[s]leep 7777'";
    let request = v1::StartProcessRequest {
        container_id: container.id.clone(),
        process: Some(shell(tree)),
        limits: Some(v1::ExecutionLimits {
            wall_time: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let timed = house.containers().await.start_process(request).await.unwrap().into_inner().execution.unwrap();
    let ran = house.follow(&timed.id, 0).await;
    assert_eq!(ran.reason(), v1::ExitReason::TimedOut);
    let execution = house.start(&container.id, shell(tree)).await.unwrap();
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while house.run(&container.id, count).await.text().trim() != "3" {
        assert!(std::time::Instant::now() < deadline, "the tree never grew, or an old one stays");
    }
    let cancel = v1::CancelExecutionRequest {
        execution_id: execution.id.clone(),
        reason: "enough".into(),
        ..Default::default()
    };
    let cancelled = house.server().executions().await.cancel_execution(cancel).await.unwrap().into_inner();
    assert_eq!(cancelled.execution.unwrap().state(), v1::ExecutionState::Cancelled);
    while house.run(&container.id, count).await.text().trim() != "0" {
        assert!(std::time::Instant::now() < deadline, "something got away");
    }
}

#[tokio::test]
async fn input_by_offset_is_taken_once() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let process = v1::ProcessSpec { keep_stdin_open: true, stdin: "ab".into(), ..shell("cat") };
    let execution = house.start(&container.id, process).await.unwrap();
    let mut executions = house.server().executions().await;
    let mut write = async |offset: u64, data: &str, eof: bool| {
        let request =
            v1::WriteStdinRequest { execution_id: execution.id.clone(), offset, data: data.to_owned().into(), eof };
        executions.write_stdin(request).await.map(|answer| answer.into_inner().offset)
    };
    assert_eq!(write(1, "bcd", false).await.unwrap(), 4);
    assert_eq!(write(0, "abcd", false).await.unwrap(), 4);
    assert_eq!(&*reason(&write(9, "x", false).await.unwrap_err()), "STDIN_GAP");
    assert_eq!(write(4, "e", true).await.unwrap(), 5);
    assert_eq!(house.follow(&execution.id, 0).await.text(), "abcde");
    assert_eq!(&*reason(&write(5, "x", false).await.unwrap_err()), "EXECUTION_OVER");
    // One that does not read is not fed without bound.
    let deaf = v1::ProcessSpec { keep_stdin_open: true, ..shell("sleep 1000") };
    let deaf = house.start(&container.id, deaf).await.unwrap();
    let mut executions = house.server().executions().await;
    let mut offset = 0;
    let full = loop {
        let request = v1::WriteStdinRequest {
            execution_id: deaf.id.clone(),
            offset,
            data: vec![0; 256 << 10].into(),
            ..Default::default()
        };
        match executions.write_stdin(request).await {
            Ok(answer) => offset = answer.into_inner().offset,
            Err(error) => break error,
        }
    };
    assert_eq!((full.code(), &*reason(&full)), (Code::ResourceExhausted, "STDIN_FULL"));
    assert!(offset <= 2 << 20, "{offset}");
}

#[tokio::test]
async fn as_many_run_as_may_and_slots_come_back() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let resources = Some(v1::ContainerResources { executions: 2, ..Default::default() });
    let container = house.spawn(v1::ContainerSpec { resources, ..crate::kit::sh("sleep 1000") }).await.unwrap();
    let one = house.start(&container.id, shell("sleep 1000")).await.unwrap();
    house.start(&container.id, shell("sleep 1000")).await.unwrap();
    let full = house.start(&container.id, shell("true")).await.unwrap_err();
    assert_eq!((full.code(), &*reason(&full)), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(house.get(&container.id).await.running_executions, 2);
    let cancel = v1::CancelExecutionRequest { execution_id: one.id, ..Default::default() };
    house.server().executions().await.cancel_execution(cancel).await.unwrap();
    assert_eq!(house.run(&container.id, "echo free").await.text(), "free\n");
}

#[tokio::test]
async fn python_runs_in_its_image() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(image(PYTHON, &["/bin/sleep", "1000"])).await.unwrap();
    let code = "import os, subprocess, threading, socket\n\
        t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n\
        print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); print('loopback')\n\
        print(sorted(os.listdir('/sys/class/net')))";
    let process = v1::ProcessSpec { command: vec!["python3".into(), "-c".into(), code.into()], ..Default::default() };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.text(), "thread\nchild\nloopback\n['lo']\n", "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn the_end_of_a_container_is_the_end_of_what_runs_in_it() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    let execution = house.start(&container.id, shell("echo begun; sleep 1000")).await.unwrap();
    house.until(&execution.id, "begun").await;
    let killed = house.kill(&container.id).await;
    assert_eq!(killed.ended_execution_ids, std::slice::from_ref(&execution.id));
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!((ran.text().as_str(), ran.reason()), ("begun\n", v1::ExitReason::ContainerStopped));
    let over = house.start(&container.id, shell("true")).await.unwrap_err();
    assert_eq!(&*reason(&over), "CONTAINER_NOT_READY");
    // Whoever pulls the rug from outside is noticed, too.
    let other = house.idle().await;
    let execution = house.start(&other.id, shell("sleep 1000")).await.unwrap();
    crate::kit::ask(&["kill", &format!("casemate-{}", other.id)]);
    assert_eq!(house.follow(&execution.id, 0).await.reason(), v1::ExitReason::ContainerStopped);
    let end = house.ended(&other.id).await;
    assert_eq!(end.reason(), v1::ContainerEndReason::Vanished);
}
