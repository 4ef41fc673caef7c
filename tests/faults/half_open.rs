//! A shutdown while things run and while clients do not answer: what runs is waited for, clients are not.

use crate::guests;
use crate::harness::{Bearer, Server, Setup, TOKEN, call, text};
use casemate::proto::v1;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tonic::transport::Endpoint;

/// The server's end at most: its grace for connections, and a bit for the machine.
const SOON: Duration = Duration::from_secs(6);

/// A connection to the server that stops moving bytes on command, with both ends left open: what a client
/// looks like whose machine lost its power.
async fn freezing(server: &Server) -> (tonic::transport::Channel, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.grpc.parse().unwrap();
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Little room, so that the server soon has bytes that nobody takes.
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let mut upstream = socket.connect(target).await.unwrap();
        let mut until = frozen.clone();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
            _ = until.wait_for(|frozen| *frozen) => {}
        }
        // Holds both sockets until the test ends.
        let mut until = frozen;
        while until.changed().await.is_ok() {}
    });
    (Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap(), freeze)
}

fn tools(channel: tonic::transport::Channel) -> crate::harness::Tools {
    v1::tools_client::ToolsClient::with_interceptor(channel, Bearer(TOKEN))
}

async fn started(stream: &mut tonic::Streaming<v1::ExecuteToolStreamResponse>) -> String {
    match stream.message().await.unwrap().unwrap().event.unwrap().event {
        Some(v1::execution_event::Event::Started(started)) => started.execution_id,
        other => panic!("expected the start, got {other:?}"),
    }
}

async fn get(server: &Server, id: &str) -> v1::Execution {
    let get = v1::GetExecutionRequest { execution_id: id.into() };
    server.executions().await.get_execution(get).await.unwrap().into_inner().execution.unwrap()
}

#[tokio::test]
async fn runs_of_clients_that_went_silent_end_well_and_the_shutdown_does_not_wait_for_the_clients() {
    let mut server = Setup::new()
        .config("[server]\ndrain_timeout = \"20s\"")
        .tool("cat", &guests::cat(), "")
        .tool("flood", &guests::flood(400), "")
        .start()
        .await;
    // One client that has its answer and reads no more, with a stream that floods it.
    let (channel, freeze_flooded) = freezing(&server).await;
    let mut flooded = tools(channel);
    assert_eq!(
        text(
            &flooded.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await.unwrap().into_inner()
        ),
        "{}"
    );
    let request = v1::ExecuteToolStreamRequest { call: Some(call("flood", "{}")), keepalive_seconds: 0 };
    let mut stream = flooded.execute_tool_stream(request).await.unwrap().into_inner();
    let flood = started(&mut stream).await;
    freeze_flooded.send_replace(true);
    // One whose run waits for input that a third client will bring.
    let (channel, freeze_owner) = freezing(&server).await;
    let open = v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") };
    let request = v1::ExecuteToolStreamRequest { call: Some(open), keepalive_seconds: 1 };
    let mut owner = tools(channel).execute_tool_stream(request).await.unwrap().into_inner();
    let waiting = started(&mut owner).await;
    freeze_owner.send_replace(true);
    let mut executions = server.executions().await;
    executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();

    let began = Instant::now();
    server.signal(Signal::TERM);
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while server.get("/health/ready").await.0 != 503 {
        assert!(Instant::now() < deadline);
    }
    assert!(server.process.try_wait().unwrap().is_none(), "a run is left, and the drain is not over");
    let write = v1::WriteStdinRequest { execution_id: waiting.clone(), offset: 0, data: "bye".into(), eof: true };
    executions.write_stdin(write).await.unwrap();
    assert!(server.ended().await.success());
    assert!(began.elapsed() < SOON, "{:?}: it waited for clients that are gone", began.elapsed());

    let server = server.kill_and_restart().await;
    for id in [&flood, &waiting] {
        assert_eq!(get(&server, id).await.state(), v1::ExecutionState::Succeeded);
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn connections_that_stop_at_any_point_of_a_request_do_not_hold_up_the_end() {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_HEADERS: u8 = 4;
    let mut server =
        Setup::new().config("[server]\ndrain_timeout = \"300ms\"").tool("spin", &guests::spin(), "").start().await;
    // Literal fields without indexing, in the order HPACK wants: a name, then a value, each with its length.
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/casemate.v1.Tools/ExecuteTool"),
        (":authority", "casemate"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &format!("Bearer {TOKEN}")),
    ] {
        fields.push(0);
        fields.push(name.len() as u8);
        fields.extend(name.bytes());
        fields.push(value.len() as u8);
        fields.extend(value.bytes());
    }
    let whole: Vec<u8> = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &fields),
        // The first half of a message of 100 bytes.
        frame(0, 0, 1, &[&[0, 0, 0, 0, 100][..], &[0; 50]].concat()),
    ]
    .concat();
    let (preface, settings) = (24, 24 + 9);
    let stops = [0, 1, preface / 2, preface, preface + 4, settings, settings + 5, settings + 40, whole.len() - 20];
    let mut silent = Vec::new();
    for stop in stops.into_iter().chain([whole.len()]) {
        let mut socket = TcpStream::connect(&server.grpc).await.unwrap();
        socket.write_all(&whole[..stop]).await.unwrap();
        if stop >= settings {
            // The server has read this far: it has answered with its settings.
            let mut first = [0; 9];
            socket.read_exact(&mut first).await.unwrap();
            assert_eq!(first[3], SETTINGS);
        }
        silent.push(socket);
    }
    // One that sent its last and hung up half: it reads, and will never write.
    let mut half = TcpStream::connect(&server.grpc).await.unwrap();
    half.write_all(&whole).await.unwrap();
    half.shutdown().await.unwrap();
    // And one of the sidecar.
    let mut sidecar = TcpStream::connect(&server.http).await.unwrap();
    sidecar.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\nGET /met").await.unwrap();
    let spinning = server.start_run(call("spin", "{}")).await;

    let began = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop((silent, half, sidecar));
    let server = server.kill_and_restart().await;
    let ended = get(&server, &spinning).await;
    assert_eq!(ended.result.unwrap().exit_reason(), v1::ExitReason::ServerShutdown);
}
