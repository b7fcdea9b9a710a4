//! `deploy-helm`: goes on with a job, one short phase after another. Every phase is recorded before the next one
//! begins, so that any invocation can go on where another stopped.

use std::{sync::Arc, time::Duration};

use slipway_model::{
    Cluster, FailureKind, HelmJobConfig, HelmOperation, Job, JobId, JobPhase, JobStatus, JobWait, TenantId,
    Timestamp,
};
use slipway_ports::{FailureClass, Guard, HookSet, Put, Session, Target, TargetError};

use super::{
    at_work::Working,
    opening::Opening,
    work::{Decided, Ending, HeldLease, JobWork},
};
use crate::{App, AppError, keys, steps::Resolved};

/// Failures in a row, worth repeating each, after which a job gives up.
const FAILURES: u32 = 4;

/// Pause before Helm is waited for again.
const NEXT_TURN: Duration = Duration::from_secs(1);

/// How long a job tries to take away what it installed.
pub(super) const CLEAN_UP: Duration = Duration::from_secs(300);

/// How long a release is kept for a job that stopped in the middle.
pub(super) const SET_DOWN: Duration = Duration::from_secs(60);

/// How the reason of a job begins that a newer one replaced.
const SUPERSEDED: &str = "superseded by job ";

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
    pub(super) version: u64,
    pub(super) config: HelmJobConfig,
    pub(super) work: JobWork,
    pub(super) work_version: Option<u64>,
    pub(super) cluster: Cluster,
    pub(super) target: Arc<dyn Target>,
    pub(super) lease: HeldLease,
    /// When this invocation began.
    pub(super) began: Timestamp,
    /// Whether this phase noted that the job comes to its release, and has changed nothing there since.
    pub(super) only_noted: bool,
    /// The hooks of the event that is gone through. They may hold secrets, so they live no longer than the invocation.
    pub(super) hook_set: Option<HookSet>,
    /// What must not be told, once it was needed. Lives no longer than the invocation, too.
    pub(super) secrets: Option<Resolved>,
    /// Says to the rest of this process that somebody works under the lease.
    pub(super) _working: Working,
}

impl App {
    /// Goes on with a job.
    pub(crate) async fn deploy_helm(&self, tenant: &TenantId, id: JobId) -> Result<(), AppError> {
        let began = self.clock.now();
        let mut session = self.store.session();
        let Some(stored) = session.get(&keys::job(tenant, id)).await? else {
            tracing::warn!(job = %id, "dropped a message for a job that does not exist");
            return Ok(());
        };
        let mut job: Job = stored.read()?;
        self.return_lease(&job).await?;
        if job.status.is_terminal() {
            self.publish_job_end(session.as_mut(), &job);
            session.settle().await?;
            return Ok(());
        }
        let (work, work_version): (JobWork, _) = match session.get(&keys::job_work(tenant, id)).await? {
            Some(stored) => (stored.read()?, Some(stored.version)),
            None => (JobWork::default(), None),
        };
        // Whoever decided on it may have died before the job's own record said so.
        work.tell(&mut job);
        let mut open = Opening {
            app: self,
            job,
            version: stored.version,
            work,
            work_version,
            began,
        };
        match open.begin(session).await? {
            Some(run) => run.go().await,
            None => Ok(()),
        }
    }
}

