//! Sessions and snapshots on a server without an interpreter: what is refused, and in which words.

use crate::guests;
use crate::harness::{Bearer, Setup, TOKEN, reason};
use casemate::proto::v1;
use casemate::proto::v1::session_target::Target;
use casemate::proto::v1::sessions_client::SessionsClient;
use casemate::proto::v1::snapshots_client::SnapshotsClient;
use tonic::Code;
use tonic_types::StatusExt;

const UNKNOWN: &str = "0192c7a0-0000-7000-8000-000000000000";

#[tokio::test]
async fn a_session_needs_a_tool_that_keeps_state() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let mut sessions = SessionsClient::with_interceptor(server.channel().await, Bearer(TOKEN));
    let mut create = async |request: v1::CreateSessionRequest| {
        let status = sessions.create_session(request).await.unwrap_err();
        (status.code(), reason(&status), status.message().to_owned())
    };
    let of = |tool: &str| v1::CreateSessionRequest { tool: tool.into(), ..Default::default() };
    let (code, _, message) = create(of("")).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("tool: is required"), "{message}");
    let (code, why, _) = create(of("nope")).await;
    assert_eq!((code, why.as_str()), (Code::NotFound, "TOOL_NOT_FOUND"));
    let (code, _, message) = create(of("cat")).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("keeps no state"), "{message}");
    let (code, ..) = create(v1::CreateSessionRequest { request_id: "x".into(), ..of("cat") }).await;
    assert_eq!(code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_listings_are_empty() {
    let server = Setup::new().start().await;
    let mut sessions = SessionsClient::with_interceptor(server.channel().await, Bearer(TOKEN));
    let get = v1::GetSessionRequest { session_id: UNKNOWN.into() };
    let status = sessions.get_session(get).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    assert_eq!(status.get_error_details().resource_info().unwrap().resource_name, UNKNOWN);
    let close = v1::CloseSessionRequest { session_id: UNKNOWN.into(), ..Default::default() };
    assert_eq!(sessions.close_session(close).await.unwrap_err().code(), Code::NotFound);
    let fork = v1::ForkSessionRequest { session_id: UNKNOWN.into(), count: 2, ..Default::default() };
    assert_eq!(sessions.fork_session(fork).await.unwrap_err().code(), Code::NotFound);
    let fork = v1::ForkSessionRequest { session_id: UNKNOWN.into(), count: 1001, ..Default::default() };
    assert_eq!(sessions.fork_session(fork).await.unwrap_err().code(), Code::InvalidArgument);
    let freeze =
        |name: &str| v1::SnapshotSessionRequest { session_id: UNKNOWN.into(), name: name.into(), ..Default::default() };
    assert_eq!(sessions.snapshot_session(freeze("Nope")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(sessions.snapshot_session(freeze("good")).await.unwrap_err().code(), Code::NotFound);
    let listed = sessions.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.sessions.len(), listed.next_page_token.as_str()), (0, ""));
    let wrong = v1::ListSessionsRequest { page_token: "AAAA".into(), ..Default::default() };
    assert_eq!(sessions.list_sessions(wrong).await.unwrap_err().code(), Code::InvalidArgument);

    let mut snapshots = SnapshotsClient::with_interceptor(server.channel().await, Bearer(TOKEN));
    let listed = snapshots.list_snapshots(v1::ListSnapshotsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.snapshots.len(), 0);
    let get = |id: &str| v1::GetSnapshotRequest { snapshot_id: id.into() };
    let status = snapshots.get_snapshot(get("base")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SNAPSHOT_NOT_FOUND"));
    assert_eq!(snapshots.get_snapshot(get("")).await.unwrap_err().code(), Code::InvalidArgument);
    let delete = v1::DeleteSnapshotRequest { snapshot_id: "base".into(), request_id: UNKNOWN.into() };
    for _ in 0..2 {
        // A delete that failed is not remembered as done.
        assert_eq!(snapshots.delete_snapshot(delete.clone()).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn without_containers_there_are_no_sessions_in_them() {
    let server = Setup::new().config("[containers]\nenabled = false\n").start().await;
    let mut sessions = SessionsClient::with_interceptor(server.channel().await, Bearer(TOKEN));
    let of = |container: &str| {
        let filter = v1::SessionFilter { container_id: container.into(), ..Default::default() };
        v1::ListSessionsRequest { filter: Some(filter), ..Default::default() }
    };
    assert_eq!(sessions.list_sessions(of("c")).await.unwrap_err().code(), Code::InvalidArgument, "it is no id");
    assert_eq!(sessions.list_sessions(of(UNKNOWN)).await.unwrap().into_inner().sessions, []);
    let target = Some(v1::SessionTarget { target: Some(Target::ContainerId("c".into())) });
    let request = v1::CreateSessionRequest { tool: "notebook".into(), target, ..Default::default() };
    let status = sessions.create_session(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("containers.enabled"), "{status:?}");
    let target = Some(v1::SessionTarget { target: Some(Target::Pool("p".into())) });
    let request = v1::CreateSessionRequest { tool: "nope".into(), target, ..Default::default() };
    assert_eq!(sessions.create_session(request).await.unwrap_err().code(), Code::NotFound, "the tool comes first");
    let (status, health) = server.get("/health").await;
    assert_eq!(status, 200);
    assert!(health.contains("\"sessions\""), "{health}");
}
