//! `casemate forward`: ports of a container, here.

use super::failure;
use crate::cli::client::Client;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::{follow, output};
use crate::proto::v1::forward_port_request::Message as Ask;
use crate::proto::v1::forward_port_response::Message as Told;
use crate::proto::v1::{
    ForwardConnect, ForwardData, ForwardEnd, ForwardPortRequest, ForwardReset, ForwardStart, ForwardWindow,
};
use bytes::{Bytes, BytesMut};
use clap::Args;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of one message.
const PIECE: usize = 64 << 10;
/// Bytes taken before more is granted.
const GRANT: u32 = 256 << 10;

/// What to forward.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Name or id of the container
    container: String,
    /// HERE:THERE, or one number for both; HERE can be ADDRESS:PORT, and port 0 takes any. Can be repeated
    #[arg(required = true, value_name = "PORTS")]
    ports: Vec<Pair>,
}

/// A port here, and one in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    here: SocketAddr,
    there: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        let wrong = || format!("found {text:?}; expected PORT, HERE:THERE or ADDRESS:HERE:THERE");
        let (here, there) = text.rsplit_once(':').unwrap_or((text, text));
        let there = there.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let here = match here.parse::<u16>() {
            Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            Err(_) => here.parse().map_err(|_| wrong())?,
        };
        Ok(Pair { here, there })
    }
}

type Ask1 = mpsc::Sender<ForwardPortRequest>;
type Open = Arc<Mutex<HashMap<u64, Local>>>;

/// What the server's messages reach of a connection here.
struct Local {
    down: mpsc::UnboundedSender<Down>,
    /// Bytes that may be sent up.
    window: Arc<Semaphore>,
}

enum Down {
    Data(Bytes),
    End,
    Reset(String),
}

/// Listens until the stream ends, which it does with the container.
pub async fn run(client: &Client, args: ForwardArgs) -> Result<ExitCode, Failure> {
    let mut listeners = Vec::new();
    for pair in &args.ports {
        let listener = TcpListener::bind(pair.here).await.map_err(|error| {
            Failure::new(
                USAGE,
                format!("{} cannot be listened on", pair.here),
                error.to_string(),
                "choose another port",
            )
        })?;
        listeners.push((listener, pair.there));
    }
    let (ask, asked) = mpsc::channel(64);
    let start = ForwardStart { container_id: args.container.clone(), ..Default::default() };
    let _ = ask.send(request(Ask::Start(start))).await;
    let told = client.containers().forward_port(ReceiverStream::new(asked)).await;
    let what = || format!("ports of container {:?} cannot be forwarded", args.container);
    let mut told = told.map_err(|status| failure(client, what(), &status))?.into_inner();
    let open: Open = Arc::default();
    let mut listeners = Some(listeners);
    loop {
        let message = told.message().await.map_err(|status| failure(client, what(), &status))?;
        let Some(message) = message else { return Ok(ExitCode::SUCCESS) };
        match message.message {
            Some(Told::Ready(ready)) => {
                let window = ready.initial_window_bytes;
                for (listener, there) in listeners.take().unwrap_or_default() {
                    let here = listener.local_addr().map_err(|error| Failure::local("a port here is gone", error))?;
                    output::line(&format!("{here} -> {}:{there}", args.container))?;
                    tokio::spawn(accept(listener, there, ask.clone(), open.clone(), window));
                }
            }
            Some(Told::Data(data)) => pass(&open, data.connection_id, Down::Data(data.data)),
            Some(Told::End(end)) => pass(&open, end.connection_id, Down::End),
            Some(Told::Reset(reset)) => {
                pass(&open, reset.connection_id, Down::Reset(reset.message));
                open.lock().remove(&reset.connection_id);
            }
            Some(Told::Window(more)) => {
                if let Some(local) = open.lock().get(&more.connection_id) {
                    local.window.add_permits(more.bytes as usize);
                }
            }
            Some(Told::Connected(_) | Told::Keepalive(_)) | None => {}
        }
    }
}

