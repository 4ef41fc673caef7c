//! The supervisor: one thread, one task for the server, one for each process and each channel.

pub mod accounts;
pub mod channel;
pub mod files;
pub mod journal;
pub mod keeper;
pub mod link;
pub mod memory;
pub mod network;
pub mod oom;
mod orders;
pub mod pipes;
pub mod plan;
pub mod process;
pub mod stdin;
pub mod table;
pub mod task;
pub mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, WaitOptions, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use table::Table;

/// How long the processes of a guest that ends may take to die.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Runs the guest until it is told to end. Returns its exit code.
pub fn run(path: &Path) -> ExitCode {
    memory::prepare();
    // Whatever was left open for it is nothing of its own, nor of what it starts.
    keeper::close_from(3);
    // Its memory has the output of all processes, whoever they run as.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // Where it is not process 1, orphans come to it all the same.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("casemate-guest: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = tokio::task::LocalSet::new().block_on(&runtime, supervise(path));
    ExitCode::from(code.clamp(0, 255) as u8)
}

async fn supervise(path: &Path) -> i32 {
    let mut start = [0; 16];
    let _ = rustix::rand::getrandom(&mut start, rustix::rand::GetRandomFlags::empty());
    let table = Rc::new(Table::default());
    let (mut children, mut end) = match (signal(SignalKind::child()), signal(SignalKind::terminate())) {
        (Ok(children), Ok(end)) => (children, end),
        _ => return 1,
    };
    let link = link::serve(Rc::clone(&table), path, start);
    tokio::pin!(link);
    loop {
        tokio::select! {
            () = &mut link => {}
            _ = children.recv() => reap(&table),
            // What a container manager sends to process 1.
            _ = end.recv() => table.end(128 + libc::SIGTERM),
            () = table.finish.notified() => break,
        }
    }
    table.channels.drop_all();
    kill_all(&table).await;
    table.finished.get().unwrap_or_default()
}

/// Reaps what is over. Children that are no keepers are orphans of a keeper that was killed: they are killed too.
fn reap(table: &Table) {
    let mut orphans = false;
    let own = std::process::id().cast_signed();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        let pid = pid.as_raw_nonzero().get();
        if status.stopped() {
            // A keeper must not be held up by what it keeps.
            let _ = keeper::kill(pid, libc::SIGCONT);
            continue;
        }
        let kept = table.forget(pid);
        orphans |= !kept || status.signaled();
    }
    table.rest();
    if orphans {
        let keepers = table.keepers.borrow();
        let strays = tree::below(own).into_iter().filter(|member| member.parent == own);
        for stray in strays.filter(|stray| !keepers.contains(&stray.pid)) {
            // What is below it becomes a child of the guest's with its end, which is told as this one's was.
            let _ = keeper::kill(stray.pid, libc::SIGKILL);
        }
    }
}

/// Kills everything, and waits until it is gone, and nothing half-done is left.
async fn kill_all(table: &Table) {
    let own = std::process::id().cast_signed();
    let end = Instant::now() + LAST_WAIT;
    while Instant::now() < end {
        if own == 1 {
            // All that there is, at once.
            let _ = keeper::kill(-1, libc::SIGKILL);
        } else {
            tree::kill(own);
        }
        reap(table);
        if tree::below(own).is_empty() && !table.channels.is_at_work() {
            return;
        }
        sleep(Duration::from_millis(2)).await;
    }
}
