//! What the scenarios in `tests/` are played with: a real control plane, started as a process of its own, a client of
//! its HTTP API, the development cluster, an OCI registry with tiny charts in it, and a receiver of webhooks.
//!
//! Everything here panics where a test would fail anyway, and ends what it started when it is dropped. Nothing sleeps:
//! conditions are polled until they hold or their time is over.
//!
//! `cargo xtask test` says what is there: `SLIPWAY_TEST_KUBECONFIG` (a cluster, else the one named `test` is started)
//! and `SLIPWAY_TEST_REGISTRY` (host and port, else each test starts one). By hand also `SLIPWAY_TEST_PROGRAM` (a
//! `slipway` that is taken as it is, else it is built), `SLIPWAY_TEST_PLATFORM` (`aws-local` plays the scenarios on the
//! functions and the local stand-in for AWS, with the programs of the folder that `SLIPWAY_TEST_FUNCTIONS` names, else
//! they are built) and `SLIPWAY_TEST_SEED` (another order of kills).

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(
    clippy::missing_panics_doc,
    reason = "everything here panics where a test fails"
)]

mod accounts;
mod api_server;
mod chance;
mod charts;
mod client;
mod deployments;
mod events;
mod executions;
mod kubernetes;
mod processes;
mod program;
mod receiver;
mod registry;
mod server;
mod template;

pub use api_server::{ApiServer, Fault};
pub use chance::Chance;
pub use charts::Chart;
pub use client::{Answer, Client};
pub use deployments::{component, statuses, text};
pub use events::EventStream;
pub use executions::step;
pub use kubernetes::Kubernetes;
pub use processes::{ProcessId, mentioning};
pub use program::{Run, slipway};
pub use receiver::{Received, Receiver};
pub use registry::Registry;
pub use server::{Options, Platform, Server};
pub use template::Template;
