//! grpc.health.v1, fed from the server's one health value.

use crate::health::{ComponentState, Health};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The service that needs more than this server: it serves as long as the backend of containers answers.
const CONTAINERS: &str = "casemate.v1.Containers";

/// Services of the contract, and whether this build serves them.
pub(super) const SERVICES: &[(&str, bool)] = &[
    ("casemate.v1.Tools", true),
    ("casemate.v1.Executions", true),
    ("casemate.v1.Sessions", true),
    ("casemate.v1.Snapshots", true),
    (CONTAINERS, true),
    ("casemate.v1.Agents", false),
    ("casemate.v1.Pools", false),
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
            reporter
                .set_service_status(*service, status(ready && *built && (containers || *service != CONTAINERS)))
                .await;
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}
