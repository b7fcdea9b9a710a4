//! Events on topics, derived from records so that a repeat says the same.

use serde_json::{Value, json};
use slipway_model::{Event, EventType, Execution, ExecutionStatus, Node, StepRecord, StepStatus, TenantId};

fn event(header: &Execution, event_type: EventType, payload: Value, read_at: &str) -> Event {
    Event {
        event_type: event_type.as_str().to_owned(),
        workflow_id: header.id.to_string(),
        tenant_id: (header.tenant != TenantId::local()).then(|| header.tenant.to_string()),
        payload,
    }
    .fitted(&format!("/api/v1/executions/{}{read_at}", header.id))
}

/// Where the outputs of steps are read.
const STEPS: &str = "/progress?detail=steps";

/// `step_started`, for an attempt that began.
pub fn step_started_event(header: &Execution, node: &Node, record: &StepRecord) -> Event {
    event(
        header,
        EventType::StepStarted,
        json!({
            "execution_id": header.id,
            "deployment_id": header.deployment_id,
            "step_id": node.id,
            "status": StepStatus::Running,
            "attempt": record.attempt,
            "at": record.started_at,
            "outputs": {},
            "error_message": null,
        }),
        STEPS,
    )
}

/// `step_completed` or `step_failed`, for a record that is terminal and has its outputs with it; nothing for one that
/// is not.
pub fn step_event(header: &Execution, node: &Node, record: &StepRecord) -> Option<Event> {
    if !record.status.is_terminal() {
        return None;
    }
    let event_type = if record.satisfied {
        EventType::StepCompleted
    } else {
        EventType::StepFailed
    };
    let mut outputs = record.outputs.clone();
    if let (Some(job), false) = (record.job_id, outputs.contains_key("job_id")) {
        outputs.insert("job_id".to_owned(), json!(job));
    }
    let mut payload = json!({
        "execution_id": header.id,
        "deployment_id": header.deployment_id,
        "step_id": node.id,
        "status": record.status,
        "attempt": record.attempt,
        "at": record.ended_at,
        "outputs": outputs,
        "error_message": record.error_message,
    });
    if record.kept {
        payload["kept"] = json!(true);
    }
    Some(event(header, event_type, payload, STEPS))
}

/// `workflow_completed`, `workflow_failed` or `execution_cancelled`; nothing while the execution runs.
pub fn execution_event(header: &Execution) -> Option<Event> {
    let event_type = match header.status {
        ExecutionStatus::Completed => EventType::WorkflowCompleted,
        ExecutionStatus::Failed | ExecutionStatus::TimedOut => EventType::WorkflowFailed,
        ExecutionStatus::Cancelled => EventType::ExecutionCancelled,
        ExecutionStatus::Pending | ExecutionStatus::Running => return None,
    };
    let error_message = match (&header.failure, header.status) {
        (_, ExecutionStatus::TimedOut) => Some(format!(
            "the execution passed its deadline of {} seconds",
            header.settings.timeout_seconds
        )),
        (_, ExecutionStatus::Cancelled) => header.cancel.as_ref().map(|cancel| cancel.reason.clone()),
        (Some(failure), _) => Some(format!("step '{}' failed: {}", failure.step_id, failure.message)),
        (None, _) => None,
    };
    let error_message = match (error_message, &header.not_undone) {
        (Some(message), Some(why)) => Some(format!(
            "{message}; what it had changed could not be undone: {why}"
        )),
        (message, _) => message,
    };
    Some(event(
        header,
        event_type,
        json!({
            "execution_id": header.id,
            "deployment_id": header.deployment_id,
            "step_id": null,
            "status": header.status,
            "at": header.ended_at,
            "outputs": header.outputs,
            "error_message": error_message,
        }),
        "",
    ))
}
