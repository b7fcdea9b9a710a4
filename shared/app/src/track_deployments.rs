//! The consumer of `budusecasesEvents`: progress becomes component and deployment status.

use std::str::FromStr;

use serde_json::Value;
use slipway_model::{
    Deployment, DeploymentOperation, DeploymentStatus, Event, EventType, Execution, ExecutionId,
    ExecutionStatus, JsonMap, TenantId, Timestamp,
};
use slipway_ports::Session;

use crate::{
    App, AppError,
    deployments::{Ending, Line, StepNews, UNDO, hear, is_undone},
};

/// An event that was understood.
struct News {
    event_type: EventType,
    execution: ExecutionId,
    step: Option<String>,
    status: String,
    outputs: JsonMap,
    error_message: Option<String>,
    attempt: u64,
    kept: bool,
    at: Option<Timestamp>,
}

impl News {
    /// Reads an event; `None` for one that says nothing to deployments, which is logged.
    fn read(event: &Event) -> Option<Self> {
        let payload = &event.payload;
        let text = |key: &str| payload.get(key).and_then(Value::as_str);
        let Some(execution) = text("execution_id") else {
            tracing::warn!(event_type = %event.event_type, "an event names no execution_id; it is dropped");
            return None;
        };
        let Ok(execution) = execution.parse() else {
            tracing::warn!(event_type = %event.event_type, "an event's execution_id is not a UUID; it is dropped");
            return None;
        };
        let status = text("status").unwrap_or_default().to_owned();
        let event_type = match event.event_type.as_str() {
            // Another word for the end of an execution, which its status tells apart.
            "execution_completed" => match status.as_str() {
                "COMPLETED" => Ok(EventType::WorkflowCompleted),
                "FAILED" | "TIMED_OUT" => Ok(EventType::WorkflowFailed),
                "CANCELLED" => Ok(EventType::ExecutionCancelled),
                _ => Err(()),
            },
            other => EventType::from_str(other),
        };
        let Ok(event_type) = event_type else {
            tracing::info!(event_type = %event.event_type, %status, "an event of an unknown type is dropped");
            return None;
        };
        let error_message = text("error_message").or_else(|| text("error")).map(str::to_owned);
        Some(Self {
            event_type,
            execution,
            step: text("step_id").map(str::to_owned),
            status,
            outputs: payload
                .get("outputs")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            error_message,
            kept: payload.get("kept").and_then(Value::as_bool).unwrap_or_default(),
            attempt: payload.get("attempt").and_then(Value::as_u64).unwrap_or_default(),
            at: payload
                .get("at")
                .cloned()
                .and_then(|at| serde_json::from_value(at).ok()),
        })
    }

    /// What it means for the component of that step.
    fn of_step(&self) -> Option<StepNews> {
        match self.event_type {
            EventType::StepStarted => Some(StepNews::Started),
            EventType::StepCompleted => Some(StepNews::completed(&self.status, &self.outputs, self.kept)),
            EventType::StepFailed => {
                let error = self
                    .error_message
                    .clone()
                    .or_else(|| Some("the step failed".to_owned()));
                Some(StepNews::failed(&self.status, &self.outputs, error))
            }
            _ => None,
        }
    }

    /// How the execution ended, if it did.
    fn ending(&self) -> Option<ExecutionStatus> {
        match self.event_type {
            EventType::WorkflowCompleted => Some(ExecutionStatus::Completed),
            EventType::WorkflowFailed if self.status == "TIMED_OUT" => Some(ExecutionStatus::TimedOut),
            EventType::WorkflowFailed => Some(ExecutionStatus::Failed),
            EventType::ExecutionCancelled => Some(ExecutionStatus::Cancelled),
            _ => None,
        }
    }

    /// The line in the history. What a notification says stands there in its own words.
    fn message(&self) -> String {
        let text = |key: &str| self.outputs.get(key).and_then(Value::as_str);
        if let (EventType::StepCompleted, Some(said), true) = (
            self.event_type,
            text("message"),
            self.outputs.contains_key("delivered"),
        ) {
            return match text("error") {
                Some(error) => format!("{said} (not delivered: {error})"),
                None => said.to_owned(),
            };
        }
        let step = self.step.as_deref().unwrap_or("?");
        let message = match (self.event_type, self.status.as_str()) {
            (EventType::StepStarted, _) if self.attempt > 1 => {
                format!("step '{step}' started, attempt {}", self.attempt)
            }
            (EventType::StepStarted, _) => format!("step '{step}' started"),
            (EventType::StepCompleted | EventType::StepFailed, "SKIPPED") => {
                format!("step '{step}' was skipped")
            }
            (EventType::StepCompleted, _) if self.kept && self.attempt == 0 => {
                format!("step '{step}' had completed before, and is kept")
            }
            (EventType::StepCompleted, _) if self.kept => {
                format!("step '{step}' completed: nothing has changed, and its release is kept as it is")
            }
            (EventType::StepCompleted, _) => format!("step '{step}' completed"),
            (EventType::StepFailed, "CANCELLED") => format!("step '{step}' was cancelled"),
            (EventType::StepFailed, "TIMED_OUT") => format!("step '{step}' timed out"),
            (EventType::StepFailed, _) => format!("step '{step}' failed"),
            (EventType::WorkflowCompleted, _) => "the execution completed".to_owned(),
            (EventType::WorkflowFailed, "TIMED_OUT") => "the execution timed out".to_owned(),
            (EventType::WorkflowFailed, _) => "the execution failed".to_owned(),
            (EventType::ExecutionCancelled, _) => "the execution was cancelled".to_owned(),
            (other, _) => other.as_str().to_owned(),
        };
        match &self.error_message {
            Some(error) => format!("{message}: {error}"),
            None => message,
        }
    }
}

