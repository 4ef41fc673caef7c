//! Threads for guests that compute.
//!
//! A run starts on the caller's worker, because most are over before a hand-over would be. One that
//! computes for more than a moment moves to a thread of its own kind, or two of them would be enough to
//! make everybody else wait: for the sockets, the journals and all the short runs.
//!
//! A run with directories starts there. WASI does file calls on the blocking threads of the runtime that polls
//! the guest, and a file that never answers (a pipe without a writer, a network disk that is gone) keeps its
//! thread also when its run is over: the system has no way to take it back. Once [`FILE_CALLS`] are stuck, other
//! runs with directories wait and reach their wall time; the server goes on.

use crate::error::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

/// A run that kept its worker this long without a pause computes.
const MOMENT: Duration = Duration::from_millis(2);

/// The kernel gives these threads less than those that serve, when there is not enough for all.
const NICE: i32 = 5;

/// File calls at the same time, those that never come back included.
const FILE_CALLS: usize = 64;

/// Where a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// On the caller's runtime.
    Here,
    /// On the threads for guests.
    There,
}

/// The threads: as many as there are processors.
pub(super) struct Workers(Option<Runtime>);

impl Workers {
    pub(super) fn start() -> std::io::Result<Workers> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("guest-worker")
            .on_thread_start(|| {
                // Without it guests merely take an equal share.
                let _ = rustix::process::setpriority_process(None, NICE);
            })
            .max_blocking_threads(FILE_CALLS)
            .event_interval(8)
            .enable_all()
            .build()?;
        Ok(Workers(Some(runtime)))
    }

    /// Runs a future from where it starts, and over there from the moment it computes. Dropping it ends it:
    /// at once here, at its next pause there.
    pub(super) fn run<T>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
        start: Start,
    ) -> impl Future<Output = Result<T>>
    where
        T: Send + 'static,
    {
        let over_there = self.0.as_ref().map(Runtime::handle).cloned();
        let place = match (&over_there, start) {
            (Some(over_there), Start::There) => Place::There(over_there.spawn(future)),
            _ => Place::Here(Box::pin(future)),
        };
        Moving { place, over_there }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The last run may be what drops the engine, on one of these very threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

struct Moving<T> {
    place: Place<T>,
    over_there: Option<Handle>,
}

enum Place<T> {
    Here(Boxed<T>),
    There(JoinHandle<Result<T>>),
    /// Between the two, and never seen.
    Nowhere,
}

impl<T: Send + 'static> Future for Moving<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Place::Here(future) = &mut self.place {
            let began = Instant::now();
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if began.elapsed() < MOMENT {
                return Poll::Pending;
            }
            let Some(over_there) = self.over_there.clone() else { return Poll::Pending };
            if let Place::Here(future) = std::mem::replace(&mut self.place, Place::Nowhere) {
                self.place = Place::There(over_there.spawn(future));
            }
        }
        let Place::There(task) = &mut self.place else { return Poll::Pending };
        Poll::Ready(match ready!(Pin::new(task).poll(cx)) {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Error::Internal(format!("a guest's thread is gone: {error}"))),
            },
        })
    }
}

impl<T> Drop for Moving<T> {
    fn drop(&mut self) {
        if let Place::There(task) = &self.place {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// Keeps its worker for a while.
    fn compute() {
        let began = Instant::now();
        while began.elapsed() < MOMENT * 2 {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn what_computes_moves_and_what_does_not_stays() {
        let workers = Workers::start().unwrap();
        let short = async {
            tokio::task::yield_now().await;
            Ok(thread())
        };
        assert_ne!(workers.run(short, Start::Here).await.unwrap(), "guest-worker");
        assert_eq!(workers.run(async { Ok(thread()) }, Start::There).await.unwrap(), "guest-worker");
        let long = async {
            compute();
            tokio::task::yield_now().await;
            Ok(thread())
        };
        assert_eq!(workers.run(long, Start::Here).await.unwrap(), "guest-worker");
    }

    #[tokio::test]
    async fn what_is_dropped_ends_over_there_too() {
        let workers = Workers::start().unwrap();
        let (told, gone) = tokio::sync::oneshot::channel::<()>();
        let waits = async move {
            let _told = told;
            compute();
            std::future::pending().await
        };
        let mut run = Box::pin(workers.run::<()>(waits, Start::Here));
        // One poll computes and moves it.
        assert!(std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await);
        drop(run);
        assert!(gone.await.is_err());
    }
}
