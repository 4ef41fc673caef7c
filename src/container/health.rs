//! Health checks: what a container's own specification says of when it is well.

use super::entry::Entry;
use super::link::{Channel, Link};
use super::ports::Connection;
use super::process::{self, Feed};
use super::processes::{bytes, outside_limits, pairs, subject};
use crate::domain::container::ContainerState;
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::health_check::{HealthCheck, Probe, Verdict};
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use crate::execution::Live;
use casemate_guest::protocol::{Request, Spec, User};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Bytes of what a check says, at most.
const MESSAGE: usize = 4 << 10;
/// Bytes of what its command says that are kept.
const OUTPUT: u64 = 16 << 10;
/// Time between two looks at a container that is not running at present.
const STILL: Duration = Duration::from_millis(500);
/// Time between two checks of one that was never well.
const EAGER: Duration = Duration::from_millis(250);

/// Checks a container again and again, as long as it is there.
pub(super) async fn watch(entry: Arc<Entry>, check: HealthCheck) {
    let ends = entry.until(|state| state == ContainerState::Stopping || state.is_over());
    tokio::select! {
        () = ends => {}
        () = go_on_checking(&entry, &check) => {}
    }
}

async fn go_on_checking(entry: &Entry, check: &HealthCheck) {
    // When the next check is due. Whoever waits for a first good word is not to wait for that, so there are others
    // before it.
    let mut due = Instant::now() + check.interval;
    loop {
        if entry.state() != ContainerState::Running {
            sleep(STILL).await;
            continue;
        }
        let found = match entry.link() {
            // It may be connecting again; that it does not answer at all is noticed elsewhere.
            Some(link) => match timeout(check.timeout, probe(entry, &link, check)).await {
                Ok(found) => found,
                Err(_) => Err(format!("it took longer than {}", humantime::format_duration(check.timeout))),
            },
            None => Err("it has no supervisor through which it could be checked".to_owned()),
        };
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(MESSAGE));
            text
        };
        // What ran into its end says nothing of its health.
        let never = || entry.health().is_none_or(|health| health.verdict.is_none());
        if entry.state() == ContainerState::Running {
            let now = Timestamp::now();
            let age = now.since(entry.status().started.unwrap_or(now));
            let early = never() && (age < check.start_period || Instant::now() < due);
            entry.check(|health| health.note(check, found.map(cut).map_err(cut), early, now));
        }
        if Instant::now() >= due {
            due = Instant::now() + check.interval;
        }
        sleep(if never() { check.interval.min(EAGER) } else { check.interval }).await;
    }
}

/// Tries once. Either way with what is to be said of it.
async fn probe(entry: &Entry, link: &Link, check: &HealthCheck) -> Result<String, String> {
    match &check.probe {
        Probe::Command(command) => run(entry, link, command, check.timeout).await,
        Probe::Port(port) => connect(link, *port).await.map(|_| format!("port {port} accepts connections")),
        Probe::Http(port, path) => ask(connect(link, *port).await?, *port, path).await,
    }
}

async fn connect(link: &Link, port: u16) -> Result<Connection, String> {
    let conversation = link.open(Request::Connect { port }).map_err(|_| "it cannot be reached now".to_owned())?;
    Connection::begun(conversation).await.map_err(|_| format!("nothing listens at port {port}"))
}

/// Runs a command that is nobody's execution.
async fn run(entry: &Entry, link: &Link, command: &[String], time: Duration) -> Result<String, String> {
    let limits = Limits { wall_time: time, output_bytes: OUTPUT, ..outside_limits() };
    let live = Live::unseen(subject(entry.origin.id, command.to_vec(), false), limits);
    let spec = Spec {
        command: bytes(command),
        environment: pairs(&entry.environment()),
        directory: entry.origin.spec.working_directory.clone().into_bytes(),
        user: User::Guest,
        terminal: None,
        keep_stdin_open: false,
        wall_time_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    let channel = Channel::step(live.clone(), spec);
    // However this ends, its guest need not remember it, and ends what is left of it.
    let _released = Released { link: link.clone(), channel: channel.clone() };
    link.start(channel.clone()).map_err(|error| format!("it cannot be run: {error}"))?;
    let ended = process::drive(live.clone(), channel, link.clone(), Feed::Nothing).await;
    let said = [OutputStream::Stdout, OutputStream::Stderr].map(|stream| live.journal().collect(stream).0).concat();
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    match ended.exit {
        Exit::Exited { code: 0 } => Ok(said),
        Exit::Exited { code } if said.is_empty() => Err(format!("its command ended with code {code}")),
        Exit::Exited { code } => Err(format!("its command ended with code {code}: {said}")),
        _ => Err(format!("its command did not end well: {}", ended.message)),
    }
}

struct Released {
    link: Link,
    channel: Arc<Channel>,
}

impl Drop for Released {
    fn drop(&mut self) {
        self.link.release(self.channel.id());
    }
}

async fn ask(connection: Connection, port: u16, path: &str) -> Result<String, String> {
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let asking = async {
        let failed = |error: hyper::Error| format!("port {port} does not answer as a web server: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.map_err(failed)?;
        let request = hyper::Request::get(path)
            .header("host", format!("127.0.0.1:{port}"))
            .header("user-agent", "casemate")
            .header("connection", "close")
            .body(String::new())
            .map_err(|error| format!("the path cannot be asked for: {error}"))?;
        let mut answered = std::pin::pin!(sender.send_request(request));
        let answer = tokio::select! {
            answer = &mut answered => answer,
            // Its last act may have been the answer.
            _ = connection => answered.await,
        };
        let answer = answer.map_err(failed)?;
        let said = format!("{path} answered {}", answer.status());
        if (200..400).contains(&answer.status().as_u16()) { Ok(said) } else { Err(said) }
    };
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        asked = &mut asking => asked,
        // What it said before it hung up is still to be read.
        () = connection.relay(theirs) => asking.await,
    }
}

impl Entry {
    /// Waits for the first verdict on its health. None if it ends before, or if nobody checks.
    pub(super) async fn verdict(self: &Arc<Self>) -> Option<Verdict> {
        self.origin.health_check.as_ref()?;
        let ended = self.until(|state| state == ContainerState::Stopping || state.is_over());
        let known = async {
            loop {
                let told = self.told_health();
                if let Some(verdict) = self.health().and_then(|health| health.verdict) {
                    return verdict;
                }
                told.await;
            }
        };
        tokio::select! {
            verdict = known => Some(verdict),
            () = ended => None,
        }
    }
}
