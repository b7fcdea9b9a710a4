//! `cargo xtask nightly`: what takes too long for every commit.

use std::process::Command;

use anyhow::{Context, Result};

use crate::bench;
use crate::coverage;
use crate::run::{say, shown};
use crate::simulate::{self, SEEDS_VARIABLE};
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
        "SLIPWAY_KILL_FACTOR",
        "10",
        "as many times more that the control plane is killed with -9: some 400 on the cluster",
    ),
    (
        "SLIPWAY_CROWD",
        "50",
        "deployments of five components at the same time",
    ),
    (
        SEEDS_VARIABLE,
        "1000000",
        "runs of the control plane on simulated stores, queues and clusters",
    ),
];

/// Seeds for the coverage of the simulator.
const COVERAGE_SEEDS: u64 = 20_000;

/// Runs everything that CI runs with its knobs turned up, has the simulator find the bugs that are planted in a copy,
/// then looks how much of the engine and the use cases the
/// simulator goes through, and measures the engine and every function. Returns whether everything passed and every
/// target was met.
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
    let mut all_well = status.success();
    let bugs = simulate::run(&["--mutants".to_owned()]);
    all_well &= match bugs {
        Ok(all_found) => all_found,
        Err(error) => {
            say(&format!("the planted bugs: {error:#}"));
            false
        }
    };
    let out = &mut std::io::stdout();
    for (what, measured) in [
        ("the simulator's coverage", coverage::run(COVERAGE_SEEDS, out)),
        ("the engine's figures", bench::engine(false, out)),
        ("the functions' sizes and starts", bench::functions(false, out)),
    ] {
        if let Err(error) = measured {
            say(&format!("{what}: {error:#}"));
            all_well = false;
        }
    }
    Ok(all_well)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::run::workspace;

    /// Whether a source file below `folder`, this one excepted, names the variable.
    fn is_read(folder: &Path, quoted: &str) -> bool {
        fs::read_dir(folder).unwrap().any(|entry| {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                return is_read(&path, quoted);
            }
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            is_source && !path.ends_with(file!()) && fs::read_to_string(&path).unwrap().contains(quoted)
        })
    }

    #[test]
    fn every_knob_turns_something() {
        let folders = ["shared", "functions", "cli", "tests", "xtask/src"];
        for (variable, _, what) in KNOBS {
            let quoted = format!("\"{variable}\"");
            let found = folders
                .iter()
                .any(|folder| is_read(&workspace().join(folder), &quoted));
            assert!(found, "nobody reads {variable} ({what})");
        }
    }
}
