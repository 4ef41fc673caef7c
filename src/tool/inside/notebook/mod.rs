//! The tool `notebook`: sessions over Jupyter kernels that live in containers.
//!
//! A kernel is a process of its container, and goes on whether or not there is a server: its execution has the id of
//! its session, and its connection file lies in the workspace, so that a later server finds both again.

mod kernel;
mod shown;
mod specs;

use super::programs::Programs;
use super::{Ground, Inside, left};
use crate::container::ports::Cut;
use crate::container::{Service, Viewer, Workplace};
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::id::{ExecutionId, RequestId};
use crate::domain::session::{Home, HomeWish};
use crate::error::{Error, Result};
use crate::execution::Live;
use crate::jupyter::{Client, Signer, Streams};
use crate::session::kernel::{BoxFuture, Developed, Frozen, Kernel, KernelSpec, Kernels, Thaw};
use bytes::Bytes;
use kernel::NotebookKernel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use specs::{Interrupt, KernelSpecification};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::time::timeout;
use uuid::Uuid;

/// The name of the tool that runs in sessions over kernels.
pub const NAME: &str = "notebook";
/// How long a kernel may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long one that is found again may go on with what it is at, before it is interrupted.
const QUIET: Duration = Duration::from_secs(2);
/// Time between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(15);
/// Bytes between a kernel and its client that wait for the other side.
const BUFFER: usize = 256 << 10;
/// Ports that kernels listen at, in containers whose own network they are in: below those that clients get.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Longer than its session a kernel and its container last.
const SLACK: Duration = Duration::from_secs(60);

/// Makes kernels in containers and pools.
pub struct NotebookKernels {
    inside: Arc<Inside>,
}

/// Jupyter's connection file.
#[derive(Debug, Serialize, Deserialize)]
struct ConnectionFile {
    transport: String,
    ip: String,
    key: String,
    signature_scheme: String,
    shell_port: u16,
    iopub_port: u16,
    stdin_port: u16,
    control_port: u16,
    hb_port: u16,
    kernel_name: String,
}

/// What a session takes at its start.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    kernel: Option<String>,
}

/// The names of the kernels that a container has.
pub(super) async fn kernels(ground: &Ground, programs: &Programs) -> Result<Vec<String>> {
    Ok(specs::all(ground, programs).await?.into_keys().collect())
}

impl NotebookKernels {
    /// Kernels in the containers and pools that these tools run in.
    pub fn new(inside: Arc<Inside>) -> Arc<NotebookKernels> {
        Arc::new(NotebookKernels { inside })
    }

    /// The container of a session: for one of a pool, the one that was leased for it.
    async fn ground(&self, spec: &KernelSpec) -> Result<Ground> {
        let viewer = Viewer { name: spec.principal.clone(), administers: false };
        match &spec.home {
            Some(Home::Container(id)) => self.inside.ground(&id.to_string(), &viewer, None).await,
            Some(Home::Pool(name)) => {
                // A lease of the session's own id is found again by whoever asks for it again.
                let request = RequestId::from_bytes(*spec.session.as_bytes());
                let fingerprint = Sha256::digest(format!("a session in pool {name}")).into();
                let life = spec.limits.time_to_live + SLACK;
                self.inside.lease(name, &viewer, life, Some((request, fingerprint))).await
            }
            None => Err(Error::invalid("target", "is required: a container or a pool in which the kernel is to live")),
        }
    }

