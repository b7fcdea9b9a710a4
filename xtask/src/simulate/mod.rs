//! `cargo xtask simulate`: builds the simulator with every check on, and runs it.

mod bugs;
mod planted;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, say, shown, workspace};

/// The package, and the program in it.
pub(crate) const PACKAGE: &str = "slipway-simulator";
pub(crate) const PROGRAM: &str = "slipway-simulate";

/// Seeds that CI plays.
const SEEDS: u64 = 10_000;

/// The longest that CI may take to play them, without the build.
const LONGEST: Duration = Duration::from_secs(180);

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
    let mut command = built()?;
    let status = command
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    Ok(status.success())
}

/// The simulator, once it is built.
fn built() -> Result<Command> {
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
    command.current_dir(workspace());
    Ok(command)
}

/// What CI plays, in no more time than it may take. A nightly run, which plays more, may take longer.
///
/// # Errors
/// As [`run`].
pub fn check() -> Result<bool> {
    let more = std::env::var(SEEDS_VARIABLE).ok();
    let longest = if more.is_none() { LONGEST } else { Duration::MAX };
    let mut command = built()?;
    command.args(["--seeds", &more.unwrap_or_else(|| SEEDS.to_string())]);
    let began = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    let took = began.elapsed();
    if took > longest {
        say(&format!(
            "{SEEDS} simulated runs took {:.0} s, and may take {} s",
            took.as_secs_f64(),
            longest.as_secs()
        ));
    }
    Ok(status.success() && took <= longest)
}
