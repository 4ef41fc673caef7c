//! `casemate tools`: what can be run.

use super::client::Client;
use super::failure::Failure;
use super::output::Format;
use super::{Global, manifest, output, present};
use crate::proto::v1::tool_target::Target;
use crate::proto::v1::upload_tool_request::Part;
use crate::proto::v1::{
    DeleteToolRequest, GetToolRequest, GetToolSchemasRequest, ListToolsRequest, RegisterToolRequest,
    ReloadToolsRequest, ReloadToolsResponse, SchemaFormat, Tool, ToolManifest, ToolTarget, UploadToolHeader,
    UploadToolRequest,
};
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uuid::Uuid;

/// Tools in one page of a listing; the server allows no more.
const PAGE: i32 = 1000;
/// Bytes of a module in one message.
const CHUNK: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum ToolsVerb {
    /// List the tools
    List,
    /// Show one tool
    Get {
        /// Name of the tool
        name: String,
    },
    /// Add a tool, or replace its module, its manifest or both
    Register {
        /// Name of the tool
        name: String,
        /// The WASM binary; may be left out for a tool that exists
        #[arg(long, value_name = "PATH", required_unless_present = "manifest")]
        module: Option<PathBuf>,
        /// The manifest, TOML or JSON; left out, the present one stays
        #[arg(long, value_name = "PATH")]
        manifest: Option<PathBuf>,
    },
    /// Add or replace a tool whose module is too large for one message
    Upload {
        /// Name of the tool
        name: String,
        /// The WASM binary
        module: PathBuf,
        /// The manifest, TOML or JSON; left out, the present one stays
        #[arg(long, value_name = "PATH")]
        manifest: Option<PathBuf>,
    },
    /// Remove a tool; its runs finish
    Delete {
        /// Name of the tool
        name: String,
    },
    /// Make the server read its tools directory again
    Reload,
    /// Print tools as models' APIs take them; always JSON
    Schemas {
        /// Names of the tools; none means all that can run
        names: Vec<String>,
        /// Whose API
        #[arg(long, value_name = "FORM", default_value = "openai")]
        format: Form,
        /// Those that this container can run, by name or id
        #[arg(long = "in", value_name = "CONTAINER", conflicts_with = "pool")]
        container: Option<String>,
        /// Those that containers of this pool can run: one is leased for a moment
        #[arg(long, value_name = "POOL")]
        pool: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Form {
    Openai,
    Anthropic,
    Mcp,
}

/// Does what the verb says.
pub async fn run(verb: ToolsVerb, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        ToolsVerb::List => list(&client, format).await?,
        ToolsVerb::Get { name } => {
            let answer = client.tools().get_tool(GetToolRequest { name: name.clone() }).await;
            let answer = answer.map_err(|status| client.failure(format!("tool {name:?} cannot be shown"), &status))?;
            show(answer.into_inner().tool, format)?;
        }
        ToolsVerb::Register { name, module, manifest } => {
            let module = module.map(|path| read_module(&path)).transpose()?.unwrap_or_default();
            let manifest = read_manifest(&name, manifest)?;
            let request = RegisterToolRequest { name: name.clone(), manifest, module, request_id: fresh_id() };
            let answer = client.tools().register_tool(request).await;
            let answer =
                answer.map_err(|status| client.failure(format!("tool {name:?} was not registered"), &status))?;
            show(answer.into_inner().tool, format)?;
        }
        ToolsVerb::Upload { name, module, manifest } => {
            let manifest = read_manifest(&name, manifest)?;
            let parts = parts(&name, manifest, read_module(&module)?);
            let answer = client.tools().upload_tool(tokio_stream::iter(parts)).await;
            let answer = answer.map_err(|status| client.failure(format!("tool {name:?} was not uploaded"), &status))?;
            show(answer.into_inner().tool, format)?;
        }
        ToolsVerb::Delete { name } => {
            let request = DeleteToolRequest { name: name.clone(), request_id: fresh_id() };
            let answer = client.tools().delete_tool(request).await;
            answer.map_err(|status| client.failure(format!("tool {name:?} was not deleted"), &status))?;
            match format {
                Format::Json => output::json(&json!({}))?,
                Format::Human => output::line(&format!("Deleted {name}."))?,
            }
        }
        ToolsVerb::Reload => {
            let answer = client.tools().reload_tools(ReloadToolsRequest { request_id: fresh_id() }).await;
            let answer = answer.map_err(|status| client.failure("the tools were not read again", &status))?;
            reloaded(&answer.into_inner(), format)?;
        }
        ToolsVerb::Schemas { names, format, container, pool } => {
            let format = match format {
                Form::Openai => SchemaFormat::Openai,
                Form::Anthropic => SchemaFormat::Anthropic,
                Form::Mcp => SchemaFormat::Mcp,
            };
            let target = container.map(Target::ContainerId).or(pool.map(Target::Pool));
            let target = target.map(|target| ToolTarget { target: Some(target), expected_turn: None });
            let request = GetToolSchemasRequest { names, format: format.into(), target };
            let answer = client.tools().get_tool_schemas(request).await;
            let answer = answer.map_err(|status| client.failure("the schemas cannot be shown", &status))?.into_inner();
            output::json(&Value::Array(answer.schemas.iter().map(present::structure::object).collect()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of a mutation, so that a transport that sends it twice does it once.
fn fresh_id() -> String {
    Uuid::now_v7().to_string()
}

fn read_module(path: &Path) -> Result<Bytes, Failure> {
    let module = std::fs::read(path);
    module
        .map(Bytes::from)
        .map_err(|error| Failure::local(format!("the module {} cannot be read", path.display()), error))
}

fn read_manifest(tool: &str, path: Option<PathBuf>) -> Result<Option<ToolManifest>, Failure> {
    path.map(|path| manifest::read(tool, &path)).transpose()
}

/// The messages of an upload: the header with the digest of all, then the module in chunks.
fn parts(name: &str, manifest: Option<ToolManifest>, module: Bytes) -> Vec<UploadToolRequest> {
    let header = UploadToolHeader {
        name: name.to_owned(),
        manifest,
        digest: hex::encode(Sha256::digest(&module)),
        request_id: fresh_id(),
    };
    let chunks = (0..module.len()).step_by(CHUNK).map(|begin| {
        // A slice of the one buffer, not a copy.
        Part::Chunk(module.slice(begin..module.len().min(begin + CHUNK)))
    });
    [Part::Header(header)].into_iter().chain(chunks).map(|part| UploadToolRequest { part: Some(part) }).collect()
}

fn show(tool: Option<Tool>, format: Format) -> Result<(), Failure> {
    let tool = tool.unwrap_or_default();
    match format {
        Format::Json => output::json(&present::tool::json(&tool)),
        Format::Human => output::line(&present::tool::detail(&tool)),
    }
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let mut tools: Vec<Tool> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client.tools().list_tools(ListToolsRequest { page_size: PAGE, page_token }).await;
        let page = page.map_err(|status| client.failure("tools cannot be listed", &status))?.into_inner();
        tools.extend(page.tools);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match format {
        Format::Json => {
            let tools: Vec<Value> = tools.iter().map(present::tool::json).collect();
            output::json(&json!({ "tools": tools }))
        }
        Format::Human if tools.is_empty() => {
            output::line("No tools. Put NAME.wasm into the server's tools directory, or `casemate tools register` one.")
        }
        Format::Human => output::line(&present::tool::table(&tools)),
    }
}

fn reloaded(answer: &ReloadToolsResponse, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let problems: Vec<Value> =
            answer.problems.iter().map(|problem| json!({ "name": problem.name, "problem": problem.problem })).collect();
        return output::json(&json!({
            "added": answer.added,
            "updated": answer.updated,
            "removed": answer.removed,
            "problems": problems,
        }));
    }
    let problems: Vec<String> =
        answer.problems.iter().map(|problem| format!("{}: {}", problem.name, problem.problem)).collect();
    let mut rows = vec![
        ("added", answer.added.join(" ")),
        ("updated", answer.updated.join(" ")),
        ("removed", answer.removed.join(" ")),
    ];
    rows.extend(problems.into_iter().map(|problem| ("problem", problem)));
    let text = output::facts(&rows);
    output::line(if text.is_empty() { "Nothing has changed." } else { &text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_a_header_and_all_bytes() {
        let module: Bytes = vec![7u8; CHUNK * 2 + 5].into();
        let parts = parts("x", None, module.clone());
        assert_eq!(parts.len(), 4);
        let Some(Part::Header(header)) = &parts[0].part else { panic!("the header comes first") };
        assert_eq!(header.digest, hex::encode(Sha256::digest(&module)));
        let bytes: usize = parts
            .iter()
            .map(|part| match &part.part {
                Some(Part::Chunk(chunk)) => chunk.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(bytes, module.len());
    }
}
