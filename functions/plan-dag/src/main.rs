//! Plans what a deployment wants: its DAG becomes an execution.

use std::{process::ExitCode, time::Duration};

use slipway_app::App;
use slipway_lambda_shell::{ALL_QUEUES, Function, start};
use slipway_model::Queue;

/// As the infrastructure templates say.
const TIME_OUT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let function = Function::new("plan-dag", TIME_OUT)
        .sends_to(&ALL_QUEUES)
        .with_dead_letters();
    start(function, async |shell| {
        let services = shell.services();
        shell.consume(Queue::PlanDag, App::new(services)).await
    })
}
