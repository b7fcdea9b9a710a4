//! Jobs whose messages nobody will receive again: they end instead of waiting for ever.

use std::time::Duration;

use slipway_model::{Job, JobId, JobStatus, StepStatus, TenantId};
use slipway_ports::{Guard, Put, Session};

use super::{
    deploy_helm::{finish, not_taken_away},
    work::JobWork,
};
use crate::{App, AppError, dead_letters::Verdict, keys};

impl App {
    /// Ends a job as `FAILED`, or as `CANCELLED` if that is wanted, unless it has ended, somebody works for it right now,
    /// or it has got on since the message died. Its event goes out and its release is given free.
    pub(crate) async fn give_up_job(
        &self,
        tenant: &TenantId,
        id: JobId,
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        let mut session = self.store.session();
        let key = keys::job(tenant, id);
        let mut held = None;
        loop {
            let Some(stored) = session.get(&key).await? else {
                tracing::debug!(job = %id, "a dead letter is about a job that does not exist");
                return Ok(());
            };
            let mut job: Job = stored.read()?;
            if job.status.is_terminal() {
                if verdict.is_fresh(self.clock.now())
                    && self.is_awaited(session.as_mut(), &job, verdict).await?
                {
                    self.publish_job_end(session.as_mut(), &job);
                }
                if let Some(held) = &held {
                    self.leave_lease(session.as_mut(), &job, held, None).await?;
                }
                return Ok(session.settle().await?);
            }
            let work: JobWork = match session.get(&keys::job_work(tenant, id)).await? {
                // A record that cannot be read says nothing; the job must end all the same.
                Some(stored) => stored.read().unwrap_or_default(),
                None => JobWork::default(),
            };
            if let (Some(lease), None) = (&work.lease, &held) {
                // What an invocation leaves behind when it goes on later is kept for a minute after that.
                let since = verdict.at.plus(Duration::from_secs(60));
                held = self.hold_to_end(session.as_mut(), &job, lease, since).await?;
                if held.is_none() {
                    return Ok(());
                }
            }
            let left = work.left_unlooked_at();
            work.tell(&mut job);
            let (status, message) = match (&work.decided, &work.ending) {
                // Only Helm's record was not told.
                (Some(decided), _) => (decided.status, decided.message.clone()),
                (None, Some(ending)) => {
                    let rest = not_taken_away(&verdict.message());
                    (ending.status, Some(format!("{}{rest}{left}", ending.message)))
                }
                (None, None) => match &job.cancel {
                    Some(cancel) => (
                        JobStatus::Cancelled,
                        Some(format!("{}; {}{left}", cancel.reason, verdict.message())),
                    ),
                    None => (JobStatus::Failed, Some(format!("{}{left}", verdict.message()))),
                },
            };
            let message = message.map(|message| work.with_hooks(&message));
            finish(&mut job, status, message, self.clock.now());
            let item = self.job_item(&job, Duration::ZERO);
            if let Put::Lost(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                continue;
            }
            tracing::warn!(job = %id, reason = verdict.reason, "gave a job up");
            self.publish_job_end(session.as_mut(), &job);
            if let Some(held) = &held {
                self.leave_lease(session.as_mut(), &job, held, None).await?;
            }
            return Ok(session.settle().await?);
        }
    }

    /// Whether a step still waits for this job, or ended with it after the job's message died: whoever ended it may have
    /// had no message any more that would come again, and nobody has heard of it then.
    async fn is_awaited(
        &self,
        session: &mut dyn Session,
        job: &Job,
        verdict: &Verdict,
    ) -> Result<bool, AppError> {
        let Some(key) = keys::step_of_job(job) else {
            return Ok(false);
        };
        let Some(stored) = session.get(&key).await? else {
            return Ok(false);
        };
        let step: slipway_model::StepRecord = stored.read()?;
        let waits = step.status == StepStatus::AwaitingEvent;
        let ended_since = step.ended_at.is_some_and(|ended| ended >= verdict.at);
        Ok((waits || ended_since) && step.job_id == Some(job.id))
    }
}
