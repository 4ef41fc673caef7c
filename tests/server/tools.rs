//! Tools: run, validate, register, upload, delete, reload, schemas.

use crate::guests;
use crate::harness::{Server, Setup, call, reason, result, text, wait_for, write_tool};
use casemate::proto::v1;
use casemate::proto::v1::tool_output::Content;
use prost_types::Struct;
use sha2::{Digest, Sha256};
use tonic::Code;
use tonic_types::StatusExt;

const SCHEMA: &str = r#"
description = "Copies its parameters"
version = "1.0"
output = "json"
[input_schema]
type = "object"
required = ["text"]
additionalProperties = false
[input_schema.properties.text]
type = "string"
[input_schema.properties.count]
type = "integer"
minimum = 1
[output_schema]
type = "object"
required = ["text"]
"#;

async fn get(server: &Server, name: &str) -> Result<v1::Tool, tonic::Status> {
    let request = v1::GetToolRequest { name: name.into() };
    Ok(server.tools().await.get_tool(request).await?.into_inner().tool.unwrap())
}

#[tokio::test]
async fn parameters_reach_the_tool_and_its_output_comes_back_in_the_same_form() {
    let server = Setup::new().tool("cat", &guests::cat(), SCHEMA).start().await;
    // As text: byte for byte, whatever the digits.
    let exact = r#"{"text": "x",  "count": 9007199254740993}"#;
    let answer = server.run(call("cat", exact)).await.unwrap();
    assert_eq!(answer.output.as_ref().unwrap().content, Some(Content::JsonText(exact.into())));
    let execution = answer.execution.unwrap();
    assert_eq!(execution.state(), v1::ExecutionState::Succeeded);
    assert_eq!(execution.principal, "operator");
    let usage = execution.result.unwrap().usage.unwrap();
    assert_eq!((usage.stdout_bytes, usage.truncated), (exact.len() as u64, false));
    assert!(usage.peak_memory_bytes >= 128 << 10);
    // As a structure: a structure back.
    let parameters = Struct { fields: [("text".to_owned(), "y".into())].into() };
    let call = v1::ToolCall {
        tool: "cat".into(),
        input: Some(v1::tool_call::Input::Parameters(parameters.clone())),
        ..Default::default()
    };
    let answer = server.run(call).await.unwrap();
    let Some(Content::Json(value)) = answer.output.unwrap().content else { panic!("expected a structure") };
    assert_eq!(value.kind, Some(prost_types::value::Kind::StructValue(parameters)));
}

