//! Ending what a message was about.

use std::time::Duration;

use slipway_engine::{execution_event, final_status};
use slipway_model::{
    BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, DeploymentId, DeploymentStatus, Event, Execution, ExecutionId,
    ExecutionLook, ExecutionStatus, Failure, Message, Queue, TenantId, Timestamp,
};
use slipway_ports::{StoreError, chain};

use super::About;
use crate::{App, AppError, deployments::Ending, executions::publish};

/// Most of a reason that is kept, in bytes.
const LONGEST_REASON: usize = 1024;

/// How long after its death a message still has lost notices repeated: they cost more than looking whether something
/// has to end, and whatever they reach is swept later on, too.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// Why a message is given up, and since when it is dead.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

impl Verdict {
    pub(super) fn new(reason: &str, at: Timestamp) -> Self {
        let reason: String = reason
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let end = reason.floor_char_boundary(LONGEST_REASON);
        let cut = if end < reason.len() { "…" } else { "" };
        Self {
            reason: format!("{}{cut}", reason[..end].trim()),
            at,
        }
    }

    /// What stands in the record of what was given up.
    pub(crate) fn message(&self) -> String {
        format!("gave up after the last try: {}", self.reason)
    }

    /// Whether lost notices are still worth repeating.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.at) <= FRESH
    }
}

/// Whether trying again later cannot help: a record has another shape, or none that can be stored.
pub(crate) fn is_unreadable(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Store(StoreError::Corrupt { .. } | StoreError::TooLarge { .. })
    )
}

impl App {
    /// Ends what a message was about that is about to become a dead letter for good: nobody receives it any more, and
    /// whatever waits for it would wait for ever. Steps and jobs end as `FAILED` with the reason, so does a deployment
    /// that cannot be planned; lost notices are repeated. What has ended stays as it is, and so does what somebody
    /// works on right now or what got on without the message. Can be repeated at any time.
    ///
    /// `reason` is shown to callers: an error's chain without secrets, cut after 1 KiB.
    ///
    /// # Errors
    /// Parts of the control plane that do not answer: to be repeated later. What cannot be read is logged.
    pub async fn give_up(&self, queue: &Queue, message: &Message, reason: &str) -> Result<(), AppError> {
        self.give_up_as(queue, message, &Verdict::new(reason, self.clock.now()))
            .await
    }

    pub(super) async fn give_up_as(
        &self,
        queue: &Queue,
        message: &Message,
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        let done = match message {
            Message::Plan {
                tenant,
                deployment,
                request: Some(request),
                ..
            } => {
                self.give_up_preview(tenant, *deployment, *request, verdict.message())
                    .await
            }
            Message::Plan {
                tenant,
                deployment,
                generation,
                ..
            } => {
                self.give_up_planning(tenant, *deployment, *generation, verdict)
                    .await
            }
            Message::Steps {
                tenant,
                execution,
                ordinals,
            } => self.give_up_steps(tenant, *execution, ordinals, verdict).await,
            Message::Execution {
                tenant,
                execution,
                look: ExecutionLook::Control | ExecutionLook::Repair,
            } => self.repair_given_up(tenant, *execution, verdict).await,
            // The next step that ends publishes it again.
            Message::Execution { .. } => Ok(()),
            Message::Job { tenant, job } => self.give_up_job(tenant, *job, verdict).await,
            // They are sent again within the hour.
            Message::Drift { .. } | Message::Orphans { .. } => Ok(()),
            Message::Event(event) => match queue.name() {
                BUDPIPELINE_EVENTS => self.give_up_job_event(event, verdict).await,
                BUDUSECASES_EVENTS => self.give_up_execution_event(event).await,
                _ => Ok(()),
            },
        };
        match done {
            Err(error) if is_unreadable(&error) => {
                // Nothing can be done to what cannot be read, now or in a minute; the letter stays for people.
                tracing::error!(
                    queue = queue.name(),
                    about = %About::message(message),
                    error = chain(&error),
                    "what a dead letter is about cannot be ended"
                );
                Ok(())
            }
            done => done,
        }
    }

    async fn give_up_planning(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        generation: u64,
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        let Some(deployment) = self.load_deployment(tenant, id).await? else {
            return Ok(());
        };
        let (Some(execution), true) = (
            deployment.pipeline_execution_id,
            deployment.generation == generation && deployment.status.is_in_flight(),
        ) else {
            // One that failed for this very letter is looked at as any other is.
            let is_over =
                deployment.generation != generation || deployment.status == DeploymentStatus::Stopped;
            return match is_over && verdict.is_fresh(self.clock.now()) {
                true => self.clear_up_after_planners(&deployment).await,
                false => Ok(()),
            };
        };
        // Once it is written, it is driven by its own messages.
        match self.load_execution(tenant, execution).await {
            Ok(Some(_)) => return Ok(()),
            Err(error) if !is_unreadable(&error) => return Err(error),
            Ok(None) | Err(_) => {}
        }
        tracing::warn!(deployment = %id, reason = verdict.reason, "gave the planning of a deployment up");
        let (status, message) = if deployment.stop_requested {
            (ExecutionStatus::Cancelled, None)
        } else {
            let message = format!("the deployment cannot be planned: {}", verdict.message());
            (ExecutionStatus::Failed, Some(message))
        };
        self.end_unplanned(&deployment, execution, status, message).await
    }

