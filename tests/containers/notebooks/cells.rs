//! What runs in a kernel, and what comes of it.

use super::*;
use crate::harness::{reason, result, text};
use crate::kit::{BUSYBOX, docker};
use tonic::Code;
use v1::ExitReason::{Cancelled, Exited, TimedOut};

fn exit(response: &v1::ExecuteToolResponse) -> (v1::ExitReason, i32) {
    (result(response).exit_reason(), result(response).exit_code)
}

/// The richest form of something that was shown: what it is, and its content.
fn form(output: &v1::RichOutput) -> (&str, Vec<u8>) {
    let first = &output.representations[0];
    let content = match first.content.clone().unwrap() {
        v1::representation::Content::Text(text) => text.into_bytes(),
        v1::representation::Content::Data(data) => data.to_vec(),
    };
    (&first.mime_type, content)
}

fn value(response: &v1::ExecuteToolResponse) -> String {
    let (mime, content) = form(response.value.as_ref().unwrap());
    assert_eq!(mime, "text/plain");
    String::from_utf8(content).unwrap()
}

#[tokio::test]
async fn state_stays_from_cell_to_cell_and_outputs_are_rich() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (session, container) = house.notebook().await;
    let first = house
        .cell(&session, "import math\nx = [1, 2]\nprint('out'); import sys; print('err', file=sys.stderr)\nx")
        .await;
    assert_eq!((exit(&first), text(&first).as_str()), ((Exited, 0), "out\n"));
    assert_eq!((first.stderr.as_str(), value(&first).as_str()), ("err\n", "[1, 2]"));
    let second = house
        .cell(
            &session,
            "from IPython.display import display, HTML, Image, JSON\n\
             x.append(int(math.sqrt(9)))\n\
             display(HTML('<b>bold</b>'))\n\
             display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n0000', format='png'))\n\
             display(JSON({'a': x}))\n\
             open('made.txt', 'w').write('by a cell'); import os; os.symlink('made.txt', 'link')\n\
             %time y = 7\n\
             sum(x)",
        )
        .await;
    assert_eq!(exit(&second), (Exited, 0), "{second:?}");
    let [html, png, json] = &second.rich_outputs[..] else { panic!("{second:?}") };
    assert_eq!(form(html), ("text/html", b"<b>bold</b>".to_vec()));
    assert_eq!(form(png), ("image/png", b"\x89PNG\r\n\x1a\n0000".to_vec()));
    assert_eq!(form(json).0, "application/json");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&form(json).1).unwrap(), json!({"a": [1, 2, 3]}));
    assert_eq!(value(&second), "6");
    let files: Vec<_> = result(&second).files.iter().map(|file| (file.path.as_str(), file.created)).collect();
    assert_eq!(files, [("link", true), ("made.txt", true)]);
    assert!(text(&second).contains("Wall time"), "magic is a kernel's");

    let view = house.session(&session).await;
    assert_eq!((view.turn, view.tool.as_str()), (2, "notebook"));
    assert_eq!(view.target.unwrap().target, Some(v1::session_target::Target::ContainerId(container.id.clone())));
    let filter = v1::SessionFilter { container_id: container.id.clone(), ..Default::default() };
    let list = v1::ListSessionsRequest { filter: Some(filter), ..Default::default() };
    let listed = house.sessions().await.list_sessions(list).await.unwrap().into_inner().sessions;
    assert_eq!(listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [session.as_str()]);
    // Files go in with a call and come back with it.
    let mut call = cell(&session, "open('back', 'w').write(open('in/given').read().upper())");
    call.files = vec![v1::InputFile { path: "in/given".into(), data: b"abc".to_vec().into(), ..Default::default() }];
    call.return_files = vec!["back".into()];
    let back = house.server().run(call).await.unwrap();
    let kept = back.files.iter().map(|file| (file.path.as_str(), file.data.as_ref())).collect::<Vec<_>>();
    assert_eq!(kept, [("back", &b"ABC"[..])]);
}

#[tokio::test]
async fn exceptions_are_told_with_their_lines_and_the_kernel_goes_on() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (session, _) = house.notebook().await;
    house.cell(&session, "def f(n):\n    return 1 / n").await;
    let failed = house.cell(&session, "before = 1\nf(0)").await;
    assert_eq!(exit(&failed), (Exited, 1));
    let exception = result(&failed).exception.clone().unwrap();
    assert_eq!((exception.type_name.as_str(), exception.message.as_str()), ("ZeroDivisionError", "division by zero"));
    let frames: Vec<_> = exception
        .frames
        .iter()
        .map(|frame| (frame.file.as_str(), frame.line, frame.function.as_str(), frame.source.as_str()))
        .collect();
    assert_eq!(frames, [("<code>", 2, "", "f(0)"), ("<turn 1>", 2, "f", "return 1 / n")]);
    let told = &failed.stderr;
    assert!(told.contains("ZeroDivisionError") && !told.contains('\u{1b}'), "{told}");
    assert_eq!(text(&house.cell(&session, "print(before)").await), "1\n");
    let wrong = house.cell(&session, "if:").await;
    assert_eq!(result(&wrong).exception.as_ref().unwrap().type_name, "SyntaxError");
}

