//! Running a tool: from a call to an execution, and from its output to an answer.

use super::children::{ChildCalls, Link};
use super::fingerprint::fingerprint;
use super::inside::{self, Errand, Inside};
use super::kernels::InterpreterKernels;
use super::labels::check_labels;
use super::module::{guest, refuse_inputs};
use super::{Catalog, Runner, Tool, builtin};
use crate::domain::execution::Subject;
use crate::domain::id::{ExecutionId, RequestId, SessionId};
use crate::domain::input::Inputs;
use crate::domain::limits::{Limits, LimitsPolicy, LimitsRequest};
use crate::domain::manifest::OutputFormat;
use crate::engine::{DenyAll, Egress};
use crate::error::{Error, Result, Violation};
use crate::execution::{Begun, Lane, Live, Registry, Run, Start};
use crate::session::{SessionCall, SessionCalled, SessionRun, Sessions, kernel};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs tools: the catalog, the registry and the server's limits in one hand.
pub struct ToolService {
    catalog: Arc<Catalog>,
    registry: Registry,
    pub(super) limits: LimitsPolicy,
    max_parameters: u64,
    egress: Arc<dyn Egress>,
    /// The engine's pools, so that a run which finds its pool full waits in the queue like any other, or is
    /// turned away, and not once it holds a slot of the server.
    pools: Vec<Lane>,
    pub(super) sessions: Arc<Sessions>,
    kernels: Vec<Arc<InterpreterKernels>>,
    link: Link,
    inside: Option<Arc<Inside>>,
}

/// What interpreters and sessions bring to a service of tools.
pub struct Interpreting {
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// What starts isolates from snapshots, one for each interpreter.
    pub kernels: Vec<Arc<InterpreterKernels>>,
    /// Where the service makes itself known to code that calls tools.
    pub link: Link,
}

/// A call of a tool.
pub struct Call {
    /// Name of the tool.
    pub tool: String,
    /// The parameters.
    pub parameters: Parameters,
    /// Files, arguments and environment, and which files to give back.
    pub inputs: Inputs,
    /// First bytes of standard input, after the parameters and a newline.
    pub stdin: Bytes,
    /// Limits asked for.
    pub limits: LimitsRequest,
    /// Whether standard input stays open after the parameters.
    pub keep_stdin_open: bool,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The caller's request id.
    pub request_id: Option<RequestId>,
    /// Where it runs; a fresh isolate if nothing is said.
    pub target: Option<Target>,
    /// Who calls.
    pub principal: Arc<str>,
    /// Whether it sees what belongs to others.
    pub administers: bool,
    /// The execution whose code calls, and how deep this call nests below what a caller started.
    pub parent: Option<(ExecutionId, u32)>,
}

/// Where a call runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In a session, if it is at that turn.
    Session(SessionId, Option<u64>),
    /// In a fresh isolate from the snapshot of this name or id.
    Snapshot(String),
    /// In this container, by name or id.
    Container(String),
    /// In a container leased from this pool.
    Pool(String),
}

/// Parameters in the form they came.
pub enum Parameters {
    /// As a value; the guest reads it as compact JSON.
    Value(Value),
    /// As JSON text; the guest reads it byte for byte.
    Text(String),
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters::Value(Value::Object(Default::default()))
    }
}

/// What an interpreter is to do.
pub(super) struct Job {
    /// The code.
    pub code: builtin::Code,
    /// What is given to it.
    pub inputs: Inputs,
    /// The snapshot to start from; the built-in image if nothing is said.
    pub from: Option<(Arc<InterpreterKernels>, Arc<kernel::Image>)>,
    /// How deep it nests.
    pub depth: u32,
}

/// A call that was accepted.
pub enum Called {
    /// A new run.
    New(Box<Work>),
    /// An earlier call with the same request id.
    Existing(Arc<Live>),
}

/// A run that is to be driven.
pub struct Work {
    pub(super) output: OutputFormat,
    pub(super) way: Way,
}

pub(super) enum Way {
    Module(Arc<Tool>, Run),
    Fresh(Arc<Tool>, Run, Job),
    Session(Box<SessionRun>),
    Inside(Box<Errand>),
}

impl Work {
    /// How its output is read.
    pub fn output(&self) -> OutputFormat {
        self.output
    }

    /// The execution.
    pub fn live(&self) -> &Arc<Live> {
        match &self.way {
            Way::Module(_, run) | Way::Fresh(_, run, _) => run.live(),
            Way::Session(run) => run.live(),
            Way::Inside(errand) => errand.run.live(),
        }
    }
}

impl Called {
    /// The execution.
    pub fn live(&self) -> &Arc<Live> {
        match self {
            Called::New(work) => work.live(),
            Called::Existing(live) => live,
        }
    }
}

