//! Beginning an invocation's work on a job: the cluster is reached and the release's lease taken.

use std::{sync::Arc, time::Duration};

use slipway_model::{
    Cluster, FailureKind, HelmJobConfig, Job, JobPhase, JobStatus, JobWait, StepRecord, StepStatus, Timestamp,
};
use slipway_ports::{FailureClass, Guard, Put, Release, Session, Target, TargetError};

use super::{
    deploy_helm::{CLEAN_UP, Run, SET_DOWN, finish, not_taken_away, superseded, write},
    lease::Taken,
    work::{Ending, HeldLease, JobWork},
};
use crate::{App, AppError, clusters::ConnectError, keys};

/// When a job is looked at again whose step may yet wait for it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Whether a step waits for a job.
enum Awaited {
    Now,
    Perhaps,
    Never,
}

/// A job before its lease is taken.
pub(super) struct Opening<'a> {
    pub(super) app: &'a App,
    pub(super) job: Job,
    pub(super) version: u64,
    pub(super) work: JobWork,
    /// The version of the working record; nothing if there is none.
    pub(super) work_version: Option<u64>,
    pub(super) began: Timestamp,
}

impl<'a> Opening<'a> {
    /// Connects and takes the lease. Nothing if the job has to wait or has ended.
    pub(super) async fn begin(&mut self, mut session: Box<dyn Session>) -> Result<Option<Run<'a>>, AppError> {
        let app = self.app;
        let now = app.clock.now();
        // Before its configuration is read: jobs of every type can be cancelled. A test has hooks without an apply.
        let has_begun = self.work.apply_began || self.work.may_have_hook();
        if let (Some(cancel), false) = (&self.job.cancel, has_begun) {
            let message = cancel.reason.clone();
            if self.is_worked_on(session.as_mut()).await? {
                session.settle().await?;
            } else {
                self.end(session, JobStatus::Cancelled, message).await?;
            }
            return Ok(None);
        }
        if self.job.status == JobStatus::Pending {
            match self.awaited(session.as_mut()).await? {
                Awaited::Now => {}
                Awaited::Perhaps => {
                    self.pause(session, LOOK_AGAIN).await?;
                    return Ok(None);
                }
                Awaited::Never => {
                    let message = "no step waits for it".to_owned();
                    self.end(session, JobStatus::Cancelled, message).await?;
                    return Ok(None);
                }
            }
        }
        let config: HelmJobConfig = match serde_json::from_value(self.job.config.clone()) {
            Ok(config) => config,
            Err(error) => {
                let message = format!("Invalid Helm config: {error}");
                self.job.failure_kind = Some(FailureKind::Permanent);
                self.end(session, JobStatus::Failed, message).await?;
                return Ok(None);
            }
        };
        if self.job.status == JobStatus::Pending {
            self.job.status = JobStatus::Running;
            self.job.started_at = Some(now);
        }
        let release = Release {
            namespace: config.namespace.clone(),
            name: config.release_name.clone(),
        };
        let (cluster, target, uid) = match self.reach().await {
            Ok(reached) => reached,
            Err(error) => {
                // A message that came twice may not reach the cluster that another invocation is changing: what
                // becomes of the job, and when the release is free, is for that one to say.
                if self.is_worked_on(session.as_mut()).await? {
                    session.settle().await?;
                    return Ok(None);
                }
                self.wait_or_fail(session, error, &config).await?;
                return Ok(None);
            }
        };
        self.work.out_of_reach = 0;
        self.work.out_of_reach_since = None;
        let (operation, in_hook) = (config.operation, self.work.is_in_hook());
        match app
            .take_lease(session.as_mut(), &self.job, operation, in_hook, &uid, &release)
            .await?
        {
            Taken::Held(lease, working) => {
                let mut run = Run {
                    app,
                    job: self.job.clone(),
                    version: self.version,
                    config,
                    work: self.work.clone(),
                    work_version: self.work_version,
                    cluster,
                    target,
                    lease: lease.clone(),
                    began: self.began,
                    only_noted: false,
                    hook_set: None,
                    secrets: None,
                    _working: working,
                };
                run.work.lease = Some(lease);
                let saved = match run.save(session.as_mut()).await {
                    Ok(true) => session.settle().await.map_err(AppError::from),
                    Ok(false) => {
                        self.leave(session, &run.lease).await?;
                        return Ok(None);
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = saved {
                    run.set_down(&error).await;
                    return Err(error);
                }
                Ok(Some(run))
            }
            // A message that came twice. The invocation that works for the job also sees whether it is cancelled.
            Taken::Busy(other) if other == self.job.id => {
                session.settle().await?;
                Ok(None)
            }
            Taken::Busy(other) => {
                self.job.waiting_for = vec![JobWait {
                    object: format!("release {release}"),
                    reason: "another job".to_owned(),
                    message: format!("job {other} is working on it"),
                }];
                // Whoever has it longer is asked less often; when it is free, the newest job hears of it.
                let waited = now.since(self.job.started_at.unwrap_or(now)).as_secs();
                let pause = Duration::from_secs((waited / 30).clamp(2, 30));
                self.pause(session, pause).await?;
                Ok(None)
            }
            Taken::Superseded(newer) => {
                // The newer job knows what stands in a record, and nothing of what was left without one.
                let message = format!("{}{}", superseded(newer), self.work.left_behind());
                self.end(session, JobStatus::Cancelled, message).await?;
                Ok(None)
            }
        }
    }

    /// Leaves a lease that was taken for a job which somebody else has moved on meanwhile: idle, but the job's, unless that
    /// has ended. What it has begun may go on.
    async fn leave(&self, mut session: Box<dyn Session>, lease: &HeldLease) -> Result<(), AppError> {
        let job = self.app.load_job(&self.job.tenant, self.job.id).await?;
        let goes_on = job.is_some_and(|job| !job.status.is_terminal());
        let keep = goes_on.then_some(SET_DOWN);
        self.app
            .leave_lease(session.as_mut(), &self.job, lease, keep)
            .await?;
        Ok(session.settle().await?)
    }

    /// Whether another invocation works for the job at this moment. It sees for itself what the job has to hear.
    async fn is_worked_on(&self, session: &mut dyn Session) -> Result<bool, AppError> {
        match &self.work.lease {
            Some(lease) => self.app.is_worked_on(session, &self.job, lease).await,
            None => Ok(false),
        }
    }

    /// Whether the job's step waits for it. A step's job is written before the step's record, which is what commits
    /// to it: the step may have been cancelled in between, or kept from an earlier execution.
    async fn awaited(&self, session: &mut dyn Session) -> Result<Awaited, AppError> {
        let (Some((execution, _)), Some(step)) = (self.job.step, keys::step_of_job(&self.job)) else {
            return Ok(Awaited::Now);
        };
        if let Some(stored) = session.get(&step).await? {
            let step: StepRecord = stored.read()?;
            return Ok(match step.status {
                StepStatus::AwaitingEvent if step.job_id == Some(self.job.id) => Awaited::Now,
                status if status.is_terminal() || status == StepStatus::AwaitingEvent => Awaited::Never,
                _ => Awaited::Perhaps,
            });
        }
        let header = self.app.load_execution(&self.job.tenant, execution).await?;
        let goes_on = header.is_some_and(|header| !header.status.is_terminal());
        Ok(if goes_on { Awaited::Perhaps } else { Awaited::Never })
    }

    async fn reach(&self) -> Result<(Cluster, Arc<dyn Target>, String), TargetError> {
        let id = self.job.cluster_id.to_string();
        let cluster = self
            .app
            .find_cluster(&self.job.tenant, &id)
            .await
            .map_err(ConnectError::from)?;
        let cluster = cluster
            .ok_or_else(|| TargetError::permanent(format!("cluster {id} is not registered any more")))?;
        let target = self.app.connect(&self.job.tenant, cluster.id).await?;
        let uid = target.identity().await?;
        Ok((cluster, target, uid))
    }

    async fn wait_or_fail(
        &mut self,
        session: Box<dyn Session>,
        error: TargetError,
        config: &HelmJobConfig,
    ) -> Result<(), AppError> {
        self.work.out_of_reach = self.work.out_of_reach.saturating_add(1);
        let since = *self
            .work
            .out_of_reach_since
            .get_or_insert_with(|| self.app.clock.now());
        // A cluster that is away for a while blocks what wants to change it, and fails it only when its time is over.
        let ready = Duration::from_secs(config.timeout.min(self.job.timeout_seconds));
        let patience = self.work.patience(&self.job, config);
        let mut until = patience.unwrap_or_else(|| since.plus(ready));
        if let (Some(cancel), None) = (&self.job.cancel, &self.work.ending) {
            // Nobody waits for what it was to do any more.
            until = until.min(since.max(cancel.at).plus(CLEAN_UP));
        }
        if error.class() == FailureClass::Permanent || self.app.clock.now() >= until {
            return self.end_out_of_reach(session, error, config).await;
        }
        self.job.waiting_for = vec![JobWait {
            object: "cluster".to_owned(),
            reason: "out of reach".to_owned(),
            message: error.0.message,
        }];
        let delay = Duration::from_secs(1 << self.work.out_of_reach.min(5));
        self.pause(session, delay).await
    }

    /// Ends a job whose cluster is not waited for any longer, unless it installed something that is to be taken away:
    /// that is tried for a while, as it would be had the cluster answered. How it ends was decided before, or is by its
    /// cancellation; the cluster decides only if there is neither.
    async fn end_out_of_reach(
        &mut self,
        mut session: Box<dyn Session>,
        error: TargetError,
        config: &HelmJobConfig,
    ) -> Result<(), AppError> {
        let is_permanent = error.class() == FailureClass::Permanent;
        let why = error.0.message;
        if let Some(decided) = self.work.decided.clone() {
            let message = decided.message.unwrap_or_default();
            return self.end(session, decided.status, message).await;
        }
        let left = self.work.left_behind();
        if let Some(ending) = self.work.ending.clone() {
            let message = format!("{}{}{left}", ending.message, not_taken_away(&why));
            return self.end(session, ending.status, message).await;
        }
        let (status, message, take_away) = match &self.job.cancel {
            Some(cancel) => (JobStatus::Cancelled, cancel.reason.clone(), cancel.uninstall),
            None => (JobStatus::Failed, why.clone(), config.delete_on_failure),
        };
        if is_permanent && status == JobStatus::Failed {
            self.job.failure_kind = Some(FailureKind::Permanent);
        }
        if !take_away || !self.work.is_first_install() || config.adopt {
            let message = match status {
                JobStatus::Cancelled => format!("{message}; its cluster could not be reached: {why}{left}"),
                _ => format!("{message}{left}"),
            };
            return self.end(session, status, message).await;
        }
        let app = self.app;
        self.work.ending = Some(Ending {
            status,
            message,
            failure_kind: self.job.failure_kind,
            until: app.clock.now().plus(CLEAN_UP),
        });
        self.job.phase = JobPhase::CleanUp;
        let due_in = Duration::from_secs(90);
        let (job, work) = (&mut self.job, &self.work);
        let is_written = write(
            app,
            session.as_mut(),
            job,
            &mut self.version,
            work,
            &mut self.work_version,
            due_in,
        )
        .await?;
        if is_written {
            app.send_job(session.as_mut(), &job.tenant, job.id, Duration::ZERO);
        }
        Ok(session.settle().await?)
    }

    async fn pause(&mut self, mut session: Box<dyn Session>, delay: Duration) -> Result<(), AppError> {
        // Due only if the message is lost: else every sweep would add a message of its own to those that wait.
        if self
            .write(session.as_mut(), delay + Duration::from_secs(90))
            .await?
        {
            self.app
                .send_job(session.as_mut(), &self.job.tenant, self.job.id, delay);
        }
        session.settle().await?;
        Ok(())
    }

    async fn end(
        &mut self,
        mut session: Box<dyn Session>,
        status: JobStatus,
        message: String,
    ) -> Result<(), AppError> {
        let message = self.work.with_hooks(&message);
        finish(&mut self.job, status, Some(message), self.app.clock.now());
        if self.write(session.as_mut(), Duration::ZERO).await? {
            self.app.publish_job_end(session.as_mut(), &self.job);
            if let Some(lease) = &self.work.lease {
                self.app
                    .leave_lease(session.as_mut(), &self.job, lease, None)
                    .await?;
            }
        }
        session.settle().await?;
        Ok(())
    }

    /// Records the job. False if somebody else has changed it since it was read: an invocation that works for it
    /// goes on, and whoever cancelled it has sent a message.
    async fn write(&mut self, session: &mut dyn Session, due_in: Duration) -> Result<bool, AppError> {
        let key = keys::job(&self.job.tenant, self.job.id);
        let item = self.app.job_item(&self.job, due_in);
        match session.put(&key, item, Guard::Version(self.version)).await? {
            Put::Won(next) => self.version = next,
            Put::Lost(_) => return Ok(false),
        }
        // Another invocation may have gone on with the job since: what that has found out stays.
        let key = keys::job_work(&self.job.tenant, self.job.id);
        let item = self.app.work_item(&self.job, &self.work);
        let guard = self.work_version.map_or(Guard::Absent, Guard::Version);
        if let Put::Won(next) = session.put(&key, item, guard).await? {
            self.work_version = Some(next);
        }
        Ok(true)
    }
}
