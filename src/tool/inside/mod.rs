//! Tools that run inside containers: `python`, `shell`, `files` and `code`.
//!
//! A run is an execution like any other. It begins with files that are put into the workspace, goes on with one or two
//! processes, and ends with a look at what changed. Its own files are in a directory of the workspace that is gone when
//! it is over. A container of a pool is leased for one run and destroyed after it.

mod files;
mod languages;
mod left;
mod manifests;
mod notebook;
mod plan;
mod programs;
mod report;
mod run;

pub use notebook::NAME as NOTEBOOK;
pub use notebook::NotebookKernels;
pub(super) use run::drive;

use super::Schema;
use super::call::{Call, Target};
use super::fingerprint::fingerprint;
use crate::container::{Containers, Viewer, Workplace};
use crate::domain::execution::Subject;
use crate::domain::id::{ExecutionId, LeaseId, RequestId};
use crate::domain::input::Inputs;
use crate::domain::limits::{Limits, LimitsPolicy};
use crate::domain::manifest::{Manifest, OutputFormat};
use crate::error::{Error, Result, Violation};
use crate::execution::{Begun, Live, Registry, Run, Start};
use crate::pool::{LeaseOrder, Pools};
use bytes::Bytes;
use programs::{KnownPrograms, Programs};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long a run waits in a pool's line.
const WAIT: Duration = Duration::from_secs(60);
/// Longer than its run a lease lasts, for what is done before and after.
const SLACK: Duration = Duration::from_secs(60);

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Python,
    Shell,
    Files,
    Code,
}

/// The tools that run inside containers.
pub struct Inside {
    containers: Arc<Containers>,
    pools: Arc<Pools>,
    registry: Registry,
    limits: LimitsPolicy,
    schemas: Vec<(Kind, Schema)>,
    notebook: Schema,
    known: KnownPrograms,
}

/// A container in which a run works.
pub(super) struct Ground {
    pub(super) containers: Arc<Containers>,
    pub(super) viewer: Viewer,
    /// Its id, as it is asked for.
    pub(super) id: String,
    pub(super) place: Workplace,
    /// Its lease, if it is a pool's; ended with this.
    lease: Option<Lease>,
}

/// A lease for one run or one session.
struct Lease {
    pools: Arc<Pools>,
    id: LeaseId,
    viewer: Viewer,
    /// It goes on without this.
    kept: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (pools, id, viewer) = (self.pools.clone(), self.id, self.viewer.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = pools.release(id, &viewer, None).await {
                    tracing::warn!(lease = %id, %error, "a lease ends by its time");
                }
            });
        }
    }
}

/// A run that was accepted.
pub(super) struct Errand {
    pub(super) run: Run,
    pub(super) kind: Kind,
    pub(super) parameters: Value,
    pub(super) inputs: Inputs,
    pub(super) ground: Ground,
    pub(super) programs: Programs,
}

/// What comes of a call.
pub(super) enum Accepted {
    New(Box<Errand>),
    Existing(Arc<Live>),
}

/// How the output of one of the tools is read.
pub(super) fn output(name: &str) -> OutputFormat {
    Kind::of(name).map_or(OutputFormat::Auto, Kind::output)
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Code, Kind::Files, Kind::Python, Kind::Shell];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Python => "python",
            Kind::Shell => "shell",
            Kind::Files => "files",
            Kind::Code => "code",
        }
    }

    pub(super) fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How its output is read.
    pub(super) fn output(self) -> OutputFormat {
        match self {
            Kind::Files => OutputFormat::Json,
            _ => OutputFormat::Text,
        }
    }
}

impl Inside {
    /// Runs tools in these containers and pools.
    pub fn new(
        containers: Arc<Containers>,
        pools: Arc<Pools>,
        registry: Registry,
        limits: LimitsPolicy,
    ) -> Result<Arc<Inside>> {
        let schema = |kind: Kind| {
            let manifest = manifests::manifest(kind, None);
            let schema = manifest.input_schema.unwrap_or_default();
            Ok((kind, Schema::compile(kind.name(), "input_schema", &schema)?))
        };
        let schemas = Kind::ALL.into_iter().map(schema).collect::<Result<_>>()?;
        let form = manifests::notebook(&[]).input_schema.unwrap_or_default();
        let notebook = Schema::compile(notebook::NAME, "input_schema", &form)?;
        let known = KnownPrograms::default();
        Ok(Arc::new(Inside { containers, pools, registry, limits, schemas, notebook, known }))
    }

    /// The tools that a container can run, each with what its image offers.
    pub async fn offered(&self, target: &Target, viewer: &Viewer) -> Result<Vec<(&'static str, Manifest)>> {
        let ground = match target {
            Target::Container(name) => self.ground(name, viewer, None).await?,
            // What is in its containers can be seen while one is on loan.
            Target::Pool(name) => self.lease(name, viewer, SLACK, None).await?,
            _ => return Err(Error::Internal("tools were asked for where there are no containers".into())),
        };
        let programs = self.known.of(&self.containers, viewer, &ground.place).await?;
        let able = Kind::ALL.into_iter().filter(|kind| plan::is_able(*kind, &programs));
        let mut offered: Vec<_> = able.map(|kind| (kind.name(), manifests::manifest(kind, Some(&programs)))).collect();
        let kernels = notebook::kernels(&ground, &programs).await?;
        if !kernels.is_empty() {
            offered.push((notebook::NAME, manifests::notebook(&kernels)));
        }
        offered.sort_by_key(|(name, _)| *name);
        Ok(offered)
    }

