//! What goes wrong while a tool runs inside a container.

use super::{exit, left, within};
use crate::harness::{result, text};
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::json;
use std::time::Duration;
use v1::ExitReason;

fn limited(call: v1::ToolCall, millis: u64) -> v1::ToolCall {
    let wall_time = Some(Duration::from_millis(millis).try_into().unwrap());
    v1::ToolCall { limits: Some(v1::ExecutionLimits { wall_time, ..Default::default() }), ..call }
}

#[tokio::test]
async fn a_run_that_is_too_long_is_ended_with_all_it_started() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let command = "echo begun; echo x > x; setsid sleep 4321 & sleep 4321";
    let ran = house.server().run(limited(within(&id, "shell", json!({"command": command})), 500)).await.unwrap();
    assert_eq!((exit(&ran).0, text(&ran).as_str()), (ExitReason::TimedOut, "begun\n"));
    assert_eq!(left(&ran), [("x", true)], "what it left is told all the same");
    assert_eq!(house.says(&id, "ps | grep -c '[s]leep 4321'").await, "0\n");
}

#[tokio::test]
async fn a_cancelled_run_is_over_and_leaves_nothing_of_its_own() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.python().await;
    let call = within(&id, "python", json!({"code": "print('on', flush=True)\nimport time\ntime.sleep(1000)"}));
    let execution = house.server().start_run(call).await;
    house.until(&execution, "on").await;
    let request = v1::CancelExecutionRequest { execution_id: execution.clone(), ..Default::default() };
    house.server().executions().await.cancel_execution(request).await.unwrap();
    assert_eq!(house.follow(&execution, 0).await.reason(), ExitReason::Cancelled);
    let ran = house.tool(&id, "python", json!({"code": "import os; print(os.listdir('.'), os.listdir('.casemate'))"}));
    let ran = ran.await.unwrap();
    let own = format!("['.casemate'] ['{}']\n", ran.execution.as_ref().unwrap().id);
    assert_eq!(text(&ran), own, "its own directory alone");
}

#[tokio::test]
async fn a_container_that_goes_takes_its_runs_with_it() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let execution = house.server().start_run(within(&id, "shell", json!({"command": "echo on; sleep 1000"}))).await;
    house.until(&execution, "on").await;
    house.kill(&id).await;
    let ran = house.follow(&execution, 0).await;
    assert!(matches!(ran.reason(), ExitReason::ContainerStopped | ExitReason::Signaled), "{ran:?}");
}

#[tokio::test]
async fn a_run_that_a_killed_server_left_is_lost_and_ended() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let id = house.idle().await.id;
    let call = v1::ToolCall {
        request_id: "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c78".into(),
        ..within(&id, "shell", json!({"command": "echo on; sleep 5432"}))
    };
    let execution = house.server().start_run(call).await;
    house.until(&execution, "on").await;
    house.kill_and_restart().await;
    assert_eq!(house.execution(&execution).await.state(), v1::ExecutionState::Lost);
    // Whoever knows of a process no more has it ended.
    let script = "n=0; while ps | grep -q '[s]leep 5432'; do n=$((n+1)); [ $n -lt 3000 ] || exit 1; usleep 10000; done";
    assert_eq!(house.run(&id, script).await.code(), 0);
}

#[tokio::test]
async fn files_that_are_links_huge_or_odd_are_told_of_and_not_followed() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let command = "ln -s /etc/passwd link; ln -s / root; mkfifo pipe; truncate -s 100000000 huge; echo x > small";
    let call = v1::ToolCall {
        return_files: vec!["**".into()],
        limits: Some(v1::ExecutionLimits { scratch_bytes: 1 << 20, ..Default::default() }),
        ..within(&id, "shell", json!({"command": command}))
    };
    let ran = house.server().run(call).await.unwrap();
    let files = &result(&ran).files;
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["huge", "link", "pipe", "root", "small"]);
    assert_eq!((files[1].link_target.as_str(), files[3].link_target.as_str()), ("/etc/passwd", "/"));
    let kept: Vec<&str> = files.iter().filter(|file| file.kept).map(|file| file.path.as_str()).collect();
    assert_eq!(kept, ["small"]);
    assert!(files[0].problem.contains("scratch_bytes") && !files[2].problem.is_empty(), "{files:?}");
}

#[tokio::test]
async fn a_full_workspace_is_told_before_anything_runs() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let workspace = v1::Workspace { size_bytes: 1 << 20, ..Default::default() };
    let spec = v1::ContainerSpec { workspace: Some(workspace), ..crate::kit::sh("sleep 100000") };
    let id = house.spawn(spec).await.unwrap().id;
    let big = v1::InputFile { path: "big".into(), data: vec![1; 2 << 20].into(), mode: None };
    let call = v1::ToolCall { files: vec![big], ..within(&id, "shell", json!({"command": "echo ran"})) };
    let refused = house.server().run(call).await.unwrap_err();
    assert!(refused.message().contains("/workspace/big"), "{refused}");
    let ran = house.sh(&id, "ls; cat /dev/zero > full; echo $?").await;
    assert_eq!(text(&ran), "1\n");
    let refused = house.tool(&id, "files", json!({"operation": "write", "path": "x", "content": "x"})).await.unwrap();
    assert_eq!(exit(&refused).1, 1, "{refused:?}");
}

#[tokio::test]
async fn programs_that_lie_about_themselves_spoil_their_own_result_alone() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.python().await;
    let code = "import os, sys\nown = [d for d in os.listdir('.casemate')][0]\n\
                with open('.casemate/' + own + '/report', 'w') as f:\n\
\x20   f.write('nonsense\\n{\"m\":\"rich\",\"kind\":\"value\",\"forms\":[]}\\n' + 'x' * 40_000_000)\n\
                print('done')";
    let ran = house.tool(&id, "python", json!({"code": code})).await.unwrap();
    assert_eq!((text(&ran).as_str(), ran.value.is_none()), ("done\n", true));
}
