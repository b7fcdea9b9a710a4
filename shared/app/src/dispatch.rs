//! From a message to the use case that deals with it: what every consumer loop and every function calls.

use slipway_model::{
    BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Event, EventType, ExecutionLook, JobId, Message, Queue, TenantId,
};

use crate::{App, AppError};

impl App {
    /// Deals with one message. After an error the message has to come again; every use case can be repeated.
    ///
    /// # Errors
    /// A part of the control plane does not answer. Bad messages are logged and dropped.
    pub async fn handle(&self, queue: &Queue, message: Message) -> Result<(), AppError> {
        match message {
            Message::Plan {
                tenant,
                deployment,
                generation,
                request: None,
            } => self.plan_dag(&tenant, deployment, generation).await,
            Message::Plan {
                tenant,
                deployment,
                request: Some(request),
                ..
            } => self.write_preview(&tenant, deployment, request).await,
            Message::Steps {
                tenant,
                execution,
                ordinals,
            } => self.drive(&tenant, execution, &ordinals).await,
            Message::Execution {
                tenant,
                execution,
                look,
            } => match look {
                ExecutionLook::Control => self.control_execution(&tenant, execution).await,
                ExecutionLook::Progress => self.publish_progress(&tenant, execution).await,
                ExecutionLook::Repair => self.repair_execution(&tenant, execution).await,
            },
            Message::Job { tenant, job } => self.deploy_helm(&tenant, job).await,
            Message::Drift {
                tenant,
                deployment,
                component,
            } => {
                self.look_for_drift(&tenant, deployment, component.as_deref())
                    .await
            }
            Message::Orphans {
                tenant,
                cluster,
                after,
                look,
            } => {
                self.look_for_orphans(&tenant, cluster, after.as_deref(), look)
                    .await
            }
            Message::Event(event) => match queue.name() {
                BUDPIPELINE_EVENTS => self.handle_event(&event).await,
                BUDUSECASES_EVENTS => self.track_event(&event).await,
                other => {
                    tracing::debug!(topic = other, "an event on a topic that nobody here listens to");
                    Ok(())
                }
            },
        }
    }

    /// `handle-events`: a job ended, so its step goes on. What happened is read from the job itself: the event only
    /// says where to look. Anything that cannot be understood is logged and dropped.
    pub(crate) async fn handle_event(&self, event: &Event) -> Result<(), AppError> {
        let known = matches!(
            event.event_type.parse(),
            Ok(EventType::JobCompleted | EventType::JobFailed)
        );
        if !known {
            tracing::info!(
                event_type = event.event_type,
                "dropped an event that is not about a job"
            );
            return Ok(());
        }
        let id = event
            .payload
            .get("job_id")
            .and_then(|id| id.as_str())
            .unwrap_or(&event.workflow_id);
        let (Ok(id), Ok(tenant)) = (id.parse::<JobId>(), tenant_of(event)) else {
            tracing::warn!("dropped a job event without a valid job id");
            return Ok(());
        };
        let Some(job) = self.load_job(&tenant, id).await? else {
            tracing::warn!(job = %id, "dropped an event of a job that does not exist");
            return Ok(());
        };
        if !job.status.is_terminal() {
            tracing::warn!(job = %id, "dropped an event that says that a running job has ended");
            return Ok(());
        }
        match job.step {
            Some((execution, ordinal)) => self.drive(&tenant, execution, &[ordinal]).await,
            None => Ok(()),
        }
    }
}

/// Whose event it is.
pub(crate) fn tenant_of(event: &Event) -> Result<TenantId, slipway_model::InvalidId> {
    event
        .tenant_id
        .as_deref()
        .map_or_else(|| Ok(TenantId::local()), str::parse)
}
