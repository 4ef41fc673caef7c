//! grpc.health.v1, fed from the server's one health value.

use crate::health::{ComponentState, Health};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Services that need more than this server: they serve as long as the backend of containers answers.
const CONTAINERS: [&str; 2] = ["casemate.v1.Containers", "casemate.v1.Pools"];

/// Services of the contract, and whether this build serves them.
pub(super) const SERVICES: &[(&str, bool)] = &[
    ("casemate.v1.Tools", true),
    ("casemate.v1.Executions", true),
    ("casemate.v1.Sessions", true),
    ("casemate.v1.Snapshots", true),
    (CONTAINERS[0], true),
    ("casemate.v1.Agents", false),
    (CONTAINERS[1], true),
    ("casemate.v1.Credentials", false),
    ("casemate.v1.System", false),
];

/// Keeps the reporter in step with `health` until the server ends.
pub(super) async fn follow(health: Health, reporter: HealthReporter) {
    let mut reports = health.subscribe();
    loop {
        let (ready, containers) = {
            let report = reports.borrow_and_update();
            let containers = report.components.get("containers");
            (report.ready(), containers.is_some_and(|component| component.state == ComponentState::Up))
        };
        let status = |serving| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status(ready)).await;
        for (service, built) in SERVICES {
            let serves = ready && *built && (containers || !CONTAINERS.contains(service));
            reporter.set_service_status(*service, status(serves)).await;
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}