impl ToolService {
    /// Runs tools of `catalog` as executions of `registry`.
    pub fn new(
        catalog: Arc<Catalog>,
        registry: Registry,
        limits: LimitsPolicy,
        max_parameters: u64,
        interpreting: Interpreting,
        inside: Option<Arc<Inside>>,
    ) -> Arc<Self> {
        let pools = catalog.engine().pools().into_iter().map(|(name, slots)| Lane::new(name, slots)).collect();
        let Interpreting { sessions, kernels, link } = interpreting;
        let egress = Arc::new(DenyAll);
        let service = ToolService {
            catalog,
            registry,
            limits,
            max_parameters,
            egress,
            pools,
            sessions,
            kernels,
            link: link.clone(),
            inside,
        };
        let service = Arc::new(service);
        // A second service over the same interpreters would be a mistake of the composition; the first one counts.
        let _ = link.set(Arc::downgrade(&service));
        service
    }

    /// The tools.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The executions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Checks a call and begins its execution.
    pub async fn begin(&self, mut call: Call) -> Result<Called> {
        check_labels("call.labels", &call.labels)?;
        match &call.target {
            Some(Target::Session(session, turn)) if call.tool == inside::NOTEBOOK => {
                let (session, turn) = (*session, *turn);
                return self.begin_notebook(call, session, turn).await;
            }
            Some(Target::Container(_) | Target::Pool(_)) => return self.begin_inside(call).await,
            _ => {}
        }
        let tool = self.catalog.tool(&call.tool)?;
        let (value, text) = self.read_parameters(std::mem::take(&mut call.parameters))?;
        if let Some(schema) = &tool.input {
            schema.check(&value).map_err(|problems| Error::ParametersInvalid {
                tool: call.tool.clone(),
                violations: problems
                    .into_iter()
                    .map(|problem| Violation::new(format!("call.parameters{}", problem.pointer), problem.text))
                    .collect(),
            })?;
        }
        let limits = self.limits.resolve(&tool.manifest.limits, &call.limits);
        // Whatever keeps the guest from starting is the caller's error, before there is an execution.
        let lane = match &tool.runner {
            Runner::Module(program) => {
                refuse_inputs(&call.inputs)?;
                let needed = program.initial_memory_bytes();
                if limits.memory_bytes < needed {
                    return Err(Error::invalid(
                        "call.limits.memory_bytes",
                        format!("is {}; tool {:?} needs at least {needed} to start", limits.memory_bytes, call.tool),
                    ));
                }
                let room = program.prepare(&limits).await?;
                tool.lane.drawing(&self.pools[room.pool], room.slots)
            }
            Runner::Interpreter(interpreter) => {
                interpreter.load().await?;
                match call.parent {
                    None => tool.lane.clone(),
                    // The runs that hold the tool's slots may all wait for children such as this one.
                    Some(_) => Lane::new("a call by a run", 1),
                }
            }
        };
        let request = call.request_id.map(|request_id| (request_id, fingerprint(&call, &text)));
        let snapshot = match (&tool.runner, &call.target) {
            (Runner::Module(_), Some(target)) => {
                return Err(Error::TargetMismatch {
                    target: target.text(),
                    tool: call.tool.clone(),
                    problem: "it is a WASM module and keeps no state; call it without a target".into(),
                });
            }
            (Runner::Interpreter(_), Some(Target::Snapshot(name))) => {
                let snapshot = self.sessions.snapshots().start_from(name, &call.tool).await?;
                let kernels = self.kernels.iter().find(|kernels| kernels.name() == call.tool);
                let kernels = kernels.ok_or_else(|| Error::Internal("an interpreter makes no kernels".into()))?;
                Some((kernels.clone(), snapshot))
            }
            _ => None,
        };
        let job = match &tool.runner {
            Runner::Module(_) => None,
            // Its parameters are code, and standard input is all the program's.
            Runner::Interpreter(_) => Some(Job {
                code: builtin::code(&value, "<code>").await?,
                inputs: std::mem::take(&mut call.inputs),
                from: snapshot,
                depth: call.parent.map_or(0, |(_, depth)| depth),
            }),
        };
        let stdin = match (&job, call.keep_stdin_open || !call.stdin.is_empty()) {
            (Some(_), _) => Bytes::new(),
            (None, false) => text,
            (None, true) => {
                // A newline ends the parameters where more input may follow.
                let mut line = BytesMut::with_capacity(text.len() + 1);
                line.put(text);
                line.put_u8(b'\n');
                line.freeze()
            }
        };
        let start = Start {
            id: None,
            subject: Subject::Tool { name: tool.name.clone(), version: tool.version.clone(), digest: tool.digest() },
            principal: call.principal,
            request,
            labels: call.labels,
            limits,
            stdin,
            stdin_given: call.stdin,
            stdin_open: call.keep_stdin_open,
            session: None,
            parent: call.parent.map(|(id, _)| id),
            target: call.target.as_ref().map(Target::text).unwrap_or_default().into(),
            lane,
        };
        let way = match (job, call.target) {
            (Some(job), Some(Target::Session(session, expected_turn))) => {
                let call = SessionCall {
                    session,
                    expected_turn,
                    wall_time: call.limits.wall_time.map(|asked| asked.min(self.limits.caps.wall_time)),
                    parameters: value,
                    inputs: job.inputs,
                    start,
                    tool: tool.name.clone(),
                };
                match self.sessions.call(call).await? {
                    SessionCalled::New(run) => Way::Session(run),
                    SessionCalled::Existing(live) => return Ok(Called::Existing(live)),
                }
            }
            (job, _) => match (self.registry.begin(start).await?, job) {
                (Begun::New(run), None) => Way::Module(tool.clone(), run),
                (Begun::New(run), Some(job)) => Way::Fresh(tool.clone(), run, job),
                (Begun::Existing(live), _) => return Ok(Called::Existing(live)),
            },
        };
        Ok(Called::New(Box::new(Work { output: tool.manifest.output, way })))
    }

