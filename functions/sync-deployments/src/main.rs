//! Looks every minute at what is due or was lost, and at the dead letters.

use std::{process::ExitCode, time::Duration};

use slipway_app::App;
use slipway_lambda_shell::{ALL_QUEUES, Function, start};

/// As the infrastructure templates say.
const TIME_OUT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let function = Function::new("sync-deployments", TIME_OUT)
        .sends_to(&ALL_QUEUES)
        .with_dead_letters();
    start(function, async |shell| {
        let services = shell.services();
        shell.tick(App::new(services)).await
    })
}