impl Run<'_> {
    /// Phase after phase, until the job waits or ends. If a part of the control plane does not answer, the release is
    /// left to the invocation that the message comes back to: nothing works for the job any more.
    async fn go(mut self) -> Result<(), AppError> {
        let done = self.phases().await;
        if let Err(error) = &done {
            self.set_down(error).await;
        }
        done
    }

    /// Leaves the release idle, but this job's, after an error. Nothing works under its fence any more.
    pub(super) async fn set_down(&self, error: &AppError) {
        tracing::warn!(job = %self.job.id, %error, "an invocation stopped working on a job");
        let mut session = self.app.store.session();
        let left = self
            .app
            .leave_lease(session.as_mut(), &self.job, &self.lease, Some(SET_DOWN))
            .await;
        let left = match left {
            Ok(()) => session.settle().await.map_err(AppError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            tracing::warn!(
                job = %self.job.id,
                %error,
                "a release stays taken until this process goes on with the job, or its lease expires"
            );
            let expires = self.app.clock.now().plus(self.app.settings.invocation + SET_DOWN);
            self.app
                .unreturned()
                .add(self.job.id, self.lease.clone(), expires, self.app.clock.now());
        }
    }

    async fn phases(&mut self) -> Result<(), AppError> {
        loop {
            self.only_noted = false;
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

    /// What did not become ready, or whose hooks failed, is not deployed: a rollback must not go back to it, and a
    /// first install that failed is to be a first install again. Helm itself was not there to see it.
    async fn tell_helm_of_failure(&self, revision: u32, message: &str) {
        let reason = message.lines().next().unwrap_or_default();
        let release = &self.lease.release;
        let told = match self.target.record(release).await {
            // Somebody took this job's away and installed another one since, which may have the same number.
            Ok(Some(record)) if record.revision == revision && !self.is_mine(&record) => return,
            Ok(_) => self.target.mark_failed(release, revision, reason).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(job = %self.job.id, %error, "Helm's record still says that a failed revision is deployed");
        }
    }

    /// Gives the release up for a job that has ended meanwhile, so that nobody waits until the lease expires. If
    /// another invocation works for the job now, the lease is its own.
    pub(super) async fn withdraw(&self, mut session: Box<dyn Session>) -> Result<(), AppError> {
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
        if let Some(decided) = self.work.decided.clone() {
            if let Some(message) = self.is_to_go_after_all(&decided) {
                self.work.decided = None;
                return Ok(Ok(self.stop(JobStatus::Cancelled, message, true)));
            }
            let message = decided.message.as_deref().unwrap_or_default();
            if let Some(revision) = self.failed_revision() {
                if self.is_spent() {
                    return Ok(Ok(Next::Later(Duration::ZERO)));
                }
                self.tell_helm_of_failure(revision, message).await;
            }
            finish(
                &mut self.job,
                decided.status,
                decided.message,
                self.app.clock.now(),
            );
            return Ok(Ok(Next::Ended));
        }
        if self.job.phase != JobPhase::CleanUp {
            if let Some(cancel) = self.job.cancel.clone() {
                self.end_hooks(true).await?;
                let message = self.with_diagnosis(cancel.reason);
                return Ok(Ok(self.stop(JobStatus::Cancelled, message, cancel.uninstall)));
            }
            let now = self.app.clock.now();
            // Lateness is judged where readiness is looked at, with what was seen; what was ready in time is collected.
            let judged = matches!(self.job.phase, JobPhase::Watch | JobPhase::Collect);
            if !judged && self.deadline().is_some_and(|deadline| now >= deadline) {
                self.end_hooks(false).await?;
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
        if self.is_spent() {
            return Ok(Ok(Next::Later(Duration::ZERO)));
        }
        match self.job.phase {
            JobPhase::Check => self.check().await,
            JobPhase::PreHooks => self.pre_hooks().await,
            JobPhase::PostHooks => self.post_hooks().await,
            JobPhase::Apply => self.apply().await,
            JobPhase::Watch => self.watch().await,
            JobPhase::Collect => self.collect().await,
            JobPhase::CleanUp => self.clean_up().await,
            JobPhase::Done => Ok(Ok(Next::Ended)),
        }
    }

    /// What an operation's failure does to the job.
    async fn failed(&mut self, mut error: TargetError) -> Result<Next, AppError> {
        error.0.message = self.masked_error(&error.0.message).await?;
        let patience = self.work.patience(&self.job, &self.config);
        let is_over = patience.is_some_and(|until| self.app.clock.now() >= until);
        // A place for Helm comes free by itself, and what is to be taken away does not stay because others were busy.
        let may_queue = !is_over || self.job.phase == JobPhase::CleanUp;
        if error.class() == FailureClass::Queued && may_queue {
            // Nothing was tried. What is left of the job's time is looked at when it comes back; cleaning up has its whole
            // time from when it has its turn.
            self.stand_back();
            if let Some(ending) = &mut self.work.ending {
                ending.until = ending.until.max(self.app.clock.now().plus(CLEAN_UP));
            }
            self.job.waiting_for = vec![JobWait {
                object: "helm".to_owned(),
                reason: "queued".to_owned(),
                message: error.0.message,
            }];
            return Ok(Next::Later(NEXT_TURN));
        }
        self.work.failures_in_a_row = self.work.failures_in_a_row.saturating_add(1);
        let is_late = match patience {
            Some(_) => is_over,
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
            let left = self.work.left_behind();
            return Ok(self.give_up(&format!("{}{left}", not_taken_away(&error.0.message))));
        }
        if let Some(failure) = self.work.hooks.as_ref().and_then(|hooks| hooks.failure.as_ref()) {
            // Why the hook failed is why the job does, and not that it is still there.
            let (why, log) = failure.split_at(failure.find('\n').unwrap_or(failure.len()));
            let message = format!("{why}; hooks could not be deleted: {}{log}", error.0.message);
            return Ok(self.stop(JobStatus::Failed, message, self.config.delete_on_failure));
        }
        if error.class() == FailureClass::Permanent {
            self.job.failure_kind = Some(FailureKind::Permanent);
        }
        self.end_hooks(false).await?;
        let status = if error.class() == FailureClass::TimedOut {
            JobStatus::TimedOut
        } else {
            JobStatus::Failed
        };
        Ok(self.stop(status, error.0.message, self.config.delete_on_failure))
    }

    /// Ends the job, after taking away what it installed first if that is wanted.
    pub(super) fn stop(&mut self, status: JobStatus, message: String, take_away: bool) -> Next {
        let installed = self.work.is_first_install();
        if take_away && installed && self.config.adopt {
            // What was adopted was there before, and was not this job's to delete.
            let stays =
                "what was installed stays, because with 'adopt: true' some of it may have been there before";
            return self.ended(status, Some(format!("{message}; {stays}")));
        }
        if take_away && installed {
            let until = self.app.clock.now().plus(CLEAN_UP);
            self.work.ending = Some(Ending {
                status,
                message,
                failure_kind: self.job.failure_kind,
                until,
            });
            self.work.failures_in_a_row = 0;
            self.job.phase = JobPhase::CleanUp;
            return Next::Go;
        }
        let left = self.work.left_behind();
        self.ended(status, Some(format!("{message}{left}")))
    }

    /// Ends the job, and tells which hooks go on. That it ends so is recorded first, and Helm told after that: who comes
    /// after a crash must neither find that it became ready after all, nor forget why it did not.
    pub(super) fn ended(&mut self, status: JobStatus, message: Option<String>) -> Next {
        let message = message.map(|message| self.work.with_hooks(&message));
        if status != JobStatus::Succeeded {
            // They are told of. Of a job that succeeds it stays known which have run: its own record may be lost.
            self.work.leave_hooks();
            self.work.hooks_left.clear();
            self.work.decided = Some(Decided {
                status,
                message: message.clone(),
                failure_kind: self.job.failure_kind,
            });
            if self.failed_revision().is_some() {
                return Next::Go;
            }
        }
        finish(&mut self.job, status, message, self.app.clock.now());
        Next::Ended
    }

    /// What a cancelled job that was to leave its install is cancelled for, if somebody has wanted that gone since it was
    /// decided.
    fn is_to_go_after_all(&self, decided: &Decided) -> Option<String> {
        let is_wanted = self.job.cancel.as_ref().is_some_and(|cancel| cancel.uninstall);
        let message = decided.message.as_deref().unwrap_or_default();
        let kept = decided.status == JobStatus::Cancelled
            && !message.starts_with(SUPERSEDED)
            && self.work.ending.is_none()
            && self.work.is_first_install()
            && !self.config.adopt;
        (is_wanted && kept).then(|| message.replacen(&self.work.left_behind(), "", 1))
    }

    /// The revision of a job that does not succeed which Helm is to call failed. One that was kept is another job's, and
    /// works.
    fn failed_revision(&self) -> Option<u32> {
        let changes = matches!(
            self.config.operation,
            HelmOperation::Deploy | HelmOperation::Rollback
        );
        self.work.revision.filter(|_| changes && !self.job.kept)
    }

    /// Ends a clean-up that cannot go on; what is left is named.
    pub(super) fn give_up(&mut self, rest: &str) -> Next {
        let (status, message) = match self.work.ending.clone() {
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
            &mut self.work_version,
            due_in,
        )
        .await
    }
}

pub(super) fn not_taken_away(why: &str) -> String {
    format!("; what it had installed could not be taken away: {why}")
}

/// The reason of a job that a newer one replaced.
pub(super) fn superseded(newer: JobId) -> String {
    format!("{SUPERSEDED}{newer}, which is newer for the same release")
}

/// Whether a job ended because a newer one replaced it: whatever there is of its release is that one's.
pub(crate) fn is_superseded(job: &Job) -> bool {
    let why = job.error_message.as_deref().unwrap_or_default();
    job.status == JobStatus::Cancelled && why.starts_with(SUPERSEDED)
}

pub(super) fn finish(job: &mut Job, status: JobStatus, message: Option<String>, now: Timestamp) {
    job.status = status;
    job.phase = JobPhase::Done;
    job.error_message = message.map(|message| message.trim().to_owned());
    job.completed_at = Some(now);
    job.waiting_for.clear();
}

/// Writes a job's working record, then the job. Only a cancellation may have come in between, and is kept.
pub(super) async fn write(
    app: &App,
    session: &mut dyn Session,
    job: &mut Job,
    version: &mut u64,
    work: &JobWork,
    work_version: &mut Option<u64>,
    due_in: Duration,
) -> Result<bool, AppError> {
    // An invocation that read the record before somebody else went on, or that outlived its lease, as one does on a
    // machine that slept, must not undo what came after it.
    let key = keys::job_work(&job.tenant, job.id);
    let item = app.work_item(job, work);
    let guard = work_version.map_or(Guard::Absent, Guard::Version);
    match session.put(&key, item.clone(), guard).await? {
        Put::Won(next) => *work_version = Some(next),
        // Its own, whose answer was lost.
        Put::Lost(Some(stored)) if stored.body == item.body => *work_version = Some(stored.version),
        Put::Lost(_) => {
            tracing::warn!(job = %job.id, "stopped working on a job that somebody else works on now");
            return Ok(false);
        }
    }
    let key = keys::job(&job.tenant, job.id);
    loop {
        let item = app.job_item(job, due_in);
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
                let takes_away = |job: &Job| job.cancel.as_ref().is_some_and(|cancel| cancel.uninstall);
                if job.status == JobStatus::Cancelled && takes_away(&theirs) && !takes_away(job) {
                    // It was to end and leave its install: who goes on with it takes that away.
                    return Ok(false);
                }
                job.cancel = theirs.cancel;
                *version = stored.version;
            }
        }
    }
}
