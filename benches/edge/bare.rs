//! The floor: a tonic server whose only method answers what it was sent.

use super::PAYLOAD;
use std::convert::Infallible;
use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Bare";
}

struct Answer;

impl UnaryService<String> for Answer {
    type Response = String;
    type Future = std::future::Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Answer, request).await) })
    }
}

/// Serves until the process is killed; prints its address first.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address"));
        std::io::stdout().flush().expect("a reader");
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tonic::transport::Server::builder().add_service(Echo).serve_with_incoming(incoming).await.expect("serving");
    });
}

/// The server as a process of its own.
pub struct Process {
    child: Child,
    address: String,
}

impl Process {
    pub fn start() -> Process {
        let this = std::env::current_exe().expect("this program has a path");
        let mut child =
            Command::new(this).arg("--serve-bare").stdout(Stdio::piped()).spawn().expect("this program starts");
        let mut address = String::new();
        std::io::BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
        Process { child, address: address.trim().to_owned() }
    }

    pub async fn caller(&self) -> impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address")
            .connect()
            .await
            .expect("a connection");
        let payload = "x".repeat(PAYLOAD);
        move || {
            let mut client = tonic::client::Grpc::new(channel.clone());
            let payload = payload.clone();
            Box::pin(async move {
                client.ready().await.expect("ready");
                let path = http::uri::PathAndQuery::from_static("/bench.Bare/Echo");
                let codec: ProstCodec<String, String> = ProstCodec::default();
                let answer = client.unary(Request::new(payload), path, codec).await.expect("an answer");
                assert_eq!(answer.into_inner().len(), PAYLOAD);
            })
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
