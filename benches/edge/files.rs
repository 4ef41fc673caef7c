//! Files and ports of a container, beside the raw API's archives: a small file, a large one, a connection.
//!
//! Needs what the section `containers` needs.

use super::Plan;
use super::containers::{IMAGE, backend, kill, raw_spawn, spawn_with};
use super::load;
use super::report::Report;
use super::server::{self, Process, authorized};
use bytes::Bytes;
use casemate::container::backend::Backend;
use casemate::container::docker::Docker;
use casemate::proto::v1;
use casemate::proto::v1::containers_client::ContainersClient;
use http_body::Body;
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use v1::forward_port_request::Message as Ask;
use v1::forward_port_response::Message as Told;
use v1::read_file_response::Part as ReadPart;
use v1::write_file_request::Part as WritePart;

/// A small file.
const SMALL: usize = 4 << 10;
/// A large one, and what a connection carries.
const LARGE: u64 = 1 << 30;
const PIECE: usize = 256 << 10;
/// Round trips that are timed.
const TRIPS: usize = 2000;

/// Listens for connections that are echoed, and for some that are flooded.
const LISTEN: &str = "nc -ll -p 7000 -e cat & nc -ll -p 7001 -e dd if=/dev/zero bs=64k count=16384 & sleep 1000000";

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("Files and ports of containers");
    let Some((docker, image)) = backend().await else { return };
    let settings = [
        ("CASEMATE_CONTAINERS__IMAGES", IMAGE),
        ("CASEMATE_CONTAINERS__ON_SHUTDOWN", "stop"),
        ("CASEMATE_CONTAINERS__MAX_WORKSPACE", "2GiB"),
        ("CASEMATE_CONTAINERS__CAP__MEMORY", "4GiB"),
    ];
    let server = Process::start_with(server::echo_only(), &settings).await;
    let channel = server.connect().await;
    let spec = v1::ContainerSpec {
        resources: Some(v1::ContainerResources { memory_bytes: 3 << 30, ..Default::default() }),
        workspace: Some(v1::Workspace { size_bytes: 2 << 30, ..Default::default() }),
        ..Default::default()
    };
    let home = spawn_with(&channel, LISTEN, spec).await;
    small(&channel, &home.id, plan, report).await;
    raw(&docker, &image.id, plan, report).await;
    let before = server.memory();
    large(&channel, &home.id, report).await;
    report.value(
        "file_server_memory",
        "  growth of the server's memory by that",
        server.memory().saturating_sub(before) as f64 / f64::from(1 << 20),
        "MiB",
    );
    port(&channel, &home.id, report).await;
    let _ = kill(&channel, &home.id).await;
}

fn header(container: &str, path: &str) -> v1::WriteFileRequest {
    let header = v1::WriteFileHeader { container_id: container.into(), path: path.into(), ..Default::default() };
    v1::WriteFileRequest { part: Some(WritePart::Header(header)) }
}

fn chunk(data: Bytes) -> v1::WriteFileRequest {
    v1::WriteFileRequest { part: Some(WritePart::Chunk(data)) }
}

async fn write(channel: Channel, container: Arc<str>, data: Bytes) {
    let parts = tokio_stream::iter([header(&container, "small"), chunk(data)]);
    ContainersClient::new(channel).write_file(authorized(parts)).await.expect("a write");
}

async fn read(channel: Channel, container: Arc<str>, path: &str) -> u64 {
    let request =
        v1::ReadFileRequest { container_id: container.to_string(), path: path.to_owned(), ..Default::default() };
    let mut client = ContainersClient::new(channel);
    let mut stream = client.read_file(authorized(request)).await.expect("a read").into_inner();
    let mut bytes = 0;
    while let Some(message) = stream.message().await.expect("a part") {
        if let Some(ReadPart::Chunk(data)) = message.part {
            bytes += data.len() as u64;
        }
    }
    bytes
}

async fn small(channel: &Channel, id: &str, plan: Plan, report: &mut Report) {
    let (data, id): (Bytes, Arc<str>) = (vec![7; SMALL].into(), id.into());
    let (to, at, what) = (channel.clone(), id.clone(), data.clone());
    let figures = load::run(1, plan.time, move || write(to.clone(), at.clone(), what.clone())).await;
    report.figures("file_write", "a file of 4 KiB written", &figures);
    let (from, at) = (channel.clone(), id.clone());
    let once = move || {
        let (from, at) = (from.clone(), at.clone());
        async move {
            assert_eq!(read(from, at, "small").await, SMALL as u64);
        }
    };
    let figures = load::run(1, plan.time, once).await;
    report.figures("file_read", "a file of 4 KiB read", &figures);
}

/// The same by the raw API: an archive of one file.
async fn raw(docker: &Docker, image: &str, plan: Plan, report: &mut Report) {
    let sandbox: Arc<str> = raw_spawn(docker, image, true).await.into();
    let mut archive = vec![0u8; 512];
    archive[..5].copy_from_slice(b"small");
    archive[100..107].copy_from_slice(b"0000644");
    archive[124..135].copy_from_slice(format!("{SMALL:011o}").as_bytes());
    archive[136..147].copy_from_slice(b"00000000000");
    archive[148..156].copy_from_slice(b"        ");
    archive[156] = b'0';
    let sum: u32 = archive.iter().map(|byte| u32::from(*byte)).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.resize(512 + SMALL + 1024, 0);
    let archive: Bytes = archive.into();
    let (at, path) = (sandbox.clone(), "/");
    let put = move || {
        let (at, archive) = (at.clone(), archive.clone());
        async move {
            ask("PUT", &format!("/containers/{at}/archive?path={path}"), archive).await;
        }
    };
    report.figures("docker_archive_put", "  by Docker's archives, in", &load::run(1, plan.time, put).await);
    let at = sandbox.clone();
    let get = move || {
        let at = at.clone();
        async move {
            let got = ask("GET", &format!("/containers/{at}/archive?path=/small"), Bytes::new()).await;
            assert!(got > SMALL);
        }
    };
    report.figures("docker_archive_get", "  by Docker's archives, out", &load::run(1, plan.time, get).await);
    docker.remove(&sandbox).await.expect("a removal");
}

