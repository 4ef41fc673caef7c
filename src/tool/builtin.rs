//! The tools that need no file: interpreters, whose parameters are code.

use super::call::Job;
use super::{Runner, Tool, kernels};
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::io::OutputSink;
use crate::domain::limits::LimitsRequest;
use crate::domain::manifest::{Manifest, OutputFormat};
use crate::domain::output::{ExceptionFrame, ExceptionInfo};
use crate::domain::time::Timestamp;
use crate::engine::Egress;
use crate::error::{Error, Result};
use crate::execution::{Ended, Lane, Live};
use crate::interpreter::{self, Children, Interpreters, typescript};
use crate::tool::Schema;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

const PYTHON: &str = "\
Runs Python 3.15 code in a fresh, isolated interpreter and returns what it prints, the value of its last expression, \
figures and tables it shows, and files it writes. No state is kept between calls unless a session is used.
Installed: the standard library, numpy, pandas, scipy, scikit-learn, statsmodels, matplotlib, seaborn, sympy, networkx, \
pillow, lxml, beautifulsoup4, openpyxl, pypdf, pyyaml, jinja2 and others. Nothing can be installed at run time.
Files: the working directory is the scratch directory; files given with the call are there, files written there are \
returned. Open figures and matplotlib.pyplot.show() return images; display(x) shows tables and figures.
Other tools: `from casemate import tools`, then help(tools) and tools.NAME(...). HTTP: `from casemate import http`.
There are no sockets, subprocesses, threads or ssl; asyncio works.
IMPORTANT: numpy's default integer has 32 bits here and overflows silently: np.arange(100000).sum() is 704982704. Pass \
dtype=np.int64 (or use Python's int, or pandas, whose integers have 64 bits) where sums or products can exceed 2**31.";

const JAVASCRIPT: &str = "\
Runs JavaScript (ES2023, QuickJS) or TypeScript in a fresh, isolated interpreter and returns what it prints, the value \
of its last expression, and files it writes. No state is kept between calls unless a session is used.
Top-level await works. There are console, timers, URL, TextEncoder, structuredClone, crypto.randomUUID, fs (with \
fs.promises) on the scratch directory, path, and process.argv, env and exit. Files given with the call can be imported \
by relative path; nothing can be installed at run time.
Other tools: `await tools.NAME({...})`. HTTP: fetch. display(value, {html, png, json}) shows things.
There are no sockets, child processes or workers. TypeScript is run by erasing its types: enums, namespaces with values \
and decorators are refused.";

/// The built-in tools that are installed.
pub(super) fn tools(interpreters: &Interpreters, max_running: u32) -> Result<Vec<Tool>> {
    let installed = interpreters.all().iter().filter(|interpreter| interpreter.installed().is_ok());
    installed
        .map(|interpreter| {
            let manifest = manifest(interpreter.name(), interpreter.artifact().version);
            let input = manifest.input_schema.as_ref();
            let input = input.map(|schema| Schema::compile(interpreter.name(), "input_schema", schema)).transpose()?;
            Ok(Tool {
                name: interpreter.name().into(),
                version: manifest.version.as_str().into(),
                lane: Lane::new(format!("tool {:?}", interpreter.name()), max_running),
                environment: Arc::default(),
                directories: Arc::from([]),
                manifest: Arc::new(manifest),
                runner: Runner::Interpreter(interpreter.clone()),
                input,
                output: None,
                loaded: Timestamp::now(),
            })
        })
        .collect()
}

fn manifest(name: &str, version: &str) -> Manifest {
    const MIB: u64 = 1 << 20;
    let mut properties = json!({"code": {"type": "string", "description": "The code to run."}});
    let description = match name {
        "python" => PYTHON,
        _ => {
            properties["language"] = json!({
                "type": "string",
                "enum": ["javascript", "typescript"],
                "default": "javascript",
                "description": "What the code is written in.",
            });
            JAVASCRIPT
        }
    };
    Manifest {
        description: description.into(),
        version: version.into(),
        input_schema: Some(json!({
            "type": "object",
            "properties": properties,
            "required": ["code"],
            "additionalProperties": false,
        })),
        output: OutputFormat::Text,
        limits: LimitsRequest { memory_bytes: Some(256 * MIB), host_calls: Some(1000), ..LimitsRequest::default() },
        ..Manifest::default()
    }
}

/// Code as the interpreter takes it, or the exception that reading it ended with.
pub(super) type Code = std::result::Result<Bytes, Box<ExceptionInfo>>;

/// The code in valid parameters. `name` is what tracebacks call it.
pub(super) async fn code(parameters: &Value, name: &str) -> Result<Code> {
    let Some(Value::String(code)) = parameters.get("code") else {
        return Err(Error::invalid("call.parameters.code", "is required: the code to run, as a string"));
    };
    if parameters.get("language").is_none_or(|language| language != "typescript") {
        return Ok(Ok(Bytes::copy_from_slice(code.as_bytes())));
    }
    let stripped = typescript::strip_apart(name, code).await;
    Ok(stripped.map(Bytes::from).map_err(|problem| {
        let source = code.lines().nth(problem.line.saturating_sub(1) as usize).unwrap_or_default();
        let source: String = source.chars().take(1000).collect();
        let place = format!("{name}:{}:{}", problem.line, problem.column);
        Box::new(ExceptionInfo {
            type_name: "SyntaxError".into(),
            traceback: format!("SyntaxError: {}\n    at {place}\n", problem.message),
            message: problem.message,
            frames: vec![ExceptionFrame {
                file: name.into(),
                line: problem.line,
                column: problem.column,
                function: String::new(),
                source,
            }],
        })
    }))
}

/// The end of a run whose code could not be read.
pub(super) fn unreadable(exception: ExceptionInfo, live: &Live) -> Ended {
    live.write(OutputStream::Stderr, Bytes::from(exception.traceback.clone()));
    let message = format!("{}: {}", exception.type_name, exception.message);
    Ended { exception: Some(exception), ..Ended::new(Exit::Exited { code: 1 }, message) }
}

/// What a run of an interpreter comes to.
pub(super) fn ended(ended: interpreter::Ended) -> Ended {
    Ended {
        exception: ended.exception,
        files: ended.files,
        unlisted_files: ended.unlisted_files,
        ..Ended::new(ended.exit, ended.message)
    }
}

/// Runs code in a fresh isolate.
pub(super) async fn run(
    tool: Arc<Tool>,
    job: Job,
    live: Arc<Live>,
    egress: Arc<dyn Egress>,
    children: Option<Arc<dyn Children>>,
) -> Ended {
    let Runner::Interpreter(interpreter) = &tool.runner else {
        return Ended::new(Exit::Internal, "a module was to run code");
    };
    let code = match job.code {
        Ok(code) => code,
        Err(exception) => return unreadable(*exception, &live),
    };
    let run = interpreter::Run {
        tenant: live.origin().principal.clone(),
        limits: live.origin().limits,
        code,
        inputs: job.inputs,
        input: live.clone(),
        output: live.clone(),
        meter: live.meter().clone(),
        egress,
        children,
    };
    let result = match job.from {
        None => interpreter.run(run).await.map(ended),
        Some((kernels, snapshot)) => kernels::run_from(&kernels, &snapshot, run, &live).await,
    };
    result.unwrap_or_else(|error| Ended::new(Exit::Internal, error.to_string()))
}
