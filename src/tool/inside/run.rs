//! One run inside a container, from its first file to its last.

use super::left::Seen;
use super::plan::{self, Plan};
use super::{Errand, Ground, Kind, files, report};
use crate::container::Step;
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::input::Inputs;
use crate::domain::io::OutputSink;
use crate::domain::output::{Stage, StageResult};
use crate::domain::pattern::PathPattern;
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a look at what a run left may take, and its own files to be removed.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Ends a run whose caller leaves.
struct Waiting(Option<Arc<Live>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            live.end(Ended::new(Exit::Cancelled, "the call that ran it ended early, and so did the run"));
        }
    }
}

/// Runs an errand to its end, which comes early if nobody waits for this. What kept it from starting is the error.
pub(in crate::tool) async fn drive(errand: Errand) -> Result<Arc<Live>> {
    let Errand { run, kind, parameters, inputs, ground, programs } = errand;
    let mut waiting = Waiting(Some(run.live().clone()));
    let own = plan::own(&run.live().origin().id);
    let below = format!("{}/{own}", ground.place.directory());
    // A task of its own: what runs inside is ended, and its files are removed, whoever leaves.
    let task = tokio::spawn(async move {
        let refused = Arc::new(Mutex::new(None));
        let told = refused.clone();
        let recorded = run
            .conduct(|live, _| async move {
                ground.place.enter(live.clone());
                let plan = plan::plan(kind, &parameters, &inputs.arguments, &programs, &below);
                let job = Job { live: live.clone(), kind, parameters, inputs, ground, own };
                let ended = match plan {
                    Ok(plan) => job.go(plan).await,
                    Err(error) => Err(error),
                };
                job.clear().await;
                job.ground.place.leave(&live);
                ended.unwrap_or_else(|error| {
                    let ended = Ended::new(Exit::NotStarted, error.to_string());
                    *told.lock() = Some(error);
                    ended
                })
            })
            .await;
        match refused.lock().take() {
            Some(error) => Err(error),
            None => recorded,
        }
    });
    let done = task.await.map_err(|error| Error::Internal(format!("a run in a container was lost: {error}")))?;
    waiting.0 = None;
    done
}

struct Job {
    live: Arc<Live>,
    kind: Kind,
    parameters: Value,
    inputs: Inputs,
    ground: Ground,
    /// Its directory, below the workspace.
    own: String,
}

impl Job {
    async fn go(&self, plan: Plan) -> Result<Ended> {
        let until = Instant::now() + self.live.origin().limits.wall_time;
        let before = tokio::select! {
            biased;
            ended = self.live.end_wished() => return Ok(ended),
            ready = tokio::time::timeout_at(until.into(), self.prepare(&plan)) => match ready {
                Ok(before) => before?,
                Err(_) => return Ok(self.too_late()),
            },
        };
        let mut ended = match self.kind {
            Kind::Files => self.touch(until).await,
            _ => self.stages(&plan, until).await,
        };
        if plan.reports {
            self.read_report(&mut ended).await;
        }
        if let Err(problem) = self.tell_files(&before, &mut ended).await {
            tracing::debug!(execution = %self.live.origin().id, problem, "what a run left is not known");
        }
        Ok(ended)
    }

    fn too_late(&self) -> Ended {
        Ended::new(Exit::TimedOut, "its wall time passed before it could begin (limits.wall_time)")
    }

    /// Puts all files in place, and looks at what there is.
    async fn prepare(&self, plan: &Plan) -> Result<Seen> {
        self.ground.put_all(&self.inputs.files).await?;
        let before = self.ground.look().await?;
        for (name, data) in &plan.files {
            self.ground.put(&format!("{}/{name}", self.own), data.clone(), 0o644).await?;
        }
        Ok(before)
    }

