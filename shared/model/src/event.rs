//! Events on topics.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The topic of job events.
pub const BUDPIPELINE_EVENTS: &str = "budpipelineEvents";

/// The topic of execution events, unless a DAG names others.
pub const BUDUSECASES_EVENTS: &str = "budusecasesEvents";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// A job ended well.
    JobCompleted,
    /// A job ended otherwise.
    JobFailed,
    /// An attempt of a step began.
    StepStarted,
    /// A step completed.
    StepCompleted,
    /// A step failed, timed out or was skipped because of a failure.
    StepFailed,
    /// Percent and ETA.
    WorkflowProgress,
    /// An execution completed.
    WorkflowCompleted,
    /// An execution failed or timed out.
    WorkflowFailed,
    /// An execution was cancelled.
    ExecutionCancelled,
}

impl EventType {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobCompleted => "job_completed",
            Self::JobFailed => "job_failed",
            Self::StepStarted => "step_started",
            Self::StepCompleted => "step_completed",
            Self::StepFailed => "step_failed",
            Self::WorkflowProgress => "workflow_progress",
            Self::WorkflowCompleted => "workflow_completed",
            Self::WorkflowFailed => "workflow_failed",
            Self::ExecutionCancelled => "execution_cancelled",
        }
    }
}

impl FromStr for EventType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        serde_json::from_value(Value::String(text.to_owned())).map_err(|_| ())
    }
}

/// An event as it stands on a topic. The type stays text, so that an unknown one can be logged and dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// An [`EventType`], or a word that this version does not know.
    #[serde(rename = "type", default)]
    pub event_type: String,
    /// Job id for job events, execution id for the others: what receivers correlate by.
    #[serde(default)]
    pub workflow_id: String,
    /// Whose it is; absent for the local tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// `execution_id`, `step_id`, `status`, `outputs`, `error_message`; of jobs `job_id`, `job_type`,
    /// `source`, `source_id`, `status`, `content.{result,status}` and `error`. Never a secret.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub payload: Value,
}
