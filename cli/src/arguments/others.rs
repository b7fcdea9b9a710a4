//! Commands about everything else.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::key_value;

/// Where the embedded control plane listens.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway serve
  slipway serve --data ./state --listen 127.0.0.1:0

It listens on loopback only and prints

  address: http://127.0.0.1:7117
  token:   …

Environment: SLIPWAY_HELM (Helm 4 binary; else the one on PATH), SLIPWAY_CHART_HOSTS (hosts that charts may come
from, between commas; none means bundled charts only), SLIPWAY_PLAIN_HTTP_HOSTS (hosts among them without TLS),
SLIPWAY_TOPICS (topics that DAGs may name besides budusecasesEvents), USE_PIPELINE_ORCHESTRATION (false for the
legacy path), SLIPWAY_LOG (such as debug or slipway_app=debug).")]
pub(crate) struct ServeArguments {
    /// Loopback address and port; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7117")]
    pub(crate) listen: String,
}

/// About templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Check template files, without a control plane
    #[command(after_help = "Example:\n  slipway template validate templates/*.yaml")]
    Validate {
        /// YAML or JSON files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Publish a template file
    #[command(after_help = "Example:\n  slipway template publish templates/agent-rag.yaml")]
    Publish {
        /// YAML or JSON file
        file: PathBuf,
    },
    /// List published templates
    #[command(after_help = "Example:\n  slipway template list")]
    List,
    /// Show a published template
    #[command(after_help = "Example:\n  slipway template show agent-rag@1.0.0")]
    Show {
        /// In its newest version unless one is named
        #[arg(value_name = "NAME[@VERSION]")]
        template: String,
    },
    /// Delete a template, or one version of it
    #[command(after_help = "Example:\n  slipway template delete agent-rag@1.0.0")]
    Delete {
        /// All versions unless one is named
        #[arg(value_name = "NAME[@VERSION]")]
        template: String,
    },
}

/// What is run.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  slipway run pipeline.json --param image=v2 --watch

Exit status: 0 completed (or started, without --watch), 1 failed, 2 misuse.")]
pub(crate) struct RunArguments {
    /// A DAG in JSON or YAML
    #[arg(value_name = "DAG.json")]
    pub(crate) file: PathBuf,
    /// A parameter; the value is read as YAML reads it
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) param: Vec<(String, String)>,
    /// Watch until it ends
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// About clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Register a cluster
    #[command(after_help = "Examples:
  slipway cluster add local --render
  slipway cluster add dev --kubeconfig ~/.kube/config --context dev
  slipway cluster add prod --eks prod-1 --region eu-central-1
  slipway cluster add other --eks prod-1 --region eu-central-1 \\
    --role-arn arn:aws:iam::123456789012:role/slipway --external-id 7f3c")]
    Add(AddArguments),
    /// List registered clusters
    #[command(after_help = "Example:\n  slipway cluster list")]
    List,
    /// Show whether a cluster answers and what it has free
    #[command(after_help = "Example:\n  slipway cluster health dev")]
    Health {
        /// Name or id
        cluster: String,
    },
    /// Replace the credentials of a cluster by others that lead to the same one; its deployments stay
    #[command(after_help = "Examples:
  slipway cluster credentials dev --kubeconfig ~/.kube/config --context dev
  slipway cluster credentials other --role-arn arn:aws:iam::123456789012:role/slipway --external-id 9a1e")]
    Credentials(CredentialsArguments),
    /// Look now for what Slipway made on a cluster and nobody owns; nothing is removed
    #[command(
        after_help = "Example:\n  slipway cluster orphans dev\n\nExit status: 0 nothing, 1 something is owned by nobody or could not be looked at, 2 misuse."
    )]
    Orphans {
        /// Name or id
        cluster: String,
    },
    /// Forget a cluster; nothing on it is touched
    #[command(after_help = "Example:\n  slipway cluster remove dev")]
    Remove {
        /// Name or id
        cluster: String,
    },
}

/// What is registered.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Name, unique among clusters
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, conflicts_with_all = ["render", "eks"])]
    pub(crate) context: Option<String>,
    /// AWS region of the EKS cluster
    #[arg(long, conflicts_with_all = ["render", "kubeconfig"])]
    pub(crate) region: Option<String>,
    /// Role to assume for the EKS cluster, such as one in its own account
    #[arg(long, value_name = "ARN", conflicts_with_all = ["render", "kubeconfig"])]
    pub(crate) role_arn: Option<String>,
    /// External id that the role's trust policy asks for
    #[arg(long, value_name = "ID", requires = "role_arn")]
    pub(crate) external_id: Option<String>,
    /// Base URL under which services are reached from outside
    #[arg(long, value_name = "URL")]
    pub(crate) ingress_url: Option<String>,
}

/// What a cluster is reached with.
#[derive(Debug, Args)]
pub(crate) struct CredentialsArguments {
    /// Name or id
    pub(crate) cluster: String,
    /// Its new kubeconfig; the control plane keeps it as a secret
    #[arg(long, value_name = "FILE", required_unless_present = "role_arn")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, requires = "kubeconfig")]
    pub(crate) context: Option<String>,
    /// Role to assume for an EKS cluster
    #[arg(long, value_name = "ARN", conflicts_with = "kubeconfig")]
    pub(crate) role_arn: Option<String>,
    /// External id that the role's trust policy asks for
    #[arg(long, value_name = "ID", requires = "role_arn")]
    pub(crate) external_id: Option<String>,
}

/// What a cluster is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetArguments {
    /// No cluster: charts are rendered and checked for real, and kept on disk
    #[arg(long)]
    pub(crate) render: bool,
    /// Kubeconfig of the cluster; the control plane keeps it as a secret
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Name of an EKS cluster
    #[arg(long, value_name = "NAME", requires = "region")]
    pub(crate) eks: Option<String>,
}

/// About DAGs, without a control plane.
#[derive(Debug, Subcommand)]
pub(crate) enum DagCommand {
    /// Check a DAG or a template
    #[command(
        after_help = "Examples:\n  slipway dag check pipeline.json\n  slipway dag check templates/agent-rag.yaml"
    )]
    Check {
        /// JSON or YAML file
        file: PathBuf,
    },
    /// Draw a DAG or a template
    #[command(
        after_help = "Example:\n  slipway dag graph templates/agent-rag.yaml --format svg > agent-rag.svg"
    )]
    Graph {
        /// JSON or YAML file
        file: PathBuf,
        /// Language of the drawing
        #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
        format: GraphFormat,
    },
}

/// Languages of drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
    /// A picture
    Svg,
}

/// What a person decides.
#[derive(Debug, Args)]
pub(crate) struct ApproveArguments {
    /// Id of the execution
    pub(crate) execution: String,
    /// Id of the step
    pub(crate) step: String,
    /// Reject instead
    #[arg(long)]
    pub(crate) reject: bool,
    /// What to say to it
    #[arg(long)]
    pub(crate) comment: Option<String>,
}
