//! Runs jobs on clusters with Helm, phase after phase, and renders previews.

use std::{process::ExitCode, time::Duration};

use slipway_app::{App, Services};
use slipway_lambda_shell::{Function, start_threads};
use slipway_model::{BUDPIPELINE_EVENTS, Queue};

/// As the infrastructure templates say.
const TIME_OUT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let function = Function::new("deploy-helm", TIME_OUT)
        .sends_to(&["deploy-helm", BUDPIPELINE_EVENTS])
        .with_dead_letters()
        .with_helm();
    // Several threads, because charts are packed and manifests judged while Helm runs.
    start_threads(function, async |shell| {
        let helm = shell.helm();
        let services = Services {
            charts: helm.clone(),
            connector: helm,
            ..shell.services()
        };
        shell.consume(Queue::DeployHelm, App::new(services)).await
    })
}