    async fn begin(&self, spec: KernelSpec) -> Result<Box<dyn Kernel>> {
        let ground = self.ground(&spec).await?;
        let programs = self.inside.known.of(&ground.containers, &ground.viewer, &ground.place).await?;
        let asked: Parameters = serde_json::from_str(&spec.parameters)
            .map_err(|error| Error::invalid("parameters", format!("are not as expected: {error}")))?;
        Workplace::check_environment("environment", &spec.environment)?;
        let specification = specs::choose(specs::all(&ground, &programs).await?, asked.kernel.as_deref())?;
        let file = connection_file(&specification)?;
        let directory = format!("{}/{}", ground.place.directory(), own(&spec));
        let path = format!("{directory}/{FILE}");
        ground
            .put(
                &format!("{}/{FILE}", own(&spec)),
                Bytes::from(serde_json::to_vec_pretty(&file).unwrap_or_default()),
                0o600,
            )
            .await?;
        let command = specification.argv.iter().map(|part| part.replace("{connection_file}", &path)).collect();
        let mut environment = BTreeMap::from([(PROFILE.to_owned(), format!("{directory}/ipython"))]);
        environment.extend(specification.env.clone());
        environment.retain(|name, _| !name.contains(['=', '\0']));
        environment.extend(spec.environment.clone());
        let service = Service {
            id: ExecutionId::from_bytes(*spec.session.as_bytes()),
            command,
            environment,
            life: spec.limits.time_to_live + SLACK,
            principal: spec.principal.clone(),
            labels: BTreeMap::from([("casemate/session".to_owned(), spec.session.to_string())]),
        };
        let live = ground.containers.serve(&ground.place, service).await?;
        // From here on there is something to put away, should this fail or be left.
        let mut starting = Starting(Some((ground, live)));
        let client = match &starting.0 {
            Some((ground, live)) => connect(ground, live, &file, START).await?,
            None => return Err(Error::Internal("a kernel was lost while it was started".into())),
        };
        let Some((ground, live)) = starting.0.take() else {
            return Err(Error::Internal("a kernel was lost while it was started".into()));
        };
        Ok(Box::new(NotebookKernel::new(ground, live, client, specification.interrupt_mode, own(&spec))))
    }

    async fn find(&self, spec: KernelSpec) -> std::result::Result<Box<dyn Kernel>, Thaw> {
        let id = ExecutionId::from_bytes(*spec.session.as_bytes());
        let found = self.inside.registry.find(id).await;
        let live = found.map_err(|_| Thaw::Unusable("nothing is known of it".into()))?;
        let over = |live: &Live| {
            let outcome = live.execution().outcome?;
            Some(Thaw::Unusable(format!("it ended meanwhile: {}", last_words(live, &outcome.message))))
        };
        if let Some(over) = over(&live) {
            return Err(over);
        }
        let mut ground = match self.ground(&spec).await {
            Ok(ground) => ground,
            Err(error @ (Error::BackendUnavailable { .. } | Error::ShuttingDown)) => return Err(Thaw::Failed(error)),
            Err(error) => return Err(Thaw::Unusable(format!("its container cannot be reached ({error})"))),
        };
        let found = self.attach(&spec, &ground, &live).await;
        match found {
            Ok((client, interrupt)) => Ok(Box::new(NotebookKernel::new(ground, live, client, interrupt, own(&spec)))),
            Err(error) => {
                if let Some(over) = over(&live) {
                    return Err(over);
                }
                // It may be found the next time.
                ground.keep_lease();
                Err(Thaw::Failed(error))
            }
        }
    }

    async fn attach(&self, spec: &KernelSpec, ground: &Ground, live: &Arc<Live>) -> Result<(Client, Interrupt)> {
        let text = ground.take(&format!("{}/{FILE}", own(spec)), 64 << 10).await?.unwrap_or_default();
        let file: ConnectionFile = serde_json::from_slice(&text)
            .map_err(|error| broken(format!("its connection file cannot be read any more: {error}")))?;
        let programs = self.inside.known.of(&ground.containers, &ground.viewer, &ground.place).await?;
        let mut all = specs::all(ground, &programs).await?;
        let interrupt = all.remove(&file.kernel_name).map(|one| one.interrupt_mode).unwrap_or_default();
        if let Ok(client) = connect(ground, live, &file, QUIET).await {
            return Ok((client, interrupt));
        }
        // What it is at began before the server went down, and nobody waits for it.
        ground.containers.signal(live, "SIGINT")?;
        Ok((connect(ground, live, &file, START).await?, interrupt))
    }
}

/// A kernel that is put away again unless it gets to its start.
struct Starting(Option<(Ground, Arc<Live>)>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some((_, live)) = self.0.take() {
            live.end(crate::execution::Ended::new(Exit::Cancelled, "its session was not made after all"));
        }
    }
}

/// Where a session has what is its own, below the workspace.
fn own(spec: &KernelSpec) -> String {
    format!("{}/session-{}", left::OWN, spec.session)
}

/// The connection file in that directory.
const FILE: &str = "connection.json";
/// What IPython keeps of a user, if nobody says where: here of a session.
const PROFILE: &str = "IPYTHONDIR";

fn broken(problem: String) -> Error {
    Error::ToolBroken { name: NAME.into(), problem }
}

