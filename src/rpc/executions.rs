//! The Executions service.

use super::convert;
use super::convert::execution as to;
use super::status::status;
use super::stream::EventStream;
use crate::container::Containers;
use crate::domain::execution::{Exit, Subject};
use crate::domain::id::ExecutionId;
use crate::error::{Error, Result};
use crate::execution::{Ended, Live, Registry};
use crate::proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(3600);
const MAX_STDIN_WRITE: usize = 1 << 20;
const MAX_REASON: usize = 1000;

/// The service.
pub struct Executions {
    registry: Registry,
    containers: Option<Arc<Containers>>,
}

impl Executions {
    /// Serves the executions of a registry.
    pub fn new(registry: Registry, containers: Option<Arc<Containers>>) -> Self {
        Executions { registry, containers }
    }

    async fn find(&self, id: &str) -> Result<Arc<Live>> {
        let id: ExecutionId = convert::id("execution_id", id)?;
        self.registry.find(id).await
    }

    async fn list(&self, request: v1::ListExecutionsRequest) -> Result<v1::ListExecutionsResponse> {
        let size = convert::page::size(request.page_size)?;
        let filter = to::filter(request.filter)?;
        let listing = format!("executions {filter:?}");
        let before = match convert::page::position(&listing, &request.page_token)? {
            None => None,
            Some(position) => Some(ExecutionId::from_bytes(position.try_into().map_err(|_| {
                Error::invalid("page_token", "is not a token of this server; begin with an empty one")
            })?)),
        };
        // One more than asked for tells whether there is a next page.
        let mut executions = self.registry.list(filter, before, size + 1).await?;
        let more = executions.len() > size;
        executions.truncate(size);
        let next_page_token = match executions.last() {
            Some(last) if more => convert::page::token(&listing, last.origin.id.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListExecutionsResponse { executions: executions.iter().map(to::execution).collect(), next_page_token })
    }

    async fn watch(&self, request: v1::WatchExecutionRequest) -> Result<EventStream<v1::WatchExecutionResponse>> {
        let live = self.find(&request.execution_id).await?;
        let silence = super::silence("keepalive_interval", request.keepalive_interval.as_ref())?;
        let standing = live.journal().standing();
        if standing.ended.is_some() && request.from_sequence > standing.last_sequence {
            return Err(Error::SequenceOutOfRange {
                id: live.origin().id,
                from: request.from_sequence,
                last: standing.last_sequence,
            });
        }
        let wrap = |event| v1::WatchExecutionResponse { event: Some(event) };
        Ok(EventStream::new(live, request.from_sequence, silence, wrap))
    }

    async fn wait(&self, request: v1::WaitExecutionRequest) -> Result<v1::WaitExecutionResponse> {
        let live = self.find(&request.execution_id).await?;
        let timeout = match &request.timeout {
            None => DEFAULT_WAIT,
            Some(timeout) => convert::span("timeout", timeout)?.min(MAX_WAIT),
        };
        // Either way the answer tells how it stands.
        let _ = tokio::time::timeout(timeout, live.journal().ended()).await;
        let execution = live.execution();
        Ok(v1::WaitExecutionResponse { done: execution.state.is_final(), execution: Some(to::execution(&execution)) })
    }

    async fn write(&self, request: v1::WriteStdinRequest) -> Result<v1::WriteStdinResponse> {
        if request.data.len() > MAX_STDIN_WRITE {
            return Err(Error::invalid("data", format!("is {} bytes; at most {MAX_STDIN_WRITE}", request.data.len())));
        }
        let live = self.find(&request.execution_id).await?;
        let offset = live.feed(request.offset, request.data, request.eof).await.map_err(|error| {
            match error {
                // The end closed it: say so, rather than that somebody closed it.
                Error::StdinClosed { id } if live.execution().state.is_final() => Error::ExecutionOver { id },
                error => error,
            }
        })?;
        Ok(v1::WriteStdinResponse { offset })
    }

    /// An execution that is a process which runs, and where such are.
    async fn process(&self, id: &str, needs: &'static str) -> Result<(Arc<Live>, &Arc<Containers>)> {
        let live = self.find(id).await?;
        let id = live.origin().id;
        if live.execution().state.is_final() {
            return Err(Error::ExecutionOver { id });
        }
        match (&live.origin().subject, &self.containers) {
            (Subject::Process { .. }, Some(containers)) => Ok((live, containers)),
            _ => Err(Error::NotSupported { id, needs }),
        }
    }

    async fn signal(&self, request: v1::SignalExecutionRequest) -> Result<()> {
        let (live, containers) = self.process(&request.execution_id, "process").await?;
        containers.signal(&live, &request.signal)
    }

    async fn resize(&self, request: v1::ResizeTerminalRequest) -> Result<()> {
        let (live, containers) = self.process(&request.execution_id, "terminal").await?;
        let fit = |field: &str, value: u32| {
            u16::try_from(value)
                .ok()
                .filter(|value| *value > 0)
                .ok_or_else(|| Error::invalid(field, format!("is {value}; expected 1 to 65,535")))
        };
        containers.resize(&live, (fit("columns", request.columns)?, fit("rows", request.rows)?))
    }

    async fn cancel(&self, request: v1::CancelExecutionRequest) -> Result<v1::CancelExecutionResponse> {
        if request.reason.chars().count() > MAX_REASON {
            return Err(Error::invalid("reason", format!("is longer than {MAX_REASON} characters")));
        }
        let live = self.find(&request.execution_id).await?;
        let message = match request.reason.as_str() {
            "" => "it was cancelled".to_owned(),
            reason => format!("it was cancelled: {reason}"),
        };
        live.end(Ended::new(Exit::Cancelled, message));
        live.journal().ended().await;
        Ok(v1::CancelExecutionResponse { execution: Some(to::execution(&live.execution())) })
    }
}

#[tonic::async_trait]
impl v1::executions_server::Executions for Executions {
    async fn get_execution(
        &self,
        request: Request<v1::GetExecutionRequest>,
    ) -> Result<Response<v1::GetExecutionResponse>, Status> {
        let live = self.find(&request.into_inner().execution_id).await.map_err(status)?;
        Ok(Response::new(v1::GetExecutionResponse { execution: Some(to::execution(&live.execution())) }))
    }

