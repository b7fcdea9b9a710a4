//! Answers the calls of `/deployments`.

use std::{process::ExitCode, time::Duration};

use slipway_api::Resource;
use slipway_app::App;
use slipway_lambda_shell::{ALL_QUEUES, Function, start};

/// As long as API Gateway waits.
const TIME_OUT: Duration = Duration::from_secs(29);

fn main() -> ExitCode {
    let function = Function::new("deployments-api", TIME_OUT).sends_to(&ALL_QUEUES);
    start(function, async |shell| {
        let services = shell.services();
        shell.answer(&[Resource::Deployments], App::new(services)).await
    })
}
