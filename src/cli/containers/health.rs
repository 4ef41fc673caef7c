//! What the command line says of health checks.

use super::span;
use crate::cli::failure::Failure;
use crate::proto::v1::container_health_check::Probe;
use crate::proto::v1::{ContainerHealthCheck, HealthCommand, HealthHttp};
use clap::Args;
use std::time::Duration;

/// How the health of a container is checked.
#[derive(Debug, Default, Args)]
pub struct HealthArgs {
    /// Check its health by this command of a shell: well when it exits with 0
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["health_port", "health_http"])]
    health_command: Option<String>,
    /// Check its health by this port: well when something listens
    #[arg(long, value_name = "PORT", conflicts_with = "health_http")]
    health_port: Option<u16>,
    /// Check its health by this request, such as 8000/health: well for a status of 200 to 399
    #[arg(long, value_name = "PORT[/PATH]", value_parser = http)]
    health_http: Option<HealthHttp>,
    /// Check it so often, such as 10s
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    health_interval: Option<Duration>,
    /// Let a check take so long
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    health_timeout: Option<Duration>,
    /// Find it unhealthy after so many failures in a row
    #[arg(long, value_name = "COUNT")]
    health_failures: Option<u32>,
    /// Do not count failures for so long after the start
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    health_start: Option<Duration>,
}

/// `PORT` or `PORT/PATH`.
fn http(text: &str) -> Result<HealthHttp, String> {
    let (port, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let port: u16 = port.parse().map_err(|_| "expected a port and a path, such as 8000/health".to_owned())?;
    Ok(HealthHttp { port: port.into(), path: path.to_owned() })
}

impl HealthArgs {
    /// The check, if one is asked for.
    pub fn message(self) -> Result<Option<ContainerHealthCheck>, Failure> {
        let shell = |line: String| ["sh".to_owned(), "-c".to_owned(), line].into();
        let command = self.health_command.map(|line| Probe::Command(HealthCommand { command: shell(line) }));
        let port = self.health_port.map(|port| Probe::TcpPort(port.into()));
        let probe = command.or(port).or(self.health_http.map(Probe::Http));
        let check = ContainerHealthCheck {
            probe,
            interval: span("--health-interval", self.health_interval)?,
            timeout: span("--health-timeout", self.health_timeout)?,
            failure_threshold: self.health_failures.unwrap_or_default(),
            start_period: span("--health-start", self.health_start)?,
        };
        // The server says what is missing where there is no probe.
        Ok((check != ContainerHealthCheck::default()).then_some(check))
    }
}
