//! Running a tool: from a call to an execution, and from its output to an answer.

use super::fingerprint::fingerprint;
use super::{Catalog, Runner, Tool, builtin};
use crate::domain::event::OutputStream;
use crate::domain::execution::{Exit, OutputViolation, Subject};
use crate::domain::id::RequestId;
use crate::domain::input::Inputs;
use crate::domain::limits::{LimitsPolicy, LimitsRequest};
use crate::domain::manifest::OutputFormat;
use crate::engine::{self, DenyAll, Egress};
use crate::error::{Error, Result, Violation};
use crate::execution::{Begun, Ended, Lane, Live, Registry, Run, Start};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;

/// Runs tools: the catalog, the registry and the server's limits in one hand.
pub struct ToolService {
    catalog: Arc<Catalog>,
    registry: Registry,
    limits: LimitsPolicy,
    max_parameters: u64,
    egress: Arc<dyn Egress>,
    /// The engine's pools, so that a run which finds its pool full waits in the queue like any other, or is
    /// turned away, and not once it holds a slot of the server.
    pools: Vec<Lane>,
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
    /// Who calls.
    pub principal: Arc<str>,
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
pub struct Job {
    /// The code.
    pub(super) code: Bytes,
    /// What is given to it.
    pub(super) inputs: Inputs,
}

/// A call that was accepted.
pub enum Called {
    /// A new run of this tool.
    New {
        /// The tool.
        tool: Arc<Tool>,
        /// Drives the run.
        run: Run,
        /// What an interpreter is to do.
        job: Option<Job>,
    },
    /// An earlier call with the same request id.
    Existing(Arc<Live>),
}

impl ToolService {
    /// Runs tools of `catalog` as executions of `registry`.
    pub fn new(catalog: Arc<Catalog>, registry: Registry, limits: LimitsPolicy, max_parameters: u64) -> Self {
        let pools = catalog.engine().pools().into_iter().map(|(name, slots)| Lane::new(name, slots)).collect();
        ToolService { catalog, registry, limits, max_parameters, egress: Arc::new(DenyAll), pools }
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
        let tool = self.catalog.tool(&call.tool)?;
        check_labels("call.labels", &call.labels)?;
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
                tool.lane.clone()
            }
        };
        let request = call.request_id.map(|request_id| (request_id, fingerprint(&call, &text)));
        let job = match &tool.runner {
            Runner::Module(_) => None,
            // Its parameters are code, and standard input is all the program's.
            Runner::Interpreter(_) => Some(Job { code: builtin::code(&value)?, inputs: std::mem::take(&mut call.inputs) }),
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
            subject: Subject::Tool {
                name: tool.name.clone(),
                version: tool.version.clone(),
                digest: tool.digest(),
            },
            principal: call.principal,
            request,
            labels: call.labels,
            limits,
            stdin,
            stdin_given: call.stdin,
            stdin_open: call.keep_stdin_open,
            session: None,
            parent: None,
            target: "".into(),
            lane,
        };
        Ok(match self.registry.begin(start).await? {
            Begun::New(run) => Called::New { tool, run, job },
            Begun::Existing(live) => Called::Existing(live),
        })
    }

    /// Runs the guest of an accepted call to its end.
    pub async fn drive(&self, tool: Arc<Tool>, run: Run, job: Option<Job>) -> Result<Arc<Live>> {
        let egress = self.egress.clone();
        match job {
            None => run.drive(|live| guest(tool, live, egress)).await,
            Some(job) => run.drive(|live| builtin::run(tool, job, live, egress)).await,
        }
    }

    fn read_parameters(&self, parameters: Parameters) -> Result<(Value, Bytes)> {
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

async fn guest(tool: Arc<Tool>, live: Arc<Live>, egress: Arc<dyn Egress>) -> Ended {
    let Runner::Module(program) = &tool.runner else {
        return Ended::new(Exit::Internal, "an interpreter was to run without code");
    };
    let run = engine::Run {
        limits: live.origin().limits,
        args: vec![tool.name.to_string()],
        environment: tool.environment.clone(),
        directories: tool.directories.clone(),
        input: live.clone(),
        output: live.clone(),
        meter: live.meter().clone(),
        egress,
    };
    match program.run(run).await {
        Ok(ended) => match ended.exit {
            Exit::Exited { code: 0 } => check_output(&tool, &live),
            exit => Ended::new(exit, ended.message),
        },
        Err(error) => Ended::new(Exit::Internal, error.to_string()),
    }
}

/// A guest that ended well must also have printed what its manifest promises.
fn check_output(tool: &Tool, live: &Live) -> Ended {
    let good = Ended::new(Exit::Exited { code: 0 }, "");
    if tool.output.is_none() && tool.manifest.output != OutputFormat::Json {
        return good;
    }
    let invalid = |pointer: String, description: String| OutputViolation { pointer, description };
    let (bytes, truncated) = live.journal().collect(OutputStream::Stdout);
    let violations = if truncated {
        vec![invalid(String::new(), "it was cut: it exceeded limits.output_bytes".into())]
    } else {
        match serde_json::from_slice::<Value>(&bytes) {
            Err(error) => vec![invalid(String::new(), format!("is not JSON: {error}"))],
            Ok(value) => match tool.output.as_ref().map_or(Ok(()), |schema| schema.check(&value)) {
                Ok(()) => return good,
                Err(problems) => problems.into_iter().map(|problem| invalid(problem.pointer, problem.text)).collect(),
            },
        }
    };
    Ended::new(
        Exit::OutputInvalid { code: 0, violations },
        format!("tool {:?} ended well, but its output is not what its manifest promises", tool.name),
    )
}

/// Refuses what only interpreters and containers take: a run without what it was given would be a wrong one.
fn refuse_inputs(inputs: &Inputs) -> Result<()> {
    let given = [
        (!inputs.files.is_empty(), "files", "files"),
        (!inputs.arguments.is_empty(), "arguments", "arguments"),
        (!inputs.environment.is_empty(), "environment", "environment variables; their manifest sets them"),
        (!inputs.return_files.is_empty(), "return_files", "files, and leave none"),
    ];
    let refuse = |(_, field, what): &(bool, &str, &str)| {
        Violation::new(format!("call.{field}"), format!("tools from WASM modules take no {what}"))
    };
    let violations: Vec<Violation> = given.iter().filter(|(given, ..)| *given).map(refuse).collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
}

/// Checks labels against the contract's bounds; `field` is where they stand.
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    let mut violations = Vec::new();
    if labels.len() > MAX_LABELS {
        violations.push(Violation::new(field, format!("are {}; at most {MAX_LABELS}", labels.len())));
    }
    for (key, value) in labels.iter().take(MAX_LABELS) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        if !(1..=MAX_LABEL_KEY).contains(&key.len()) || !key.bytes().all(plain) {
            violations.push(Violation::new(
                field,
                format!("key {key:?}: expected 1 to {MAX_LABEL_KEY} of a-z, A-Z, 0-9, '_', '-', '.' and '/'"),
            ));
        }
        if value.len() > MAX_LABEL_VALUE {
            violations.push(Violation::new(
                field,
                format!("value of {key:?} is {} bytes long; at most {MAX_LABEL_VALUE}", value.len()),
            ));
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
}
