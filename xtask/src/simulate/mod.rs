//! `cargo xtask simulate`: builds the simulator with every check on, and runs it.

mod bugs;
mod planted;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, shown, workspace};

/// The package, and the program in it.
pub(crate) const PACKAGE: &str = "slipway-simulator";
pub(crate) const PROGRAM: &str = "slipway-simulate";

/// Seeds that CI plays.
const SEEDS: u64 = 10_000;

/// How many seeds CI plays instead, for a nightly run.
pub const SEEDS_VARIABLE: &str = "SLIPWAY_SIMULATE_SEEDS";

/// The argument with which bugs are planted instead.
const MUTANTS: &str = "--mutants";

/// Builds the simulator and runs it with these arguments. Whether everything held. With `--mutants`, and the names of
/// some if not all are wanted: whether every planted bug was found.
///
/// # Errors
/// When it does not build or cannot be started.
pub fn run(arguments: &[String]) -> Result<bool> {
    if let [first, names @ ..] = arguments
        && first == MUTANTS
    {
        return planted::run(names);
    }
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", "simulate", "--package", PACKAGE]);
    let built = build
        .status()
        .with_context(|| format!("cannot start {}", shown(&build)))?;
    if !built.success() {
        bail!("{} ended with {built}", shown(&build));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    let mut command = Command::new(target.join("simulate").join(PROGRAM));
    command.current_dir(workspace()).args(arguments);
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    Ok(status.success())
}

/// What CI plays.
///
/// # Errors
/// As [`run`].
pub fn check() -> Result<bool> {
    let seeds = std::env::var(SEEDS_VARIABLE).unwrap_or_else(|_| SEEDS.to_string());
    run(&["--seeds".to_owned(), seeds])
}
