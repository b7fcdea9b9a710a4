//! What the calls that start an execution for a deployment share.

use std::time::Duration;

use slipway_model::{Deployment, DeploymentOperation, ExecutionId, Message, Queue};
use slipway_ports::Session;

use crate::AppError;

/// Executions that a deployment remembers.
const REMEMBERED: usize = 50;

/// Turns a deployment to a new operation, which `execution` carries out.
pub(crate) fn begin(deployment: &mut Deployment, operation: DeploymentOperation, execution: ExecutionId) {
    deployment.generation += 1;
    if let Some(earlier) = deployment.pipeline_execution_id.replace(execution) {
        deployment.earlier_execution_ids.push(earlier);
        let excess = deployment.earlier_execution_ids.len().saturating_sub(REMEMBERED);
        deployment.earlier_execution_ids.drain(..excess);
    }
    deployment.operation = Some(operation);
    deployment.status = operation.status();
    deployment.stop_requested = false;
    deployment.delete_requested = false;
    deployment.error_message = None;
}

/// Has the present generation planned.
pub(crate) fn send_plan(session: &mut dyn Session, deployment: &Deployment) {
    let message = Message::Plan {
        tenant: deployment.tenant.clone(),
        deployment: deployment.id,
        generation: deployment.generation,
        request: None,
    };
    session.send(Queue::PlanDag, message, Duration::ZERO);
}

/// A 409 that names the state. `what` is such as «cannot be stopped».
pub(crate) fn wrong_state(deployment: &Deployment, what: &str) -> AppError {
    AppError::conflict(format!(
        "Deployment {} {what}: it is {}",
        deployment.id,
        deployment.status.as_str()
    ))
}

/// A 409 for a deployment that changed between two reads.
pub(crate) fn changed_meanwhile(deployment: &Deployment) -> AppError {
    AppError::conflict(format!(
        "Deployment {} was changed by another call just now: it is {}; try again",
        deployment.id,
        deployment.status.as_str()
    ))
}
