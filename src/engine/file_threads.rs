//! Where the file calls of guests block.
//!
//! WASI does file calls on the blocking threads of the runtime that polls the guest. A file that never
//! answers (a pipe without a writer, a network disk that is gone) keeps its thread also when its run is over:
//! the system has no way to take it back. So runs with directories use threads of their own. Once all of these
//! are stuck, other runs with directories wait and reach their wall time, and the server goes on.

use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Handle, Runtime};

/// File calls at the same time, those that never come back included.
const THREADS: usize = 64;

/// The threads.
pub(super) struct FileThreads(Option<Runtime>);

impl FileThreads {
    pub fn start() -> std::io::Result<FileThreads> {
        // Timers and sockets of those runs land here too; one worker attends to them.
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(THREADS).thread_name("guest-files").enable_all();
        Ok(FileThreads(Some(builder.build()?)))
    }

    pub fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        // Waiting for threads that are stuck would never end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pin_project! {
    /// A future that is polled where it is, and finds the threads of `home` where it asks for some.
    pub(super) struct At<F> {
        pub home: Option<Handle>,
        #[pin]
        pub future: F,
    }
}

impl<F: Future> Future for At<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _home = this.home.as_ref().map(Handle::enter);
        this.future.poll(cx)
    }
}
