//! Sessions over Jupyter kernels in containers: real ones, and one that lies.

mod cells;
mod ends;
mod liars;

use crate::harness::{Bearer, PATIENCE, TOKEN, call};
use crate::kit::{House, image};
use casemate::proto::v1;
use serde_json::json;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use v1::sessions_client::SessionsClient;

pub const JUPYTER: &str = "casemate-test/jupyter:1";

type Sessions = SessionsClient<InterceptedService<Channel, Bearer>>;

/// A container with Jupyter that does nothing by itself.
pub fn jupyter() -> v1::ContainerSpec {
    image(JUPYTER, &["/bin/sleep", "100000"])
}

fn within(target: v1::session_target::Target) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest {
        tool: "notebook".into(),
        target: Some(v1::SessionTarget { target: Some(target) }),
        ..Default::default()
    }
}

fn in_container(id: &str) -> v1::CreateSessionRequest {
    within(v1::session_target::Target::ContainerId(id.into()))
}

fn cell(session: &str, code: &str) -> v1::ToolCall {
    let target = v1::tool_target::Target::SessionId(session.into());
    let target = Some(v1::ToolTarget { target: Some(target), expected_turn: None });
    v1::ToolCall { target, ..call("notebook", &json!({ "code": code }).to_string()) }
}

/// As a cell, with a wall time.
fn timed(session: &str, code: &str, time: Duration) -> v1::ToolCall {
    let wall_time = Some(prost_types::Duration::try_from(time).unwrap());
    v1::ToolCall { limits: Some(v1::ExecutionLimits { wall_time, ..Default::default() }), ..cell(session, code) }
}

impl House {
    async fn sessions(&self) -> Sessions {
        SessionsClient::with_interceptor(self.server().channel().await, Bearer(TOKEN))
    }

    async fn open_session(&self, request: v1::CreateSessionRequest) -> Result<v1::Session, Status> {
        Ok(self.sessions().await.create_session(request).await?.into_inner().session.unwrap())
    }

    /// A session in a new container, and that container.
    async fn notebook(&self) -> (String, v1::Container) {
        let container = self.spawn(jupyter()).await.unwrap();
        (self.open_session(in_container(&container.id)).await.unwrap().id, container)
    }

    async fn session(&self, id: &str) -> v1::Session {
        let request = v1::GetSessionRequest { session_id: id.into() };
        self.sessions().await.get_session(request).await.unwrap().into_inner().session.unwrap()
    }

    async fn cell(&self, session: &str, code: &str) -> v1::ExecuteToolResponse {
        self.server().run(cell(session, code)).await.unwrap()
    }

    /// How a session was closed, once it is.
    async fn closed(&self, id: &str) -> v1::SessionClosure {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let session = self.session(id).await;
            if let Some(closure) = session.closure {
                assert_eq!(v1::SessionState::try_from(session.state), Ok(v1::SessionState::Closed));
                return closure;
            }
            assert!(Instant::now() < deadline, "it is still open");
            tokio::task::yield_now().await;
        }
    }
}
