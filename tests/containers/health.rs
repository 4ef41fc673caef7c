//! Health checks: by a command, a port and a request; and what pools make of them.

use crate::harness::PATIENCE;
use crate::kit::{House, PYTHON, ask, docker, image, sh};
use casemate::proto::v1;
use std::time::{Duration, Instant};
use tonic::Code;
use v1::ContainerHealthState::{Healthy, Unhealthy, Unspecified};
use v1::container_health_check::Probe;

fn span(time: Duration) -> Option<prost_types::Duration> {
    Some(time.try_into().unwrap())
}

/// As often as may be, and unhealthy after two failures.
fn often(probe: Probe) -> Option<v1::ContainerHealthCheck> {
    Some(v1::ContainerHealthCheck {
        probe: Some(probe),
        interval: span(Duration::from_secs(1)),
        timeout: span(Duration::from_millis(900)),
        failure_threshold: 2,
        start_period: span(Duration::ZERO),
    })
}

fn command(script: &str) -> Probe {
    Probe::Command(v1::HealthCommand { command: ["sh", "-c", script].map(str::to_owned).into() })
}

impl House {
    async fn until_found(&self, id: &str, state: v1::ContainerHealthState) -> v1::ContainerHealth {
        self.until_told(id, state, "").await
    }

    /// Waits until checks found this, and say so.
    async fn until_told(&self, id: &str, state: v1::ContainerHealthState, says: &str) -> v1::ContainerHealth {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.get(id).await.health.unwrap_or_default();
            if health.state() == state && health.message.contains(says) {
                return health;
            }
            assert!(Instant::now() < deadline, "it never was {state:?} with {says:?}: {health:?}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_command_says_whether_a_container_is_well() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let check = often(command("test -e well && echo all is well || { echo not well >&2; exit 3; }"));
    let spec = v1::ContainerSpec { health_check: check.clone(), ..sh("touch well; sleep 1000") };
    let container = house.spawn(spec).await.unwrap();
    assert_eq!(container.spec.unwrap().health_check, check);
    let health = house.until_found(&container.id, Healthy).await;
    assert_eq!((health.message.as_str(), health.failures), ("all is well", 0));
    let active = house.get(&container.id).await.last_active_time;
    house.run(&container.id, "rm well").await;
    let health = house.until_found(&container.id, Unhealthy).await;
    assert!(health.message.contains("code 3: not well") && health.failures >= 2, "{health:?}");
    house.run(&container.id, "touch well").await;
    house.until_found(&container.id, Healthy).await;
    // A check is nobody's execution, and no sign of life.
    let executions = v1::ListExecutionsRequest::default();
    let listed = house.server().executions().await.list_executions(executions).await.unwrap().into_inner().executions;
    assert_eq!(listed.len(), 3, "the main process and two commands: {listed:?}");
    let quiet = house.get(&container.id).await.last_active_time;
    assert_ne!(quiet, active, "the commands are signs of life");
    let checked = house.get(&container.id).await.health.unwrap().check_time;
    let deadline = Instant::now() + PATIENCE;
    while house.get(&container.id).await.health.unwrap().check_time == checked {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(house.get(&container.id).await.last_active_time, quiet);
    // It goes on with the next server, which knows nothing yet.
    house.kill_and_restart().await;
    house.until_found(&container.id, Healthy).await;
    // A check that hangs is cut off, with all that it started.
    let hangs = v1::ContainerSpec { health_check: often(command("sleep 4321")), ..sh("sleep 1000") };
    let container = house.spawn(hangs).await.unwrap();
    let health = house.until_found(&container.id, Unhealthy).await;
    assert!(health.message.contains("longer than 900ms"), "{health:?}");
    let left = house.run(&container.id, "ps | grep -c '[s]leep 4321'").await.text();
    assert!(left == "0\n" || left == "1\n", "at most the one that runs: {left}");
}

#[tokio::test]
async fn ports_and_requests_say_so_as_well() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let serve = "import http.server, sys, time\n\
        class Own(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200 if self.path == '/up?q=1' else 503); self.end_headers()\n\
        print('up', flush=True)\n\
        http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Own).serve_forever()";
    let spawn = async |probe| {
        let spec = image(PYTHON, &["/usr/bin/python3", "-c", serve]);
        house.spawn(v1::ContainerSpec { health_check: often(probe), ..spec }).await.unwrap().id
    };
    let http = |path: &str| Probe::Http(v1::HealthHttp { port: 8000, path: path.into() });
    let (up, down) = (spawn(http("/up?q=1")).await, spawn(http("/down")).await);
    let (open, closed) = (spawn(Probe::TcpPort(8000)).await, spawn(Probe::TcpPort(8001)).await);
    house.until_told(&up, Healthy, "200").await;
    house.until_told(&down, Unhealthy, "503").await;
    house.until_told(&open, Healthy, "8000").await;
    house.until_told(&closed, Unhealthy, "8001").await;
    // What speaks something else is not well, whatever it says.
    let noise = "while :; do yes | nc -l -p 8000; done";
    let spec = v1::ContainerSpec { health_check: often(http("/")), ..sh(noise) };
    let noisy = house.spawn(spec).await.unwrap().id;
    house.until_found(&noisy, Unhealthy).await;
    // Failures before its start is over do not count.
    let mut young = often(Probe::TcpPort(1)).unwrap();
    young.start_period = span(Duration::from_secs(3600));
    let young = house.spawn(v1::ContainerSpec { health_check: Some(young), ..sh("sleep 1000") }).await.unwrap().id;
    let deadline = Instant::now() + PATIENCE;
    let health = loop {
        match house.get(&young).await.health {
            Some(health) => break health,
            None => assert!(Instant::now() < deadline),
        }
    };
    assert_eq!((health.state(), health.failures), (Unspecified, 0));
    let wrong = v1::ContainerSpec { health_check: Some(Default::default()), ..sh("sleep 1000") };
    let status = house.spawn(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("spec.health_check"), "{status:?}");
}

#[tokio::test]
async fn pools_lend_what_is_well_and_replace_what_is_not() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let well = v1::ContainerSpec { health_check: often(command("test ! -e /workspace/ill")), ..sh("sleep 1000") };
    house.filled_with("well", well, 1).await;
    // What nobody uses falls ill: somebody from outside sees to that.
    let [sandbox] = &house.sandboxes()[..] else { panic!("one container") };
    ask(&["exec", sandbox, "touch", "/workspace/ill"]);
    let deadline = Instant::now() + PATIENCE;
    while house.figures("well").await.total_unhealthy == 0 || house.figures("well").await.idle == 0 {
        assert!(Instant::now() < deadline);
    }
    assert!(!house.sandboxes().contains(sandbox), "{sandbox} was replaced");
    // A later server lends it once it has found it well.
    house.kill_and_restart().await;
    let deadline = Instant::now() + PATIENCE;
    while house.figures("well").await.idle == 0 {
        assert!(Instant::now() < deadline);
    }
    // What never gets well is never lent, and the pool says why.
    let never = v1::ContainerSpec { health_check: often(command("echo feverish; false")), ..sh("sleep 1000") };
    let refused = house.lease_of("never", never).await.unwrap_err();
    assert!(refused.message().contains("feverish"), "{refused:?}");
    assert!(house.figures("never").await.total_unhealthy > 0);
}
