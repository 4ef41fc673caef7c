//! Tools in the forms that models' APIs take.

use crate::domain::manifest::Manifest;
use serde_json::{Map, Value, json};

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's function tools.
    OpenAi,
    /// Anthropic's tools.
    Anthropic,
    /// The Model Context Protocol's tools.
    Mcp,
}

/// One tool in one form. A tool without an input schema takes any object.
pub fn render(name: &str, manifest: &Manifest, form: Form) -> Map<String, Value> {
    let input = manifest.input_schema.clone().unwrap_or_else(|| json!({"type": "object"}));
    let description = manifest.description.as_str();
    let value = match form {
        Form::OpenAi => json!({
            "type": "function",
            "function": {"name": name, "description": description, "parameters": input},
        }),
        Form::Anthropic => json!({"name": name, "description": description, "input_schema": input}),
        Form::Mcp => match &manifest.output_schema {
            Some(output) => {
                json!({"name": name, "description": description, "inputSchema": input, "outputSchema": output})
            }
            None => json!({"name": name, "description": description, "inputSchema": input}),
        },
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
