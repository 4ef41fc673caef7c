//! SIGKILL at random moments, under load, over one data directory.

use crate::guests;
use crate::harness::{Server, Setup, call, serve_command, text, wait_for};
use casemate::proto::v1;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tonic::Code;

const KILLS: u32 = 30;
const CALLERS: u64 = 8;

/// What callers were told.
#[derive(Default)]
struct Told {
    /// By request id: the execution and its output.
    acknowledged: BTreeMap<String, (String, String)>,
    /// Sent, and never answered.
    doubtful: Vec<String>,
}

fn numbered(request_id: &str) -> v1::ToolCall {
    let parameters = format!("{{\"id\": \"{request_id}\"}}");
    v1::ToolCall { request_id: request_id.into(), ..call("cat", &parameters) }
}

/// Calls until the server is gone.
async fn load(server: &Server, told: Arc<Mutex<Told>>) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (mut tools, told) = (server.tools().await, told.clone());
        tasks.spawn(async move {
            loop {
                // One caller in four keeps the server busy with runs nobody needs to remember, or uploads.
                let answer = match caller % 8 {
                    0 => {
                        let request = v1::ExecuteToolRequest { call: Some(call("spin", "{}")) };
                        tools.execute_tool(request).await.map(drop)
                    }
                    1 => {
                        let register = v1::RegisterToolRequest {
                            name: format!("up{caller}"),
                            module: guests::say(&uuid::Uuid::now_v7().to_string()).into(),
                            ..Default::default()
                        };
                        tools.register_tool(register).await.map(drop)
                    }
                    _ => {
                        let id = uuid::Uuid::now_v7().to_string();
                        let request = v1::ExecuteToolRequest { call: Some(numbered(&id)) };
                        match tools.execute_tool(request).await {
                            Ok(answer) => {
                                let answer = answer.into_inner();
                                let output = text(&answer);
                                let execution = answer.execution.unwrap().id;
                                told.lock().await.acknowledged.insert(id, (execution, output));
                                Ok(())
                            }
                            Err(status) => {
                                told.lock().await.doubtful.push(id);
                                Err(status)
                            }
                        }
                    }
                };
                if answer.is_err_and(|status| status.code() != Code::ResourceExhausted) {
                    return;
                }
            }
        });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let seed = uuid::Uuid::now_v7().as_u64_pair().1;
    let mut random = Random(seed);
    eprintln!("seed {seed}");
    let mut server = Setup::new()
        .config("[limits.default]\nwall_time = \"20ms\"\n[retention]\nmemory = \"64KiB\"")
        .tool("cat", &guests::cat(), "")
        .tool("spin", &guests::spin(), "")
        .start()
        .await;
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..KILLS {
        let tasks = load(&server, told.clone()).await;
        // The moment is what is random: there is no condition to wait for.
        tokio::time::sleep(Duration::from_micros(random.below(120_000))).await;
        let folder = server.kill();
        tasks.join_all().await;
        if round % 3 == 0 {
            // A start that is cut off as well.
            let mut starting = serve_command(folder.path()).spawn().unwrap();
            tokio::time::sleep(Duration::from_micros(random.below(40_000))).await;
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
        server = Server::start(folder).await;
        nothing_is_left_over(server.path());
    }

    let told = Arc::into_inner(told).unwrap().into_inner();
    eprintln!("{} acknowledged, {} in doubt", told.acknowledged.len(), told.doubtful.len());
    assert!(told.acknowledged.len() > 100 && !told.doubtful.is_empty(), "the load was none");
    for (id, (execution, output)) in &told.acknowledged {
        let again = server.run(numbered(id)).await.unwrap();
        assert_eq!((&again.execution.as_ref().unwrap().id, &text(&again)), (execution, output));
    }
    let mut lost = 0;
    for id in &told.doubtful {
        // It ran, was cut off, or never began and begins now; and whatever it was, that is what it stays.
        let first = server.run(numbered(id)).await.unwrap();
        match first.execution.as_ref().unwrap().state() {
            v1::ExecutionState::Succeeded => assert!(text(&first).contains(id)),
            v1::ExecutionState::Lost => lost += 1,
            other => panic!("{id} is {other:?}"),
        }
        assert_eq!(server.run(numbered(id)).await.unwrap(), first);
    }
    let listed = all(&server).await;
    let mut ran: BTreeMap<&str, u32> = BTreeMap::new();
    for execution in &listed {
        assert!(execution.end_time.is_some(), "{execution:?} neither runs nor has ended");
        if !execution.request_id.is_empty() {
            *ran.entry(&execution.request_id).or_default() += 1;
        }
    }
    assert!(ran.values().all(|&times| times == 1));
    assert_eq!(ran.len(), told.acknowledged.len() + told.doubtful.len());
    eprintln!("{lost} of those in doubt were cut off and read LOST; {} executions in all", listed.len());
}

/// What a server leaves for a moment when it is killed while it starts a compiler: the lock, with that child.
#[tokio::test]
async fn a_lock_that_is_about_to_be_given_back_is_waited_for_and_one_that_is_not_is_named() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let folder = server.kill();
    let lock = std::fs::File::open(folder.path().join("data/casemate.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::fs::remove_file(folder.path().join("ready.json")).unwrap();
    let mut refused = serve_command(folder.path()).spawn().unwrap();
    let status = wait_for("the refusal", || refused.try_wait().unwrap()).await;
    assert!(!status.success());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("is in use by another casemate"), "{log}");

    let mut waits = serve_command(folder.path()).spawn().unwrap();
    let files = format!("/proc/{}/fd", waits.id());
    wait_for("the lock to be looked at", || {
        let mut open = std::fs::read_dir(&files).ok()?.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        open.any(|file| file.ends_with("data/casemate.lock")).then_some(())
    })
    .await;
    drop(lock);
    wait_for("the server", || folder.path().join("ready.json").exists().then_some(())).await;
    waits.kill().unwrap();
    waits.wait().unwrap();
}

/// SplitMix64: a seed that a failure prints brings the same moments back.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A server that is ready has cleared away what its predecessor left half done.
fn nothing_is_left_over(folder: &std::path::Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let half = name.ends_with(".tmp") || name.contains("-tmp-") || name.ends_with(".new");
            assert!(!half, "{} was left over", path.display());
        }
    }
}

async fn all(server: &Server) -> Vec<v1::Execution> {
    let mut executions = server.executions().await;
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListExecutionsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = executions.list_executions(request).await.unwrap().into_inner();
        listed.extend(page.executions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
    }
}