    /// The processes, one after the other.
    async fn stages(&self, plan: &Plan, until: Instant) -> Ended {
        let mut environment = plan.environment.clone();
        environment.extend(self.inputs.environment.clone());
        let mut stages = Vec::new();
        if let Some(command) = &plan.compile {
            self.live.stage(Stage::Compile);
            let mut ended = self.stage(Stage::Compile, command, &environment, until, &mut stages).await;
            if ended.exit != (Exit::Exited { code: 0 }) {
                if let Exit::Exited { code } = ended.exit {
                    ended.message = format!("it does not compile: the compiler ended with code {code}");
                }
                return Ended { stages, ..ended };
            }
            self.live.stage(Stage::Run);
            // The program is to find the container's own home and places again.
            environment = self.inputs.environment.clone();
        }
        let ended = match plan.compile.is_some() {
            true => self.stage(Stage::Run, &plan.run, &environment, until, &mut stages).await,
            false => self.process(&plan.run, &environment, true, until).await,
        };
        Ended { stages, ..ended }
    }

    async fn stage(
        &self,
        stage: Stage,
        command: &[String],
        environment: &BTreeMap<String, String>,
        until: Instant,
        stages: &mut Vec<StageResult>,
    ) -> Ended {
        let (began, offsets) = (Instant::now(), self.live.journal().offsets());
        let ended = self.process(command, environment, stage == Stage::Run, until).await;
        let (exit_code, signal) = match &ended.exit {
            Exit::Exited { code } => (*code, String::new()),
            Exit::Signaled { signal } => (0, signal.clone()),
            _ => (0, String::new()),
        };
        let diagnostics = match stage {
            Stage::Compile => self.said(offsets),
            Stage::Run => String::new(),
        };
        stages.push(StageResult { stage, exit_code, signal, run_time: began.elapsed(), offsets, diagnostics });
        ended
    }

    async fn process(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        input: bool,
        until: Instant,
    ) -> Ended {
        let (command, environment) = (command.to_vec(), environment.clone());
        let step = Step { command, environment, directory: String::new(), input };
        self.ground.place.run(&self.live, step, until).await
    }

    /// What was said on both streams from there, errors first, cut.
    fn said(&self, [stdout, stderr]: [u64; 2]) -> String {
        let journal = self.live.journal();
        let mut all = journal.collect_from(OutputStream::Stderr, stderr).0.to_vec();
        all.extend_from_slice(&journal.collect_from(OutputStream::Stdout, stdout).0);
        let mut text = String::from_utf8_lossy(&all).into_owned();
        text.truncate(text.floor_char_boundary(StageResult::MAX_DIAGNOSTICS));
        text
    }

    /// What the tool `files` does.
    async fn touch(&self, until: Instant) -> Ended {
        self.live.journal().start(0);
        let work = files::act(&self.ground, &self.parameters, &self.live);
        tokio::select! {
            biased;
            ended = self.live.end_wished() => ended,
            done = tokio::time::timeout_at(until.into(), work) => match done {
                Ok(ended) => ended,
                Err(_) => Ended::new(Exit::TimedOut, "its wall time passed (limits.wall_time)"),
            },
        }
    }

    async fn read_report(&self, ended: &mut Ended) {
        let path = format!("{}/report", self.own);
        let read = tokio::time::timeout(AFTERWARDS, self.ground.take(&path, report::MAX)).await;
        let Ok(Ok(Some(bytes))) = read else { return };
        let report = report::read(&bytes);
        for output in report.shown {
            self.live.rich(output);
        }
        if ended.exit == (Exit::Exited { code: 1 })
            && let Some(exception) = report.exception
        {
            ended.message = format!("{}: {}", exception.type_name, exception.message);
            ended.exception = Some(exception);
        }
    }

    async fn tell_files(&self, before: &Seen, ended: &mut Ended) -> std::result::Result<(), String> {
        let all = [PathPattern::parse("**")?];
        let wanted = match &self.inputs.return_files[..] {
            // They are lost with the container.
            [] if self.ground.is_for_once() => &all[..],
            wanted => wanted,
        };
        let given = tokio::time::timeout(AFTERWARDS, self.ground.give_back(before, &self.live, wanted)).await;
        let given = given.map_err(|_| "it took too long".to_owned())?;
        (ended.files, ended.unlisted_files) = given.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Removes its own files.
    async fn clear(&self) {
        if self.ground.is_for_once() {
            return;
        }
        match tokio::time::timeout(AFTERWARDS, self.ground.clear(&self.own)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(execution = %self.live.origin().id, %error, "files of a run stay"),
            Err(_) => tracing::debug!(execution = %self.live.origin().id, "files of a run stay"),
        }
    }
}