    /// The tools that run in containers, where there are any.
    pub fn inside(&self) -> Result<&Arc<Inside>> {
        self.inside.as_ref().ok_or_else(|| Error::BackendUnavailable {
            problem: "they are turned off here; the operator turns them on with containers.enabled".into(),
        })
    }

    /// How the output of a tool is read, for an execution that began earlier.
    pub fn output_of(&self, name: &str, target: Option<&Target>) -> OutputFormat {
        match target {
            Some(Target::Container(_) | Target::Pool(_)) => inside::output(name),
            Some(Target::Session(..)) if name == inside::NOTEBOOK => OutputFormat::Text,
            _ => self.catalog.tool(name).map_or(OutputFormat::Auto, |tool| tool.manifest.output),
        }
    }

    /// Runs an accepted call to its end.
    pub async fn drive(&self, work: Work) -> Result<Arc<Live>> {
        let egress = self.egress.clone();
        match work.way {
            Way::Module(tool, run) => run.drive(|live| guest(tool, live, egress)).await,
            Way::Fresh(tool, run, job) => {
                // Made when the run begins: the time it waits for a slot is not its own.
                let link = self.link.clone();
                let go = |live: Arc<Live>| {
                    let children = ChildCalls::of(&link, &live, job.depth);
                    builtin::run(tool, job, live, egress, children)
                };
                run.drive(go).await
            }
            Way::Session(run) => run.drive().await,
            Way::Inside(errand) => inside::drive(*errand).await,
        }
    }

    /// Waits for the end of an accepted call, whoever runs it. A call that never began is an error.
    pub async fn finish(&self, called: Called) -> Result<Arc<Live>> {
        match called {
            Called::New(work) => self.drive(*work).await,
            Called::Existing(live) => self.sessions.answer(live).await,
        }
    }

    /// The limits of a call of this tool that asks for none.
    pub(super) fn usual_limits(&self, tool: &str) -> Result<Limits> {
        Ok(self.limits.resolve(&self.catalog.tool(tool)?.manifest.limits, &LimitsRequest::default()))
    }

    pub(super) fn read_parameters(&self, parameters: Parameters) -> Result<(Value, Bytes)> {
        let (field, value, text) = match parameters {
            Parameters::Value(value) => {
                let text = serde_json::to_vec(&value).map_err(|error| {
                    Error::invalid("call.parameters", format!("cannot be written as JSON: {error}"))
                })?;
                ("call.parameters", value, Bytes::from(text))
            }
            Parameters::Text(text) => {
                if text.len() as u64 > self.max_parameters {
                    return Err(self.too_large("call.parameters_json", text.len()));
                }
                let value = serde_json::from_str(&text)
                    .map_err(|error| Error::invalid("call.parameters_json", format!("is not JSON: {error}")))?;
                ("call.parameters_json", value, Bytes::from(text))
            }
        };
        if text.len() as u64 > self.max_parameters {
            return Err(self.too_large(field, text.len()));
        }
        if !value.is_object() {
            return Err(Error::invalid(field, "expected a JSON object"));
        }
        Ok((value, text))
    }

    fn too_large(&self, field: &str, size: usize) -> Error {
        Error::invalid(
            field,
            format!("is {size} bytes of JSON; at most {} (execution.max_parameters)", self.max_parameters),
        )
    }
}

impl Target {
    pub(super) fn text(&self) -> String {
        match self {
            Target::Container(name) => format!("container {name:?}"),
            Target::Pool(name) => format!("pool {name:?}"),
            Target::Session(id, _) => id.to_string(),
            Target::Snapshot(name) => name.clone(),
        }
    }
}
