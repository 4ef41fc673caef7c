//! Health checks as messages, and what somebody asks of one.

use super::{duration, span, timestamp};
use crate::domain::health_check::{Health, HealthCheck, Probe, Verdict};
use crate::error::{Error, Result};
use crate::proto::v1;
use std::time::Duration;
use v1::container_health_check::Probe as Wanted;

const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(600));
const START: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));
const MOST_FAILURES: u32 = 1000;
const MAX_PARTS: usize = 256;
const MAX_BYTES: usize = 32 << 10;
const MAX_PATH: usize = 2 << 10;

/// What checks found.
pub fn found(health: &Health) -> v1::ContainerHealth {
    let mut message = v1::ContainerHealth {
        message: health.message.clone(),
        check_time: Some(timestamp(health.time)),
        failures: health.failures,
        ..Default::default()
    };
    message.set_state(match health.verdict {
        None => v1::ContainerHealthState::Unspecified,
        Some(Verdict::Healthy) => v1::ContainerHealthState::Healthy,
        Some(Verdict::Unhealthy) => v1::ContainerHealthState::Unhealthy,
    });
    message
}

/// A check.
pub fn check(check: &HealthCheck) -> v1::ContainerHealthCheck {
    v1::ContainerHealthCheck {
        probe: Some(match &check.probe {
            Probe::Command(command) => Wanted::Command(v1::HealthCommand { command: command.clone() }),
            Probe::Port(port) => Wanted::TcpPort((*port).into()),
            Probe::Http(port, path) => Wanted::Http(v1::HealthHttp { port: (*port).into(), path: path.clone() }),
        }),
        interval: Some(duration(check.interval)),
        timeout: Some(duration(check.timeout)),
        failure_threshold: check.threshold,
        start_period: Some(duration(check.start_period)),
    }
}

/// A check that somebody asks for.
pub fn asked(check: v1::ContainerHealthCheck) -> Result<HealthCheck> {
    let field = |name: &str| format!("spec.health_check.{name}");
    let time = |name: &str, asked: &Option<prost_types::Duration>, default, (least, most): (Duration, Duration)| {
        let Some(asked) = asked else { return Ok(default) };
        let asked = span(&field(name), asked)?;
        if (least..=most).contains(&asked) {
            return Ok(asked);
        }
        let words = |time| humantime::format_duration(time).to_string();
        let text = format!("is {}; expected {} to {}", words(asked), words(least), words(most));
        Err(Error::invalid(field(name), text))
    };
    let port = |name: &str, port: u32| match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Error::invalid(field(name), format!("is {port}; expected 1 to 65535"))),
    };
    let probe = match check.probe {
        None => return Err(Error::invalid("spec.health_check", "needs one of command, tcp_port and http")),
        Some(Wanted::Command(v1::HealthCommand { command })) => {
            let bytes: usize = command.iter().map(String::len).sum();
            let problem = match &command[..] {
                [program, ..] if program.is_empty() => "begins with an empty name".to_owned(),
                [] => "is required: a program and its arguments".to_owned(),
                all if all.len() > MAX_PARTS || bytes > MAX_BYTES => {
                    format!("has {} parts in {bytes} bytes; at most {MAX_PARTS} in {MAX_BYTES}", all.len())
                }
                all if all.iter().any(|part| part.contains('\0')) => "has a zero byte".to_owned(),
                _ => String::new(),
            };
            if !problem.is_empty() {
                return Err(Error::invalid(field("command.command"), problem));
            }
            Probe::Command(command)
        }
        Some(Wanted::TcpPort(number)) => Probe::Port(port("tcp_port", number)?),
        Some(Wanted::Http(http)) => {
            let path = if http.path.is_empty() { "/".to_owned() } else { http.path };
            let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
            if !path.starts_with('/') || !plain || path.len() > MAX_PATH || path.parse::<http::Uri>().is_err() {
                let text = format!("expected a path such as \"/health\", in ASCII, of at most {MAX_PATH} bytes");
                return Err(Error::invalid(field("http.path"), text));
            }
            Probe::Http(port("http.port", http.port)?, path)
        }
    };
    let threshold = match check.failure_threshold {
        0 => 3,
        asked if asked <= MOST_FAILURES => asked,
        asked => {
            return Err(Error::invalid(field("failure_threshold"), format!("is {asked}; at most {MOST_FAILURES}")));
        }
    };
    Ok(HealthCheck {
        probe,
        interval: time("interval", &check.interval, Duration::from_secs(30), INTERVAL)?,
        timeout: time("timeout", &check.timeout, Duration::from_secs(5), TIMEOUT)?,
        threshold,
        start_period: time("start_period", &check.start_period, Duration::ZERO, START)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_taken_as_it_is_shown_and_what_is_wrong_is_named() {
        let of = |probe| v1::ContainerHealthCheck { probe: Some(probe), ..Default::default() };
        let http = of(Wanted::Http(v1::HealthHttp { port: 80, path: String::new() }));
        let taken = asked(http.clone()).unwrap();
        assert_eq!((taken.interval, taken.threshold), (Duration::from_secs(30), 3));
        assert_eq!(taken.probe, Probe::Http(80, "/".into()));
        assert_eq!(asked(super::check(&taken)).unwrap(), taken);
        let second = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let command = |command: &[&str]| {
            let command = command.iter().map(|part| (*part).to_owned()).collect();
            of(Wanted::Command(v1::HealthCommand { command }))
        };
        let wrong = [
            (v1::ContainerHealthCheck::default(), "spec.health_check"),
            (of(Wanted::TcpPort(0)), "spec.health_check.tcp_port"),
            (of(Wanted::TcpPort(65536)), "spec.health_check.tcp_port"),
            (of(Wanted::Http(v1::HealthHttp { port: 80, path: "x".into() })), "spec.health_check.http.path"),
            (of(Wanted::Http(v1::HealthHttp { port: 80, path: "/\r\nA: b".into() })), "spec.health_check.http.path"),
            (command(&[]), "spec.health_check.command.command"),
            (command(&["a", "\0"]), "spec.health_check.command.command"),
            (v1::ContainerHealthCheck { interval: second(0), ..http.clone() }, "spec.health_check.interval"),
            (v1::ContainerHealthCheck { timeout: second(3600), ..http.clone() }, "spec.health_check.timeout"),
            (v1::ContainerHealthCheck { failure_threshold: 5000, ..http }, "spec.health_check.failure_threshold"),
        ];
        for (check, field) in wrong {
            let error = asked(check).unwrap_err().to_string();
            assert!(error.contains(&format!("{field}:")) || error.contains(field), "{error}");
        }
    }
}