fn connection_file(specification: &KernelSpecification) -> Result<ConnectionFile> {
    let mut random = [0; 42];
    getrandom::fill(&mut random).map_err(|error| Error::Internal(format!("there are no random numbers: {error}")))?;
    // Five that differ, wherever they begin.
    let first = u16::from_le_bytes([random[32], random[33]]) % (PORTS.end - PORTS.start - 5);
    let [shell_port, iopub_port, stdin_port, control_port, hb_port] =
        [0, 1, 2, 3, 4].map(|at| PORTS.start + first + at);
    Ok(ConnectionFile {
        transport: "tcp".into(),
        ip: "127.0.0.1".into(),
        key: hex::encode(&random[..32]),
        signature_scheme: "hmac-sha256".into(),
        shell_port,
        iopub_port,
        stdin_port,
        control_port,
        hb_port,
        kernel_name: specification.name.clone(),
    })
}

/// Connects to a kernel that begins to listen, and waits until it answers.
async fn connect(ground: &Ground, live: &Arc<Live>, file: &ConnectionFile, patience: Duration) -> Result<Client> {
    let connecting = async {
        let streams = Streams {
            shell: stream(ground, file.shell_port).await?,
            published: stream(ground, file.iopub_port).await?,
            stdin: stream(ground, file.stdin_port).await?,
            control: stream(ground, file.control_port).await?,
        };
        // Who speaks is named anew each time: the kernel may still remember the server before.
        let signer = Signer::new(&file.key, &Uuid::now_v7().to_string());
        let mut client = Client::open(streams, signer).await.map_err(broken)?;
        client.ready().await;
        Ok(client)
    };
    tokio::select! {
        connected = timeout(patience, connecting) => connected.unwrap_or_else(|_| {
            Err(broken(format!("its kernel did not answer within {}", humantime::format_duration(patience))))
        }),
        outcome = live.journal().ended() => Err(broken(format!("its kernel ended at once: {}", last_words(live, &outcome.message)))),
    }
}

/// Why a kernel ended, with what it said last.
fn last_words(live: &Live, message: &str) -> String {
    let said = live.journal().collect(OutputStream::Stderr).0;
    let said = String::from_utf8_lossy(&said);
    let line = said.trim_end().lines().last().unwrap_or_default();
    let line: String = line.chars().take(300).collect();
    match (message, line.as_str()) {
        ("", "") => "it did not say why".into(),
        (message, "") => message.to_owned(),
        ("", line) => line.to_owned(),
        (message, line) => format!("{message} ({line})"),
    }
}

async fn stream(ground: &Ground, port: u16) -> Result<DuplexStream> {
    loop {
        match ground.place.connect(port).await {
            Ok(connection) => {
                let (ours, theirs) = tokio::io::duplex(BUFFER);
                tokio::spawn(connection.relay(theirs));
                return Ok(ours);
            }
            // It does not listen yet.
            Err(Cut::Refused | Cut::Reset) => tokio::time::sleep(AGAIN).await,
            Err(Cut::TooMany) => return Err(broken("too many connections to its container are open".into())),
            Err(Cut::Ended) => return Err(broken("its container cannot be reached".into())),
        }
    }
}

impl Kernels for NotebookKernels {
    fn tool(&self) -> &str {
        NAME
    }

    fn fingerprint(&self) -> [u8; 32] {
        // Nothing of it is ever frozen.
        [0; 32]
    }

    fn home(&self, wanted: Option<HomeWish>, principal: &Arc<str>) -> Result<Option<Home>> {
        let viewer = Viewer { name: principal.clone(), administers: false };
        match wanted {
            Some(HomeWish::Container(name)) => {
                Ok(Some(Home::Container(self.inside.containers.get(&name, &viewer)?.origin.id)))
            }
            Some(HomeWish::Pool(name)) => {
                self.inside.pools.get(&name, &viewer)?;
                Ok(Some(Home::Pool(name)))
            }
            None => Err(Error::invalid("target", "is required: a container or a pool in which the kernel is to live")),
        }
    }

    fn start(&self, spec: KernelSpec) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        Box::pin(self.begin(spec))
    }

    fn resume(&self, spec: KernelSpec) -> BoxFuture<'_, std::result::Result<Box<dyn Kernel>, Thaw>> {
        Box::pin(self.find(spec))
    }

    fn thaw(&self, _: KernelSpec, _: Vec<Frozen>) -> BoxFuture<'_, std::result::Result<Box<dyn Kernel>, Thaw>> {
        Box::pin(std::future::ready(Err(Thaw::Unusable("kernels in containers are not frozen".into()))))
    }

    fn develop(&self, _: Frozen, _: &Path) -> Result<Developed> {
        Err(Error::Unimplemented { feature: "a snapshot of a session in a container" })
    }
}
