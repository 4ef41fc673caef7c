//! Connections from the server to a port of the container.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use casemate_guest::protocol::{Answer, Failure};
use tokio::net::TcpStream;

use super::relay::{named, relay};
use crate::supervisor::channel::Channel;

/// Connects, and passes bytes on both ways.
///
/// # Errors
/// Nobody listens there, or the connection was cut.
pub async fn connect(channel: &Channel, port: u16) -> Result<Answer, Failure> {
    let stream = match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => stream,
        // What listens may do so on the newer address alone. If it does not, the first answer counts.
        Err(error) => match TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
            Ok(stream) => stream,
            Err(_) => return Err(named(error)),
        },
    };
    // A port that the kernel hands out, to this very connection: it is connected with itself, and nobody listens.
    if stream.local_addr().ok() == stream.peer_addr().ok() {
        return Err(Failure::Refused);
    }
    // Both ends gather bytes already.
    let _ = stream.set_nodelay(true);
    channel.began(None);
    relay(channel, stream).await
}
