//! Calls of tools that run in containers: at once, or in a session over a kernel.

use super::call::{Call, Called, ToolService, Way, Work};
use super::fingerprint::fingerprint;
use super::inside::{self, Accepted};
use crate::container::Viewer;
use crate::domain::execution::Subject;
use crate::domain::id::SessionId;
use crate::domain::manifest::OutputFormat;
use crate::error::Result;
use crate::execution::{Lane, Start};
use crate::session::{SessionCall, SessionCalled};
use bytes::Bytes;

impl ToolService {
    pub(super) async fn begin_inside(&self, mut call: Call) -> Result<Called> {
        let inside = self.inside()?;
        let (value, text) = self.read_parameters(std::mem::take(&mut call.parameters))?;
        let viewer = Viewer { name: call.principal.clone(), administers: call.administers };
        Ok(match inside.begin(call, &viewer, value, text).await? {
            Accepted::Existing(live) => Called::Existing(live),
            Accepted::New(errand) => {
                Called::New(Box::new(Work { output: errand.kind.output(), way: Way::Inside(errand) }))
            }
        })
    }

    pub(super) async fn begin_notebook(&self, mut call: Call, session: SessionId, turn: Option<u64>) -> Result<Called> {
        let inside = self.inside()?;
        let (value, text) = self.read_parameters(std::mem::take(&mut call.parameters))?;
        inside.check_notebook(&call, &value)?;
        let start = Start {
            id: None,
            subject: Subject::Tool {
                name: inside::NOTEBOOK.into(),
                version: inside::VERSION.into(),
                digest: "".into(),
            },
            principal: call.principal.clone(),
            request: call.request_id.map(|request_id| (request_id, fingerprint(&call, &text))),
            labels: std::mem::take(&mut call.labels),
            limits: inside.session_limits(&call),
            stdin: Bytes::new(),
            stdin_given: std::mem::take(&mut call.stdin),
            stdin_open: call.keep_stdin_open,
            session: None,
            parent: call.parent.map(|(id, _)| id),
            target: "".into(),
            lane: Lane::new("a call in a session", 1),
        };
        let call = SessionCall {
            session,
            expected_turn: turn,
            wall_time: call.limits.wall_time.map(|asked| asked.min(self.limits.caps.wall_time)),
            parameters: value,
            inputs: std::mem::take(&mut call.inputs),
            start,
            tool: inside::NOTEBOOK.into(),
        };
        Ok(match self.sessions.call(call).await? {
            SessionCalled::Existing(live) => Called::Existing(live),
            SessionCalled::New(run) => {
                Called::New(Box::new(Work { output: OutputFormat::Text, way: Way::Session(run) }))
            }
        })
    }
}
