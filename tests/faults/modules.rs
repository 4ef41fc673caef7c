//! Modules that are no modules, and modules that are bombs; clients that vanish.

use crate::guests;
use crate::harness::{Server, Setup, call, reason, text, write_tool};
use casemate::proto::v1;
use std::time::{Duration, Instant};
use tonic::Code;

fn leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn section(id: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    leb(content.len(), out);
    out.extend_from_slice(content);
}

/// Valid, small on the wire for what it is, and far more work to compile than a second allows.
fn bomb() -> Vec<u8> {
    const FUNCTIONS: usize = 650;
    const DEPTH: usize = 300;
    const TABLES: usize = 60;
    let mut body = vec![0];
    (0..DEPTH).for_each(|_| body.extend([0x02, 0x40]));
    for _ in 0..TABLES {
        // local.get 0 is not there: the index is a constant, the table has a target for each block.
        body.extend([0x02, 0x40, 0x41, 0x07, 0x0e]);
        leb(DEPTH, &mut body);
        (0..=DEPTH).for_each(|target| leb(target, &mut body));
        body.push(0x0b);
    }
    (0..DEPTH).for_each(|_| body.push(0x0b));
    body.push(0x0b);
    let mut code = Vec::new();
    leb(FUNCTIONS, &mut code);
    for _ in 0..FUNCTIONS {
        leb(body.len(), &mut code);
        code.extend_from_slice(&body);
    }
    let mut functions = Vec::new();
    leb(FUNCTIONS, &mut functions);
    functions.resize(functions.len() + FUNCTIONS, 0);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 0, 0], &mut module);
    section(3, &functions, &mut module);
    section(5, &[1, 0, 1], &mut module);
    section(7, b"\x02\x06_start\x00\x00\x06memory\x02\x00", &mut module);
    section(10, &code, &mut module);
    module
}

fn register(name: &str, module: Vec<u8>) -> v1::RegisterToolRequest {
    v1::RegisterToolRequest { name: name.into(), module: module.into(), ..Default::default() }
}

#[tokio::test]
async fn modules_that_cannot_be_used_are_refused_by_upload_and_by_directory() {
    let bomb = bomb();
    let whole = guests::cat();
    let faulty: [(&str, &[u8]); 4] =
        [("garbage", b"not wasm at all"), ("cut", &whole[..whole.len() / 2]), ("empty", b""), ("bomb", &bomb)];
    let mut setup =
        Setup::new().config("[engine]\ncompile_timeout = \"1s\"\ncompile_memory = \"512MiB\"").tool("good", &whole, "");
    for (name, module) in faulty {
        setup = setup.tool(name, module, "");
    }
    let began = Instant::now();
    let server = setup.start().await;
    eprintln!("{} KiB of bomb; ready after {:?}", bomb.len() >> 10, began.elapsed());
    let mut tools = server.tools().await;
    for (name, module) in faulty {
        let get = v1::GetToolRequest { name: name.into() };
        let tool = tools.get_tool(get).await.unwrap().into_inner().tool.unwrap();
        assert_eq!(tool.state(), v1::ToolState::Broken, "{name}");
        assert!(!tool.problem.is_empty());
        let status = server.run(call(name, "{}")).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TOOL_BROKEN"), "{name}");

        let began = Instant::now();
        let status = tools.register_tool(register(&format!("up-{name}"), module.to_vec())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{name} took {:?}", began.elapsed());
        if name == "bomb" {
            assert!(status.message().contains("compile"), "{}", status.message());
        }
        let mut left: Vec<String> = std::fs::read_dir(server.tools_directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["bomb.wasm", "cut.wasm", "empty.wasm", "garbage.wasm", "good.wasm"]);
        // Others are served as if nothing had been sent.
        assert_eq!(text(&server.run(call("good", "{}")).await.unwrap()), "{}");
    }
    let unfinished = std::fs::read_dir(server.path().join("data/modules"))
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".tmp"));
    assert!(!unfinished);
    // A file that is mended serves.
    write_tool(&server.tools_directory(), "bomb", &guests::say("defused"), "");
    tools.reload_tools(v1::ReloadToolsRequest::default()).await.unwrap();
    assert_eq!(text(&server.run(call("bomb", "{}")).await.unwrap()), "defused");
}

