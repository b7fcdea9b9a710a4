//! What every Slipway function shares: cold start, logs, traces, and the loop over a batch.
//!
//! A function's `main` says what it is and what it needs, and hands over:
//!
//! ```no_run
//! use std::{process::ExitCode, time::Duration};
//!
//! use slipway_lambda_shell::{Function, start};
//! use slipway_app::App;
//! use slipway_model::Queue;
//!
//! fn main() -> ExitCode {
//!     let function = Function::new("plan-dag", Duration::from_secs(180)).with_dead_letters();
//!     start(function, async |shell| {
//!         let app = App::new(shell.services());
//!         shell.consume(Queue::PlanDag, app).await
//!     })
//! }
//! ```

mod batch;
mod budget;
mod connector;
mod failure;
mod function;
mod helm;
mod http;
mod logging;
mod nowhere;
mod outside;
mod schedule;
mod settings;
mod shell;
mod sqs;
mod start;

pub use batch::{Batches, Handler, Record, Returns};
pub use connector::AwsConnector;
pub use failure::ShellError;
pub use function::{ALL_QUEUES, Function};
pub use helm::LateHelm;
pub use settings::{Callers, HelmPlaces, IamCallers, Settings};
pub use shell::Shell;
pub use start::{start, start_threads};
