//! Tools called by a run's code: executions of their own, within what is left to their parent.

use super::call::{Call, Parameters, ToolService};
use crate::domain::event::OutputStream;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::id::ExecutionId;
use crate::domain::io::OutputSink;
use crate::domain::limits::LimitsRequest;
use crate::domain::output::ChildEvent;
use crate::error::Error;
use crate::execution::Live;
use crate::interpreter::{Children, Refused, Returned};
use bytes::Bytes;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Where the service of the tools will be, once it is made: interpreters are part of it.
pub type Link = Arc<OnceLock<Weak<ToolService>>>;

/// The calls that one run's code may make.
pub struct ChildCalls {
    tools: Weak<ToolService>,
    parent: Arc<Live>,
    /// How deep the parent itself is nested.
    depth: u32,
    deadline: Instant,
}

impl ChildCalls {
    /// Calls by this run; nothing while there is no service.
    pub fn of(link: &Link, parent: &Arc<Live>, depth: u32) -> Option<Arc<dyn Children>> {
        let tools = link.get()?.clone();
        let deadline = Instant::now() + parent.origin().limits.wall_time.min(Duration::from_secs(86_400 * 30));
        Some(Arc::new(ChildCalls { tools, parent: parent.clone(), depth, deadline }))
    }

    fn tell(&self, tool: &str, execution: Option<(ExecutionId, ExecutionState)>, message: &str) {
        let (execution, state) = execution.unzip();
        self.parent.child(ChildEvent { execution, tool: tool.into(), state, message: message.into() });
    }

    fn refuse(&self, tool: &str, message: String, reason: &str) -> Refused {
        self.tell(tool, None, &message);
        Refused { message, reason: reason.into() }
    }

    async fn run(&self, tool: &str, parameters: Bytes) -> Result<Returned, Refused> {
        let limits = self.parent.origin().limits;
        let made = self.parent.meter().child_execution();
        if made >= limits.child_executions {
            let text =
                format!("the run made all of its {} calls of tools (limits.child_executions)", limits.child_executions);
            return Err(self.refuse(tool, text, "CHILD_EXECUTIONS_EXHAUSTED"));
        }
        if self.depth >= limits.child_depth {
            let text = format!("calls of tools may nest {} deep (limits.child_depth)", limits.child_depth);
            return Err(self.refuse(tool, text, "CHILD_DEPTH_EXHAUSTED"));
        }
        let Some(service) = self.tools.upgrade() else {
            return Err(self.refuse(tool, "the server is shutting down".into(), "SHUTTING_DOWN"));
        };
        let refused = |error: Error| self.refuse(tool, error.to_string(), error.reason().name());
        let usual = service.usual_limits(tool).map_err(refused)?;
        let text = String::from_utf8_lossy(&parameters).into_owned();
        let call = Call {
            tool: tool.into(),
            parameters: Parameters::Text(text),
            inputs: Default::default(),
            stdin: Bytes::new(),
            limits: LimitsRequest {
                // Its own limits, within what is left of the parent's: the parent waits for it, so nothing is
                // spent twice.
                wall_time: Some(usual.wall_time.min(self.deadline.saturating_duration_since(Instant::now()))),
                child_executions: Some(usual.child_executions.min(limits.child_executions - made - 1)),
                child_depth: Some(limits.child_depth),
                ..LimitsRequest::default()
            },
            target: None,
            keep_stdin_open: false,
            labels: Default::default(),
            request_id: None,
            principal: self.parent.origin().principal.clone(),
            administers: false,
            parent: Some((self.parent.origin().id, self.depth + 1)),
        };
        let called = service.begin(call).await.map_err(refused)?;
        let id = called.live().origin().id;
        self.tell(tool, Some((id, ExecutionState::Running)), "");
        let live = service.finish(called).await.map_err(refused)?;
        self.parent.meter().nested_executions(live.meter().read().child_executions);
        let Execution { state, outcome, .. } = live.execution();
        let message = outcome.map(|outcome| outcome.message.clone()).unwrap_or_default();
        self.tell(tool, Some((id, state)), &message);
        if state != ExecutionState::Succeeded {
            let text = if message.is_empty() { format!("the tool ended as {}", state.name()) } else { message };
            return Err(Refused { message: text, reason: "TOOL_FAILED".into() });
        }
        let (output, truncated) = live.journal().collect(OutputStream::Stdout);
        if truncated {
            return Err(Refused {
                message: "the tool's output was cut (limits.output_bytes)".into(),
                reason: "OUTPUT_TRUNCATED".into(),
            });
        }
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&output).is_ok();
        Ok(Returned { output, json })
    }
}

impl Children for ChildCalls {
    fn list(&self) -> Vec<Value> {
        let Some(service) = self.tools.upgrade() else { return Vec::new() };
        let entries = service.catalog().list();
        let serving = entries.iter().filter_map(|entry| entry.serving());
        let describe = |tool: &Arc<super::Tool>| {
            let manifest = tool.manifest();
            json!({"name": &**tool.name(), "description": manifest.description, "input_schema": manifest.input_schema})
        };
        serving.map(describe).collect()
    }

    fn call<'a>(
        &'a self,
        tool: &'a str,
        parameters: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Returned, Refused>> + Send + 'a>> {
        Box::pin(self.run(tool, parameters))
    }
}