#[tokio::test]
async fn every_problem_of_the_parameters_is_told_and_nothing_runs() {
    let server = Setup::new().tool("cat", &guests::cat(), SCHEMA).start().await;
    let refused = server.run(call("cat", r#"{"text": 5, "count": 0, "more": 1}"#)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PARAMETERS_INVALID"));
    let details = refused.get_error_details();
    let fields: Vec<String> =
        details.bad_request().unwrap().field_violations.iter().map(|violation| violation.field.clone()).collect();
    for field in ["call.parameters", "call.parameters/text", "call.parameters/count"] {
        assert!(fields.iter().any(|found| found == field), "{field} is not in {fields:?}");
    }
    for nonsense in ["[]", "7", "{", ""] {
        assert_eq!(server.run(call("cat", nonsense)).await.unwrap_err().code(), Code::InvalidArgument, "{nonsense:?}");
    }
    let listed = server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().executions.len(), 0);
}

#[tokio::test]
async fn output_that_breaks_its_promise_is_a_failed_run_with_its_output_kept() {
    let manifest = "output = \"json\"\n[output_schema]\nrequired = [\"a\"]";
    let server = Setup::new()
        .tool("plain", &guests::say("not json"), manifest)
        .tool("wrong", &guests::say("{\"b\": 1}"), manifest)
        .start()
        .await;
    for (tool, printed) in [("plain", "not json"), ("wrong", "{\"b\": 1}")] {
        let answer = server.run(call(tool, "{}")).await.unwrap();
        assert_eq!(result(&answer).exit_reason(), v1::ExitReason::OutputInvalid);
        assert_eq!(result(&answer).output_violations.len(), 1);
        assert_eq!(text(&answer), printed);
        assert_eq!(answer.execution.as_ref().unwrap().state(), v1::ExecutionState::Failed);
    }
}

#[tokio::test]
async fn unknown_and_unbuilt_things_have_their_own_errors() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let status = server.run(call("nope", "{}")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "TOOL_NOT_FOUND"));
    let status = server.tools().await.execute_tool(v1::ExecuteToolRequest { call: None }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let target = v1::ToolTarget { target: Some(v1::tool_target::Target::Pool("p".into())), ..Default::default() };
    let status = server.run(v1::ToolCall { target: Some(target), ..call("cat", "{}") }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TARGET_MISMATCH"));
    assert!(status.message().contains("does not run in containers"), "{}", status.message());
    let session = v1::tool_target::Target::SessionId(uuid::Uuid::now_v7().to_string());
    let target = Some(v1::ToolTarget { target: Some(session), ..Default::default() });
    let request = v1::GetToolSchemasRequest { target, ..Default::default() };
    let status = server.tools().await.get_tool_schemas(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    assert!(status.message().contains("session"), "{}", status.message());
    let server = Setup::new().config("[containers]\nenabled = false").start().await;
    let target = v1::ToolTarget { target: Some(v1::tool_target::Target::ContainerId("c".into())), expected_turn: None };
    let status = server.run(v1::ToolCall { target: Some(target), ..call("shell", "{}") }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "BACKEND_UNAVAILABLE"));
}

#[tokio::test]
async fn a_tool_comes_changes_and_goes() {
    let server = Setup::new().start().await;
    let mut tools = server.tools().await;
    let manifest = v1::ToolManifest { description: "says".into(), version: "1".into(), ..Default::default() };
    let register = v1::RegisterToolRequest {
        name: "say".into(),
        manifest: Some(manifest.clone()),
        module: guests::say("one").into(),
        request_id: uuid::Uuid::now_v7().to_string(),
    };
    let tool = tools.register_tool(register.clone()).await.unwrap().into_inner().tool.unwrap();
    assert_eq!(tool.digest, hex::encode(Sha256::digest(&register.module)));
    assert_eq!(tool.module_kind(), v1::ModuleKind::WasiP1);
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "one");

    // Only the manifest.
    let newer = v1::ToolManifest { version: "2".into(), ..manifest };
    let update = v1::RegisterToolRequest {
        manifest: Some(newer),
        module: Default::default(),
        request_id: String::new(),
        ..register.clone()
    };
    assert_eq!(tools.register_tool(update).await.unwrap().into_inner().tool.unwrap().manifest.unwrap().version, "2");
    // The retry of the first call does not bring the first version back.
    tools.register_tool(register.clone()).await.unwrap();
    assert_eq!(get(&server, "say").await.unwrap().manifest.unwrap().version, "2");
    let reused = v1::RegisterToolRequest { name: "other".into(), ..register };
    let status = tools.register_tool(reused).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));

    // It survives a restart.
    let server = server.kill_and_restart().await;
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "one");
    let mut tools = server.tools().await;
    let delete = v1::DeleteToolRequest { name: "say".into(), request_id: uuid::Uuid::now_v7().to_string() };
    tools.delete_tool(delete.clone()).await.unwrap();
    tools.delete_tool(delete).await.unwrap();
    assert_eq!(get(&server, "say").await.unwrap_err().code(), Code::NotFound);
    let again = v1::DeleteToolRequest { name: "say".into(), request_id: String::new() };
    assert_eq!(tools.delete_tool(again).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(std::fs::read_dir(server.tools_directory()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_is_checked_before_it_serves() {
    let server = Setup::new().start().await;
    let module = guests::say("uploaded");
    let header = |digest: String| v1::UploadToolRequest {
        part: Some(v1::upload_tool_request::Part::Header(v1::UploadToolHeader {
            name: "up".into(),
            digest,
            ..Default::default()
        })),
    };
    let chunks = |module: &[u8]| -> Vec<v1::UploadToolRequest> {
        let chunk = |bytes: &[u8]| v1::upload_tool_request::Part::Chunk(bytes.to_vec().into());
        module.chunks(100).map(|bytes| v1::UploadToolRequest { part: Some(chunk(bytes)) }).collect()
    };
    let upload = async |parts: Vec<v1::UploadToolRequest>| {
        server.tools().await.upload_tool(tokio_stream::iter(parts)).await.map(|response| response.into_inner())
    };
    let digest = hex::encode(Sha256::digest(&module));
    let with = |first: v1::UploadToolRequest, rest: Vec<v1::UploadToolRequest>| [vec![first], rest].concat();

    for faulty in [
        chunks(&module),
        vec![header(String::new())],
        with(header(digest.clone()), chunks(&module[..module.len() - 1])),
        with(header(String::new()), chunks(b"not wasm")),
        with(header(String::new()), chunks(&module[..module.len() / 2])),
    ] {
        assert_eq!(upload(faulty).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(std::fs::read_dir(server.tools_directory()).unwrap().count(), 0, "nothing half-made is left");
    }
    let tool = upload(with(header(digest.clone()), chunks(&module))).await.unwrap().tool.unwrap();
    assert_eq!(tool.digest, digest);
    assert_eq!(text(&server.run(call("up", "{}")).await.unwrap()), "uploaded");
}

#[tokio::test]
async fn a_faulty_file_leaves_the_last_good_version_in_service() {
    let server = Setup::new().tool("say", &guests::say("good"), "").tool("bad", b"\0asm nonsense", "").start().await;
    let bad = get(&server, "bad").await.unwrap();
    assert_eq!(bad.state(), v1::ToolState::Broken);
    let status = server.run(call("bad", "{}")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TOOL_BROKEN"));

    std::fs::write(server.tools_directory().join("say.wasm"), b"damaged").unwrap();
    let reload = server.tools().await.reload_tools(v1::ReloadToolsRequest::default()).await.unwrap().into_inner();
    assert_eq!(reload.problems.len(), 2);
    let tool = get(&server, "say").await.unwrap();
    assert_eq!(tool.state(), v1::ToolState::Stale);
    assert!(!tool.problem.is_empty());
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "good");
}

#[tokio::test]
async fn the_directory_is_followed_and_half_written_files_are_left_alone() {
    use std::io::Write;
    let server = Setup::new().start().await;
    let module = guests::say("watched");
    let path = server.tools_directory().join("seen.wasm");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&module[..20]).unwrap();
    file.flush().unwrap();
    // Another tool that is complete shows that the watcher has been here.
    write_tool(&server.tools_directory(), "marker", &guests::say("m"), "description = \"d\"");
    until_described(&server, "marker", "d").await;
    assert_eq!(get(&server, "seen").await.unwrap_err().code(), Code::NotFound, "still being written");
    file.write_all(&module[20..]).unwrap();
    drop(file);
    until(&server, "seen", |tool| tool.is_ok_and(|tool| tool.state() == v1::ToolState::Ready)).await;
    assert_eq!(text(&server.run(call("seen", "{}")).await.unwrap()), "watched");

    // Moved in from elsewhere, and gone again.
    let elsewhere = server.path().join("seen.wasm");
    std::fs::write(&elsewhere, guests::say("moved")).unwrap();
    let old = get(&server, "seen").await.unwrap().digest;
    std::fs::rename(&elsewhere, &path).unwrap();
    until(&server, "seen", |tool| tool.is_ok_and(|tool| tool.digest != old)).await;
    assert_eq!(text(&server.run(call("seen", "{}")).await.unwrap()), "moved");
    std::fs::remove_file(&path).unwrap();
    until(&server, "seen", |tool| tool.is_err()).await;
}

async fn until(server: &Server, name: &str, holds: impl Fn(Result<v1::Tool, tonic::Status>) -> bool) {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !holds(get(server, name).await) {
        assert!(std::time::Instant::now() < deadline, "tool {name} never got there");
    }
}

async fn until_described(server: &Server, name: &str, description: &str) {
    until(server, name, |tool| {
        tool.is_ok_and(|tool| {
            tool.state() == v1::ToolState::Ready && tool.manifest.is_some_and(|m| m.description == description)
        })
    })
    .await;
}

#[tokio::test]
async fn a_reload_lets_the_old_version_finish() {
    let server = Setup::new().tool("t", &guests::cat(), "version = \"old\"").start().await;
    let id = server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("t", "{}") }).await;
    write_tool(&server.tools_directory(), "t", &guests::say("new"), "version = \"new\"");
    until(&server, "t", |tool| {
        tool.is_ok_and(|tool| {
            tool.state() == v1::ToolState::Ready
                && tool.manifest.is_some_and(|manifest| manifest.version == "new")
                && tool.digest == hex::encode(Sha256::digest(guests::say("new")))
        })
    })
    .await;
    assert_eq!(text(&server.run(call("t", "{}")).await.unwrap()), "new");
    let mut executions = server.executions().await;
    let write = v1::WriteStdinRequest { execution_id: id.clone(), offset: 0, data: "bye".into(), eof: true };
    executions.write_stdin(write).await.unwrap();
    let wait = v1::WaitExecutionRequest { execution_id: id, timeout: None };
    let execution = executions.wait_execution(wait).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(execution.state(), v1::ExecutionState::Succeeded);
    let Some(v1::execution::Subject::Tool(tool)) = execution.subject else { panic!("a tool ran") };
    assert_eq!(tool.version, "old");
    assert_eq!(execution.result.unwrap().usage.unwrap().stdout_bytes, "{}\nbye".len() as u64);
}

#[tokio::test]
async fn tools_are_listed_by_pages_and_in_the_forms_of_models() {
    let mut setup = Setup::new().tool("described", &guests::cat(), SCHEMA);
    for number in 0..6 {
        setup = setup.tool(&format!("t{number}"), &guests::cat(), "");
    }
    let server = setup.start().await;
    let mut tools = server.tools().await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListToolsRequest { page_size: 3, page_token: token };
        let page = tools.list_tools(request).await.unwrap().into_inner();
        assert!(page.tools.len() <= 3);
        names.extend(page.tools.into_iter().map(|tool| tool.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["described", "t0", "t1", "t2", "t3", "t4", "t5"]);
    let bad = v1::ListToolsRequest { page_size: 3, page_token: "nonsense".into() };
    assert_eq!(tools.list_tools(bad).await.unwrap_err().code(), Code::InvalidArgument);

    for (format, key) in [
        (v1::SchemaFormat::Openai, "function"),
        (v1::SchemaFormat::Anthropic, "input_schema"),
        (v1::SchemaFormat::Mcp, "inputSchema"),
    ] {
        let mut request = v1::GetToolSchemasRequest { names: vec!["described".into()], ..Default::default() };
        request.set_format(format);
        let schemas = tools.get_tool_schemas(request).await.unwrap().into_inner().schemas;
        assert_eq!(schemas.len(), 1);
        assert!(schemas[0].fields.contains_key(key), "{format:?}: {:?}", schemas[0]);
    }
    let all = tools.get_tool_schemas(v1::GetToolSchemasRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.schemas.len(), 7);
}

#[tokio::test]
async fn bad_names_and_manifests_are_refused_with_every_problem() {
    let server = Setup::new().start().await;
    let mut tools = server.tools().await;
    for name in ["", "../escape", "a/b", ".hidden"] {
        let request =
            v1::RegisterToolRequest { name: name.into(), module: guests::say("x").into(), ..Default::default() };
        assert_eq!(tools.register_tool(request).await.unwrap_err().code(), Code::InvalidArgument, "{name:?}");
    }
    let manifest = v1::ToolManifest {
        network: Some(v1::NetworkGrant { allow: vec!["https://x".into()] }),
        version: "v".repeat(100),
        ..Default::default()
    };
    let request = v1::RegisterToolRequest {
        name: "t".into(),
        manifest: Some(manifest),
        module: guests::say("x").into(),
        ..Default::default()
    };
    let refused = tools.register_tool(request).await.unwrap_err();
    assert_eq!(reason(&refused), "MANIFEST_INVALID");
    assert_eq!(refused.get_error_details().bad_request().unwrap().field_violations.len(), 2);
    wait_for("an empty directory", || {
        (std::fs::read_dir(server.tools_directory()).unwrap().count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clawbox_tool_logs_and_its_requests_are_denied_by_type() {
    let server =
        Setup::new().tool("once", &guests::host_call(1), "").tool("often", &guests::host_call(150), "").start().await;
    let log = r#"{"method":"log","params":{"level":"warn","message":"hello"}}"#;
    let answer = server.run(call("once", log)).await.unwrap();
    assert_eq!(text(&answer), r#"{"ok":null}"#);
    let id = answer.execution.unwrap().id;
    let watch = v1::WatchExecutionRequest { execution_id: id, ..Default::default() };
    let mut events = server.executions().await.watch_execution(watch).await.unwrap().into_inner();
    let mut logs = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        if let Some(v1::execution_event::Event::Log(log)) = event.event.unwrap().event {
            logs.push((log.level(), log.message));
        }
    }
    assert_eq!(logs, [(v1::LogLevel::Warn, "hello".to_owned())]);

    let fetch = r#"{"method":"http_request","params":{"url":"https://example.com/"}}"#;
    let denied: serde_json::Value =
        serde_json::from_str(&text(&server.run(call("once", fetch)).await.unwrap())).unwrap();
    assert!(denied["error"].is_string() && denied["reason"].is_string(), "{denied}");

    let limited = server.run(call("often", log)).await.unwrap();
    assert!(text(&limited).contains("limit exceeded (max 100)"), "{}", text(&limited));
    assert_eq!(result(&limited).usage.as_ref().unwrap().host_calls, 150);
}
