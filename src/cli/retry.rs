//! Patience with a server that is away for a while.

use super::failure::Failure;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Without a single sign of life for so long, the server counts as gone.
const GIVE_UP: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a stream ended before its time.
pub enum Broken {
    /// The connection, not the server's word: worth another try.
    Connection(Status),
    /// The server's answer.
    Answer(Status),
    /// Printing failed.
    Output(Failure),
}

/// Tells a broken connection from the server's own word: only that one comes with details.
pub fn judge(status: Status) -> Broken {
    match status.code() {
        Code::Unavailable => Broken::Connection(status),
        Code::Unknown | Code::Internal | Code::Cancelled if !said_by_server(&status) => Broken::Connection(status),
        _ => Broken::Answer(status),
    }
}

/// Whether the server itself gave this answer.
pub fn said_by_server(status: &Status) -> bool {
    status.get_details_error_info().is_some()
}

/// How long to wait for the next try, and when to stop trying.
pub struct Patience {
    pause: Duration,
    last_sign: Instant,
}

impl Patience {
    pub fn new() -> Self {
        Patience { pause: FIRST_PAUSE, last_sign: Instant::now() }
    }

    /// The server lives.
    pub fn refresh(&mut self) {
        *self = Patience::new();
    }

    /// Whether it is time to give up.
    pub fn is_over(&self) -> bool {
        self.last_sign.elapsed() > GIVE_UP
    }

    /// How long to wait before the next try: longer each time.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Waits before the next try.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}
