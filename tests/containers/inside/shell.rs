//! The tool `shell`, and what all tools inside containers have in common.

use super::{exit, left, within};
use crate::harness::{reason, result, text};
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::json;
use tonic::Code;
use v1::{ExecutionState, ExitReason};

#[tokio::test]
async fn a_command_runs_in_the_workspace_and_its_files_stay() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let ran = house.sh(&id, "pwd; echo oops >&2; echo kept > kept.txt; mkdir d; ln -s kept.txt d/link; exit 3").await;
    assert_eq!((text(&ran).as_str(), ran.stderr.as_str()), ("/workspace\n", "oops\n"));
    assert_eq!(exit(&ran), (ExitReason::Exited, 3));
    assert_eq!(left(&ran), [("d/link", true), ("kept.txt", true)]);
    assert_eq!(result(&ran).files[0].link_target, "kept.txt");
    assert!(ran.files.is_empty(), "contents come where they are asked for");
    let execution = ran.execution.as_ref().unwrap();
    assert_eq!(execution.state(), ExecutionState::Failed);
    let Some(v1::execution::Subject::Tool(subject)) = &execution.subject else { panic!("a tool ran") };
    assert_eq!(subject.name, "shell");
    assert!(subject.target.starts_with("container "), "{subject:?}");
    let again = house.sh(&id, "cat kept.txt; echo more >> kept.txt; ls -A").await;
    assert_eq!(text(&again), "kept\nd\nkept.txt\n", "nothing of the run itself is left");
    assert_eq!(left(&again), [("kept.txt", false)]);
    // It is an execution like any other.
    let followed = house.follow(&execution.id, 0).await;
    assert_eq!((followed.text().as_str(), followed.code()), ("/workspace\n", 3));
}

#[tokio::test]
async fn files_arguments_variables_and_input_come_with_the_call() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let file = |path: &str, data: &'static [u8], mode| v1::InputFile { path: path.into(), data: data.into(), mode };
    let call = v1::ToolCall {
        files: vec![file("in/a.txt", b"alpha", None), file("run.sh", b"#!/bin/sh\necho ran\n", Some(0o755))],
        arguments: vec!["one".into(), "two words".into()],
        environment: [("NAME".to_owned(), "value".to_owned())].into(),
        stdin: b"input".as_slice().into(),
        return_files: vec!["out/*".into()],
        ..within(
            &id,
            "shell",
            json!({"command": "cat in/a.txt; ./run.sh; echo $NAME $1 \"$2\"; cat; mkdir out; echo x > out/y; echo z > z"}),
        )
    };
    let ran = house.server().run(call).await.unwrap();
    assert_eq!(text(&ran), "alpharan\nvalue one two words\ninput");
    assert_eq!(left(&ran), [("out/y", true), ("z", true)], "what was given is not what it left");
    let [given] = &ran.files[..] else { panic!("{:?}", ran.files) };
    assert_eq!((given.path.as_str(), &given.data[..], given.kept), ("out/y", b"x\n".as_slice(), true));
}

#[tokio::test]
async fn input_that_comes_later_reaches_it() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let call = v1::ToolCall { keep_stdin_open: true, ..within(&id, "shell", json!({"command": "wc -c"})) };
    let execution = house.server().start_run(call).await;
    let mut executions = house.server().executions().await;
    let piece = vec![b'x'; 1 << 20];
    for round in 0..6_u64 {
        let write = v1::WriteStdinRequest {
            execution_id: execution.clone(),
            offset: round << 20,
            data: piece.clone().into(),
            eof: round == 5,
        };
        // What the program has not read yet has its bounds.
        while let Err(status) = executions.write_stdin(write.clone()).await {
            assert_eq!(reason(&status), "STDIN_FULL");
            tokio::task::yield_now().await;
        }
    }
    let ran = house.follow(&execution, 0).await;
    assert_eq!((ran.text().trim(), ran.code()), ("6291456", 0));
}

#[tokio::test]
async fn a_retry_is_the_same_run() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let id = house.idle().await.id;
    let request_id = "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c77".to_owned();
    let call = v1::ToolCall { request_id, ..within(&id, "shell", json!({"command": "echo once | tee -a marks"})) };
    let first = house.server().run(call.clone()).await.unwrap();
    let second = house.server().run(call.clone()).await.unwrap();
    house.kill_and_restart().await;
    let third = house.server().run(call.clone()).await.unwrap();
    let ids = [&first, &second, &third].map(|ran| ran.execution.as_ref().unwrap().id.clone());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!((text(&first), text(&third)), ("once\n".into(), "once\n".into()));
    assert_eq!(house.says(&id, "cat marks").await, "once\n");
    let other = v1::ToolCall { request_id: call.request_id, ..within(&id, "shell", json!({"command": "other"})) };
    let refused = house.server().run(other).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn what_cannot_run_says_why_before_there_is_an_execution() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let refused = async |call: v1::ToolCall| {
        let status = house.server().run(call).await.unwrap_err();
        (status.code(), reason(&status), status.message().to_owned())
    };
    let (code, why, message) = refused(within(&id, "shell", json!({"comand": "true"}))).await;
    assert_eq!((code, why.as_str()), (Code::InvalidArgument, "PARAMETERS_INVALID"), "{message}");
    let (code, why, message) = refused(within(&id, "python", json!({"code": "1"}))).await;
    assert_eq!((code, why.as_str()), (Code::FailedPrecondition, "TARGET_MISMATCH"));
    assert!(message.contains("python3"), "{message}");
    let (code, why, message) = refused(within(&id, "echo", json!({}))).await;
    assert_eq!((code, why.as_str()), (Code::FailedPrecondition, "TARGET_MISMATCH"), "{message}");
    let (code, why, _) = refused(within("nobody", "shell", json!({"command": "true"}))).await;
    assert_eq!((code, why.as_str()), (Code::NotFound, "CONTAINER_NOT_FOUND"));
    let environment = [("LD_PRELOAD".to_owned(), "/x".to_owned())].into();
    let steered = v1::ToolCall { environment, ..within(&id, "shell", json!({"command": "true"})) };
    assert_eq!(refused(steered).await.0, Code::InvalidArgument);
    let own = v1::InputFile { path: ".casemate/x".into(), ..Default::default() };
    let own = v1::ToolCall { files: vec![own], ..within(&id, "shell", json!({"command": "true"})) };
    let (code, _, message) = refused(own).await;
    assert_eq!(code, Code::InvalidArgument, "{message}");
    let tools = v1::GetToolSchemasRequest {
        target: within(&id, "shell", json!({})).target,
        names: vec!["python".into()],
        ..Default::default()
    };
    let status = house.server().tools().await.get_tool_schemas(tools).await.unwrap_err();
    assert_eq!(reason(&status), "TARGET_MISMATCH");
    let request = v1::ListExecutionsRequest { page_size: 100, ..Default::default() };
    let listed = house.server().executions().await.list_executions(request).await.unwrap().into_inner().executions;
    assert_eq!(listed.len(), 1, "the main process alone: {listed:?}");
}
