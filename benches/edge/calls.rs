//! One call, as the caller sees it: beside the bare echo, and step by step from the empty method to the
//! whole of ExecuteTool.

use super::load::{self, Figures};
use super::report::Report;
use super::server::{self, Step};
use super::{Plan, bare};

pub async fn measure(plan: Plan, report: &mut Report) {
    let bare = bare::Process::start();
    let casemate = server::Process::start(server::echo_only()).await;
    for concurrency in [1, 64] {
        report.title(&format!("{} bytes, one connection, concurrency {concurrency}", super::PAYLOAD));
        let mut theirs = Vec::new();
        let mut ours: Vec<Vec<Figures>> = Step::ALL.map(|_| Vec::new()).into();
        // In turns, so that whatever else the machine does hits all.
        for _ in 0..plan.rounds {
            theirs.push(load::run(concurrency, plan.time, bare.caller().await).await);
            for (step, runs) in Step::ALL.into_iter().zip(&mut ours) {
                runs.push(load::run(concurrency, plan.time, casemate.caller(step).await).await);
            }
        }
        let theirs = Figures::median(theirs);
        report.figures(&format!("bare_echo_c{concurrency}"), "bare tonic echo", &theirs);
        for (step, runs) in Step::ALL.into_iter().zip(ours) {
            let figures = Figures::median(runs);
            let name = format!("{}_c{concurrency}", step.name());
            report.figures(&name, step.label(), &figures);
            if step == Step::Execute {
                report.compare(&name, &figures, &theirs);
            }
        }
    }
}
