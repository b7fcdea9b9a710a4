//! `deploy-helm`: goes on with a job, one short phase after another. Every phase is recorded before the next one
//! begins, so that any invocation can go on where another stopped.

use std::{sync::Arc, time::Duration};

use slipway_model::{Cluster, HelmJobConfig, Job, JobId, JobPhase, JobStatus, JobWait, TenantId, Timestamp};
use slipway_ports::{FailureClass, Guard, Item, Put, Release, Session, Target, TargetError};

use super::{
    lease::Taken,
    record::job_item,
    work::{Ending, HeldLease, JobWork},
};
use crate::{App, AppError, clusters::ConnectError, keys};

/// Failures in a row, worth repeating each, after which a job gives up.
const FAILURES: u32 = 4;

/// How long a job tries to take away what it installed.
const CLEAN_UP: Duration = Duration::from_secs(300);

/// What comes after a phase.
pub(super) enum Next {
    /// The next phase, in this invocation.
    Go,
    /// The same phase, by a message after that delay.
    Later(Duration),
    /// Nothing: the job ended.
    Ended,
}

/// One invocation's work on a job.
pub(super) struct Run<'a> {
    pub(super) app: &'a App,
    pub(super) job: Job,
    version: u64,
    pub(super) config: HelmJobConfig,
    pub(super) work: JobWork,
    pub(super) cluster: Cluster,
    pub(super) target: Arc<dyn Target>,
    pub(super) lease: HeldLease,
}

impl App {
    /// Goes on with a job.
    pub(crate) async fn deploy_helm(&self, tenant: &TenantId, id: JobId) -> Result<(), AppError> {
        let mut session = self.store.session();
        let Some(stored) = session.get(&keys::job(tenant, id)).await? else {
            tracing::warn!(job = %id, "dropped a message for a job that does not exist");
            return Ok(());
        };
        let job: Job = stored.read()?;
        if job.status.is_terminal() {
            self.publish_job_end(session.as_mut(), &job);
            session.settle().await?;
            return Ok(());
        }
        let work = match session.get(&keys::job_work(tenant, id)).await? {
            Some(stored) => stored.read()?,
            None => JobWork::default(),
        };
        let mut open = Opening {
            app: self,
            job,
            version: stored.version,
            work,
        };
        if let Some(run) = open.begin(session).await? {
            run.go().await?;
        }
        Ok(())
    }
}

/// A job before its lease is taken.
struct Opening<'a> {
    app: &'a App,
    job: Job,
    version: u64,
    work: JobWork,
}

impl<'a> Opening<'a> {
    /// Connects and takes the lease. Nothing if the job has to wait or has ended.
    async fn begin(&mut self, mut session: Box<dyn Session>) -> Result<Option<Run<'a>>, AppError> {
        let app = self.app;
        let now = app.clock.now();
        // Before its configuration is read: jobs of every type can be cancelled.
        if let (Some(cancel), false) = (&self.job.cancel, self.work.apply_began) {
            let message = cancel.reason.clone();
            self.end(session, JobStatus::Cancelled, message).await?;
            return Ok(None);
        }
        let config: HelmJobConfig = match serde_json::from_value(self.job.config.clone()) {
            Ok(config) => config,
            Err(error) => {
                let message = format!("Invalid Helm config: {error}");
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
                self.wait_or_fail(session, error, &config).await?;
                return Ok(None);
            }
        };
        let operation = config.operation;
        match app
            .take_lease(session.as_mut(), &self.job, operation, &uid, &release)
            .await?
        {
            Taken::Held(lease) => {
                let mut run = Run {
                    app,
                    job: self.job.clone(),
                    version: self.version,
                    config,
                    work: self.work.clone(),
                    cluster,
                    target,
                    lease: lease.clone(),
                };
                run.work.lease = Some(lease);
                if !run.save(session.as_mut()).await? {
                    run.withdraw(session).await?;
                    return Ok(None);
                }
                session.settle().await?;
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
                self.pause(session, Duration::from_secs(2)).await?;
                Ok(None)
            }
            Taken::Superseded(newer) => {
                self.end(session, JobStatus::Cancelled, superseded(newer)).await?;
                Ok(None)
            }
        }
    }

    async fn reach(&self) -> Result<(Cluster, Arc<dyn Target>, String), TargetError> {
        let id = self.job.cluster_id.to_string();
        let problem = |error: AppError| match error {
            AppError::Problem(problem) => TargetError::permanent(problem.detail),
            other => TargetError::transient(other.to_problem().detail),
        };
        let cluster = self
            .app
            .find_cluster(&self.job.tenant, &id)
            .await
            .map_err(problem)?;
        let cluster = cluster
            .ok_or_else(|| TargetError::permanent(format!("cluster {id} is not registered any more")))?;
        let target = match self.app.connect(&self.job.tenant, cluster.id).await {
            Ok(target) => target,
            Err(ConnectError::App(error)) => return Err(problem(error)),
            Err(ConnectError::Target(error)) => return Err(error),
        };
        let uid = target.identity().await?;
        Ok((cluster, target, uid))
    }

    async fn wait_or_fail(
        &mut self,
        session: Box<dyn Session>,
        error: TargetError,
        config: &HelmJobConfig,
    ) -> Result<(), AppError> {
        self.work.failures_in_a_row = self.work.failures_in_a_row.saturating_add(1);
        let patience = self.work.patience(&self.job, config);
        let is_late = match patience {
            Some(until) => self.app.clock.now() >= until,
            None => self.work.failures_in_a_row >= FAILURES,
        };
        if error.class() == FailureClass::Permanent || is_late {
            let message = error.0.message;
            return match self.work.ending.take() {
                Some(ending) => {
                    let message = format!("{}{}", ending.message, not_taken_away(&message));
                    self.end(session, ending.status, message).await
                }
                None => self.end(session, JobStatus::Failed, message).await,
            };
        }
        self.job.waiting_for = vec![JobWait {
            object: "cluster".to_owned(),
            reason: "out of reach".to_owned(),
            message: error.0.message,
        }];
        let delay = self.work.backoff();
        self.pause(session, delay).await
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
        let item = job_item(&self.job, due_in, self.app.clock.now());
        match session.put(&key, item, Guard::Version(self.version)).await? {
            Put::Won(next) => self.version = next,
            Put::Lost(_) => return Ok(false),
        }
        let key = keys::job_work(&self.job.tenant, self.job.id);
        session.put(&key, Item::of(&self.work), Guard::Any).await?;
        Ok(true)
    }
}

