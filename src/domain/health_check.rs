//! How a container's health is found out, and what was found.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// Time between two checks.
    pub interval: Duration,
    /// Time one may take.
    pub timeout: Duration,
    /// Failures in a row that make a container unhealthy.
    pub threshold: u32,
    /// Time after its start in which failures do not count.
    pub start_period: Duration,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A command inside; it is to exit with 0.
    Command(Vec<String>),
    /// A port inside; it is to accept a connection.
    Port(u16),
    /// A request inside, by port and path; its status is to be 200 to 399.
    Http(u16, String),
}

/// What checks found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The verdict; none before the first.
    pub verdict: Option<Verdict>,
    /// What the last check said.
    pub message: String,
    /// When it ended.
    pub time: Timestamp,
    /// Failures in a row.
    pub failures: u32,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last check succeeded.
    Healthy,
    /// Too many in a row failed.
    Unhealthy,
}

impl Health {
    /// Takes what one more check found. One that comes before its time counts only if it succeeds, and so does one
    /// within the start period of what was never well.
    pub fn note(&mut self, check: &HealthCheck, found: Result<String, String>, early: bool, now: Timestamp) {
        self.time = now;
        match found {
            Ok(message) => {
                (self.message, self.failures) = (message, 0);
                self.verdict = Some(Verdict::Healthy);
            }
            Err(message) => {
                self.message = message;
                if early {
                    return;
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures >= check.threshold {
                    self.verdict = Some(Verdict::Unhealthy);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_takes_as_many_failures_as_it_should() {
        let second = Duration::from_secs(1);
        let check = HealthCheck {
            probe: Probe::Port(1),
            interval: second,
            timeout: second,
            threshold: 2,
            start_period: second,
        };
        let mut health = Health::default();
        let mut note = |found: Result<&str, &str>, early: bool| {
            let found = found.map(str::to_owned).map_err(str::to_owned);
            health.note(&check, found, early, Timestamp(1));
            (health.verdict, health.failures)
        };
        for _ in 0..3 {
            assert_eq!(note(Err("not yet"), true), (None, 0));
        }
        assert_eq!(note(Err("late"), false), (None, 1));
        assert_eq!(note(Ok("up"), true), (Some(Verdict::Healthy), 0));
        assert_eq!(note(Err("down"), false), (Some(Verdict::Healthy), 1));
        assert_eq!(note(Err("down"), false), (Some(Verdict::Unhealthy), 2));
        assert_eq!(note(Ok("up"), false), (Some(Verdict::Healthy), 0));
    }
}
