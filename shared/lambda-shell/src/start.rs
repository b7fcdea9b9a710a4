//! From the start of the process to the first event.

use slipway_ports::{SystemClock, chain};
use std::{env, process::ExitCode, sync::Arc, time::Duration};

use lambda_runtime_api_client::{Client, body::Body};
use tokio::{runtime::Builder, time::timeout};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    failure::ShellError,
    function::Function,
    logging::{self, FILTER, JsonLines},
    settings::Settings,
    shell::Shell,
};

/// How long Lambda may take to hear why the function does not start.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a function on one thread: makes what it needs, once, and hands that to `run`, which ends with the process.
///
/// A function that cannot start says why in its log and to Lambda, and ends with a status other than zero.
pub fn start<R>(function: Function, run: R) -> ExitCode
where
    R: AsyncFnOnce(Shell) -> Result<(), ShellError>,
{
    with_runtime(function, &mut Builder::new_current_thread(), run)
}

/// As [`start`], on several threads: for functions whose work keeps a thread busy.
pub fn start_threads<R>(function: Function, run: R) -> ExitCode
where
    R: AsyncFnOnce(Shell) -> Result<(), ShellError>,
{
    with_runtime(function, Builder::new_multi_thread().worker_threads(4), run)
}

fn with_runtime<R>(function: Function, builder: &mut Builder, run: R) -> ExitCode
where
    R: AsyncFnOnce(Shell) -> Result<(), ShellError>,
{
    let filter = start_log(&function);
    let ended = builder
        .enable_all()
        .build()
        .map_err(ShellError::Threads)
        .and_then(|runtime| {
            runtime.block_on(async {
                let ended = open_and_run(function, filter, run).await;
                if let Err(error) = &ended {
                    report(error).await;
                }
                ended
            })
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&error), kind = error.kind(), "the function ended");
            ExitCode::FAILURE
        }
    }
}

async fn open_and_run<R>(function: Function, filter: Option<String>, run: R) -> Result<(), ShellError>
where
    R: AsyncFnOnce(Shell) -> Result<(), ShellError>,
{
    let settings = Settings::from_environment(&function);
    let settings = match (settings, filter) {
        (settings, None) => settings?,
        (Ok(_), Some(problem)) => {
            return Err(ShellError::Setup {
                problems: vec![problem],
            });
        }
        (Err(ShellError::Setup { mut problems }), Some(problem)) => {
            problems.push(problem);
            return Err(ShellError::Setup { problems });
        }
        (Err(error), Some(_)) => return Err(error),
    };
    run(Shell::open(function, settings).await?).await
}

/// Starts the log, and says what is wrong with its filter, if anything is.
fn start_log(function: &Function) -> Option<String> {
    let text = env::var(FILTER).ok();
    let (filter, problem) = match logging::filter(text.as_deref()) {
        Ok(filter) => (filter, None),
        Err(error) => (
            Targets::new().with_default(tracing::Level::INFO),
            Some(format!(
                "{FILTER} is '{}': {error}; expected a level such as debug, or parts such as warn,slipway_app=debug",
                text.unwrap_or_default()
            )),
        ),
    };
    let name = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| function.name.to_owned());
    let lines = JsonLines::to_stdout(filter, Arc::new(SystemClock), name);
    // There is one already only where a test has one.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    problem
}

/// Tells Lambda why the function does not start.
async fn report(error: &ShellError) {
    if matches!(error, ShellError::Runtime(_)) || env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    let body = serde_json::json!({
        "errorType": error.kind(),
        "errorMessage": chain(error),
        "stackTrace": [],
    });
    let told = async {
        let client = Client::builder().build()?;
        let request = lambda_runtime_api_client::build_request()
            .method("POST")
            .uri("/2018-06-01/runtime/init/error")
            .header("Lambda-Runtime-Function-Error-Type", error.kind())
            .body(Body::from(body.to_string()))?;
        client.call(request).await
    };
    match timeout(PATIENCE, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(failed)) => tracing::warn!(
            error = chain(&*failed),
            "Lambda does not hear why the function ends"
        ),
        Err(_) => tracing::warn!("Lambda does not hear why the function ends"),
    }
}
