//! Daemons that are not there, or not any more.

use casemate::container::backend::{Backend, BackendError};
use casemate::container::docker::{Address, Docker, DockerConfig, Tls};
use std::time::{Duration, Instant};

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
