//! `cargo xtask test`: everything that CI runs, in order. A part that fails or cannot start does not keep the later
//! ones from running, and fails the run.

mod counts;

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::aws_parts::{AwsPart, Kind};
use crate::checks::{dependencies, repository};
use crate::cluster;
use crate::infra;
use crate::package;
use crate::registry::Registry;
use crate::run::{cargo, say, shown, workspace};
use crate::simulate;
use crate::tools;

pub use counts::Counts;

/// The package whose tests need a cluster and a registry.
const CLUSTER_TESTS: &str = "slipway-tests";

/// The function that every run packages.
const PACKAGED: &str = "plan-dag";

/// Packages some of whose tests need the parts that stand in for AWS; their unit tests do not.
const AWS_TESTS: [&str; 3] = ["slipway-aws", "aws-local", "plan-dag"];

/// This package, some of whose tests start a cluster.
const THIS: &str = env!("CARGO_PKG_NAME");

/// The cluster that the tests share; `cargo xtask cluster` leaves this name to them.
pub const CLUSTER: &str = "test";

/// The scenarios, which are played on the embedded control plane and on the functions.
const SCENARIOS: &str = "scenarios";

/// Set by a nightly run, for what takes too long for every commit.
pub const LONG: &str = "SLIPWAY_TEST_LONG";

/// On AWS a function that dies under a lease is gone on with when that has expired, minutes later.
const LONG_ON_AWS: [&str; 2] = ["--skip", "killed::"];

/// One part of the run: its heading and what it does.
struct Part {
    title: &'static str,
    run: fn(bool, &mut dyn Write) -> Result<Counts>,
}

const PARTS: &[Part] = &[
    Part {
        title: "formatting",
        run: |_, _| formatted(),
    },
    Part {
        title: "dependency direction",
        run: |_, _| none_of(&dependencies::violations()?),
    },
    Part {
        title: "registry addresses in tracked files",
        run: |_, _| none_of(&repository::violations()?),
    },
    Part {
        title: "clippy",
        run: |_, _| {
            plain(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]))
        },
    },
    Part {
        title: "infrastructure templates",
        // They need Python's and Node's packages, which the inner loop does without.
        run: |quick, _| {
            if quick {
                Ok(Counts::default())
            } else {
                none_of(&infra::check()?)
            }
        },
    },
    Part {
        title: "one function as it is deployed",
        run: |quick, output| {
            if quick {
                Ok(Counts::default())
            } else {
                packaged(output)
            }
        },
    },
    Part {
        title: "simulated runs",
        run: |quick, _| {
            if quick {
                Ok(Counts::default())
            } else if simulate::check()? {
                Ok(Counts::one_passed())
            } else {
                Ok(Counts::one_failed())
            }
        },
    },
    Part {
        title: "tests",
        run: tests,
    },
];

/// Runs all parts; with `quick` without whatever needs a cluster. Returns whether everything passed; the last line
/// written to `output` has the numbers of tests.
///
/// # Errors
/// When `output` cannot be written to.
pub fn run(quick: bool, output: &mut dyn Write) -> Result<bool> {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for part in PARTS {
        say(&format!("\n=== {} ===", part.title));
        let start = Instant::now();
        let outcome = (part.run)(quick, output).and_then(|found| {
            counts += found;
            if found.failed > 0 {
                bail!("{} failed", found.failed);
            }
            Ok(())
        });
        let time = format!("{:.1} s", start.elapsed().as_secs_f32());
        match outcome {
            Ok(()) => say(&format!("=== {}: passed in {time} ===", part.title)),
            Err(error) => {
                say(&format!("=== {}: FAILED in {time}: {error:#} ===", part.title));
                failures.push(part.title);
            }
        }
    }
    if counts.ignored > 0 {
        say(&format!(
            "{} tests are marked as ignored and did not run",
            counts.ignored
        ));
    }
    if !failures.is_empty() {
        say(&format!("these parts failed: {}", failures.join(", ")));
    }
    writeln!(output, "{} passed, {} failed", counts.passed, counts.failed)?;
    Ok(failures.is_empty())
}

/// Checks count as one test each.
fn none_of(violations: &[String]) -> Result<Counts> {
    for violation in violations {
        say(violation);
    }
    Ok(if violations.is_empty() {
        Counts::one_passed()
    } else {
        Counts::one_failed()
    })
}

/// The actions are named besides: a build script lists them, so that no module leads the formatter to them.
fn formatted() -> Result<Counts> {
    let folder = workspace().join("shared/actions/src/actions");
    let actions = std::fs::read_dir(&folder)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot list {}", folder.display()))?;
    plain(cargo().args(["fmt", "--all", "--check", "--"]).args(actions))
}

