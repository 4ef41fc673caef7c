//! `casemate health`: a probe.

use super::failure::Failure;
use super::output::Format;
use super::{Global, client, output};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// What to ask.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Be content with any answer: the process is alive, even if it is starting or draining
    #[arg(long)]
    live: bool,
    /// A service, such as casemate.v1.Tools, instead of the server as a whole
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks, prints the answer, and exits with 0 or 1 as probes expect.
pub async fn run(args: &HealthArgs, global: &Global) -> Result<ExitCode, Failure> {
    let settings = global.client_settings()?;
    let ask = async {
        let channel = client::channel(&settings.target, args.timeout).await?;
        let request = HealthCheckRequest { service: args.service.clone() };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) => Ok(answer.into_inner().status()),
            // The server as a whole always has a status: this is about a service nobody knows.
            Err(status) if status.code() == Code::NotFound => Ok(ServingStatus::ServiceUnknown),
            Err(status) => Err(Failure::answer("the health check failed", &status)),
        }
    };
    let status = match tokio::time::timeout(args.timeout, ask).await {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => return Err(failure.of_a_probe()),
        Err(_) => {
            let why = format!("{} gave no answer within {}", settings.target, humantime::format_duration(args.timeout));
            return Err(Failure::local("the health check failed", why));
        }
    };
    let (name, good) = match status {
        ServingStatus::Serving => ("serving", true),
        ServingStatus::NotServing => ("not_serving", args.live),
        ServingStatus::ServiceUnknown => ("unknown_service", false),
        ServingStatus::Unknown => ("unknown", args.live),
    };
    match Format::choose(global) {
        Format::Json => output::json(&json!({ "status": name, "address": settings.target.to_string() }))?,
        Format::Human => output::line(&format!("{}: {name}", settings.target))?,
    }
    Ok(ExitCode::from(u8::from(!good)))
}