impl Run<'_> {
    /// Phase after phase, until the job waits or ends.
    async fn go(mut self) -> Result<(), AppError> {
        loop {
            let next = match self.phase().await? {
                Ok(next) => {
                    self.work.failures_in_a_row = 0;
                    next
                }
                Err(error) => self.failed(error).await?,
            };
            let mut session = self.app.store.session();
            match next {
                Next::Go => {
                    if !self.save(session.as_mut()).await? {
                        return self.withdraw(session).await;
                    }
                    session.settle().await?;
                }
                Next::Later(delay) => {
                    if !self.save(session.as_mut()).await? {
                        return self.withdraw(session).await;
                    }
                    let keep = delay + Duration::from_secs(60);
                    self.app
                        .leave_lease(session.as_mut(), &self.job, &self.lease, Some(keep))
                        .await?;
                    self.app
                        .send_job(session.as_mut(), &self.job.tenant, self.job.id, delay);
                    session.settle().await?;
                    return Ok(());
                }
                Next::Ended => {
                    if !self.save(session.as_mut()).await? {
                        return self.withdraw(session).await;
                    }
                    self.app.publish_job_end(session.as_mut(), &self.job);
                    self.app
                        .leave_lease(session.as_mut(), &self.job, &self.lease, None)
                        .await?;
                    session.settle().await?;
                    return Ok(());
                }
            }
        }
    }

    /// Gives the release up for a job that has ended meanwhile, so that nobody waits until the lease expires. If
    /// another invocation works for the job now, the lease is its own.
    async fn withdraw(&self, mut session: Box<dyn Session>) -> Result<(), AppError> {
        self.app
            .leave_lease(session.as_mut(), &self.job, &self.lease, None)
            .await?;
        Ok(session.settle().await?)
    }

    /// When the job must have ended; absent before it began.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let limit = Duration::from_secs(self.job.timeout_seconds);
        self.job.started_at.map(|started| started.plus(limit))
    }

    async fn phase(&mut self) -> Result<Result<Next, TargetError>, AppError> {
        if self.job.phase != JobPhase::CleanUp {
            if let Some(cancel) = self.job.cancel.clone() {
                let message = self.with_diagnosis(cancel.reason);
                return Ok(Ok(self.stop(JobStatus::Cancelled, message, cancel.uninstall)));
            }
            let now = self.app.clock.now();
            // Lateness is judged where readiness is looked at, with what was seen; what was ready in time is collected.
            let judged = matches!(self.job.phase, JobPhase::Watch | JobPhase::Collect);
            if !judged && self.deadline().is_some_and(|deadline| now >= deadline) {
                let message = format!(
                    "the job passed its deadline of {} seconds",
                    self.job.timeout_seconds
                );
                let message = self.with_diagnosis(message);
                return Ok(Ok(self.stop(
                    JobStatus::TimedOut,
                    message,
                    self.config.delete_on_failure,
                )));
            }
        }
        match self.job.phase {
            JobPhase::Check => self.check().await,
            JobPhase::Apply => self.apply().await,
            JobPhase::Watch => self.watch().await,
            JobPhase::Collect => Ok(self.collect().await),
            JobPhase::CleanUp => Ok(self.clean_up().await),
            JobPhase::Done => Ok(Ok(Next::Ended)),
        }
    }

    /// What an operation's failure does to the job.
    async fn failed(&mut self, error: TargetError) -> Result<Next, AppError> {
        self.work.failures_in_a_row = self.work.failures_in_a_row.saturating_add(1);
        let is_late = match self.work.patience(&self.job, &self.config) {
            Some(until) => self.app.clock.now() >= until,
            None => self.work.failures_in_a_row >= FAILURES,
        };
        if error.class() == FailureClass::Transient && !is_late {
            self.job.retry_count += 1;
            self.job.waiting_for = vec![JobWait {
                object: format!("release {}", self.lease.release),
                reason: "trying again".to_owned(),
                message: error.0.message,
            }];
            return Ok(Next::Later(self.work.backoff()));
        }
        if self.job.phase == JobPhase::CleanUp {
            return Ok(self.give_up(&not_taken_away(&error.0.message)));
        }
        let status = if error.class() == FailureClass::TimedOut {
            JobStatus::TimedOut
        } else {
            JobStatus::Failed
        };
        Ok(self.stop(status, error.0.message, self.config.delete_on_failure))
    }

    /// Ends the job, after taking away what it installed first if that is wanted.
    pub(super) fn stop(&mut self, status: JobStatus, message: String, take_away: bool) -> Next {
        let installed = self.work.apply_began && self.work.first_install == Some(true);
        if take_away && installed {
            let until = self.app.clock.now().plus(CLEAN_UP);
            self.work.ending = Some(Ending {
                status,
                message,
                until,
            });
            self.work.failures_in_a_row = 0;
            self.job.phase = JobPhase::CleanUp;
            return Next::Go;
        }
        self.ended(status, Some(message))
    }

    pub(super) fn ended(&mut self, status: JobStatus, message: Option<String>) -> Next {
        finish(&mut self.job, status, message, self.app.clock.now());
        Next::Ended
    }

    /// Ends a clean-up that cannot go on; what is left is named.
    pub(super) fn give_up(&mut self, rest: &str) -> Next {
        let (status, message) = match self.work.ending.take() {
            Some(ending) => (ending.status, ending.message),
            None => (JobStatus::Failed, String::new()),
        };
        self.ended(status, Some(format!("{message}{rest}")))
    }

    pub(super) fn with_diagnosis(&self, message: String) -> String {
        let waiting: Vec<String> = self.job.waiting_for.iter().map(ToString::to_string).collect();
        let mut text = message;
        if !waiting.is_empty() {
            text = format!("{text}; waiting for {}", waiting.join("; "));
        }
        if !self.work.diagnosis.is_empty() {
            text = format!("{text}\n{}", self.work.diagnosis);
        }
        text
    }

    /// Records the job. False if it has ended meanwhile, by whoever fenced this invocation out.
    pub(super) async fn save(&mut self, session: &mut dyn Session) -> Result<bool, AppError> {
        let due_in = self.app.settings.invocation + Duration::from_secs(90);
        write(
            self.app,
            session,
            &mut self.job,
            &mut self.version,
            &self.work,
            due_in,
        )
        .await
    }
}