fn plain(command: &mut Command) -> Result<Counts> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(Counts::default())
}

/// Builds one function for the processors that it is deployed to, and weighs it; the nightly run does so with all.
fn packaged(output: &mut dyn Write) -> Result<Counts> {
    let one = package::Options {
        function: Some(PACKAGED.to_owned()),
    };
    let archives = package::run(&one, output)?;
    let is_light = archives
        .iter()
        .all(|archive| archive.megabytes() <= package::LARGEST);
    Ok(if is_light {
        Counts::one_passed()
    } else {
        Counts::one_failed()
    })
}

fn tests(quick: bool, output: &mut dyn Write) -> Result<Counts> {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("SLIPWAY_HELM", tools::helm()?);
    if quick {
        let mut units = cargo();
        units.args(["test", "--lib", "--bins", "--examples", "--package", THIS]);
        command.args(["--exclude", CLUSTER_TESTS, "--exclude", THIS]);
        for package in AWS_TESTS {
            command.args(["--exclude", package]);
            units.args(["--package", package]);
        }
        let mut counts = counted(&mut command, output)?;
        counts += counted(&mut units, output)?;
        return Ok(counts);
    }
    // They are started here so that a part that does not come up fails the run with its own reason.
    let (running, share) = cluster::join(&cluster::Options {
        name: CLUSTER.to_owned(),
        ..cluster::Options::default()
    })
    .context("the cluster for the tests does not start")?;
    let registry = Registry::start().context("the registry for the tests does not start")?;
    let parts = AwsPart::start_all().context("the parts that stand in for AWS do not start")?;
    let functions = programs()?;
    let mut on_aws = cargo();
    on_aws
        .args(["test", "--workspace", "--test", SCENARIOS, "--"])
        .env("SLIPWAY_TEST_PLATFORM", "aws-local");
    if std::env::var_os(LONG).is_none() {
        on_aws.args(LONG_ON_AWS);
    }
    let mut counts = Ok(Counts::default());
    for command in [&mut command, &mut on_aws] {
        for (kind, part) in Kind::ALL.into_iter().zip(&parts) {
            command.env(kind.variable(), part.endpoint());
        }
        command
            .env("SLIPWAY_HELM", tools::helm()?)
            .env("SLIPWAY_TEST_FUNCTIONS", &functions)
            .env("SLIPWAY_TEST_KUBECONFIG", &running.kubeconfig)
            .env("SLIPWAY_TEST_REGISTRY", registry.address());
        say(&shown(command));
        counts = counts.and_then(|mut counts| {
            counts += counted(command, output)?;
            Ok(counts)
        });
    }
    cluster::leave(CLUSTER, share)?;
    counts
}

/// Builds all programs, as the tests are built, and returns the folder that they are in.
fn programs() -> Result<PathBuf> {
    plain(cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    // This program is one of them.
    let this = std::env::current_exe().context("this program has no path")?;
    let folder = this.parent().context("this program is in no folder")?;
    Ok(folder.to_owned())
}

/// Runs `cargo test`, shows what it writes while it runs, and adds up its summary lines.
fn counted(command: &mut Command, output: &mut dyn Write) -> Result<Counts> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let mut counts = Counts::default();
    let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    for line in lines.split(b'\n') {
        let line = line.context("cannot read what cargo test writes")?;
        let line = String::from_utf8_lossy(&line);
        counts += Counts::in_summary_line(&line).unwrap_or_default();
        writeln!(output, "{line}")?;
    }
    let status = child.wait().context("cannot wait for the end of cargo test")?;
    if !status.success() && counts.failed == 0 {
        bail!(
            "cargo test ended with {status} although no test failed: something does not compile, see above"
        );
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str) -> (Result<Counts>, String) {
        let mut shown = Vec::new();
        let counts = counted(Command::new("sh").args(["-c", script]), &mut shown);
        (counts, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn what_the_tests_write_is_shown_and_their_numbers_are_added_up() {
        let (counts, shown) = run_script(
            "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'
             echo 'test result: FAILED. 1 passed; 3 failed; 0 ignored'; exit 101",
        );
        assert_eq!(
            counts.unwrap(),
            Counts {
                passed: 3,
                failed: 3,
                ignored: 0
            }
        );
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn a_run_that_fails_without_a_failed_test_is_an_error() {
        let (counts, _) = run_script("echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 101");
        assert!(counts.unwrap_err().to_string().contains("does not compile"));
    }
}
