//! Processes started by the backend, as executions that end with the server.

use super::minder::Minder;
use super::{Handle, marked};
use crate::container::backend::{BackendError, ExecRequest, ProcessOutput};
use crate::container::entry::Entry;
use crate::container::manager::Containers;
use crate::container::processes::main_start;
use crate::error::{Error, Result};
use crate::execution::{Begun, Ended, Live, Run};
use casemate_guest::protocol::{Spec, User};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

impl Containers {
    /// The execution that is the main process of a container without supervisor; none for one that idles.
    pub(in crate::container) async fn begin_main(&self, entry: &Arc<Entry>) -> Result<Option<Run>> {
        let origin = &entry.origin;
        if origin.main.is_empty() {
            return Ok(None);
        }
        let failed = || Error::ContainerFailed {
            id: origin.id,
            problem: "its main process was being started when the server died".into(),
        };
        if self.registry.find(origin.main_execution).await.is_ok() {
            return Err(failed());
        }
        match self.registry.begin_beside(main_start(entry)).await? {
            Begun::New(run) => Ok(Some(run)),
            Begun::Existing(_) => Err(failed()),
        }
    }

    /// Minds the main process of a container without supervisor.
    pub(in crate::container) fn follow_main(&self, entry: &Arc<Entry>, run: Run, output: ProcessOutput) {
        let handle = Handle { process: None, user: String::new() };
        let minder = self.minder(entry, run.live(), handle, None);
        run.live().journal().start(0);
        tokio::spawn(settle(entry.clone(), run, async move { minder.follow(output).await }));
    }

    /// Has the backend start a process, and minds it. Answers once it runs.
    pub(in crate::container) async fn launch_beside(
        &self,
        entry: Arc<Entry>,
        run: Run,
        spec: Spec,
    ) -> Result<Arc<Live>> {
        let live = run.live().clone();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let user = match &spec.user {
            User::Named(user) => text(user),
            _ => String::new(),
        };
        let request = ExecRequest {
            command: spec.command.iter().map(|part| text(part)).collect(),
            environment: marked(spec.environment.iter().map(|pair| text(pair)).collect(), live.origin().id),
            working_directory: text(&spec.directory),
            user: user.clone(),
            terminal: spec.terminal.map(|terminal| (terminal.columns, terminal.rows)),
        };
        let process = match self.backend.exec(&entry.backend_id(), &request).await {
            Ok(process) => process,
            Err(error) => {
                run.refuse(error.to_string()).await?;
                return Err(match error {
                    BackendError::Unavailable(problem) => Error::BackendUnavailable { problem },
                    other => Error::ProcessNotStarted { problem: other.to_string() },
                });
            }
        };
        live.journal().start(0);
        let handle = Handle { process: Some(process.id.clone()), user };
        let minder = self.minder(&entry, &live, handle, Some(live.origin().limits.wall_time));
        tokio::spawn(settle(entry, run, async move { minder.mind(process).await }));
        Ok(live)
    }

    fn minder(&self, entry: &Arc<Entry>, live: &Arc<Live>, handle: Handle, wall_time: Option<Duration>) -> Minder {
        entry.entered(live.clone());
        entry.hold(live.origin().id, handle.clone());
        let (entry, backend, containers) = (entry.clone(), self.backend.clone(), self.this.clone());
        Minder { live: live.clone(), entry, backend, containers, handle, wall_time }
    }
}

/// Waits for the end of a process that the backend runs, and has it recorded.
async fn settle(entry: Arc<Entry>, run: Run, minded: impl Future<Output = Ended>) {
    let id = run.live().origin().id;
    if let Err(error) = run.conduct(|_, _| minded).await {
        tracing::error!(execution = %id, %error, "the end of a process could not be recorded");
    }
    entry.left(id);
}
