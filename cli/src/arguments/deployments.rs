//! Commands about deployments.

use std::path::PathBuf;

use clap::Args;

use super::key_value;

/// Which deployment.
#[derive(Debug, Args)]
pub(crate) struct DeploymentArguments {
    /// Name or id
    pub(crate) deployment: String,
}

/// Which deployment, or all of them.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Name or id; without it all deployments are listed
    pub(crate) deployment: Option<String>,
}

/// Which deployment, and whether to stay.
#[derive(Debug, Args)]
pub(crate) struct ActArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// Watch until it is no longer in flight
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// What is deleted, and whether to stay.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    pub(crate) act: ActArguments,
    /// Uninstall nothing, and forget the deployment at once: for a cluster that is gone. Its history names what stays
    #[arg(long)]
    pub(crate) keep_releases: bool,
}

/// What a deployment sets.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    /// A parameter; the value is read as YAML reads it, so 4 is a number, true a boolean and "4" text
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// A parameter that is the text of a file, or of standard input with -, without a line break at its end: a secret
    /// given so is seen by no other program
    #[arg(long, value_name = "KEY=FILE", value_parser = key_value)]
    pub(crate) set_file: Vec<(String, String)>,
    /// File with chart values per component, in YAML or JSON: {component: {…}}
    #[arg(long, value_name = "FILE")]
    pub(crate) values: Option<PathBuf>,
    /// The catalog component that fills a slot
    #[arg(long, value_name = "SLOT=COMPONENT", value_parser = key_value)]
    pub(crate) select: Vec<(String, String)>,
}

/// What is deployed, and where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway deploy agent-rag --watch
  slipway deploy agent-rag@1.0.0 --name my-agent --cluster prod --set chunk_size=256 --select vector_db=milvus
  slipway deploy agent-rag --values values.yaml --dry-run

Exit status: 0 running (or started, without --watch), 1 failed, 2 misuse.")]
pub(crate) struct DeployArguments {
    /// A published template, in its newest version unless one is named
    #[arg(value_name = "TEMPLATE[@VERSION]")]
    pub(crate) template: String,
    /// Name of the deployment [default: made from the template's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Cluster, by name or id; not needed where only one is registered
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
    /// Watch until it runs or failed
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Print the DAG that it would run, and create nothing
    #[arg(long, conflicts_with = "watch")]
    pub(crate) dry_run: bool,
}

/// What changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway upgrade my-agent --to 1.1.0 --watch
  slipway upgrade my-agent --set agent_concurrency=8")]
pub(crate) struct UpgradeArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// Version of the template
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
    /// Watch until it runs or failed
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// What would change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway plan my-agent
  slipway plan my-agent --to 1.1.0 --set agent_concurrency=8
  slipway plan my-agent --output json

Signs: + create, ~ change, -/+ delete and make again, - delete, > run a hook, ? not known yet, x would fail, ! danger.
Nothing is changed. Exit status: 0 all of it could be done or is not known yet, 1 something would fail, 2 misuse.")]
pub(crate) struct PlanArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// The version of the template that an upgrade would go to
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// Which deployment, and how far back.
#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// The execution to go back to; the one before if absent
    #[arg(long, value_name = "EXECUTION")]
    pub(crate) to: Option<String>,
    /// Watch until it runs or failed
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// Whose history.
#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// Go on with what happens from now on
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Whose logs.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Name or id
    pub(crate) deployment: String,
    /// Only of this component
    #[arg(value_name = "COMPONENT")]
    pub(crate) component: Option<String>,
}
