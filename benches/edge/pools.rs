//! Pools, and what runs in containers besides processes: leases, tools, cells of a notebook.
//!
//! Needs what the section `containers` needs.

use super::Plan;
use super::containers::{IMAGE, backend, spawn_with};
use super::load;
use super::report::Report;
use super::server::{self, Process, authorized};
use casemate::proto::v1;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use v1::pools_client::PoolsClient;
use v1::sessions_client::SessionsClient;
use v1::tool_target::Target;
use v1::tools_client::ToolsClient;

/// Containers that are kept ready.
const READY: u32 = 40;
/// Leases that are timed one by one.
const LEASES: usize = 100;
/// Leases that are asked for at a time, when all that is ready is taken at once.
const AT_ONCE: usize = 8;
const POOL: &str = "warm";
const PYTHON: &str = "docker.io/casemate-test/python:1";
const JUPYTER: &str = "docker.io/casemate-test/jupyter:1";

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("Pools, and tools in containers");
    if backend().await.is_none() {
        return;
    }
    let settings = [
        ("CASEMATE_CONTAINERS__IMAGES", "docker.io/casemate-test/*"),
        ("CASEMATE_CONTAINERS__ON_SHUTDOWN", "stop"),
        ("CASEMATE_CONTAINERS__MAX_CONTAINERS", "200"),
        ("CASEMATE_CONTAINERS__MAX_PER_PRINCIPAL", "200"),
    ];
    let server = Process::start_with(server::echo_only(), &settings).await;
    let channel = server.connect().await;
    leases(&channel, IMAGE, report).await;
    tools(&channel, plan, report).await;
}

async fn leases(channel: &Channel, image: &str, report: &mut Report) {
    let mut pools = PoolsClient::new(channel.clone());
    let pool = v1::Pool {
        name: POOL.into(),
        container: Some(idles(image)),
        target_size: READY,
        max_size: 4 * READY,
        ..Default::default()
    };
    let request = v1::CreatePoolRequest { pool: Some(pool), ..Default::default() };
    pools.create_pool(authorized(request)).await.expect("a pool");
    let began = Instant::now();
    full(&mut pools).await;
    let filled = f64::from(READY) / began.elapsed().as_secs_f64();
    report.value("pool_fill", "containers made ready", filled, "a second");
    // One by one, while what is taken is replaced.
    let mut times = Vec::with_capacity(LEASES);
    for _ in 0..LEASES {
        while idle(&mut pools).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = Instant::now();
        let lease = lease(channel).await;
        times.push(before.elapsed().as_secs_f64() * 1e6);
        release(channel, lease).await;
    }
    times.sort_by(f64::total_cmp);
    report.value("lease_p50", "a lease, while the pool is filled again, p50", times[LEASES / 2], "us");
    report.value("lease_p99", "  p99", times[LEASES * 99 / 100], "us");
    // All that is ready, as fast as it goes.
    full(&mut pools).await;
    let (began, mut taking) = (Instant::now(), JoinSet::new());
    for _ in 0..AT_ONCE {
        let channel = channel.clone();
        taking.spawn(async move {
            let mut leases = Vec::new();
            for _ in 0..READY as usize / AT_ONCE {
                leases.push(lease(&channel).await);
            }
            leases
        });
    }
    let leases = taking.join_all().await.concat();
    let rate = leases.len() as f64 / began.elapsed().as_secs_f64();
    report.value("lease_rate", "leases, 8 at a time, until all are taken", rate, "a second");
    for lease in leases {
        release(channel, lease).await;
    }
    let delete = v1::DeletePoolRequest { name: POOL.into(), force: true, ..Default::default() };
    pools.delete_pool(authorized(delete)).await.expect("its end");
}

fn idles(image: &str) -> v1::ContainerSpec {
    v1::ContainerSpec {
        source: Some(v1::container_spec::Source::Image(image.into())),
        command: ["sleep", "1000000"].map(str::to_owned).into(),
        ..Default::default()
    }
}

type Pools = PoolsClient<Channel>;

async fn idle(pools: &mut Pools) -> u32 {
    let request = v1::GetPoolRequest { name: POOL.into() };
    let pool = pools.get_pool(authorized(request)).await.expect("the pool").into_inner().pool.expect("it");
    pool.stats.expect("figures").idle
}

async fn full(pools: &mut Pools) {
    while idle(pools).await < READY {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lease(channel: &Channel) -> String {
    let request = v1::LeaseContainerRequest { pool: POOL.into(), ..Default::default() };
    let answer = PoolsClient::new(channel.clone()).lease_container(authorized(request)).await.expect("a lease");
    answer.into_inner().lease.expect("it").id
}

async fn release(channel: &Channel, lease_id: String) {
    let request = v1::ReleaseContainerRequest { lease_id, ..Default::default() };
    PoolsClient::new(channel.clone()).release_container(authorized(request)).await.expect("its end");
}

async fn tools(channel: &Channel, plan: Plan, report: &mut Report) {
    let home = spawn_with(channel, "sleep 1000000", v1::ContainerSpec::default()).await;
    let shell = call("shell", r#"{"command": "true"}"#, Target::ContainerId(home.id));
    report.figures("tool_shell", "the tool shell in a container: true", &again(channel, shell, plan).await);
    let python = spawn(channel, idles(PYTHON)).await;
    let python = call("python", r#"{"code": "6 * 7"}"#, Target::ContainerId(python));
    report.figures("tool_python", "the tool python in a container: 6 * 7", &again(channel, python, plan).await);
    let books = spawn(channel, idles(JUPYTER)).await;
    let request = v1::CreateSessionRequest {
        tool: "notebook".into(),
        target: Some(v1::SessionTarget { target: Some(v1::session_target::Target::ContainerId(books)) }),
        ..Default::default()
    };
    let began = Instant::now();
    let made = SessionsClient::new(channel.clone()).create_session(authorized(request)).await.expect("a session");
    report.value("notebook_start", "a kernel of Jupyter, until it answers", began.elapsed().as_secs_f64() * 1e3, "ms");
    let session = made.into_inner().session.expect("it").id;
    let cell = call("notebook", r#"{"code": "6 * 7"}"#, Target::SessionId(session));
    report.figures("notebook_cell", "a cell of a notebook: 6 * 7", &again(channel, cell, plan).await);
}

async fn spawn(channel: &Channel, spec: v1::ContainerSpec) -> String {
    let request = v1::SpawnContainerRequest { spec: Some(spec), ..Default::default() };
    let mut containers = v1::containers_client::ContainersClient::new(channel.clone());
    let answer = containers.spawn_container(authorized(request)).await.expect("a container");
    answer.into_inner().container.expect("it").id
}

fn call(tool: &str, parameters: &str, target: Target) -> Arc<v1::ToolCall> {
    Arc::new(v1::ToolCall {
        tool: tool.into(),
        input: Some(v1::tool_call::Input::ParametersJson(parameters.into())),
        target: Some(v1::ToolTarget { target: Some(target), expected_turn: None }),
        ..Default::default()
    })
}

async fn again(channel: &Channel, call: Arc<v1::ToolCall>, plan: Plan) -> load::Figures {
    let channel = channel.clone();
    let once = move || {
        let (channel, call) = (channel.clone(), call.clone());
        async move {
            let request = v1::ExecuteToolRequest { call: Some((*call).clone()) };
            let answer = ToolsClient::new(channel).execute_tool(authorized(request)).await.expect("an answer");
            let execution = answer.into_inner().execution.expect("it");
            assert_eq!(execution.result.expect("its end").exit_code, 0);
        }
    };
    load::run(1, plan.time, once).await
}
