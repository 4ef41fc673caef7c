//! Accepting connections: as many as there is room for, from whoever speaks, and until the server drains.

use crate::telemetry::ConnectionMetrics;
use pin_project_lite::pin_project;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// How long a peer may take to say the first words of HTTP/2. Once it has, it is asked now and then whether it is there.
const GREETING: Duration = Duration::from_secs(10);
/// Bytes of these words; before TLS, they are those of its greeting.
const GREETING_BYTES: usize = 24;
/// How long nothing is accepted after that failed: where descriptors are short, trying again at once helps nobody.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the log tells of it.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Room for connections, of all listeners together.
#[derive(Clone)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    most: usize,
    patience: Patience,
    metrics: ConnectionMetrics,
}

/// How long to wait: [`GREETING`] and [`PAUSE`], but in tests.
#[derive(Clone, Copy)]
struct Patience {
    greeting: Duration,
    pause: Duration,
}

impl Room {
    /// For so many.
    pub(super) fn new(most: usize, metrics: ConnectionMetrics) -> Room {
        let patience = Patience { greeting: GREETING, pause: PAUSE };
        Room { places: Arc::new(Semaphore::new(most)), most, patience, metrics }
    }
}

/// A listener's connections until `stop` resolves; then the listener is closed and nothing comes any
/// more. The stream does not end there: its end would send the open connections away, and they are still
/// needed to watch, feed and cancel the executions that are being waited for.
///
/// A connection beyond the room is closed at once: its client hears so and can go elsewhere, and those that are there
/// keep their descriptors.
pub(super) struct Accept<S, F> {
    incoming: Option<Pin<Box<S>>>,
    stop: Pin<Box<F>>,
    room: Room,
    pause: Option<Pin<Box<Sleep>>>,
    told: Option<Instant>,
}

impl<S, F> Accept<S, F> {
    pub(super) fn new(incoming: S, stop: F, room: Room) -> Self {
        Accept { incoming: Some(Box::pin(incoming)), stop: Box::pin(stop), room, pause: None, told: None }
    }

    /// Whether it is time for a line in the log.
    fn tells(&mut self) -> bool {
        let now = Instant::now();
        let due = self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if due {
            self.told = Some(now);
        }
        due
    }
}

impl<S, F, C> Stream for Accept<S, F>
where
    S: Stream<Item = io::Result<C>>,
    F: Future<Output = ()>,
{
    type Item = io::Result<Held<C>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.incoming.is_some() && this.stop.as_mut().poll(cx).is_ready() {
                this.incoming = None;
            }
            let Some(incoming) = &mut this.incoming else { return Poll::Pending };
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match ready!(incoming.as_mut().poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(connection)) => match this.room.places.clone().try_acquire_owned() {
                    Ok(place) => {
                        return Poll::Ready(Some(Ok(Held::new(connection, place, &this.room))));
                    }
                    Err(_) => {
                        this.room.metrics.refused();
                        if this.tells() {
                            tracing::warn!(
                                open = this.room.most,
                                "there is no room for another connection (server.max_connections)"
                            );
                        }
                    }
                },
                Some(Err(error)) => {
                    this.room.metrics.refused();
                    if this.tells() {
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                    this.pause = Some(Box::pin(tokio::time::sleep(this.room.patience.pause)));
                }
            }
        }
    }
}

pin_project! {
    /// A connection with its place. It ends if the peer does not say what it is there for.
    pub(super) struct Held<C> {
        #[pin]
        connection: C,
        greeting: Option<Greeting>,
        counted: Counted,
    }
}

struct Greeting {
    left: usize,
    until: Pin<Box<Sleep>>,
}

/// Open for as long as this is there.
struct Counted {
    _place: OwnedSemaphorePermit,
    metrics: ConnectionMetrics,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.closed();
    }
}

impl<C> Held<C> {
    fn new(connection: C, place: OwnedSemaphorePermit, room: &Room) -> Held<C> {
        let metrics = room.metrics.clone();
        metrics.opened();
        let until = Box::pin(tokio::time::sleep(room.patience.greeting));
        let greeting = Some(Greeting { left: GREETING_BYTES, until });
        Held { connection, greeting, counted: Counted { _place: place, metrics } }
    }
}