impl App {
    /// Takes an event of an execution. What is unknown or malformed is logged and dropped; a repeat changes nothing;
    /// events of executions that are not a deployment's newest change only its history.
    ///
    /// # Errors
    /// Parts of the control plane that do not answer: the message is to come again.
    pub async fn track_event(&self, event: &Event) -> Result<(), AppError> {
        let Some(news) = News::read(event) else {
            return Ok(());
        };
        let Some(tenant) = tenant_of(event) else {
            tracing::warn!(event_type = %event.event_type, "an event's tenant_id is not one; it is dropped");
            return Ok(());
        };
        if event.payload.get("deployment_id").is_some_and(Value::is_null) {
            tracing::debug!(execution = %news.execution, "an event of an execution without a deployment is dropped");
            return Ok(());
        }
        let Some(execution) = self.load_execution(&tenant, news.execution).await? else {
            tracing::info!(execution = %news.execution, "an event of an unknown execution is dropped");
            return Ok(());
        };
        let deployment = match execution.deployment_id {
            Some(id) => self.load_deployment(&tenant, id).await?,
            None => None,
        };
        let Some(deployment) = deployment else {
            tracing::debug!(execution = %news.execution, "an event of an execution without a deployment is dropped");
            return Ok(());
        };
        let mut session = self.store.session();
        if let (Some(step), Some(mut heard)) = (&news.step, news.of_step()) {
            let attempts = u32::try_from(news.attempt).unwrap_or(u32::MAX);
            self.learn_what_is_left(&mut heard, &execution, (step, attempts))
                .await?;
            let uninstalled = news
                .outputs
                .get("status")
                .is_some_and(|status| status == "uninstalled");
            self.hear_step(
                session.as_mut(),
                &deployment,
                &execution,
                (step, &heard, uninstalled),
            )
            .await?;
        }
        let mut after = None;
        if let Some(status) = news.ending() {
            if deployment.pipeline_execution_id == Some(execution.id) {
                // The events of the last steps may still be on their way, and a deployment that runs must not be
                // seen with a component that does not.
                self.repair_components(&deployment, execution.id).await?;
            }
            let ending = Ending {
                execution: execution.id,
                generation: execution.generation,
                status,
                error_message: match execution.compensated_by {
                    Some(_) => self.failure_of(&execution).await?,
                    None => news.error_message.clone(),
                },
                certain: false,
            };
            after = self
                .end_deployment(session.as_mut(), &tenant, deployment.id, &ending)
                .await?;
        }
        self.remember(session.as_mut(), &deployment, &execution, &news)
            .await?;
        session.settle().await?;
        if let (Some(_), Some(undone)) = (news.ending(), execution.compensates)
            && let Some(undone) = self.load_execution(&tenant, undone).await?
        {
            self.hear_undone(&deployment, &undone).await?;
        }
        match after {
            Some(after) if after.status == DeploymentStatus::Deleted => self.forget(&after).await,
            _ => Ok(()),
        }
    }

    async fn hear_step(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        execution: &Execution,
        (step, news, uninstalled): (&str, &StepNews, bool),
    ) -> Result<(), AppError> {
        let newest = deployment.pipeline_execution_id;
        let from = (execution.id, execution.generation);
        let deletes = deployment.operation == Some(DeploymentOperation::Delete);
        // A step that is no component's, such as cluster_health, finds no record.
        if newest == Some(execution.id) {
            self.update_component(session, deployment, step, |component| {
                // What was undone since is not there any more, however late it is said that it came up.
                let uninstalls = deletes || component.removed;
                !is_undone(component, execution) && hear(component, from, news, uninstalls, false)
            })
            .await?;
        } else if execution.compensates.is_some()
            && let Some(component) = step.strip_prefix(UNDO)
            && *news != StepNews::Started
        {
            // What was installed is uninstalled; what was upgraded goes back to the revision before, and runs.
            self.update_component(session, deployment, component, |component| {
                hear(component, from, news, uninstalled, false)
            })
            .await?;
        }
        Ok(())
    }

    async fn remember(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        execution: &Execution,
        news: &News,
    ) -> Result<(), AppError> {
        if news.event_type == EventType::WorkflowProgress {
            // Progress is derived whenever it is asked for; a line every two seconds would bury the others.
            return Ok(());
        }
        let identity = format!(
            "{}/{}/{}",
            news.execution,
            news.step.as_deref().unwrap_or_default(),
            news.attempt
        );
        let line = Line {
            entry_type: news.event_type.as_str(),
            identity: &identity,
            at: news.at,
            execution_id: Some(news.execution),
            step_id: news.step.clone(),
            message: match execution.compensates {
                Some(_) => format!("undoing: {}", news.message()),
                None => news.message(),
            },
        };
        self.write_history(session, deployment, line).await
    }
}

fn tenant_of(event: &Event) -> Option<TenantId> {
    match &event.tenant_id {
        None => Some(TenantId::local()),
        Some(tenant) => tenant.parse().ok(),
    }
}
