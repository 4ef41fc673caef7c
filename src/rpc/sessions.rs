//! The Sessions service.

use super::convert::{self, input, json, session as to, snapshot};
use super::status::status;
use super::{caller, session_caller};
use crate::domain::id::{RequestId, SessionId};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::session::{Caller, Fork, NewSession, SessionSnapshot};
use crate::store::shelf::check_name;
use crate::tool::{Catalog, NOTEBOOK, check_labels};
use prost::Message;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};

const MAX_DESCRIPTION: usize = 4 << 10;
const MAX_FORKS: u32 = 1000;

/// The service.
pub struct Sessions {
    sessions: Arc<crate::session::Sessions>,
    catalog: Arc<Catalog>,
}

impl Sessions {
    /// Serves these sessions. The catalog tells tools that keep no state from those there are not.
    pub fn new(sessions: Arc<crate::session::Sessions>, catalog: Arc<Catalog>) -> Self {
        Sessions { sessions, catalog }
    }

    async fn create(&self, request: v1::CreateSessionRequest, principal: Arc<str>) -> Result<v1::Session> {
        let identity = identity(&request.request_id, || v1::CreateSessionRequest {
            request_id: String::new(),
            ..request.clone()
        })?;
        if request.tool.is_empty() {
            return Err(Error::invalid("tool", "is required, for example \"python\""));
        }
        if !self.sessions.keeps_state(&request.tool) {
            if request.tool == NOTEBOOK {
                let problem = "they are turned off here; the operator turns them on with containers.enabled".into();
                return Err(Error::BackendUnavailable { problem });
            }
            self.catalog.get(&request.tool)?;
            let text = format!("{:?} keeps no state between calls; call it without a session", request.tool);
            return Err(Error::invalid("tool", text));
        }
        check_labels("labels", &request.labels)?;
        let parameters = match request.parameters {
            Some(parameters) => serde_json::Value::Object(json::from_struct("parameters", parameters)?).to_string(),
            None => "{}".into(),
        };
        let (snapshot, home) = to::target(request.target)?;
        let new = NewSession {
            snapshot,
            home,
            limits: to::limits_request(request.limits.as_ref())?,
            durability: to::durability(request.durability)?,
            environment: input::variables("environment", request.environment)?,
            tool: request.tool.into(),
            labels: request.labels,
            request: identity,
            parameters,
            principal,
        };
        Ok(to::session(&self.sessions.create(new).await?))
    }

    fn list(&self, request: v1::ListSessionsRequest, caller: &Caller) -> Result<v1::ListSessionsResponse> {
        let size = convert::page::size(request.page_size)?;
        let selection = to::selection(request.filter)?;
        let listing = format!("sessions {selection:?}");
        let before = match convert::page::position(&listing, &request.page_token)? {
            None => None,
            Some(position) => Some(SessionId::from_bytes(position.try_into().map_err(|_| {
                Error::invalid("page_token", "is not a token of this server; begin with an empty one")
            })?)),
        };
        // One more than asked for tells whether there is a next page.
        let mut sessions = self.sessions.list(&selection, caller, before, size + 1)?;
        let more = sessions.len() > size;
        sessions.truncate(size);
        let next_page_token = match sessions.last() {
            Some(last) if more => convert::page::token(&listing, last.origin.id.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListSessionsResponse { sessions: sessions.iter().map(to::session).collect(), next_page_token })
    }

    async fn fork(&self, request: v1::ForkSessionRequest, principal: Arc<str>) -> Result<v1::ForkSessionResponse> {
        let identity =
            identity(&request.request_id, || v1::ForkSessionRequest { request_id: String::new(), ..request.clone() })?;
        check_labels("labels", &request.labels)?;
        if request.count > MAX_FORKS {
            return Err(Error::invalid("count", format!("is {}; expected 1 to {MAX_FORKS}", request.count)));
        }
        let fork = Fork {
            session: convert::id("session_id", &request.session_id)?,
            count: request.count.max(1),
            limits: to::limits_request(request.limits.as_ref())?,
            durability: to::durability(request.durability)?,
            labels: request.labels,
            request: identity,
            principal,
        };
        let (sessions, turn) = self.sessions.fork(fork).await?;
        Ok(v1::ForkSessionResponse { sessions: sessions.iter().map(to::session).collect(), turn })
    }

    async fn snapshot(&self, request: v1::SnapshotSessionRequest, principal: Arc<str>) -> Result<v1::Snapshot> {
        let identity = identity(&request.request_id, || v1::SnapshotSessionRequest {
            request_id: String::new(),
            ..request.clone()
        })?;
        check_name("name", &request.name)?;
        check_labels("labels", &request.labels)?;
        if request.description.len() > MAX_DESCRIPTION {
            let text = format!("is {} bytes; at most {MAX_DESCRIPTION}", request.description.len());
            return Err(Error::invalid("description", text));
        }
        let wanted = SessionSnapshot {
            session: convert::id("session_id", &request.session_id)?,
            name: request.name,
            description: request.description,
            labels: request.labels,
            request: identity,
            principal,
        };
        Ok(snapshot::snapshot(&self.sessions.snapshot(wanted).await?))
    }

    async fn close(&self, request: v1::CloseSessionRequest, caller: &Caller) -> Result<v1::Session> {
        convert::request_id("request_id", &request.request_id)?;
        let id = convert::id("session_id", &request.session_id)?;
        Ok(to::session(&self.sessions.close(id, caller).await?))
    }
}

/// The request id, if one was given, with a fingerprint of what is asked: the message without it.
fn identity<M: Message>(request_id: &str, rest: impl FnOnce() -> M) -> Result<Option<(RequestId, [u8; 32])>> {
    let request_id = convert::request_id("request_id", request_id)?;
    Ok(request_id.map(|request_id| (request_id, Sha256::digest(rest().encode_to_vec()).into())))
}

#[tonic::async_trait]
impl v1::sessions_server::Sessions for Sessions {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let principal = caller(&request);
        let session = self.create(request.into_inner(), principal).await.map_err(status)?;
        Ok(Response::new(v1::CreateSessionResponse { session: Some(session) }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let caller = session_caller(&request);
        let id = convert::id("session_id", &request.into_inner().session_id).map_err(status)?;
        let session = self.sessions.get(id, &caller).map_err(status)?;
        Ok(Response::new(v1::GetSessionResponse { session: Some(to::session(&session)) }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = session_caller(&request);
        self.list(request.into_inner(), &caller).map(Response::new).map_err(status)
    }

    async fn fork_session(
        &self,
        request: Request<v1::ForkSessionRequest>,
    ) -> Result<Response<v1::ForkSessionResponse>, Status> {
        let principal = caller(&request);
        self.fork(request.into_inner(), principal).await.map(Response::new).map_err(status)
    }

    async fn snapshot_session(
        &self,
        request: Request<v1::SnapshotSessionRequest>,
    ) -> Result<Response<v1::SnapshotSessionResponse>, Status> {
        let principal = caller(&request);
        let snapshot = self.snapshot(request.into_inner(), principal).await.map_err(status)?;
        Ok(Response::new(v1::SnapshotSessionResponse { snapshot: Some(snapshot) }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let caller = session_caller(&request);
        let session = self.close(request.into_inner(), &caller).await.map_err(status)?;
        Ok(Response::new(v1::CloseSessionResponse { session: Some(session) }))
    }
}