/// One call of the raw API; the bytes of its answer.
async fn ask(method: &str, path: &str, body: Bytes) -> usize {
    let stream = UnixStream::connect("/var/run/docker.sock").await.expect("a daemon");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "docker");
    let request =
        request.header("content-type", "application/x-tar").body(bollard::body_full(body)).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let (mut body, mut bytes) = (answer.into_body(), 0);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes += frame.expect("a frame").data_ref().map_or(0, Bytes::len);
    }
    bytes
}

async fn large(channel: &Channel, id: &str, report: &mut Report) {
    let data: Bytes = vec![7; PIECE].into();
    let (send, parts) = mpsc::channel(4);
    let first = header(id, "large");
    let began = Instant::now();
    let feed = tokio::spawn(async move {
        send.send(first).await.expect("a stream");
        for _ in 0..LARGE / PIECE as u64 {
            send.send(chunk(data.clone())).await.expect("a stream");
        }
    });
    let mut client = ContainersClient::new(channel.clone());
    let written = client.write_file(authorized(ReceiverStream::new(parts))).await.expect("a write").into_inner();
    feed.await.expect("a feed");
    assert_eq!(written.written_bytes, LARGE);
    report.value("file_upload_rate", "a file of 1 GiB written", rate(LARGE, began), "MB/s");
    let began = Instant::now();
    assert_eq!(read(channel.clone(), id.into(), "large").await, LARGE);
    report.value("file_download_rate", "a file of 1 GiB read", rate(LARGE, began), "MB/s");
}

fn rate(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / began.elapsed().as_secs_f64() / 1e6
}

struct Forward {
    ask: mpsc::Sender<v1::ForwardPortRequest>,
    told: Streaming<v1::ForwardPortResponse>,
}

impl Forward {
    async fn open(channel: &Channel, id: &str) -> Forward {
        let (ask, asked) = mpsc::channel(64);
        let start = v1::ForwardStart { container_id: id.into(), ..Default::default() };
        ask.send(v1::ForwardPortRequest { message: Some(Ask::Start(start)) }).await.expect("a stream");
        let mut client = ContainersClient::new(channel.clone());
        let told = client.forward_port(authorized(ReceiverStream::new(asked))).await.expect("a stream").into_inner();
        Forward { ask, told }
    }

    async fn say(&self, message: Ask) {
        self.ask.send(v1::ForwardPortRequest { message: Some(message) }).await.expect("a stream");
    }

    /// Connects, again until somebody listens.
    async fn connect(&mut self, mut id: u64, port: u32) -> u64 {
        loop {
            self.say(Ask::Connect(v1::ForwardConnect { connection_id: id, port })).await;
            loop {
                match self.told.message().await.expect("a message").expect("more").message {
                    Some(Told::Connected(connected)) if connected.connection_id == id => return id,
                    Some(Told::Reset(reset)) if reset.connection_id == id => break,
                    _ => {}
                }
            }
            id += 1;
        }
    }

    async fn data(&mut self) -> Option<Bytes> {
        loop {
            match self.told.message().await.expect("a message").expect("more").message {
                Some(Told::Data(data)) => return Some(data.data),
                Some(Told::End(_) | Told::Reset(_)) => return None,
                _ => {}
            }
        }
    }
}

async fn port(channel: &Channel, id: &str, report: &mut Report) {
    let mut forward = Forward::open(channel, id).await;
    let echo = forward.connect(1, 7000).await;
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let began = Instant::now();
        let data = v1::ForwardData { connection_id: echo, data: Bytes::from_static(b"x") };
        forward.say(Ask::Data(data)).await;
        forward.data().await.expect("an echo");
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let (there, here) = (middle(times), bare_echo().await);
    report.value("forward_trip", "a round trip through a forwarded port", there, "us");
    report.value("forward_trip_added", "  more than to an echo on this machine", there - here, "us");
    let flood = forward.connect(echo + 1, 7001).await;
    let (began, mut bytes, mut taken) = (Instant::now(), 0, 0);
    while let Some(data) = forward.data().await {
        bytes += data.len() as u64;
        taken += data.len() as u32;
        if taken >= 256 << 10 {
            forward.say(Ask::Window(v1::ForwardWindow { connection_id: flood, bytes: taken })).await;
            taken = 0;
        }
    }
    assert_eq!(bytes, 16384 * 65536);
    report.value("forward_rate", "out of a forwarded port", rate(bytes, began), "MB/s");
}

/// A round trip to an echo without anything in between.
async fn bare_echo() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            if stream.write_all(&byte).await.is_err() {
                return;
            }
        }
    });
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let began = Instant::now();
        stream.write_all(b"x").await.expect("a write");
        stream.read_exact(&mut [0]).await.expect("a read");
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    middle(times)
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
