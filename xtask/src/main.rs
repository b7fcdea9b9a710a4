//! `cargo xtask`: the chores of this repository.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::run::say;
use xtask::{bench, cluster, demo, nightly, test_run};

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
    /// A Kubernetes cluster on this machine: a real control plane, and nodes that KWOK plays.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Show the main job: start Slipway, publish a template, deploy it, watch it come up.
    Demo(DemoArguments),
    /// Measure, beside a baseline in the same run.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
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
        Command::Bench {
            command: BenchCommand::Engine { write },
        } => bench::engine(write, &mut io::stdout())?,
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
