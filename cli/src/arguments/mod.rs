//! The command line.

mod dead_letters;
mod deployments;
mod others;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use dead_letters::{DeadLetterCommand, RedriveArguments};
pub(crate) use deployments::{
    ActArguments, ChangeArguments, DeleteArguments, DeployArguments, DeploymentArguments, EventsArguments,
    LogsArguments, PlanArguments, RollbackArguments, StatusArguments, UpgradeArguments,
};
pub(crate) use others::{
    ApproveArguments, ClusterCommand, DagCommand, GraphFormat, RunArguments, ServeArguments, TemplateCommand,
};

use crate::output::Format;

/// Slipway deploys use cases, several parts that belong together, onto Kubernetes in dependency order.
#[derive(Debug, Parser)]
#[command(
    name = "slipway",
    version,
    propagate_version = true,
    after_help = "Examples:
  slipway serve                                        start a control plane on this machine
  slipway cluster add local --render                   register a target that needs no cluster
  slipway template publish templates/agent-rag.yaml
  slipway deploy agent-rag --name my-agent --watch     deploy it and watch it come up
  slipway status my-agent

Exit status: 0 done or running, 1 failed, 2 misuse, 141 whoever read the output went away."
)]
pub(crate) struct Arguments {
    /// Address of the control plane; without it the one that `slipway serve` left in the data folder
    #[arg(long, global = true, env = "SLIPWAY_URL", value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Token of the control plane
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,

