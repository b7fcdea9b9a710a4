//! `cargo xtask`: the chores of this repository.

#![allow(clippy::print_stdout)]

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::{cluster, test_run};

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
    /// A Kubernetes cluster on this machine: a real control plane, and nodes that KWOK plays.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Start the cluster, or find it running, and print the path of its kubeconfig.
    Up {
        /// How many nodes KWOK plays; every third one, from the first on, has eight GPUs.
        #[arg(long, default_value_t = cluster::Options::default().nodes)]
        nodes: u32,
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

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Test { quick } => {
            let passed = test_run::run(quick, &mut io::stdout())?;
            return Ok(if passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Cluster { command } => match command {
            ClusterCommand::Up { nodes, name } => {
                let running = cluster::up(&cluster::Options {
                    name: name.name,
                    nodes,
                })?;
                println!("{}", running.kubeconfig.display());
            }
            ClusterCommand::Status(name) => {
                let status = cluster::status(&name.name)?;
                println!("{status}");
                return Ok(if status.is_healthy() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            ClusterCommand::Down(name) => cluster::down(&name.name)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}