#[tokio::test]
async fn parameters_beyond_the_message_limit_are_refused_by_name_and_the_connection_goes_on() {
    let server = Setup::new().config("[server]\nmax_message = \"10MiB\"").tool("cat", &guests::cat(), "").start().await;
    let mut tools = server.tools().await;
    let huge = format!("{{\"x\": \"{}\"}}", "y".repeat(16 << 20));
    let request = |parameters: &str| v1::ExecuteToolRequest { call: Some(call("cat", parameters)) };
    let status = tools.execute_tool(request(&huge)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert!(status.message().contains("server.max_message"), "{}", status.message());
    let status = tools.register_tool(register("big", vec![0; 16 << 20])).await.unwrap_err();
    assert_eq!(reason(&status), "MESSAGE_TOO_LARGE");
    assert!(status.message().contains("UploadTool"), "{}", status.message());
    assert_eq!(text(&tools.execute_tool(request("{}")).await.unwrap().into_inner()), "{}");
    let listed = server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().executions.len(), 1, "what was refused left nothing");
}

#[tokio::test]
async fn a_connection_that_is_reset_detaches_and_any_sequence_brings_the_same_bytes() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = open_through_a_relay_and_reset(&server).await;
    // The run goes on without its caller.
    let mut executions = server.executions().await;
    let mut offset = 0;
    for number in 0..20 {
        let data = format!("line {number}\n");
        let write =
            v1::WriteStdinRequest { execution_id: id.clone(), offset, data: data.clone().into(), eof: number == 19 };
        offset = executions.write_stdin(write).await.unwrap().into_inner().offset;
        if number % 3 == 0 {
            // Somebody reads: what was said so far becomes an event of its own.
            wait_for_output(&server, &id, &data).await;
        }
    }
    let whole = events(&server, &id, 0).await;
    assert!(whole.len() >= 8, "{}", whole.len());
    for from in 1..=whole.len() {
        assert_eq!(events(&server, &id, from as u64).await, whole[from - 1..], "from {from}");
    }
}

/// Starts a run over a connection that is reset once the run has begun.
async fn open_through_a_relay_and_reset(server: &Server) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.grpc.clone();
    let (reset, wanted) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut upstream = tokio::net::TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
            _ = wanted => {}
        }
        // Closing with a linger of zero sends RST, not FIN.
        upstream.set_zero_linger().unwrap();
        drop(upstream);
    });
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let bearer = crate::harness::Bearer(crate::harness::TOKEN);
    let mut tools = v1::tools_client::ToolsClient::with_interceptor(channel, bearer);
    let open = v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") };
    let request = v1::ExecuteToolStreamRequest { call: Some(open), keepalive_seconds: 0 };
    let mut stream = tools.execute_tool_stream(request).await.unwrap().into_inner();
    let started = stream.message().await.unwrap().unwrap().event.unwrap();
    let Some(v1::execution_event::Event::Started(started)) = started.event else { panic!("{started:?}") };
    reset.send(()).unwrap();
    relay.await.unwrap();
    while let Ok(Some(_)) = stream.message().await {}
    started.execution_id
}

async fn wait_for_output(server: &Server, id: &str, wanted: &str) {
    let watch = v1::WatchExecutionRequest { execution_id: id.into(), ..Default::default() };
    let mut events = server.executions().await.watch_execution(watch).await.unwrap().into_inner();
    let mut said = String::new();
    while !said.contains(wanted) {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        if let Some(v1::execution_event::Event::Stdout(chunk)) = event.event {
            said.push_str(std::str::from_utf8(&chunk.data).unwrap());
        }
    }
}

async fn events(server: &Server, id: &str, from: u64) -> Vec<v1::ExecutionEvent> {
    let watch = v1::WatchExecutionRequest { execution_id: id.into(), from_sequence: from, ..Default::default() };
    let mut stream = server.executions().await.watch_execution(watch).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.push(message.event.unwrap());
    }
    events
}
