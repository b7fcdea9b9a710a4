//! Commands about dead letters.

use clap::{ArgGroup, Args, Subcommand};

/// About messages that nobody could deal with.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// List dead letters, oldest first
    #[command(after_help = "Examples:
  slipway dlq list
  slipway dlq list --queue deploy-helm --output json

A message that was received too often, or that nobody could read, is kept as a dead letter. The step, job or deployment
that it was about has ended as failed, with the reason.")]
    List {
        /// Only of this queue: plan-dag, execute-step, deploy-helm, budpipelineEvents or budusecasesEvents
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Show a dead letter with its text
    #[command(after_help = "Example:\n  slipway dlq show 059f36b4-87a3-44ab-83d2-661975830a7d")]
    Show {
        /// Id, as `slipway dlq list` shows it
        id: String,
        /// Its queue, where several queues have a dead letter of that id
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Put dead letters back on their queues, as if they had never been received
    Redrive(RedriveArguments),
}

/// What is put back.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "all"])))]
#[command(after_help = "Examples:
  slipway dlq redrive 059f36b4-87a3-44ab-83d2-661975830a7d
  slipway dlq redrive --all --queue deploy-helm

What a dead letter was about has ended as failed and stays so: go on with `slipway retry DEPLOYMENT`.")]
pub(crate) struct RedriveArguments {
    /// Ids, as `slipway dlq list` shows them
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    pub(crate) all: bool,
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
}
