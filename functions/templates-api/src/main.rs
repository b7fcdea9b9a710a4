//! Answers the calls of `/templates` and `/catalog`, and what everybody may read.

use std::{process::ExitCode, time::Duration};

use slipway_api::Resource;
use slipway_app::App;
use slipway_lambda_shell::{Function, start};

/// As long as API Gateway waits.
const TIME_OUT: Duration = Duration::from_secs(29);

fn main() -> ExitCode {
    let function = Function::new("templates-api", TIME_OUT);
    start(function, async |shell| {
        let services = shell.services();
        shell
            .answer(&[Resource::Templates, Resource::Catalog], App::new(services))
            .await
    })
}