impl<C: Connected> Connected for Held<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

impl<C: AsyncRead> AsyncRead for Held<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.connection.poll_read(cx, buffer);
        let Some(greeting) = this.greeting else { return read };
        greeting.left = greeting.left.saturating_sub(buffer.filled().len() - before);
        if greeting.left == 0 {
            *this.greeting = None;
        } else if read.is_pending() && greeting.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<C: AsyncWrite> AsyncWrite for Held<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().connection.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().connection.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().connection.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().connection.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_stream::StreamExt;

    const SHORT: Duration = Duration::from_millis(20);

    fn room(most: usize) -> (Room, Metrics) {
        let metrics = Metrics::new([]);
        let room = Room::new(most, metrics.connections().clone());
        (Room { patience: Patience { greeting: SHORT, pause: SHORT }, ..room }, metrics)
    }

    fn shown(metrics: &Metrics, name: &str) -> String {
        let text = metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    /// Connections as a listener gives them, and where they come from.
    fn listener(
        of: impl IntoIterator<Item = io::Result<DuplexStream>>,
    ) -> impl Stream<Item = io::Result<DuplexStream>> {
        tokio_stream::iter(of.into_iter().collect::<Vec<_>>()).chain(tokio_stream::pending())
    }

    #[tokio::test]
    async fn those_beyond_the_room_are_closed_and_a_place_comes_back() {
        let (room, metrics) = room(2);
        let (ours, mut theirs): (Vec<_>, Vec<_>) = (0..4).map(|_| duplex(64)).unzip();
        let mut accept = Accept::new(listener(ours.into_iter().map(Ok)), std::future::pending(), room.clone());
        let one = accept.next().await.unwrap().unwrap();
        let _two = accept.next().await.unwrap().unwrap();
        tokio::select! {
            _ = accept.next() => panic!("there is no room"),
            read = theirs[3].read_u8() => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
        }
        assert_eq!(shown(&metrics, "casemate_connections_refused_total"), "2");
        assert_eq!(shown(&metrics, "casemate_connections_open"), "2");
        drop(one);
        let mut more = Accept::new(listener([Ok(duplex(64).0)]), std::future::pending(), room);
        assert!(more.next().await.unwrap().is_ok());
        assert_eq!(shown(&metrics, "casemate_connections_open"), "1");
    }

    #[tokio::test]
    async fn a_failure_to_accept_is_waited_out() {
        let (room, _metrics) = room(2);
        let failures = (0..3).map(|_| Err(io::Error::from_raw_os_error(24)));
        let incoming = listener(failures.chain([Ok(duplex(64).0)]));
        let began = Instant::now();
        let mut accept = Accept::new(incoming, std::future::pending(), room);
        assert!(accept.next().await.unwrap().is_ok());
        assert!(began.elapsed() >= SHORT * 3);
    }

    #[tokio::test]
    async fn who_says_nothing_is_sent_away_and_who_spoke_may_be_silent() {
        let (room, _metrics) = room(2);
        let (silent, mut slow) = duplex(64);
        let (speaking, mut speaker) = duplex(64);
        let mut accept = Accept::new(listener([Ok(silent), Ok(speaking)]), std::future::pending(), room);
        let mut silent = accept.next().await.unwrap().unwrap();
        let mut speaking = accept.next().await.unwrap().unwrap();
        slow.write_all(b"PRI").await.unwrap();
        speaker.write_all(&[b'x'; GREETING_BYTES]).await.unwrap();
        let mut bytes = [0; GREETING_BYTES];
        let began = Instant::now();
        assert_eq!(silent.read_exact(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= SHORT);
        speaking.read_exact(&mut bytes).await.unwrap();
        let silence = tokio::time::timeout(5 * SHORT, speaking.read_u8());
        assert!(silence.await.is_err());
    }
}
