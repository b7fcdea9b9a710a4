//! Answers the calls of `/executions`, `/actions` and `/dead-letters`.

use std::{process::ExitCode, time::Duration};

use slipway_api::Resource;
use slipway_app::App;
use slipway_lambda_shell::{ALL_QUEUES, Function, start};

/// As long as API Gateway waits.
const TIME_OUT: Duration = Duration::from_secs(29);

fn main() -> ExitCode {
    let function = Function::new("executions-api", TIME_OUT)
        .sends_to(&ALL_QUEUES)
        .with_dead_letters();
    start(function, async |shell| {
        let services = shell.services();
        shell
            .answer(
                &[Resource::Executions, Resource::Actions, Resource::DeadLetters],
                App::new(services),
            )
            .await
    })
}
