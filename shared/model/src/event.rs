//! Events on topics.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Largest JSON of an event, in bytes: queues and topics carry no more than 256 KiB, attributes included.
pub const LARGEST_EVENT: usize = 200 * 1024;

/// Longest text that an event keeps when it has to be made smaller, in bytes.
const LONGEST_TEXT: usize = 2 * 1024;

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
///
/// Its JSON is smaller than [`LARGEST_EVENT`]: what is too large for that is left out as [`Event::fitted`] says.
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

impl Event {
    /// The event, made to fit into [`LARGEST_EVENT`].
    ///
    /// Outputs (`payload.outputs`, of jobs `payload.content.result`) that are too large are replaced by their short
    /// texts, numbers and booleans and by `outputs_left_out`: a sentence that says how large they are and where
    /// they are read, which is `read_at`. If that is not enough, texts of the payload such as `error_message` are cut
    /// and end in `…`.
    #[must_use]
    pub fn fitted(mut self, read_at: &str) -> Self {
        if crate::json_size(&self) <= LARGEST_EVENT {
            return self;
        }
        if let Some(outputs) = self.payload.get_mut("outputs") {
            leave_out(outputs, read_at);
        }
        if let Some(result) = self.payload.pointer_mut("/content/result") {
            leave_out(result, read_at);
        }
        if crate::json_size(&self) > LARGEST_EVENT {
            cut_texts(&mut self.payload);
        }
        self
    }
}

/// Keeps what is short of outputs.
fn leave_out(outputs: &mut Value, read_at: &str) {
    let size = crate::json_size(outputs);
    let Value::Object(map) = outputs else { return };
    let mut kept = 0;
    map.retain(|name, value| {
        let size = name.len() + crate::json_size(value);
        let is_short = !value.is_array() && !value.is_object() && size <= LONGEST_TEXT;
        kept += size;
        is_short && kept <= LARGEST_EVENT / 4
    });
    let note = format!("the outputs are {size} bytes, too large for an event; they are read at {read_at}");
    map.insert("outputs_left_out".to_owned(), Value::String(note));
}

fn cut_texts(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT => {
            let end = text.floor_char_boundary(LONGEST_TEXT);
            text.truncate(end);
            text.push('…');
        }
        Value::Object(map) => map.values_mut().for_each(cut_texts),
        Value::Array(items) => items.iter_mut().for_each(cut_texts),
        _ => {}
    }
}
