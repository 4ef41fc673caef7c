//! Whole trees of processes, found by the mark in their environment.

use super::{Handle, LOOKS, MARK};
use crate::container::backend::{Backend, BackendError, BackendResult, ExecRequest};
use crate::container::entry::Entry;
use crate::container::signal;
use crate::domain::id::ExecutionId;
use std::time::Duration;
use tokio_stream::StreamExt;

/// Sends a signal, `$2`, to all processes whose environment has a line that matches `$1`. Goes on for as long as a kill
/// finds some, for they may beget others meanwhile.
const SWEEP: &str = r#"n=0
while [ $n -lt 100 ]; do
  found=
  for process in /proc/[0-9]*; do
    tr '\0' '\n' <$process/environ 2>/dev/null | grep -q "^$1" && kill -$2 ${process#/proc/} 2>/dev/null && found=1
  done
  [ $2 = 9 ] && [ -n "$found" ] || exit 0
  n=$((n+1))
done
exit 1"#;
/// How long a sweep may take.
const SWEEPING: Duration = Duration::from_secs(10);

/// Ends everything in an execution, whatever it begets meanwhile.
pub(super) async fn end(backend: &dyn Backend, sandbox: &str, user: &str, id: ExecutionId) -> BackendResult<()> {
    sweep(backend, sandbox, user, &format!("{MARK}={id}$"), signal::KILL).await
}

/// Sends a signal to everything that a mark selects.
async fn sweep(backend: &dyn Backend, sandbox: &str, user: &str, mark: &str, number: i32) -> BackendResult<()> {
    let request = ExecRequest {
        command: ["/bin/sh", "-c", SWEEP, "sweep", mark, &number.to_string()].map(str::to_owned).to_vec(),
        user: user.to_owned(),
        working_directory: "/".into(),
        ..ExecRequest::default()
    };
    let sweeping = async {
        let mut process = backend.exec(sandbox, &request).await?;
        let mut said = Vec::new();
        while let Some(Ok((_, data))) = process.output.next().await {
            said.extend_from_slice(&data[..data.len().min(1024 - said.len().min(1024))]);
        }
        loop {
            match backend.exec_exit(&process.id).await? {
                Some(0) => return Ok(()),
                Some(code) => {
                    let said = String::from_utf8_lossy(&said);
                    return Err(BackendError::Failed(format!("exit code {code}: {}", said.trim())));
                }
                None => tokio::time::sleep(LOOKS.0).await,
            }
        }
    };
    let late = || Err(BackendError::Failed(format!("no end after {} s", SWEEPING.as_secs())));
    tokio::time::timeout(SWEEPING, sweeping).await.unwrap_or_else(|_| late())
}

/// Ends what an earlier server left running.
pub(in crate::container) async fn sweep_all(backend: &dyn Backend, entry: &Entry) {
    if let Err(error) = sweep(backend, &entry.backend_id(), "", &format!("{MARK}="), signal::KILL).await {
        tracing::warn!(container = %entry.origin.id, %error, "processes of an earlier server may go on in it");
    }
}

/// Sends a signal to all that runs in an execution.
pub(in crate::container) async fn send(
    backend: &dyn Backend,
    entry: &Entry,
    id: ExecutionId,
    number: i32,
) -> BackendResult<()> {
    match entry.handle(id) {
        None => Ok(()),
        Some(Handle { process: None, .. }) => backend.signal(&entry.backend_id(), number).await,
        Some(Handle { user, .. }) => sweep(backend, &entry.backend_id(), &user, &format!("{MARK}={id}$"), number).await,
    }
}
