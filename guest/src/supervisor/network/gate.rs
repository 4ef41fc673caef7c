//! The gate: where processes of the container connect to the server.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use casemate_guest::protocol::FromGuest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::relay::relay;
use crate::supervisor::channel::Channel;
use crate::supervisor::table::Table;

/// How long to wait before the next attempt to take a connection, where there were too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// At which port it listens, if it does.
#[derive(Debug, Default)]
pub struct Gate {
    port: Cell<Option<u16>>,
}

impl Gate {
    /// Listens. Tells the server if it cannot.
    pub fn listen(&self, table: &Rc<Table>, port: u16) {
        match self.port.get() {
            _ if port == 0 => self.refuse(table, port, "no port"),
            Some(current) if current == port => {}
            Some(current) => self.refuse(table, port, &format!("it is at {current} already")),
            None => {
                // At once: processes that the server starts next may count on it.
                let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
                let listener = listener.and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    TcpListener::from_std(listener)
                });
                match listener {
                    Ok(listener) => {
                        self.port.set(Some(port));
                        tokio::task::spawn_local(accept(Rc::clone(table), listener));
                    }
                    Err(error) => self.refuse(table, port, &error.to_string()),
                }
            }
        }
    }

    fn refuse(&self, table: &Table, port: u16, problem: &str) {
        table.answer(FromGuest::NoGate { port, problem: problem.into() });
    }
}

/// Takes connections as long as there is room for them. Others wait where the kernel keeps them, as they do while no
/// server is there.
async fn accept(table: Rc<Table>, listener: TcpListener) {
    loop {
        table.channels.gate_room().await;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // The server may be gone by now.
        table.channels.gate_room().await;
        let _ = stream.set_nodelay(true);
        let channel = table.channels.open_own(&table);
        table.channels.spawn(&table, serve(channel, stream));
    }
}

async fn serve(channel: Rc<Channel>, stream: TcpStream) {
    channel.connected();
    let result = {
        let relay = relay(&channel, stream);
        tokio::select! {
            biased;
            failure = channel.given_up() => Err(failure),
            result = relay => result,
        }
    };
    channel.finish(result);
}
