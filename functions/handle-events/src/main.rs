//! Ends steps whose jobs have ended, and goes on with what comes after them.

use std::{process::ExitCode, time::Duration};

use slipway_app::{App, Services};
use slipway_lambda_shell::{Function, start};
use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Queue};

/// As the infrastructure templates say.
const TIME_OUT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let function = Function::new("handle-events", TIME_OUT)
        .sends_to(&[
            "execute-step",
            "deploy-helm",
            BUDPIPELINE_EVENTS,
            BUDUSECASES_EVENTS,
        ])
        .with_dead_letters();
    start(function, async |shell| {
        // Steps look at clusters, call the outside and make jobs; Helm runs elsewhere.
        let services = Services {
            connector: shell.clusters(),
            outside: shell.outside(),
            ..shell.services()
        };
        shell
            .consume(Queue::Topic(BUDPIPELINE_EVENTS.to_owned()), App::new(services))
            .await
    })
}
