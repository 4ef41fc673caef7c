//! Starting, being probed, and going down.

use crate::guests;
use crate::harness::{Setup, call, reason, serve_command_at, wait_for};
use casemate::proto::v1;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn probes_and_metrics_answer_over_http() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let (status, body) = server.get("/health").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    for component in ["store", "engine", "tools"] {
        assert_eq!(health["components"][component]["state"], "up", "{body}");
    }
    assert!(health["uptime_seconds"].is_number());
    assert_eq!(server.get("/health/live").await.0, 200);
    assert_eq!(server.get("/health/ready").await.0, 200);
    assert_eq!(server.get("/nope").await.0, 404);

    server.run(call("cat", "{}")).await.unwrap();
    server.run(call("no-such-tool", "{}")).await.unwrap_err();
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains(r#"casemate_tool_executions_total{state="succeeded",tool="cat"} 1"#), "{metrics}");
    assert!(metrics.contains("casemate_rpc_requests_total{code=\"NOT_FOUND\""), "{metrics}");
    assert!(!metrics.contains("no-such-tool"), "a label nobody registered");
}

#[tokio::test]
async fn a_faulty_tool_shows_in_the_health() {
    let server = Setup::new().tool("bad", b"nonsense", "").start().await;
    let (status, body) = server.get("/health").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, health["components"]["tools"]["state"].as_str()), (200, Some("degraded")), "{body}");
}

#[tokio::test]
async fn a_unix_socket_serves_as_well_and_its_file_goes_away() {
    let setup = Setup::new().tool("cat", &guests::cat(), "");
    let socket = setup.path().join("casemate.sock");
    let mut server = setup.config("[server]\nsocket = \"casemate.sock\"").start().await;
    let path = socket.clone();
    let channel = tonic::transport::Endpoint::from_static("http://unix")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tokio::net::UnixStream::connect(path).await?))
            }
        }))
        .await
        .unwrap();
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_shutdown_lets_runs_finish_and_refuses_new_ones() {
    let mut server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") }).await;
    let (mut tools, mut executions) = (server.tools().await, server.executions().await);
    // Both connections are open before the server stops accepting.
    tools.list_tools(v1::ListToolsRequest::default()).await.unwrap();
    let watch = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
    let mut events = executions.watch_execution(watch).await.unwrap().into_inner();
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut states = health.watch(request).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let write = v1::WriteStdinRequest { execution_id: id.clone(), offset: 0, data: "bye".into(), eof: true };
    server.signal(Signal::TERM);
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let (status, _) = server.get("/health/ready").await;
    assert_eq!(status, 503);
    assert_eq!(server.get("/health/live").await.0, 200);
    // New work is refused, but what runs can still be fed on the connections that are open.
    let refused = tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(tokio::net::TcpStream::connect(&server.grpc).await.is_err(), "nobody new comes in");
    executions.write_stdin(write).await.unwrap();
    let mut last = None;
    while let Ok(Some(event)) = events.message().await {
        last = event.event.unwrap().event;
    }
    let ended = matches!(&last, Some(v1::execution_event::Event::Finished(end)) if end.state() == v1::ExecutionState::Succeeded);
    assert!(ended, "{last:?}");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn no_client_can_stall_a_shutdown() {
    let mut server = Setup::new()
        .config("[server]\ndrain_timeout = \"300ms\"")
        .tool("cat", &guests::cat(), "")
        .tool("spin", &guests::spin(), "")
        .start()
        .await;
    // A connection that says nothing, one that stops in the middle of a frame, streams that never end.
    let _silent = tokio::net::TcpStream::connect(&server.grpc).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(&server.grpc).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").await.unwrap();
    let mut slow = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    slow.write_all(b"GET /health HT").await.unwrap();
    let waiting = server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") }).await;
    server.start_run(call("spin", "{}")).await;
    let mut health = HealthClient::new(server.channel().await);
    let _states = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());

    let server = server.kill_and_restart().await;
    let get = v1::GetExecutionRequest { execution_id: waiting };
    let ended = server.executions().await.get_execution(get).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(ended.state(), v1::ExecutionState::Cancelled);
    assert_eq!(ended.result.unwrap().exit_reason(), v1::ExitReason::ServerShutdown);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server =
        Setup::new().config("[server]\ndrain_timeout = \"1h\"").tool("cat", &guests::cat(), "").start().await;
    server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") }).await;
    server.signal(Signal::TERM);
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while server.get("/health/ready").await.0 != 503 {
        assert!(Instant::now() < deadline);
    }
    server.signal(Signal::TERM);
    let status = wait_for("the end", || server.process.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(143));
}

#[tokio::test]
async fn an_address_that_is_about_to_be_free_is_waited_for() {
    let setup = Setup::new();
    std::fs::write(setup.path().join("casemate.toml"), "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = serve_command_at(setup.path(), &address).spawn().unwrap();
    let log = || std::fs::read_to_string(setup.path().join("log")).unwrap_or_default();
    wait_for("the server to wait", || log().contains("waiting a moment").then_some(())).await;
    drop(taken);
    wait_for("the ready file", || setup.path().join("ready.json").exists().then_some(())).await;
    server.kill().unwrap();
    server.wait().unwrap();
    // Somebody who stays is named.
    let _taken = std::net::TcpListener::bind(&address).unwrap();
    let mut server = serve_command_at(setup.path(), &address).spawn().unwrap();
    let status = wait_for("the refusal", || server.try_wait().unwrap()).await;
    assert!(!status.success() && log().contains(&format!("cannot listen on {address} (server.address)")), "{}", log());
}
