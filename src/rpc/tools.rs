//! The Tools service.

use super::caller;
use super::containers::viewer;
use super::convert::{self, tool as to};
use super::status::status;
use super::stream::EventStream;
use crate::container::Viewer;
use crate::domain::manifest::Manifest;
use crate::error::{Error, Result};
use crate::execution::Live;
use crate::proto::v1;
use crate::proto::v1::upload_tool_request::Part;
use crate::tool::{Called, Form, Target, Tool, ToolService, Upload, render};
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

/// The service.
pub struct Tools {
    tools: Arc<ToolService>,
    max_module: u64,
}

impl Tools {
    /// Serves these tools; uploads are at most `max_module` bytes.
    pub fn new(tools: Arc<ToolService>, max_module: u64) -> Self {
        Tools { tools, max_module }
    }

    fn list(&self, request: v1::ListToolsRequest) -> Result<v1::ListToolsResponse> {
        let size = convert::page::size(request.page_size)?;
        let after = convert::page::position("tools", &request.page_token)?;
        let entries = self.tools.catalog().list();
        let begin =
            after.map_or(0, |after| entries.partition_point(|entry| entry.name().as_bytes() <= after.as_slice()));
        let page = &entries[begin..entries.len().min(begin + size)];
        let next_page_token = match page.last() {
            Some(last) if begin + size < entries.len() => convert::page::token("tools", last.name().as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListToolsResponse { tools: page.iter().map(|entry| to::tool(entry)).collect(), next_page_token })
    }

    async fn schemas(&self, request: v1::GetToolSchemasRequest, viewer: Viewer) -> Result<v1::GetToolSchemasResponse> {
        let form = match request.format() {
            v1::SchemaFormat::Unspecified | v1::SchemaFormat::Openai => Form::OpenAi,
            v1::SchemaFormat::Anthropic => Form::Anthropic,
            v1::SchemaFormat::Mcp => Form::Mcp,
        };
        match request.target.map(|sent| to::target("target", sent)).transpose()?.flatten() {
            None => {}
            Some(target @ (Target::Container(_) | Target::Pool(_))) => {
                let offered = self.tools.inside()?.offered(&target, &viewer).await?;
                return chosen(&request.names, offered, form);
            }
            Some(_) => return Err(Error::Unimplemented { feature: "the tools of a session or snapshot (target)" }),
        }
        let catalog = self.tools.catalog();
        let tools = if request.names.is_empty() {
            catalog.list().iter().filter_map(|entry| entry.serving().cloned()).collect()
        } else {
            request.names.iter().map(|name| catalog.tool(name)).collect::<Result<Vec<_>>>()?
        };
        let render = |tool: &Arc<Tool>| convert::json::to_struct(render(tool.name(), tool.manifest(), form));
        let schemas = tools.iter().map(render).collect();
        Ok(v1::GetToolSchemasResponse { schemas })
    }

    async fn upload(
        &self,
        mut parts: Streaming<v1::UploadToolRequest>,
    ) -> Result<(v1::UploadToolHeader, Bytes), Status> {
        let refuse = |field: &str, text: String| status(Error::invalid(field, text));
        let header = match parts.next().await.transpose()?.and_then(|part| part.part) {
            Some(Part::Header(header)) => header,
            _ => return Err(refuse("header", "the first message of an upload is its header".into())),
        };
        crate::tool::check_name("header.name", &header.name).map_err(status)?;
        let mut module = BytesMut::new();
        while let Some(part) = parts.next().await.transpose()? {
            match part.part {
                Some(Part::Chunk(chunk)) => {
                    if (module.len() + chunk.len()) as u64 > self.max_module {
                        return Err(refuse(
                            "chunk",
                            format!("the module is larger than {} bytes (engine.max_module)", self.max_module),
                        ));
                    }
                    module.extend_from_slice(&chunk);
                }
                Some(Part::Header(_)) => {
                    return Err(refuse("header", "only the first message carries a header".into()));
                }
                None => return Err(refuse("part", "expected a chunk".into())),
            }
        }
        let module = module.freeze();
        if module.is_empty() {
            return Err(refuse("chunk", "the upload has no bytes".into()));
        }
        if !header.digest.is_empty() {
            let digest = hex::encode(Sha256::digest(&module));
            if !digest.eq_ignore_ascii_case(&header.digest) {
                return Err(refuse(
                    "header.digest",
                    format!("expected {}, the bytes received have {digest}; send them again", header.digest),
                ));
            }
        }
        Ok((header, module))
    }

    async fn register(
        &self,
        name: String,
        manifest: Option<v1::ToolManifest>,
        module: Option<Bytes>,
        request: Option<(Arc<str>, crate::domain::id::RequestId)>,
    ) -> Result<v1::Tool> {
        let manifest = manifest.map(to::manifest_sent).transpose()?;
        let entry = self.tools.catalog().register(Upload { name, manifest, module, request }).await?;
        Ok(to::tool(&entry))
    }

    async fn execute(&self, call: Option<v1::ToolCall>, viewer: Viewer) -> Result<v1::ExecuteToolResponse> {
        let (call, form) = to::call(call, viewer)?;
        let (name, target) = (call.tool.clone(), call.target.clone());
        let called = self.tools.begin(call).await?;
        let format = match &called {
            Called::New(work) => work.output(),
            Called::Existing(_) => self.tools.output_of(&name, target.as_ref()),
        };
        let live = self.tools.finish(called).await?;
        let left = convert::output::left(&live);
        Ok(v1::ExecuteToolResponse {
            execution: Some(convert::execution::execution(&live.execution())),
            output: Some(to::output(&live, format, form)),
            stderr: to::stderr(&live),
            value: left.value,
            rich_outputs: left.rich_outputs,
            files: left.files,
        })
    }

    async fn execute_stream(&self, call: Option<v1::ToolCall>, viewer: Viewer) -> Result<Arc<Live>> {
        let (call, _) = to::call(call, viewer)?;
        Ok(match self.tools.begin(call).await? {
            Called::New(work) => {
                let live = work.live().clone();
                let tools = self.tools.clone();
                // Its own task: the run outlives the stream.
                tokio::spawn(async move {
                    // A failure to record the end is logged where it happens; readers still see the end.
                    let _ = tools.drive(*work).await;
                });
                live
            }
            Called::Existing(live) => live,
        })
    }
}

/// Those of the tools that are asked for, in a form.
fn chosen(names: &[String], offered: Vec<(&'static str, Manifest)>, form: Form) -> Result<v1::GetToolSchemasResponse> {
    let missing = names.iter().find(|name| !offered.iter().any(|(offered, _)| offered == name));
    if let Some(name) = missing {
        return Err(Error::TargetMismatch {
            target: "container".into(),
            tool: name.clone(),
            problem: format!(
                "it cannot run there; those that can are {}",
                offered.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            ),
        });
    }
    let wanted = offered.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|asked| asked == name));
    let schemas = wanted.map(|(name, manifest)| convert::json::to_struct(render(name, manifest, form))).collect();
    Ok(v1::GetToolSchemasResponse { schemas })
}

