//! A journal as a gRPC stream: replay, then live, with signs of life on silence.

use super::convert::execution::{event, keepalive};
use crate::domain::event::Event;
use crate::execution::Live;
use crate::execution::journal::Cursor;
use crate::proto::v1;
use futures_core::Stream;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tonic::Status;

/// The events of one execution as responses; `wrap` puts an event into its method's message.
pub struct EventStream<T> {
    live: Arc<Live>,
    cursor: Cursor,
    /// Read from the journal, not sent yet. Bounded by what one read gives.
    ready: VecDeque<Event>,
    batch: Vec<Event>,
    sent: u64,
    silence: Duration,
    alarm: Pin<Box<Sleep>>,
    wrap: fn(v1::ExecutionEvent) -> T,
}

impl<T> EventStream<T> {
    /// From a sequence on, with a keepalive after so long a silence.
    pub fn new(live: Arc<Live>, from: u64, silence: Duration, wrap: fn(v1::ExecutionEvent) -> T) -> Self {
        EventStream {
            cursor: live.journal().reader(from),
            live,
            ready: VecDeque::new(),
            batch: Vec::new(),
            sent: from.saturating_sub(1),
            silence,
            alarm: Box::pin(tokio::time::sleep(silence)),
            wrap,
        }
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        // A reader that is gone is not waited for.
        self.live.journal().leave(&self.cursor);
    }
}

impl<T> Stream for EventStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ready.is_empty() && this.live.journal().poll_read(&mut this.cursor, cx, &mut this.batch).is_ready() {
            if this.batch.is_empty() {
                return Poll::Ready(None);
            }
            this.ready.extend(this.batch.drain(..));
        }
        let message = match this.ready.pop_front() {
            Some(next) => {
                this.sent = next.sequence;
                event(this.live.origin().id, next)
            }
            None => {
                std::task::ready!(this.alarm.as_mut().poll(cx));
                keepalive(this.sent)
            }
        };
        if this.ready.is_empty() {
            // Only before a wait: moving a timer costs, and a busy stream needs none.
            this.alarm.as_mut().reset(Instant::now() + this.silence);
        }
        Poll::Ready(Some(Ok((this.wrap)(message))))
    }
}