    /// Data folder of the embedded control plane [default: the platform's, such as ~/.local/share/slipway]
    #[arg(long, global = true, env = "SLIPWAY_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the embedded control plane and its web page on this machine
    Serve(ServeArguments),
    /// Check, publish and look at templates
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Create a deployment from a template and start it
    Deploy(DeployArguments),
    /// Run a DAG
    Run(RunArguments),
    /// Show what a start or upgrade would do
    #[command(after_help = "Example:\n  slipway plan my-agent --output json")]
    Plan(PlanArguments),
    /// Show a deployment and its components, or all deployments
    #[command(after_help = "Examples:\n  slipway status\n  slipway status my-agent --output json")]
    Status(StatusArguments),
    /// Compare what runs with what was applied, now; nothing is corrected
    #[command(
        after_help = "Example:\n  slipway drift my-agent\n\nExit status: 0 as it was applied, 1 something differs or could not be looked at, 2 misuse."
    )]
    Drift(DeploymentArguments),
    /// Watch a deployment until it is no longer in flight
    #[command(
        after_help = "Example:\n  slipway watch my-agent\n\nExit status: 0 running, 1 failed, 2 misuse."
    )]
    Watch(DeploymentArguments),
    /// Show a deployment's history
    #[command(after_help = "Examples:\n  slipway events my-agent\n  slipway events my-agent --follow")]
    Events(EventsArguments),
    /// Show the last lines of a deployment's pods
    #[command(after_help = "Examples:\n  slipway logs my-agent\n  slipway logs my-agent vector_db")]
    Logs(LogsArguments),
    /// Bring a deployment up
    #[command(after_help = "Example:\n  slipway start my-agent --watch")]
    Start(ActArguments),
    /// Stop a deployment that comes up
    #[command(after_help = "Example:\n  slipway stop my-agent --watch")]
    Stop(ActArguments),
    /// Go on where a deployment failed or was stopped
    #[command(after_help = "Example:\n  slipway retry my-agent --watch")]
    Retry(ActArguments),
    /// Change version, parameters, values or selections of a deployment
    Upgrade(UpgradeArguments),
    /// Bring back what a deployment ran before
    #[command(
        after_help = "Examples:\n  slipway rollback my-agent --watch\n  slipway rollback my-agent --to 6c079ba2-30bd-493e-b097-d56fee884a6d"
    )]
    Rollback(RollbackArguments),
    /// Uninstall a deployment, in reverse order
    #[command(
        after_help = "Examples:\n  slipway delete my-agent --watch\n  slipway delete my-agent --keep-releases"
    )]
    Delete(DeleteArguments),
    /// Register, look at and forget clusters
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Check and draw DAGs and templates, without a control plane
    #[command(subcommand)]
    Dag(DagCommand),
    /// List what can fill the slots of templates
    #[command(after_help = "Example:\n  slipway catalog --output json")]
    Catalog,
    /// List what steps can do
    #[command(after_help = "Example:\n  slipway actions --output json")]
    Actions,
    /// Approve or reject a step that waits for a person
    #[command(
        after_help = "Examples:\n  slipway approve 6c079ba2-30bd-493e-b097-d56fee884a6d release --comment 'looks good'\n  slipway approve 6c079ba2-30bd-493e-b097-d56fee884a6d release --reject"
    )]
    Approve(ApproveArguments),
    /// List, look at and put back messages that nobody could deal with
    #[command(subcommand)]
    Dlq(DeadLetterCommand),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  slipway completions bash > ~/.local/share/bash-completion/completions/slipway"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// `KEY=VALUE`, read where it is given.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_deployment_reads_as_it_is_typed() {
        let arguments = Arguments::try_parse_from([
            "slipway",
            "deploy",
            "agent-rag@1.0.0",
            "--name",
            "a",
            "--cluster",
            "c",
            "--set",
            "chunk_size=256",
            "--set",
            "note=a=b",
            "--select",
            "vector_db=milvus",
            "--watch",
            "-o",
            "json",
        ])
        .unwrap();
        assert_eq!(arguments.output, Format::Json);
        let Command::Deploy(deploy) = arguments.command else {
            panic!("not a deploy")
        };
        assert_eq!(deploy.template, "agent-rag@1.0.0");
        assert!(deploy.watch && !deploy.dry_run);
        assert_eq!(deploy.change.set[1], ("note".to_owned(), "a=b".to_owned()));
        assert_eq!(
            deploy.change.select,
            [("vector_db".to_owned(), "milvus".to_owned())]
        );
    }

    #[test]
    fn a_cluster_is_exactly_one_kind_of_target() {
        let parse = |rest: &[&str]| {
            Arguments::try_parse_from(["slipway", "cluster", "add", "c"].iter().chain(rest)).is_ok()
        };
        assert!(parse(&["--render"]));
        assert!(parse(&["--kubeconfig", "f", "--context", "x"]));
        assert!(parse(&["--eks", "e", "--region", "eu-central-1"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--render", "--kubeconfig", "f"]));
        assert!(!parse(&["--render", "--context", "x"]));
        assert!(!parse(&["--eks", "e"]));
    }

    #[test]
    fn dead_letters_are_put_back_by_id_or_all_together() {
        let parse = |rest: &[&str]| {
            let arguments =
                Arguments::try_parse_from(["slipway", "dlq", "redrive"].iter().chain(rest)).ok()?;
            match arguments.command {
                Command::Dlq(DeadLetterCommand::Redrive(redrive)) => Some(redrive),
                other => panic!("{other:?}"),
            }
        };
        let some = parse(&["17", "18", "--queue", "deploy-helm"]).unwrap();
        assert_eq!(
            (some.ids, some.all),
            (vec!["17".to_owned(), "18".to_owned()], false)
        );
        assert_eq!(some.queue.as_deref(), Some("deploy-helm"));
        let all = parse(&["--all", "--queue", "plan-dag"]).unwrap();
        assert!(all.all && all.ids.is_empty());
        assert_eq!(all.queue.as_deref(), Some("plan-dag"));
        assert!(parse(&["--all"]).unwrap().queue.is_none());
        assert!(parse(&[]).is_none());
        let refused = Arguments::try_parse_from(["slipway", "dlq", "redrive"]).unwrap_err();
        assert!(refused.to_string().contains("--all"), "{refused}");
        assert!(parse(&["--queue", "plan-dag"]).is_none());
        assert!(parse(&["17", "--all"]).is_none());
    }

    #[test]
    fn a_dead_letter_is_shown_by_its_id() {
        let show = ["slipway", "dlq", "show"];
        assert!(Arguments::try_parse_from(show).is_err());
        let parsed = Arguments::try_parse_from(show.iter().chain(&["17"])).unwrap();
        let Command::Dlq(DeadLetterCommand::Show { id, queue }) = parsed.command else {
            panic!("not a look")
        };
        assert_eq!((id.as_str(), queue), ("17", None));
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_some() {
                command.get_subcommands().for_each(check);
                return;
            }
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(
                help.contains("slipway"),
                "`{name} --help` has no example: '{help}'"
            );
        }
        check(&Arguments::command());
    }

    #[test]
    fn a_pair_without_a_key_is_refused() {
        assert!(key_value("=x").is_err());
        assert!(key_value("x").is_err());
        assert_eq!(key_value("x=").unwrap(), ("x".to_owned(), String::new()));
    }
}