#[tonic::async_trait]
impl v1::tools_server::Tools for Tools {
    async fn list_tools(
        &self,
        request: Request<v1::ListToolsRequest>,
    ) -> Result<Response<v1::ListToolsResponse>, Status> {
        self.list(request.into_inner()).map(Response::new).map_err(status)
    }

    async fn get_tool(&self, request: Request<v1::GetToolRequest>) -> Result<Response<v1::GetToolResponse>, Status> {
        let entry = self.tools.catalog().get(&request.into_inner().name).map_err(status)?;
        Ok(Response::new(v1::GetToolResponse { tool: Some(to::tool(&entry)) }))
    }

    async fn register_tool(
        &self,
        request: Request<v1::RegisterToolRequest>,
    ) -> Result<Response<v1::RegisterToolResponse>, Status> {
        let principal = caller(&request);
        let message = request.into_inner();
        let request_id = convert::request_id("request_id", &message.request_id).map_err(status)?;
        let module = (!message.module.is_empty()).then_some(message.module);
        let tool = self
            .register(message.name, message.manifest, module, request_id.map(|id| (principal, id)))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RegisterToolResponse { tool: Some(tool) }))
    }

    async fn upload_tool(
        &self,
        request: Request<Streaming<v1::UploadToolRequest>>,
    ) -> Result<Response<v1::UploadToolResponse>, Status> {
        let principal = caller(&request);
        let (header, module) = self.upload(request.into_inner()).await?;
        let request_id = convert::request_id("header.request_id", &header.request_id).map_err(status)?;
        let tool = self
            .register(header.name, header.manifest, Some(module), request_id.map(|id| (principal, id)))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::UploadToolResponse { tool: Some(tool) }))
    }

    async fn delete_tool(
        &self,
        request: Request<v1::DeleteToolRequest>,
    ) -> Result<Response<v1::DeleteToolResponse>, Status> {
        let principal = caller(&request);
        let message = request.into_inner();
        let request_id = convert::request_id("request_id", &message.request_id).map_err(status)?;
        let request = request_id.map(|id| (principal, id));
        self.tools.catalog().delete(&message.name, request).await.map_err(status)?;
        Ok(Response::new(v1::DeleteToolResponse {}))
    }

    async fn reload_tools(
        &self,
        _request: Request<v1::ReloadToolsRequest>,
    ) -> Result<Response<v1::ReloadToolsResponse>, Status> {
        let reloaded = self.tools.catalog().reload(None).await.map_err(status)?;
        Ok(Response::new(v1::ReloadToolsResponse {
            added: reloaded.added,
            updated: reloaded.updated,
            removed: reloaded.removed,
            problems: reloaded.problems.into_iter().map(|(name, problem)| v1::ToolProblem { name, problem }).collect(),
        }))
    }

    async fn get_tool_schemas(
        &self,
        request: Request<v1::GetToolSchemasRequest>,
    ) -> Result<Response<v1::GetToolSchemasResponse>, Status> {
        let viewer = viewer(&request);
        self.schemas(request.into_inner(), viewer).await.map(Response::new).map_err(status)
    }

    async fn execute_tool(
        &self,
        request: Request<v1::ExecuteToolRequest>,
    ) -> Result<Response<v1::ExecuteToolResponse>, Status> {
        let viewer = viewer(&request);
        self.execute(request.into_inner().call, viewer).await.map(Response::new).map_err(status)
    }

    type ExecuteToolStreamStream = EventStream<v1::ExecuteToolStreamResponse>;

    async fn execute_tool_stream(
        &self,
        request: Request<v1::ExecuteToolStreamRequest>,
    ) -> Result<Response<Self::ExecuteToolStreamStream>, Status> {
        let viewer = viewer(&request);
        let message = request.into_inner();
        let silence = match message.keepalive_seconds {
            0 => super::DEFAULT_KEEPALIVE,
            seconds => Duration::from_secs(u64::from(seconds)).min(super::MAX_KEEPALIVE),
        };
        let live = self.execute_stream(message.call, viewer).await.map_err(status)?;
        let wrap = |event| v1::ExecuteToolStreamResponse { event: Some(event) };
        let id = live.origin().id.to_string();
        let mut response = Response::new(EventStream::new(live, 1, silence, wrap));
        if let Ok(id) = id.parse() {
            response.metadata_mut().insert("casemate-execution-id", id);
        }
        Ok(response)
    }
}
