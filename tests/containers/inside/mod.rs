//! Tools that run inside containers.

mod code;
mod faults;
mod files;
mod pools;
mod python;
mod shell;

use crate::harness::{call, result, text};
use crate::kit::{House, PYTHON, image};
use casemate::proto::v1;
use serde_json::{Value, json};
use tonic::Status;
use v1::tool_target::Target;

pub const LANGUAGES: &str = "casemate-test/languages:1";

/// A call of a tool in a container.
fn within(container: &str, tool: &str, parameters: Value) -> v1::ToolCall {
    let target = Some(v1::ToolTarget { target: Some(Target::ContainerId(container.into())), expected_turn: None });
    v1::ToolCall { target, ..call(tool, &parameters.to_string()) }
}

fn exit(response: &v1::ExecuteToolResponse) -> (v1::ExitReason, i32) {
    (result(response).exit_reason(), result(response).exit_code)
}

/// Paths of the files that a run made or changed, and whether it made them.
fn left(response: &v1::ExecuteToolResponse) -> Vec<(&str, bool)> {
    result(response).files.iter().map(|file| (file.path.as_str(), file.created)).collect()
}

impl House {
    /// A container with Python that does nothing by itself.
    async fn python(&self) -> String {
        self.spawn(image(PYTHON, &["/bin/sleep", "100000"])).await.unwrap().id
    }

    async fn languages(&self) -> String {
        self.spawn(image(LANGUAGES, &["/bin/sleep", "100000"])).await.unwrap().id
    }

    async fn tool(&self, container: &str, tool: &str, parameters: Value) -> Result<v1::ExecuteToolResponse, Status> {
        self.server().run(within(container, tool, parameters)).await
    }

    async fn sh(&self, container: &str, command: &str) -> v1::ExecuteToolResponse {
        self.tool(container, "shell", json!({"command": command})).await.unwrap()
    }

    /// What a command prints.
    async fn says(&self, container: &str, command: &str) -> String {
        text(&self.sh(container, command).await)
    }
}
