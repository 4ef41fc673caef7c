//! Disks that are full.

use crate::guests;
use crate::harness::{PATIENCE, Server, Setup, call, reason, text};
use crate::mounted::Disk;
use casemate::proto::v1;
use std::time::Instant;
use tonic::Code;

fn with_id(parameters: &str, request_id: &str) -> v1::ToolCall {
    v1::ToolCall { request_id: request_id.into(), ..call("cat", parameters) }
}

fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[tokio::test]
async fn a_full_disk_under_the_store_refuses_promises_and_goes_on_when_there_is_room() {
    let setup = Setup::new().tool("cat", &guests::cat(), "");
    let Some(disk) = Disk::mount(&setup.path().join("data"), "6m") else { return };
    let server = setup.start().await;
    let id = fresh();
    let before = server.run(with_id(r#"{"n": 1}"#, &id)).await.unwrap();
    disk.fill();

    // What needs the disk before it is told is refused, with what to do; nothing was promised. The log that is
    // there may still have room for one or the other.
    let big = format!("{{\"x\": \"{}\"}}", "y".repeat(256 << 10));
    let mut promised = Vec::new();
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "{} promised, {refused} refused, and health is silent", promised.len());
        let id = fresh();
        match server.run(with_id(&big, &id)).await {
            Ok(answer) => {
                promised.push((id, answer));
                continue;
            }
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
                assert!(status.message().contains("free space"), "{}", status.message());
                refused += 1;
            }
        }
        // Health tells of the last commit; a small one in between may have found room.
        let (_, body) = server.get("/health").await;
        if body.contains("store") && body.contains("free space") {
            break;
        }
    }
    // What promises nothing works, and is found while the server lives.
    let plain = server.run(call("cat", r#"{"n": 2}"#)).await.unwrap();
    assert_eq!(text(&plain), r#"{"n": 2}"#);
    let get = v1::GetExecutionRequest { execution_id: plain.execution.as_ref().unwrap().id.clone() };
    server.executions().await.get_execution(get.clone()).await.unwrap();

    disk.free();
    let later = fresh();
    let after = server.run(with_id(r#"{"n": 3}"#, &later)).await.unwrap();
    assert_eq!(server.run(with_id(r#"{"n": 1}"#, &id)).await.unwrap(), before);
    // What ended while the disk was full is written now.
    server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    let server = server.kill_and_restart().await;
    assert_eq!(server.run(with_id(r#"{"n": 1}"#, &id)).await.unwrap(), before);
    assert_eq!(server.run(with_id(r#"{"n": 3}"#, &later)).await.unwrap(), after);
    for (id, answer) in promised {
        assert_eq!(server.run(with_id(&big, &id)).await.unwrap(), answer);
    }
    server.executions().await.get_execution(get).await.unwrap();
    let (status, _) = server.get("/health").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_full_disk_under_the_cache_costs_a_compilation_and_nothing_else() {
    let setup = Setup::new().tool("cat", &guests::cat(), "");
    let started = setup.start().await;
    let folder = started.kill();
    let cache = folder.path().join("data/modules");
    let Some(disk) = Disk::mount(&cache, "64k") else { return };
    disk.fill();
    let server = Server::start(folder).await;
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
    let register =
        v1::RegisterToolRequest { name: "say".into(), module: guests::say("hi").into(), ..Default::default() };
    server.tools().await.register_tool(register).await.unwrap();
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "hi");
    let left: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["ballast"], "half an entry was left over");
    drop(server);
}

#[tokio::test]
async fn a_full_disk_under_the_tools_keeps_the_version_that_serves() {
    let setup = Setup::new();
    let Some(disk) = Disk::mount(&setup.path().join("tools"), "256k") else { return };
    let server = setup.tool("say", &guests::say("old"), "").start().await;
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "old");
    disk.fill();
    let register = || v1::RegisterToolRequest {
        name: "say".into(),
        module: guests::say(&"new".repeat(3000)).into(),
        ..Default::default()
    };
    let refused = server.tools().await.register_tool(register()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TOOLS_READ_ONLY"));
    assert!(refused.message().contains("space"), "{}", refused.message());
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "old");
    let mut left: Vec<_> = std::fs::read_dir(server.tools_directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["ballast", "say.wasm"], "half a file was left over");

    disk.free();
    server.tools().await.register_tool(register()).await.unwrap();
    let new = "new".repeat(3000);
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), new);
    drop(server);
}
