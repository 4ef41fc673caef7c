//! Accepting connections until the server drains.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_stream::Stream;

/// A listener's connections until `stop` resolves; then the listener is closed and nothing comes any
/// more. The stream does not end there: its end would send the open connections away, and they are still
/// needed to watch, feed and cancel the executions that are being waited for.
pub(super) struct Accept<S, F> {
    incoming: Option<Pin<Box<S>>>,
    stop: Pin<Box<F>>,
}

impl<S, F> Accept<S, F> {
    pub(super) fn new(incoming: S, stop: F) -> Self {
        Accept { incoming: Some(Box::pin(incoming)), stop: Box::pin(stop) }
    }
}

impl<S: Stream, F: Future<Output = ()>> Stream for Accept<S, F> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Pending };
        if this.stop.as_mut().poll(cx).is_ready() {
            this.incoming = None;
            return Poll::Pending;
        }
        incoming.as_mut().poll_next(cx)
    }
}
