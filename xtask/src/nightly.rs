//! `cargo xtask nightly`: what takes too long for every commit.

use std::process::Command;

use anyhow::{Context, Result};

use crate::bench;
use crate::run::{say, shown};
use crate::test_run::LONG;

/// Test knobs that a nightly run turns up: variable, value, what it is.
const KNOBS: &[(&str, &str, &str)] = &[
    (
        LONG,
        "1",
        "scenarios on AWS in which functions die under their leases",
    ),
    (
        "SLIPWAY_CHAOS_SEEDS",
        "5000",
        "deployments played in memory with messages lost, late and repeated",
    ),
    (
        "SLIPWAY_KILLS",
        "200",
        "times that the control plane is killed with -9",
    ),
];

/// Runs everything that CI runs with its knobs turned up, then packages and measures every function. Returns whether
/// everything passed and every function is within its targets.
///
/// # Errors
/// When the test run cannot be started.
pub fn run() -> Result<bool> {
    let mut command = Command::new(std::env::current_exe().context("this program has no path")?);
    command.arg("test");
    for (variable, value, what) in KNOBS {
        say(&format!("{variable}={value}: {what}"));
        command.env(variable, value);
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    let measured = bench::functions(false, &mut std::io::stdout());
    if let Err(error) = &measured {
        say(&format!("the functions are not as they should be: {error:#}"));
    }
    Ok(status.success() && measured.is_ok())
}