fn pass(open: &Open, id: u64, down: Down) {
    if let Some(local) = open.lock().get(&id) {
        let _ = local.down.send(down);
    }
}

fn request(message: Ask) -> ForwardPortRequest {
    ForwardPortRequest { message: Some(message) }
}

/// Takes connections on one port. Their numbers grow over all ports.
async fn accept(listener: TcpListener, there: u16, ask: Ask1, open: Open, window: u32) {
    static NEXT: tokio::sync::Mutex<u64> = tokio::sync::Mutex::const_new(1);
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        // Held until it is asked for: the server wants them in order.
        let mut next = NEXT.lock().await;
        let id = *next;
        *next += 1;
        let (down, downs) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(window as usize));
        open.lock().insert(id, Local { down, window: room.clone() });
        let connect = ForwardConnect { connection_id: id, port: there.into() };
        if ask.send(request(Ask::Connect(connect))).await.is_err() {
            return;
        }
        drop(next);
        tokio::spawn(carry(id, stream, ask.clone(), downs, room, open.clone()));
    }
}

async fn carry(
    id: u64,
    stream: TcpStream,
    ask: Ask1,
    downs: mpsc::UnboundedReceiver<Down>,
    room: Arc<Semaphore>,
    open: Open,
) {
    let (reader, writer) = stream.into_split();
    let up = tokio::spawn(carry_up(id, reader, ask.clone(), room));
    if !carry_down(id, writer, &ask, downs).await {
        let reset = ForwardReset { connection_id: id, ..Default::default() };
        let _ = ask.send(request(Ask::Reset(reset))).await;
        up.abort();
    }
    let _ = up.await;
    open.lock().remove(&id);
}

async fn carry_up(id: u64, mut reader: OwnedReadHalf, ask: Ask1, room: Arc<Semaphore>) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match reader.read_buf(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                // Nothing is sent before there is room for all of it.
                let Ok(taken) = room.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await else { return };
                taken.forget();
            }
        }
        let data = ForwardData { connection_id: id, data: piece.freeze() };
        if ask.send(request(Ask::Data(data))).await.is_err() {
            return;
        }
    }
    let _ = ask.send(request(Ask::End(ForwardEnd { connection_id: id }))).await;
}

/// Whether it ended as it should.
async fn carry_down(id: u64, mut writer: OwnedWriteHalf, ask: &Ask1, mut downs: mpsc::UnboundedReceiver<Down>) -> bool {
    let mut taken = 0;
    while let Some(down) = downs.recv().await {
        match down {
            Down::Data(data) => {
                if writer.write_all(&data).await.is_err() {
                    return false;
                }
                taken += u32::try_from(data.len()).unwrap_or(u32::MAX);
                if taken >= GRANT {
                    let more = ForwardWindow { connection_id: id, bytes: std::mem::take(&mut taken) };
                    if ask.send(request(Ask::Window(more))).await.is_err() {
                        return false;
                    }
                }
            }
            Down::End => {
                let _ = writer.shutdown().await;
                return true;
            }
            Down::Reset(why) => {
                follow::aside(format!("casemate: a connection was cut: {why}\n").as_bytes());
                return false;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let pair = |here: &str, there| Pair { here: here.parse().unwrap(), there };
        assert_eq!("8000".parse(), Ok(pair("127.0.0.1:8000", 8000)));
        assert_eq!("0:80".parse(), Ok(pair("127.0.0.1:0", 80)));
        assert_eq!("0.0.0.0:9000:80".parse(), Ok(pair("0.0.0.0:9000", 80)));
        assert_eq!("[::1]:9000:80".parse(), Ok(pair("[::1]:9000", 80)));
        for wrong in ["", "x", "1:x", "1:0", "70000", "1:2:3"] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }
}
