//! `cargo xtask`: the chores of this repository.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use xtask::run::say;
use xtask::{aws_local, bench, cluster, coverage, demo, infra, nightly, package, simulate, test_run};

/// The chores of this repository.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything that CI runs, setting up what it needs.
    Test {
        /// Leave out what needs a cluster.
        #[arg(long)]
        quick: bool,
    },
    /// Run everything that CI runs, many times over where that finds more.
    Nightly,
    /// Play the control plane on simulated stores, queues and clusters; `--help` after `--` says how.
    Simulate {
        /// What the simulator is told, such as `--seeds 1000 --from 5` or `--seed 7`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A Kubernetes cluster on this machine: a real control plane, and nodes that KWOK plays.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Make what is deployed: an archive per function, and the layers.
    Package {
        /// This function only.
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
    },
    /// The AWS side on this machine: the functions under Lambda's runtime API, their queues, their table, their API.
    AwsLocal {
        #[command(subcommand)]
        command: AwsLocalCommand,
    },
    /// Show the main job: start Slipway, publish a template, deploy it, watch it come up.
    Demo(DemoArguments),
    /// Measure, beside a baseline in the same run.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// How much of the engine and the use cases the simulator alone goes through.
    Coverage {
        /// How many seeds it plays.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
    },
    /// The templates that deploy to AWS.
    Infra {
        #[command(subcommand)]
        command: InfraCommand,
    },
}

#[derive(Debug, Subcommand)]
enum InfraCommand {
    /// Lint and scan the SAM template and the CDK app, and compare the two.
    Check,
    /// Hold the calls that functions made on the local stand-in for AWS against what their roles allow.
    Permissions {
        /// The record: `calls.jsonl` of `cargo xtask aws-local up`.
        calls: PathBuf,
        /// The name under which it ran.
        #[arg(long)]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// The engine on its embedded store, beside bare SQLite commits.
    Engine {
        /// Put the figures into docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
    /// The functions as they are deployed: their size, how fast they start, the memory that takes.
    Functions {
        /// Put the figures into docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Start the cluster, or find it running, and print the path of its kubeconfig.
    Up {
        /// How many nodes KWOK plays; every third one, from the first on, has eight GPUs.
        #[arg(long, default_value_t = cluster::Options::default().nodes)]
        nodes: u32,
        /// Make this machine a node as well, on which containers run. Needs root.
        #[arg(long)]
        real_node: bool,
        #[command(flatten)]
        name: ClusterName,
    },
    /// Say what runs.
    Status(ClusterName),
    /// End every process of the cluster and remove its data.
    Down(ClusterName),
}

#[derive(Debug, Subcommand)]
enum AwsLocalCommand {
    /// Start the stack, or find it running, and print its address, its token and its controls.
    Up {
        #[command(flatten)]
        name: StackName,
        /// Build the functions without optimisation, which takes less time.
        #[arg(long, conflicts_with = "profile")]
        dev: bool,
        /// How the functions are built: fast to run, or as they are deployed.
        #[arg(long, value_parser = ["release", "function"], default_value = "release")]
        profile: String,
        /// How many in a hundred of the functions' calls to AWS fail.
        #[arg(long, value_name = "N", default_value_t = 0.0)]
        fail_percent: f64,
        /// Decides which of them, and how.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// What else `aws-local` is told, after `--`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Say what runs.
    Status(StackName),
    /// End every process of the stack, with all that it holds.
    Down(StackName),
}

#[derive(Debug, Args)]
struct StackName {
    /// Which stack, where one machine runs several.
    #[arg(long, default_value_t = aws_local::Options::default().name)]
    name: String,
}

#[derive(Debug, Args)]
struct ClusterName {
    /// Which cluster, where one machine runs several.
    #[arg(long, default_value_t = cluster::Options::default().name)]
    name: String,
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// End once the deployment has ended, with its outcome as the exit status.
    #[arg(long)]
    exit: bool,
    /// Deploy to the cluster of `cargo xtask cluster up` instead of only rendering manifests.
    #[arg(long, value_parser = ["dev"], conflicts_with = "kubeconfig")]
    cluster: Option<String>,
    /// Deploy to the cluster of this kubeconfig.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Test { quick } => {
            let passed = test_run::run(quick, &mut io::stdout())?;
            return Ok(if passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Cluster { command } => match command {
            ClusterCommand::Up {
                nodes,
                real_node,
                name,
            } => {
                let running = cluster::up(&cluster::Options {
                    name: name.name,
                    nodes,
                    real_node,
                })?;
                writeln!(io::stdout(), "{}", running.kubeconfig.display())?;
            }
            ClusterCommand::Status(name) => {
                let status = cluster::status(&name.name)?;
                writeln!(io::stdout(), "{status}")?;
                return Ok(if status.is_healthy() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            ClusterCommand::Down(name) => cluster::down(&name.name)?,
        },
        Command::Package { function } => {
            package::run(&package::Options { function }, &mut io::stdout())?;
        }
        Command::AwsLocal { command } => return aws_local_command(command),
        Command::Bench {
            command: BenchCommand::Engine { write },
        } => bench::engine(write, &mut io::stdout())?,
        Command::Bench {
            command: BenchCommand::Functions { write },
        } => bench::functions(write, &mut io::stdout())?,
        Command::Infra { command } => {
            let wrong = match command {
                InfraCommand::Check => infra::check()?,
                InfraCommand::Permissions { calls, name } => {
                    let record = fs::read_to_string(&calls)
                        .with_context(|| format!("cannot read {}", calls.display()))?;
                    let judgement = infra::judge(&record, &name, BTreeMap::new())?;
                    [judgement.refused, judgement.unused].concat()
                }
            };
            for sentence in &wrong {
                say(sentence);
            }
            return Ok(if wrong.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Simulate { arguments } => {
            return Ok(if simulate::run(&arguments)? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Coverage { seeds } => coverage::run(seeds, &mut io::stdout())?,
        Command::Nightly => {
            return Ok(if nightly::run()? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Demo(arguments) => {
            let target = match (arguments.cluster, arguments.kubeconfig) {
                (Some(_), _) => demo::Target::DevelopmentCluster,
                (None, Some(file)) => demo::Target::Kubeconfig(file),
                (None, None) => demo::Target::Render,
            };
            let succeeded = demo::run(
                &demo::Options {
                    target,
                    exit: arguments.exit,
                },
                &mut io::stdout(),
            )?;
            return Ok(if succeeded {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn aws_local_command(command: AwsLocalCommand) -> Result<ExitCode> {
    match command {
        AwsLocalCommand::Up {
            name,
            dev,
            profile,
            fail_percent,
            seed,
            arguments,
        } => {
            let profile = match profile.as_str() {
                _ if dev => aws_local::Profile::Dev,
                "function" => aws_local::Profile::Function,
                _ => aws_local::Profile::Release,
            };
            let stack = aws_local::up(&aws_local::Options {
                name: name.name,
                profile,
                fail_percent,
                seed,
                arguments,
            })?;
            writeln!(io::stdout(), "{stack}")?;
        }
        AwsLocalCommand::Status(name) => {
            let status = aws_local::status(&name.name)?;
            writeln!(io::stdout(), "{status}")?;
            if !status.is_healthy() {
                return Ok(ExitCode::FAILURE);
            }
        }
        AwsLocalCommand::Down(name) => aws_local::down(&name.name)?,
    }
    Ok(ExitCode::SUCCESS)
}