    /// Sends what is due in an execution again, in place of the look that died.
    async fn repair_given_up(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        let Some(header) = self.load_execution(tenant, id).await? else {
            return Ok(());
        };
        if header.status.is_terminal() || !verdict.is_fresh(self.clock.now()) {
            return Ok(());
        }
        tracing::warn!(execution = %id, reason = verdict.reason, "repairs an execution whose look failed");
        match self.repair_execution(tenant, id).await {
            Err(error) if is_unreadable(&error) => self.force_end(tenant, id, "", verdict, &error).await,
            repaired => repaired,
        }
    }

    /// The event of a job's end died: its step is looked at again.
    async fn give_up_job_event(&self, event: &Event, verdict: &Verdict) -> Result<(), AppError> {
        let About::Event {
            job: Some(id),
            tenant: Some(tenant),
            ..
        } = About::event(event)
        else {
            return Ok(());
        };
        let Some(job) = self.load_job(&tenant, id).await? else {
            return Ok(());
        };
        match job.step {
            Some((execution, ordinal)) if job.status.is_terminal() => {
                self.give_up_steps(&tenant, execution, &[ordinal], verdict).await
            }
            _ => Ok(()),
        }
    }

    /// An event for a deployment died. What it said is derived again from the execution, as far as that can be read.
    async fn give_up_execution_event(&self, event: &Event) -> Result<(), AppError> {
        let About::Event {
            execution: Some(id),
            tenant: Some(tenant),
            ..
        } = About::event(event)
        else {
            return Ok(());
        };
        let Some(header) = self.load_execution(&tenant, id).await? else {
            return Ok(());
        };
        if header.status.is_terminal() {
            self.end_deployment_of(&header).await?;
        }
        Ok(())
    }

    /// Ends an execution whose records cannot be read or written, so that nobody waits for it for ever. What runs in
    /// it runs to its own end; nothing is undone, because what was done cannot be told.
    pub(crate) async fn force_end(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
        step: &str,
        verdict: &Verdict,
        error: &AppError,
    ) -> Result<(), AppError> {
        let message = Verdict::new(&format!("{}; {}", verdict.message(), chain(error)), verdict.at);
        tracing::error!(execution = %id, step, reason = message.reason, "ends an execution that cannot go on");
        let step_id = if step.is_empty() { "plan" } else { step };
        let failure = Failure {
            step_id: step_id.to_owned(),
            message: message.reason,
        };
        let mut session = self.store.session();
        let ended = self
            .update_header(session.as_mut(), tenant, id, |header| {
                header.failure.get_or_insert_with(|| failure.clone());
                header.status = final_status(header);
                header.ended_at = Some(self.clock.now());
                true
            })
            .await?;
        let Some(header) = ended else {
            return Ok(());
        };
        if let Some(event) = execution_event(&header) {
            publish(session.as_mut(), &header, &event);
        }
        session.settle().await?;
        self.end_deployment_of(&header).await
    }

    /// Ends the deployment in flight that an execution was for, once its components say how their steps ended: the events
    /// of those may not have got through either. What an execution undid is told to the deployment that it undid it for.
    async fn end_deployment_of(&self, header: &Execution) -> Result<(), AppError> {
        let Some(id) = header.deployment_id else {
            return Ok(());
        };
        let deployment = self.load_deployment(&header.tenant, id).await?;
        if let (Some(undone), Some(deployment)) = (header.compensates, &deployment)
            && let Some(undone) = self.load_execution(&header.tenant, undone).await?
        {
            return self.hear_undone(deployment, &undone).await;
        }
        let deployment = deployment
            .filter(|deployment| deployment.pipeline_execution_id == Some(header.id))
            .filter(|deployment| deployment.status.is_in_flight());
        let Some(deployment) = deployment else {
            return Ok(());
        };
        match self.repair_components(&deployment, header.id).await {
            // What cannot be read says nothing of them, and the deployment must end all the same.
            Err(error) if is_unreadable(&error) => tracing::error!(
                deployment = %id,
                execution = %header.id,
                error = chain(&error),
                "how the components of a deployment stand cannot be told from its execution"
            ),
            repaired => drop(repaired?),
        }
        let error_message = execution_event(header)
            .and_then(|event| event.payload["error_message"].as_str().map(str::to_owned));
        let ending = Ending {
            execution: header.id,
            generation: header.generation,
            status: header.status,
            error_message,
            certain: false,
        };
        let mut session = self.store.session();
        let ended = self
            .end_deployment(session.as_mut(), &header.tenant, id, &ending)
            .await?;
        session.settle().await?;
        match ended {
            Some(ended) if ended.status == DeploymentStatus::Deleted => self.forget(&ended).await,
            _ => Ok(()),
        }
    }
}
