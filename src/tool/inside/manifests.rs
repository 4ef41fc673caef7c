//! What the tools say of themselves, in general and for what one image offers.

use super::programs::Programs;
use super::{Kind, VERSION, files, languages, plan};
use crate::domain::manifest::{Manifest, OutputFormat, Runtime};
use serde_json::{Value, json};

const PYTHON: &str = "\
Runs Python 3 code in a container and returns what it prints, the value of its last expression, figures and tables it \
shows (display(x)), and the files it makes or changes in the workspace. Each call is a fresh interpreter; files stay.";

const SHELL: &str = "\
Runs a shell command in a container, in its workspace, and returns what it prints, its exit code, and the files it makes \
or changes. Each call is a fresh shell; files stay.";

const CODE: &str = "\
Runs a program in a container and returns what it prints, its exit code, and the files it makes or changes in the \
workspace. Languages that are compiled are compiled first; what the compiler says is told apart from the run.";

const NOTEBOOK: &str = "\
Runs code in a Jupyter kernel that keeps its state, in a session in a container. Returns what it prints, the value of its \
last expression, figures and tables it shows, and the files it makes or changes in the workspace. Variables, imports and \
files stay for the next call.";

/// The manifest of the tool `notebook`, for an image that has these kernels.
pub(super) fn notebook(kernels: &[String]) -> Manifest {
    let code = json!({"type": "string", "description": "The code to run."});
    let schema = json!({
        "type": "object", "properties": {"code": code}, "required": ["code"], "additionalProperties": false,
    });
    let here = if kernels.is_empty() { String::new() } else { format!("\nKernels here: {}.", kernels.join(", ")) };
    Manifest {
        description: format!("{NOTEBOOK}{here}"),
        version: VERSION.into(),
        input_schema: Some(schema),
        runtime: Runtime::Container,
        output: OutputFormat::Text,
        ..Manifest::default()
    }
}

/// The manifest of a tool. With programs: for an image that has these.
pub(super) fn manifest(kind: Kind, programs: Option<&Programs>) -> Manifest {
    let description = match kind {
        Kind::Python => PYTHON.to_owned(),
        Kind::Shell => SHELL.to_owned(),
        Kind::Files => files::DESCRIPTION.to_owned(),
        Kind::Code => match programs {
            Some(programs) => {
                format!("{CODE}\nLanguages here: {}.", plan::offered(programs).collect::<Vec<_>>().join(", "))
            }
            None => CODE.to_owned(),
        },
    };
    Manifest {
        description,
        version: VERSION.into(),
        input_schema: Some(schema(kind, programs)),
        runtime: Runtime::Container,
        output: kind.output(),
        ..Manifest::default()
    }
}

fn schema(kind: Kind, programs: Option<&Programs>) -> Value {
    let object = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let code = json!({"type": "string", "description": "The code to run."});
    match kind {
        Kind::Python => object(json!({"code": code}), &["code"]),
        Kind::Shell => {
            let command = json!({"type": "string", "minLength": 1, "description": "The command, as a shell takes it."});
            object(json!({"command": command}), &["command"])
        }
        Kind::Code => {
            let mut language = json!({"type": "string", "description": "What the code is written in."});
            if let Some(programs) = programs {
                language["enum"] = plan::offered(programs).collect();
            } else {
                let names: Vec<&str> = languages::LANGUAGES.iter().map(|language| language.name).collect();
                language["examples"] = names.into();
            }
            object(json!({"language": language, "code": code}), &["language", "code"])
        }
        Kind::Files => files::schema(),
    }
}
