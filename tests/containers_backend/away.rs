//! Daemons that are not there, or not any more.

use crate::kit::{eventually, on_docker};
use casemate::container::backend::{Backend, BackendError, Standing};
use casemate::container::docker::{Address, Docker, DockerConfig, Tls};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

fn docker(address: Address) -> Docker {
    Docker::connect(DockerConfig { address, timeout: Duration::from_secs(2), ..DockerConfig::default() }).unwrap()
}

async fn unavailable(docker: &Docker) -> String {
    match docker.facts().await {
        Err(BackendError::Unavailable(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_an_error_of_the_call_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let missing = docker(Address::Socket(path.clone()));
    let problem = unavailable(&missing).await;
    assert!(problem.contains(&path.display().to_string()) && problem.contains("start the Docker daemon"), "{problem}");

    // The socket is there, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let problem = unavailable(&missing).await;
    assert!(problem.contains("start the Docker daemon"), "{problem}");

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = docker(Address::Tcp { host: "127.0.0.1".into(), port });
    let problem = unavailable(&closed).await;
    assert!(problem.contains(&format!("tcp://127.0.0.1:{port}")), "{problem}");
}

#[tokio::test]
async fn a_daemon_that_says_nothing_costs_a_call_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let began = Instant::now();
    let problem = unavailable(&docker(Address::Socket(path))).await;
    assert!(problem.contains("no answer in time"), "{problem}");
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_daemon_that_is_no_docker_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(async move {
        for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    });
    let docker = docker(Address::Socket(path));
    for _ in 0..3 {
        docker.facts().await.unwrap_err();
    }
    serving.await.unwrap();
}

#[test]
fn certificates_are_read_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").unwrap();
    for (address, tls) in [
        (Address::Tcp { host: "box.example".into(), port: 2376 }, Tls { ca: ca.clone(), own: None }),
        (Address::Socket("/x".into()), Tls { ca, own: None }),
    ] {
        let config = DockerConfig { address, tls: Some(tls), ..DockerConfig::default() };
        assert!(matches!(Docker::connect(config), Err(BackendError::Refused(_))));
    }
}

/// Stands in front of the daemon, and takes all its connections along when it goes, as a daemon does.
struct Relay {
    path: PathBuf,
    serving: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    fn begin(path: &Path) -> Relay {
        let listener = UnixListener::bind(path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serving = tokio::spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                relays.spawn(async move {
                    let mut far = UnixStream::connect(casemate::container::docker::DEFAULT_SOCKET).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Relay { path: path.to_owned(), serving, connections }
    }

    async fn end(self) {
        self.serving.abort();
        self.serving.await.unwrap_err();
        std::fs::remove_file(self.path).unwrap();
    }
}

#[test]
fn a_daemon_that_is_started_again_is_waited_for() {
    on_docker(|corner| async move {
        if std::env::var_os("DOCKER_HOST").is_some() {
            eprintln!("SKIPPED: the daemon is not at its usual socket");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let relay = Relay::begin(&path);
        let relayed = docker(Address::Socket(path.clone()));
        let id = corner.idle().await;
        assert!(matches!(relayed.look(&id).await.unwrap(), Standing::Running { .. }));
        let before = relay.connections.load(Ordering::SeqCst);
        let waiting = tokio::spawn({
            let (relayed, id) = (relayed.clone(), id.clone());
            async move { relayed.ended(&id).await }
        });
        eventually(|| async { (relay.connections.load(Ordering::SeqCst) > before).then_some(()) }).await;
        relay.end().await;
        assert!(matches!(relayed.look(&id).await, Err(BackendError::Unavailable(_))));

        let relay = Relay::begin(&path);
        // It asks again, and waits again.
        eventually(|| async { (relay.connections.load(Ordering::SeqCst) > 0).then_some(()) }).await;
        assert!(matches!(relayed.look(&id).await.unwrap(), Standing::Running { .. }));
        assert!(!waiting.is_finished());
        relay.end().await;
        corner.docker.kill(&id).await.unwrap();
        let relay = Relay::begin(&path);
        assert_eq!(waiting.await.unwrap().unwrap().code, 137);
        relay.end().await;
    });
}
