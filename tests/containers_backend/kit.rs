//! What the tests share.

use casemate::container::backend::{Backend, BackendResult, Blueprint};
use casemate::container::{
    backend::ExecRequest,
    docker::{Address, Docker, DockerConfig},
};
use casemate::domain::container::Resources;
use casemate::domain::event::OutputStream;
use casemate::domain::id::ContainerId;
use casemate::domain::image::ImageReference;
use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;

/// A test's own corner of the daemon: what it makes there is gone when it is over.
#[derive(Clone)]
pub struct Corner {
    pub docker: Docker,
    pub installation: String,
}

/// Runs a test against the daemon, and removes what it left, whatever became of it.
pub fn on_docker<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Corner) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let address = match std::env::var("DOCKER_HOST") {
            Ok(host) => Address::parse(&host).unwrap(),
            Err(_) => DockerConfig::default().address,
        };
        let docker = Docker::connect(DockerConfig { address, ..DockerConfig::default() }).unwrap();
        if let Err(error) = docker.facts().await {
            assert!(std::env::var_os("CASEMATE_TEST_DOCKER").is_none(), "{error}");
            eprintln!("SKIPPED, NOTHING IS TESTED: {error}");
            return;
        }
        let corner = Corner { docker, installation: format!("test-{}", ContainerId::new()) };
        let result = tokio::spawn(test(corner.clone())).await;
        for found in corner.docker.find(&corner.installation).await.unwrap() {
            corner.docker.remove(&found.id).await.unwrap();
        }
        if let Err(error) = result {
            std::panic::resume_unwind(error.into_panic());
        }
    });
}

pub fn reference(text: &str) -> ImageReference {
    ImageReference::parse(text).unwrap()
}

impl Corner {
    /// The strictest sandbox with a command in busybox.
    pub async fn blueprint(&self, command: &str) -> Blueprint {
        self.blueprint_of("casemate-test/busybox:1", &["/bin/sh", "-c", command]).await
    }

    pub async fn blueprint_of(&self, image: &str, command: &[&str]) -> Blueprint {
        let image = self.docker.image(&reference(image)).await.unwrap();
        Blueprint {
            container: ContainerId::new(),
            installation: self.installation.clone(),
            image_id: image.expect("run scripts/test-images.sh").id,
            init: command.iter().map(|part| (*part).to_owned()).collect(),
            environment: vec!["PATH=/bin:/usr/bin".into()],
            user: "1000:1000".into(),
            groups: Vec::new(),
            working_directory: "/".into(),
            hostname: "box".into(),
            resources: Resources {
                memory_bytes: 64 << 20,
                swap_bytes: 0,
                cpu_millis: 1000,
                cpu_weight: 100,
                pids: 64,
                open_files: 256,
                disk_bytes: 0,
                shared_memory_bytes: 4 << 20,
                log_bytes: 1 << 20,
                executions: 8,
            },
            binds: Vec::new(),
            tmpfs: Vec::new(),
            network: false,
            writable_root: false,
            capabilities: Vec::new(),
            seccomp: None,
            apparmor: String::new(),
            runtime: String::new(),
        }
    }

    /// Makes and starts it.
    pub async fn run(&self, blueprint: &Blueprint) -> BackendResult<String> {
        let id = self.docker.create(blueprint).await?;
        self.docker.start(&id).await?;
        Ok(id)
    }

    /// A sandbox that idles.
    pub async fn idle(&self) -> String {
        self.run(&self.blueprint("exec sleep 600").await).await.unwrap()
    }

    /// Runs a command in a sandbox: its exit code, its output and its error output.
    pub async fn sh(&self, id: &str, command: &str) -> (i32, String, String) {
        let command = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        self.exec(id, ExecRequest { command, ..ExecRequest::default() }).await
    }

    pub async fn exec(&self, id: &str, request: ExecRequest) -> (i32, String, String) {
        let mut stream = self.docker.exec(id, &request).await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(piece) = stream.output.next().await {
            match piece.unwrap() {
                (OutputStream::Stdout, data) => out.extend_from_slice(&data),
                (OutputStream::Stderr, data) => err.extend_from_slice(&data),
            }
        }
        let code = eventually(|| async { self.docker.exec_exit(&stream.id).await.unwrap() }).await;
        (code, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
    }

    /// What Docker's own client says of a sandbox.
    pub fn inspect(&self, id: &str) -> serde_json::Value {
        let said = Command::new("docker").args(["inspect", id]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap()[0].take()
    }
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