    async fn list_executions(
        &self,
        request: Request<v1::ListExecutionsRequest>,
    ) -> Result<Response<v1::ListExecutionsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    type WatchExecutionStream = EventStream<v1::WatchExecutionResponse>;

    async fn watch_execution(
        &self,
        request: Request<v1::WatchExecutionRequest>,
    ) -> Result<Response<Self::WatchExecutionStream>, Status> {
        self.watch(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn wait_execution(
        &self,
        request: Request<v1::WaitExecutionRequest>,
    ) -> Result<Response<v1::WaitExecutionResponse>, Status> {
        self.wait(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn write_stdin(
        &self,
        request: Request<v1::WriteStdinRequest>,
    ) -> Result<Response<v1::WriteStdinResponse>, Status> {
        self.write(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn signal_execution(
        &self,
        request: Request<v1::SignalExecutionRequest>,
    ) -> Result<Response<v1::SignalExecutionResponse>, Status> {
        self.signal(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(v1::SignalExecutionResponse {}))
    }

    async fn resize_terminal(
        &self,
        request: Request<v1::ResizeTerminalRequest>,
    ) -> Result<Response<v1::ResizeTerminalResponse>, Status> {
        self.resize(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(v1::ResizeTerminalResponse {}))
    }

    async fn cancel_execution(
        &self,
        request: Request<v1::CancelExecutionRequest>,
    ) -> Result<Response<v1::CancelExecutionResponse>, Status> {
        self.cancel(request.into_inner()).await.map(Response::new).map_err(status)
    }
}
