//! A run of a WASM module: what it takes, its guest, and whether its output is what was promised.

use super::{Runner, Tool};
use crate::domain::event::OutputStream;
use crate::domain::execution::{Exit, OutputViolation};
use crate::domain::input::Inputs;
use crate::domain::manifest::OutputFormat;
use crate::engine::{self, Egress};
use crate::error::{Error, Result, Violation};
use crate::execution::{Ended, Live};
use serde_json::Value;
use std::sync::Arc;

/// Runs the module's guest.
pub(super) async fn guest(tool: Arc<Tool>, live: Arc<Live>, egress: Arc<dyn Egress>) -> Ended {
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
pub(super) fn refuse_inputs(inputs: &Inputs) -> Result<()> {
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
