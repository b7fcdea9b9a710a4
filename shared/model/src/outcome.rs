//! What actions and jobs answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Job, JobId, JobStatus, JsonMap, Timestamp};

/// Whether a repeat can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The same again would fail again.
    Permanent,
    /// Worth another attempt, if the step has one left.
    Transient,
}

/// What an action answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, with outputs.
    Completed(JsonMap),
    /// Failed.
    Failed {
        /// For people; never a secret.
        message: String,
        /// Whether a repeat can help.
        kind: FailureKind,
    },
    /// A job was made; its end decides. The outputs are there from now on.
    AwaitJob(JobId, JsonMap),
    /// A person decides. The outputs, what that person is asked among them, are there from now on.
    AwaitApproval(JsonMap),
    /// Done when that time has come, with outputs.
    WaitUntil(Timestamp, JsonMap),
    /// Nothing was done yet, because of something that may pass: what, for people, and never a secret. The attempt is
    /// made again after a pause, until its time is over.
    Blocked(String),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// Which job.
    pub job: JobId,
    /// A terminal status.
    pub status: JobStatus,
    /// Outputs of a job that succeeded.
    pub outputs: JsonMap,
    /// Why it did not.
    pub error_message: Option<String>,
    /// Whether another attempt can help, of one that failed.
    pub failure_kind: FailureKind,
    /// Whether it changed nothing, because nothing was to be changed.
    pub kept: bool,
}

impl JobEnd {
    /// How a job ended; nothing while it is open.
    pub fn of(job: &Job) -> Option<Self> {
        job.status.is_terminal().then(|| Self {
            job: job.id,
            status: job.status,
            outputs: job.result.clone(),
            error_message: job.error_message.clone(),
            failure_kind: job.failure_kind.unwrap_or(FailureKind::Transient),
            kept: job.kept,
        })
    }
}