#[tokio::test]
async fn input_is_asked_for_line_by_line() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (session, _) = house.notebook().await;
    let code = "name = input('who? ')\nprint('hello', name, '/', input())\ntry:\n    input()\nexcept EOFError:\n    print('over')";
    let call = v1::ToolCall { stdin: b"ada\nlast".to_vec().into(), ..cell(&session, code) };
    let asked = house.server().run(call).await.unwrap();
    assert_eq!(text(&asked), "who? hello ada / last\nover\n");
}

#[tokio::test]
async fn a_cell_that_takes_too_long_is_interrupted_and_its_state_stays() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (session, _) = house.notebook().await;
    let code = "x = 0\nwhile True:\n    x += 1";
    let late = house.server().run(timed(&session, code, Duration::from_millis(400))).await.unwrap();
    assert_eq!(exit(&late).0, TimedOut);
    let after = house.cell(&session, "x > 0").await;
    assert_eq!(value(&after), "True");
    // One that somebody cancels, and one whose caller leaves.
    let id =
        house.server().start_run(cell(&session, "import time\ny = 1\nprint('on', flush=True)\ntime.sleep(1000)")).await;
    house.until(&id, "on").await;
    let cancel = v1::CancelExecutionRequest { execution_id: id.clone(), ..Default::default() };
    house.server().executions().await.cancel_execution(cancel).await.unwrap();
    assert_eq!(house.follow(&id, 0).await.reason(), Cancelled);
    let mut tools = house.server().tools().await;
    let request = v1::ExecuteToolRequest { call: Some(cell(&session, "z = 1\ntime.sleep(1000)")) };
    let left = tokio::time::timeout(Duration::from_millis(300), tools.execute_tool(request)).await;
    assert!(left.is_err(), "it answered: {left:?}");
    assert_eq!(text(&house.cell(&session, "print(y, z)").await), "1 1\n");
    assert_eq!(house.session(&session).await.turn, 5);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_name() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(jupyter()).await.unwrap();
    let bare = house.spawn(image(BUSYBOX, &["/bin/sleep", "1000"])).await.unwrap();
    let refused = async |request: v1::CreateSessionRequest| {
        let status = house.open_session(request).await.unwrap_err();
        (status.code(), reason(&status), status.message().to_owned())
    };
    let with = |kernel: &str| {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(kernel.into())) };
        let parameters = prost_types::Struct { fields: [("kernel".to_owned(), value)].into() };
        v1::CreateSessionRequest { parameters: Some(parameters), ..in_container(&container.id) }
    };
    let (code, why, message) = refused(in_container(&bare.id)).await;
    assert_eq!((code, &*why), (Code::FailedPrecondition, "TARGET_MISMATCH"));
    assert!(message.contains("ipykernel"), "{message}");
    let (code, _, message) = refused(with("julia")).await;
    assert!(code == Code::InvalidArgument && message.contains("python3"), "{message}");
    assert_eq!(refused(in_container("nowhere")).await.0, Code::NotFound);
    let none = v1::CreateSessionRequest { target: None, ..in_container("x") };
    assert!(refused(none).await.2.contains("target: is required"));
    let python = v1::CreateSessionRequest { tool: "python".into(), ..in_container(&container.id) };
    assert!(refused(python).await.2.contains("notebook"));
    let durable =
        v1::CreateSessionRequest { durability: v1::SessionDurability::Turn.into(), ..in_container(&container.id) };
    assert!(refused(durable).await.2.contains("durability"));
    let steering = v1::CreateSessionRequest {
        environment: [("LD_PRELOAD".to_owned(), "x".to_owned())].into(),
        ..in_container(&container.id)
    };
    assert_eq!(refused(steering).await.0, Code::InvalidArgument);
    // Nothing was left running by those that failed.
    let processes = house.run(&container.id, "ps -o args").await.text();
    assert!(!processes.contains("ipykernel"), "{processes}");

    let session = house.open_session(with("python3")).await.unwrap();
    let refused = async |call| house.server().run(call).await.unwrap_err();
    assert_eq!(reason(&refused(call("notebook", "{\"code\": \"1\"}")).await), "TOOL_NOT_FOUND");
    let wrong = v1::ToolCall { target: cell(&session.id, "").target, ..call("notebook", "{\"text\": 1}") };
    assert_eq!(reason(&refused(wrong).await), "PARAMETERS_INVALID");
    let arguments = v1::ToolCall { arguments: vec!["x".into()], ..cell(&session.id, "1") };
    assert!(refused(arguments).await.message().contains("call.arguments"));
    let mut sessions = house.sessions().await;
    let fork = v1::ForkSessionRequest { session_id: session.id.clone(), ..Default::default() };
    assert_eq!(sessions.fork_session(fork).await.unwrap_err().code(), Code::Unimplemented);
    let freeze =
        v1::SnapshotSessionRequest { session_id: session.id.clone(), name: "frozen".into(), ..Default::default() };
    assert_eq!(sessions.snapshot_session(freeze).await.unwrap_err().code(), Code::Unimplemented);

    let target = v1::tool_target::Target::ContainerId(container.id.clone());
    let target = Some(v1::ToolTarget { target: Some(target), expected_turn: None });
    let schemas = v1::GetToolSchemasRequest { target, ..Default::default() };
    let schemas = house.server().tools().await.get_tool_schemas(schemas).await.unwrap().into_inner();
    let told = format!("{schemas:?}");
    assert!(told.contains("notebook") && told.contains("Kernels here: python3"), "{told}");
}