fn not_taken_away(why: &str) -> String {
    format!("; what it had installed could not be taken away: {why}")
}

/// The reason of a job that a newer one replaced.
pub(super) fn superseded(newer: JobId) -> String {
    format!("superseded by job {newer}, which is newer for the same release")
}

fn finish(job: &mut Job, status: JobStatus, message: Option<String>, now: Timestamp) {
    job.status = status;
    job.phase = JobPhase::Done;
    job.error_message = message.map(|message| message.trim().to_owned());
    job.completed_at = Some(now);
    job.waiting_for.clear();
}

/// Writes a job's working record, then the job. Only a cancellation may have come in between, and is kept.
async fn write(
    app: &App,
    session: &mut dyn Session,
    job: &mut Job,
    version: &mut u64,
    work: &JobWork,
    due_in: Duration,
) -> Result<bool, AppError> {
    // An invocation that outlived its lease, as one does on a machine that slept, must not undo what came after it.
    let mine = work.lease.as_ref().map(|lease| lease.fence);
    let key = keys::job_work(&job.tenant, job.id);
    loop {
        let guard = match session.get(&key).await? {
            None => Guard::Absent,
            Some(stored) => {
                let theirs: JobWork = stored.read()?;
                if theirs.lease.map(|lease| lease.fence) > mine {
                    tracing::warn!(job = %job.id, "stopped working on a job that somebody else works on now");
                    return Ok(false);
                }
                Guard::Version(stored.version)
            }
        };
        if let Put::Won(_) = session.put(&key, Item::of(work), guard).await? {
            break;
        }
    }
    let key = keys::job(&job.tenant, job.id);
    loop {
        let item = job_item(job, due_in, app.clock.now());
        match session.put(&key, item, Guard::Version(*version)).await? {
            Put::Won(next) => {
                *version = next;
                return Ok(true);
            }
            Put::Lost(None) => return Ok(false),
            Put::Lost(Some(stored)) => {
                let theirs: Job = stored.read()?;
                if theirs.status.is_terminal() || (theirs.cancel.is_none() && theirs.phase != job.phase) {
                    tracing::warn!(job = %job.id, "stopped working on a job that somebody else has moved on");
                    return Ok(false);
                }
                job.cancel = theirs.cancel;
                *version = stored.version;
            }
        }
    }
}
