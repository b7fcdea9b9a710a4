//! Executions and steps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DagSettings, DeploymentId, ExecutionId, JobId, JsonMap, TenantId, Timestamp};

/// How an execution stands. The last four are terminal: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionStatus {
    /// Written, nothing started.
    Pending,
    /// Steps run.
    Running,
    /// Every step completed or was skipped by its `when`.
    Completed,
    /// A step failed.
    Failed,
    /// A caller cancelled it.
    Cancelled,
    /// It passed its deadline.
    TimedOut,
}

impl ExecutionStatus {
    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut
        )
    }
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepStatus {
    /// Its dependencies are not done, or nobody has picked it up.
    Pending,
    /// Its action runs under a lease.
    Running,
    /// It waits for its job, a person, a point in time, or for something outside to pass that blocks it.
    AwaitingEvent,
    /// An attempt failed; the next one starts after the backoff.
    Retrying,
    /// Done.
    Completed,
    /// The last attempt failed.
    Failed,
    /// `when` was false, a dependency failed, or nothing may start any more.
    Skipped,
    /// The execution was cancelled before it was done.
    Cancelled,
    /// It passed its deadline or the execution's.
    TimedOut,
}

impl StepStatus {
    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled | Self::TimedOut
        )
    }
}

/// An execution's header: one item, whatever the number of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Whose it is.
    #[serde(default = "TenantId::local", skip_serializing_if = "is_local")]
    pub tenant: TenantId,
    /// The DAG's name.
    pub name: String,
    /// The DAG's version.
    pub version: String,
    /// The DAG's description.
    #[serde(default)]
    pub description: String,
    /// How it stands.
    pub status: ExecutionStatus,
    /// Parameters that expressions read; secret ones are not among them.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: JsonMap,
    /// Secret parameters: name → name in the secrets store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_parameters: BTreeMap<String, String>,
    /// Names of the secrets that its steps read, and those of the execution that it compensates: what it works on may repeat
    /// them. None where it works for a deployment, which knows its own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets_read: BTreeSet<String>,
    /// Time limit and what a failure does.
    pub settings: DagSettings,
    /// Outputs: as the DAG wrote them, rendered when it completes.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub outputs: JsonMap,
    /// Step names in `outputs` → ordinal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_reads: BTreeMap<String, u32>,
    /// Name of the plan that it follows: a digest of the plan's nodes and of what is kept from earlier executions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// Topics that get the events.
    pub callback_topics: Vec<String>,
    /// Steps of the DAG.
    pub step_count: u32,
    /// Nodes of the plan, virtual ones included.
    pub node_count: u32,
    /// The deployment that it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// `deployment` in expressions: `name`, `id`, `namespace`; empty without one.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    #[schema(value_type = Object)]
    pub deployment: JsonMap,
    /// The deployment's generation, which orders writers of one release.
    #[serde(default)]
    pub generation: u64,
    /// The execution that this one compensates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<ExecutionId>,
    /// The execution that compensates this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensated_by: Option<ExecutionId>,
    /// Why nothing of what it changed is undone, although that was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_undone: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Set once a caller cancels it; nothing starts from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancellation>,
    /// Set once it passed its deadline; nothing starts from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out_at: Option<Timestamp>,
    /// The first failure that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_local(tenant: &TenantId) -> bool {
    *tenant == TenantId::local()
}

/// Who cancelled, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cancellation {
    /// When.
    pub at: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// Whether first installs that are in flight are uninstalled.
    #[serde(default)]
    pub uninstall: bool,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Which step.
    pub step_id: String,
    /// Why.
    pub message: String,
}

/// A step's record; absent until its first transition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// How it stands.
    pub status: StepStatus,
    /// Attempts begun.
    #[serde(default)]
    pub attempt: u32,
    /// Raised by every claim; a holder of an older one writes nothing.
    #[serde(default)]
    pub fence: u64,
    /// Until when the claim holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// The process that holds the claim, where a restart voids the claims of the process before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch: String,
    /// When the attempt must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When it should be looked at again: the end of a backoff or of a `wait`, or when a blocked attempt is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// What the current attempt was blocked by when it was made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// How often attempts were blocked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times_blocked: u64,
    /// The job of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// What later steps can read; empty if they stand in a blob.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    pub outputs: JsonMap,
    /// The blob that holds the outputs of a step that ended with large ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_blob: Option<String>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Whether dependants may treat it as done although it is `SKIPPED` or failed.
    #[serde(default)]
    pub satisfied: bool,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it became terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Attempts that ended before the current one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// Whether it completed without anything being done: an earlier execution had completed it, or what it deploys was
    /// found as it is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Decision of a person, for `approval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<bool>,
}

/// One attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptRecord {
    /// From 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed.
    pub error_message: String,
    /// Its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// Progress of an execution, derived from its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecutionProgress {
    /// Whose progress.
    pub execution_id: ExecutionId,
    /// How it stands.
    pub status: ExecutionStatus,
    /// Steps that ended, of 100.
    pub percent: f64,
    /// Steps that ended.
    pub finished_steps: u32,
    /// Steps in all.
    pub total_steps: u32,
    /// Seconds that it will probably still take; absent while nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Each step, with `detail=steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepProgress>>,
}

/// A step as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepProgress {
    /// The step's id.
    pub step_id: String,
    /// Its action.
    pub action: String,
    /// How it stands.
    pub status: StepStatus,
    /// Attempts begun.
    pub attempt: u32,
    /// Ids of the steps before it.
    pub depends_on: Vec<String>,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it became terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// What it waits for and why, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What later steps can read.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    #[schema(value_type = Object)]
    pub outputs: JsonMap,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Attempts that failed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// Whether it completed without anything being done: an earlier execution had completed it (then it has no
    /// attempt), or what it deploys was found as it is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Whether steps that depend on it may treat it as done: it completed, or did not have to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub satisfied: bool,
}