    /// Checks the parameters of a call of the tool `notebook`, which runs in a session.
    pub(super) fn check_notebook(&self, call: &Call, value: &Value) -> Result<()> {
        self.notebook.check(value).map_err(|problems| {
            let violation =
                |problem: super::Problem| Violation::new(format!("call.parameters{}", problem.pointer), problem.text);
            Error::ParametersInvalid {
                tool: notebook::NAME.into(),
                violations: problems.into_iter().map(violation).collect(),
            }
        })?;
        let refuse = |field: &str, what: &str| {
            Err(Error::invalid(format!("call.{field}"), format!("is not for cells of a notebook: {what}")))
        };
        if !call.inputs.arguments.is_empty() {
            return refuse("arguments", "there is no program that takes them");
        }
        if !call.inputs.environment.is_empty() {
            return refuse(
                "environment",
                "the kernel has had its own since the session began (CreateSession.environment)",
            );
        }
        left::check(&call.inputs.files)
    }

    /// Limits of a call in a session, which says the rest.
    pub(super) fn session_limits(&self, call: &Call) -> Limits {
        self.limits_of(call)
    }

    /// Checks a call and begins its execution.
    pub(super) async fn begin(&self, mut call: Call, viewer: &Viewer, value: Value, text: Bytes) -> Result<Accepted> {
        let kind = Kind::of(&call.tool).ok_or_else(|| Error::TargetMismatch {
            target: call.target.as_ref().map(Target::text).unwrap_or_default(),
            tool: call.tool.clone(),
            problem: "it does not run in containers; those that do are code, files, python and shell, and notebook in a session".into(),
        })?;
        self.check(kind, &call, &value)?;
        let request = call.request_id.map(|request_id| (request_id, fingerprint(&call, &text)));
        if let Some((request_id, fingerprint)) = request
            && let Some(known) = self.registry.earlier(&call.principal, request_id, &fingerprint).await?
        {
            return Ok(Accepted::Existing(known));
        }
        let limits = self.limits_of(&call);
        let ground = match &call.target {
            Some(Target::Container(name)) => self.ground(name, viewer, None).await?,
            Some(Target::Pool(pool)) => self.lease(pool, viewer, limits.wall_time + SLACK, None).await?,
            _ => return Err(Error::Internal("a call without a container came here".into())),
        };
        let programs = self.known.of(&self.containers, viewer, &ground.place).await?;
        plan::check(kind, &value, &programs)?;
        let start = Start {
            id: None,
            subject: Subject::Tool { name: kind.name().into(), version: VERSION.into(), digest: "".into() },
            principal: call.principal,
            request,
            labels: call.labels,
            limits,
            stdin: Bytes::new(),
            stdin_given: call.stdin,
            stdin_open: call.keep_stdin_open,
            session: None,
            parent: call.parent.map(|(id, _): (ExecutionId, u32)| id),
            target: match &call.target {
                Some(Target::Pool(pool)) => format!("pool {pool:?}").into(),
                _ => ground.place.target(),
            },
            lane: ground.place.lane().clone(),
        };
        let inputs = std::mem::take(&mut call.inputs);
        match self.registry.begin_beside(start).await? {
            Begun::Existing(live) => Ok(Accepted::Existing(live)),
            Begun::New(run) => {
                Ok(Accepted::New(Box::new(Errand { run, kind, parameters: value, inputs, ground, programs })))
            }
        }
    }

    fn check(&self, kind: Kind, call: &Call, value: &Value) -> Result<()> {
        let schema = self.schemas.iter().find(|(of, _)| *of == kind).map(|(_, schema)| schema);
        if let Some(Err(problems)) = schema.map(|schema| schema.check(value)) {
            let violation =
                |problem: super::Problem| Violation::new(format!("call.parameters{}", problem.pointer), problem.text);
            let violations = problems.into_iter().map(violation).collect();
            return Err(Error::ParametersInvalid { tool: kind.name().into(), violations });
        }
        Workplace::check_environment("call.environment", &call.inputs.environment)?;
        left::check(&call.inputs.files)?;
        if kind == Kind::Files {
            files::check(call, value)?;
        }
        Ok(())
    }

    fn limits_of(&self, call: &Call) -> Limits {
        let resolved = self.limits.resolve(&Default::default(), &call.limits);
        Limits {
            wall_time: self.containers.wall_time(call.limits.wall_time),
            output_bytes: self.containers.output_bytes(call.limits.output_bytes),
            scratch_bytes: resolved.scratch_bytes,
            ..crate::container::outside_limits()
        }
    }

    async fn ground(&self, name: &str, viewer: &Viewer, lease: Option<Lease>) -> Result<Ground> {
        let place = self.containers.workplace(name, viewer).await?;
        let (containers, id) = (self.containers.clone(), place.container().to_string());
        Ok(Ground { containers, viewer: viewer.clone(), id, place, lease })
    }

    async fn lease(
        &self,
        pool: &str,
        viewer: &Viewer,
        time: Duration,
        request: Option<(RequestId, [u8; 32])>,
    ) -> Result<Ground> {
        let order = LeaseOrder {
            principal: viewer.name.clone(),
            wait: WAIT,
            time: Some(time),
            labels: Default::default(),
            request,
        };
        let container = self.pools.lease(pool, order, viewer).await?;
        let Some(id) = container.loan().map(|loan| loan.lease) else {
            return Err(Error::Internal("a pool gave a container that is not on loan".into()));
        };
        let lease = Lease { pools: self.pools.clone(), id, viewer: viewer.clone(), kept: false };
        self.ground(&container.origin.id.to_string(), viewer, Some(lease)).await
    }
}

impl Ground {
    /// Whether it is there for this run alone, and all that is left in it is lost.
    pub(super) fn is_for_once(&self) -> bool {
        self.lease.is_some()
    }

    /// Has its lease go on without this.
    fn keep_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.kept = true;
        }
    }
}

/// Of these tools, as records name it.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
