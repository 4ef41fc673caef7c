//! Tools in containers of pools: leased for one run, and never seen again.

use crate::harness::{call, result, text, wait_for};
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::json;
use v1::tool_target::Target;

fn pooled(pool: &str, command: &str) -> v1::ToolCall {
    let target = Some(v1::ToolTarget { target: Some(Target::Pool(pool.into())), expected_turn: None });
    v1::ToolCall { target, ..call("shell", &json!({"command": command}).to_string()) }
}

#[tokio::test]
async fn each_run_has_a_container_of_its_own_and_its_files_come_back() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.filled("tools", 2).await;
    for _ in 0..4 {
        let ran = house.server().run(pooled("tools", "ls -A; cat /etc/hostname; echo made > made.txt")).await.unwrap();
        let name = text(&ran);
        assert_eq!(name.lines().count(), 1, "nothing of another run is there: {name}");
        let [file] = &ran.files[..] else { panic!("{:?}", result(&ran).files) };
        assert_eq!((file.path.as_str(), &file.data[..]), ("made.txt", b"made\n".as_slice()));
        let Some(v1::execution::Subject::Tool(subject)) = ran.execution.unwrap().subject else { panic!("a tool ran") };
        assert_eq!(subject.target, "pool \"tools\"");
    }
    let stats = house.figures("tools").await;
    assert_eq!((stats.total_leases, stats.total_expired_leases), (4, 0));
    // What they could run is seen in one of them.
    let target = Some(v1::ToolTarget { target: Some(Target::Pool("tools".into())), expected_turn: None });
    let request = v1::GetToolSchemasRequest { target, ..Default::default() };
    let schemas = house.server().tools().await.get_tool_schemas(request).await.unwrap().into_inner().schemas;
    let told = format!("{schemas:?}");
    assert!(schemas.len() == 3 && told.contains("shell") && !told.contains("notebook"), "{told}");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_run_and_gives_its_container_back() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.filled("left", 1).await;
    let call = v1::ExecuteToolRequest { call: Some(pooled("left", "echo on; sleep 1000")) };
    let mut tools = house.server().tools().await;
    let running = tokio::spawn(async move { tools.execute_tool(call).await });
    let mut executions = house.server().executions().await;
    let run = loop {
        let request = v1::ListExecutionsRequest { page_size: 10, ..Default::default() };
        let listed = executions.list_executions(request).await.unwrap().into_inner().executions;
        let tool = |one: &v1::Execution| matches!(one.subject, Some(v1::execution::Subject::Tool(_)));
        if let Some(run) = listed.into_iter().find(tool) {
            break run.id;
        }
        assert!(!running.is_finished());
    };
    house.until(&run, "on").await;
    running.abort();
    assert_eq!(house.follow(&run, 0).await.reason(), v1::ExitReason::Cancelled);
    while house.figures("left").await.leased > 0 {
        tokio::task::yield_now().await;
    }
    wait_for("the sandbox to go", || (house.sandboxes().len() <= 1).then_some(())).await;
}
