//! Answers the calls of `/jobs`.

use std::{process::ExitCode, time::Duration};

use slipway_api::Resource;
use slipway_app::{App, Services};
use slipway_lambda_shell::{Function, start};
use slipway_model::BUDPIPELINE_EVENTS;

/// As long as API Gateway waits.
const TIME_OUT: Duration = Duration::from_secs(29);

fn main() -> ExitCode {
    let function = Function::new("jobs-api", TIME_OUT).sends_to(&["deploy-helm", BUDPIPELINE_EVENTS]);
    start(function, async |shell| {
        // Looking at clusters needs no Helm.
        let services = Services {
            connector: shell.clusters(),
            ..shell.services()
        };
        shell.answer(&[Resource::Jobs], App::new(services)).await
    })
}
