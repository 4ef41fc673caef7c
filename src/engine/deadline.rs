//! Ends a future in time, also when the runtime is too busy to tell the time.

use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What the future came to, or nothing once the time has passed.
///
/// Not `tokio::time::timeout`, for two reasons. Workers busy with guests that compute look at their timers
/// only every so many polls, and each such poll takes a tick; so this looks at the clock itself. And a run
/// that never waits, like most, needs no timer at all.
pub(super) fn within<F: Future>(time: Duration, future: F) -> impl Future<Output = Option<F::Output>> {
    Within { future, deadline: Instant::now().checked_add(time), timer: None }
}

pin_project! {
    struct Within<F> {
        #[pin]
        future: F,
        deadline: Option<Instant>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The first poll is always given: a limit of nothing still ends with what a guest does at once.
        if this.timer.is_some() && this.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(deadline) = *this.deadline else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline)));
        }
        match this.timer.as_pin_mut().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn what_waits_forever_is_ended_and_what_is_ready_is_not() {
        assert_eq!(within(Duration::from_millis(5), pending::<()>()).await, None);
        assert_eq!(within(Duration::ZERO, ready(1)).await, Some(1));
        assert_eq!(within(Duration::MAX, ready(1)).await, Some(1));
    }

    #[test]
    fn the_clock_counts_even_if_no_timer_ever_fires() {
        // A runtime whose driver nobody polls: only the look at the clock can end this.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut future = Box::pin(within(Duration::from_millis(1), pending::<()>()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while future.as_mut().poll(&mut cx).is_pending() {
            std::thread::yield_now();
        }
    }
}
