//! Who is let in, health and reflection, and what an unknown method answers.

use crate::guests;
use crate::harness::{Bearer, Setup, call, reason};
use casemate::proto::v1;
use casemate::proto::v1::tools_client::ToolsClient;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

#[tokio::test]
async fn only_the_token_opens_the_door() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let channel = server.channel().await;
    let bare = ToolsClient::new(channel.clone()).list_tools(v1::ListToolsRequest::default()).await.unwrap_err();
    assert_eq!((bare.code(), reason(&bare).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    for wrong in ["", "x", "test-token-0123456789abcdef0123456789abcdeX"] {
        let mut client = ToolsClient::with_interceptor(channel.clone(), Bearer(wrong));
        let refused = client.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
    }
    assert_eq!(
        server.tools().await.list_tools(v1::ListToolsRequest::default()).await.unwrap().into_inner().tools.len(),
        1
    );
}

#[tokio::test]
async fn health_needs_no_token_and_knows_every_service() {
    // One service needs more than this server: it serves as long as the backend of containers answers.
    let nobody = "[containers]\nhost = \"unix:///nowhere/docker.sock\"";
    let server = Setup::new().config(nobody).start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        health.check(request).await.map(|response| response.into_inner().status())
    };
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("casemate.v1.Tools").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("casemate.v1.Executions").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("casemate.v1.Sessions").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("casemate.v1.Containers").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("casemate.v1.Agents").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("nope").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let server = Setup::new().start().await;
    let mut client =
        v1::agents_client::AgentsClient::with_interceptor(server.channel().await, Bearer(crate::harness::TOKEN));
    let status = client.list_agents(v1::ListAgentsRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    assert!(status.message().contains("ListAgents"), "{}", status.message());
    // Even that is not told to strangers.
    let mut stranger = v1::agents_client::AgentsClient::new(server.channel().await);
    let status = stranger.list_agents(v1::ListAgentsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn reflection_lists_the_contract_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Setup::new().start().await;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer.message_response
    else {
        panic!("expected a list of services")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["casemate.v1.Tools", "casemate.v1.Executions", "casemate.v1.Agents", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }

    // Those of the details of errors too.
    for symbol in ["casemate.v1.Tools", "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
        let request = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                symbol.into(),
            )),
        };
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        assert!(
            matches!(
                answers.message().await.unwrap().unwrap().message_response,
                Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
            ),
            "{symbol}"
        );
    }
}
