//! One release has one writer: a fenced lease per (cluster, namespace, release).

use std::{cmp::Ordering, time::Duration};

use serde::{Deserialize, Serialize};
use slipway_model::{DeploymentId, ExecutionId, HelmOperation, Job, JobId, JobStatus, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Key, Put, Release, Session};

use super::{
    at_work::Working,
    undone::Undone,
    work::{HeldLease, JobWork},
};
use crate::{App, AppError, keys, steps::compensation_of};

/// How long a job that is ended from outside is held meanwhile: a few calls.
const ENDING: Duration = Duration::from_secs(60);

/// Who writes a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Owner {
    tenant: TenantId,
    job: JobId,
    fence: u64,
    /// Whether an invocation works for the job right now.
    busy: bool,
    lease_until: Timestamp,
    epoch: String,
}

/// The newest job that wants a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wanted {
    tenant: TenantId,
    job: JobId,
    /// The deployment that the job works for; only the jobs of one owner supersede each other.
    #[serde(default)]
    owner: Option<DeploymentId>,
    generation: u64,
    #[serde(default)]
    undoes: bool,
    /// The execution whose step made the job.
    #[serde(default)]
    execution: Option<ExecutionId>,
    /// When its step made the job, or somebody had it executed.
    created_at: Timestamp,
    /// When the step made the job that this one undoes.
    #[serde(default)]
    undone_at: Option<Timestamp>,
}

impl Wanted {
    fn of(job: &Job) -> Self {
        Self {
            tenant: job.tenant.clone(),
            job: job.id,
            owner: job.deployment_id,
            generation: job.generation,
            undoes: job.undoes,
            execution: job.step.map(|(execution, _)| execution),
            created_at: match (job.step, job.started_at) {
                (None, Some(executed)) => executed,
                _ => job.created_at,
            },
            undone_at: Undone::by(job).map(|undone| undone.created_at),
        }
    }

    /// Which of two jobs of one owner is the newer one, whatever clocks say: of a deployment's, that of a later
    /// generation, then that which undoes it; of those without a deployment, that which undoes the other's execution.
    fn order(&self, other: &Self) -> Ordering {
        if self.owner.is_some() {
            return (self.generation, self.undoes).cmp(&(other.generation, other.undoes));
        }
        self.is_undone_by(other).cmp(&other.is_undone_by(self)).reverse()
    }

    /// Which of two jobs of one rank is the newer one. What undoes is as old as what it undoes to everybody but another
    /// that undoes the same execution: it may have begun long after others had changed the release.
    fn age(&self, other: &Self) -> Ordering {
        let together = self.undoes && other.undoes && self.execution == other.execution;
        let at = |wanted: &Self| match wanted.undone_at {
            Some(undone_at) if !together => undone_at,
            _ => wanted.created_at,
        };
        (at(self), self.job).cmp(&(at(other), other.job))
    }

    /// Whether it may be newer than another job, or older.
    fn is_rival_of(&self, other: &Self) -> bool {
        self.owner == other.owner && self.job != other.job
    }

    /// Whether Helm's record, and not age, says if another job has changed what this one undoes.
    fn is_judged_by_its_record(&self, other: &Self) -> bool {
        self.undone_at.is_some() && self.order(other).is_eq()
    }

    fn is_undone_by(&self, other: &Self) -> bool {
        other.undoes && self.execution.map(compensation_of) == other.execution
    }
}

/// What is wanted of a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wish {
    #[serde(flatten)]
    newest: Wanted,
    /// The newest job that began to change the release, or kept it. That of the newest wish may come to nothing, and the
    /// older ones are looked at again then; none that is older than this one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reached: Option<Wanted>,
}

/// A newer job that keeps another one from a release.
pub(super) enum Newer {
    /// The older one is not done any more.
    Supersedes(JobId),
    /// What is to be undone is seen when it has ended.
    GoesFirst(JobId),
}

/// How an attempt to take a lease ended.
pub(super) enum Taken {
    /// The release is this job's to write, as long as the invocation works.
    Held(HeldLease, Working),
    /// Another job writes it.
    Busy(JobId),
    /// A newer job wants it.
    Superseded(JobId),
}

impl App {
    /// Whose job wrote a release last; nobody's, if this control plane never wrote it.
    pub(crate) async fn release_tenant(
        &self,
        cluster_uid: &str,
        release: &Release,
    ) -> Result<Option<TenantId>, AppError> {
        let key = keys::release_owner(cluster_uid, &release.namespace, &release.name);
        match self.store.get(&key).await? {
            Some(stored) => Ok(Some(stored.read::<Owner>()?.tenant)),
            None => Ok(None),
        }
    }

    /// Holds the lease of a job that is about to be ended from outside, so that no invocation begins anything for it
    /// meanwhile. Returns the lease as it is to be left after that. Nothing if an invocation works under it or takes it at
    /// this moment, or one that goes on later has left it until after `since`. One that is another job's by now is left to
    /// that.
    pub(super) async fn hold_to_end(
        &self,
        session: &mut dyn Session,
        job: &Job,
        lease: &HeldLease,
        since: Timestamp,
    ) -> Result<Option<HeldLease>, AppError> {
        let key = keys::release_owner(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
        let Some(stored) = session.get(&key).await? else {
            return Ok(Some(lease.clone()));
        };
        let mut owner: Owner = stored.read()?;
        if owner.job != job.id {
            return Ok(Some(lease.clone()));
        }
        let is_worked_on = match owner.busy {
            true => self.is_live(&owner, &key),
            false => owner.lease_until > since,
        };
        if is_worked_on {
            return Ok(None);
        }
        owner.fence += 1;
        owner.busy = true;
        owner.lease_until = self.clock.now().plus(ENDING);
        owner.epoch.clone_from(&self.settings.epoch);
        let put = session
            .put(&key, Item::of(&owner), Guard::Version(stored.version))
            .await?;
        Ok(matches!(put, Put::Won(_)).then(|| HeldLease {
            fence: owner.fence,
            ..lease.clone()
        }))
    }

    /// Says that a job wants its release; the newest one wins. Returns the newer one, if there is one that counts.
    pub(super) async fn want_release(
        &self,
        session: &mut dyn Session,
        job: &Job,
        operation: HelmOperation,
        cluster_uid: &str,
        release: &Release,
    ) -> Result<Option<Newer>, AppError> {
        let key = keys::release_wanted(cluster_uid, &release.namespace, &release.name);
        let mine = Wanted::of(job);
        // A test waits its turn, whoever is newer.
        let is_test = operation == HelmOperation::Test;
        loop {
            let (guard, current) = match session.get(&key).await? {
                Some(stored) => (Guard::Version(stored.version), Some(stored.read::<Wish>()?)),
                None => (Guard::Absent, None),
            };
            let mut reached = None;
            if let Some(Wish {
                newest,
                reached: past,
            }) = current
            {
                if let Some(past) = past.as_ref().filter(|past| past.is_rival_of(&mine))
                    && !mine.is_judged_by_its_record(past)
                    && self.is_newer(past, &mine).await?
                {
                    return Ok((!is_test).then_some(Newer::Supersedes(past.job)));
                }
                if newest.job == job.id {
                    return Ok(None);
                }
                if newest.owner != mine.owner {
                    // Whose release it is, is not a matter of age: the later one waits its turn, and finds out then.
                    if self.is_open(&newest).await? {
                        return Ok(None);
                    }
                } else if self.is_newer(&newest, &mine).await? {
                    if mine.is_judged_by_its_record(&newest) {
                        // Its wish stays: who is older than that one, and newer than this one, must find it.
                        let goes_first = self.is_open(&newest).await? && !is_test;
                        return Ok(goes_first.then_some(Newer::GoesFirst(newest.job)));
                    }
                    if self.counts(&newest).await? {
                        return Ok((!is_test).then_some(Newer::Supersedes(newest.job)));
                    }
                }
                reached = past;
            }
            if is_test {
                return Ok(None);
            }
            let wish = Wish {
                newest: mine.clone(),
                reached,
            };
            if let Put::Won(_) = session.put(&key, Item::of(&wish), guard).await? {
                return Ok(None);
            }
        }
    }

    /// Notes that a job begins to change its release, or keeps it: whoever is older is not done any more, whatever becomes
    /// of those that are newer.
    pub(super) async fn reach_release(
        &self,
        session: &mut dyn Session,
        job: &Job,
        lease: &HeldLease,
    ) -> Result<(), AppError> {
        let key = keys::release_wanted(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
        let mine = Wanted::of(job);
        loop {
            let (guard, newest, past) = match session.get(&key).await? {
                Some(stored) => {
                    let Wish { newest, reached } = stored.read()?;
                    (Guard::Version(stored.version), newest, reached)
                }
                None => (Guard::Absent, mine.clone(), None),
            };
            if let Some(past) = past.filter(|past| past.owner == mine.owner)
                && (past.job == mine.job || self.is_newer(&past, &mine).await?)
            {
                return Ok(());
            }
            let wish = Wish {
                newest,
                reached: Some(mine.clone()),
            };
            if let Put::Won(_) = session.put(&key, Item::of(&wish), guard).await? {
                return Ok(());
            }
        }
    }

    /// Whether a job that wants a release has not ended.
    async fn is_open(&self, wanted: &Wanted) -> Result<bool, AppError> {
        let job = self.load_job(&wanted.tenant, wanted.job).await?;
        Ok(job.is_some_and(|job| !job.status.is_terminal()))
    }

    /// Whether what a job wanted still counts. It does not if the job came to nothing: it was cancelled, or ended without
    /// success, before it began to change the release. The older ones go on then, for nobody else brings the release up.
    async fn counts(&self, wanted: &Wanted) -> Result<bool, AppError> {
        let Some(job) = self.load_job(&wanted.tenant, wanted.job).await? else {
            // It ended so long ago that it is kept no more.
            return Ok(true);
        };
        let came_to_nothing = match job.status {
            JobStatus::Succeeded => false,
            status => status.is_terminal() || job.cancel.is_some(),
        };
        if !came_to_nothing || job.kept {
            return Ok(true);
        }
        // Read after the job: one that records only now that it begins hears that it is cancelled, and does not begin.
        let work = keys::job_work(&wanted.tenant, wanted.job);
        Ok(match self.store.get(&work).await? {
            Some(stored) => stored.read::<JobWork>()?.apply_began,
            None => false,
        })
    }

    /// Whether another job of the same owner is newer than one.
    async fn is_newer(&self, other: &Wanted, mine: &Wanted) -> Result<bool, AppError> {
        let order = other.order(mine);
        Ok(match order.then_with(|| other.age(mine)) {
            Ordering::Less | Ordering::Equal => false,
            // What was wanted at a time that is still to come was wanted before the clock was set back.
            Ordering::Greater if order.is_eq() && other.created_at > self.clock.now() => {
                self.is_open(other).await?
            }
            Ordering::Greater => true,
        })
    }

    /// Takes the lease of a release for an invocation, if it is free, expired, or this job's own and idle. A newer job
    /// waits while a hook of this one is `in_hook`: what that changes is not left in the middle.
    pub(super) async fn take_lease(
        &self,
        session: &mut dyn Session,
        job: &Job,
        operation: HelmOperation,
        in_hook: bool,
        cluster_uid: &str,
        release: &Release,
    ) -> Result<Taken, AppError> {
        let key = keys::release_owner(cluster_uid, &release.namespace, &release.name);
        let newer = self
            .want_release(session, job, operation, cluster_uid, release)
            .await?;
        if let Some(newer) = newer.filter(|_| !in_hook) {
            // A newer job preempts what waits, never what changes the cluster: that one finds out when it is done.
            let owner = match session.get(&key).await? {
                Some(stored) => Some(stored.read::<Owner>()?),
                None => None,
            };
            let is_at_work = owner
                .as_ref()
                .is_some_and(|owner| self.is_at_work(owner, &key, job.id));
            match newer {
                _ if is_at_work => return Ok(Taken::Busy(job.id)),
                Newer::Supersedes(newer) => return Ok(Taken::Superseded(newer)),
                // What it has begun to undo it does not leave in the middle.
                Newer::GoesFirst(_) if owner.is_some_and(|owner| owner.job == job.id) => {}
                Newer::GoesFirst(other) => return Ok(Taken::Busy(other)),
            }
        }
        loop {
            let now = self.clock.now();
            let (guard, current) = match session.get(&key).await? {
                Some(stored) => (Guard::Version(stored.version), Some(stored.read::<Owner>()?)),
                None => (Guard::Absent, None),
            };
            let mut fence = 1;
            let is_anothers = current.as_ref().is_some_and(|owner| owner.job != job.id);
            if let Some(owner) = current {
                let idle_and_mine = owner.job == job.id && !owner.busy;
                if self.is_live(&owner, &key) && !idle_and_mine {
                    return Ok(Taken::Busy(owner.job));
                }
                fence = owner.fence + 1;
            }
            let next = Owner {
                tenant: job.tenant.clone(),
                job: job.id,
                fence,
                busy: true,
                lease_until: now.plus(self.settings.invocation + Duration::from_secs(60)),
                epoch: self.settings.epoch.clone(),
            };
            if let Put::Lost(_) = session.put(&key, Item::of(&next), guard).await? {
                continue;
            }
            let held = HeldLease {
                cluster_uid: cluster_uid.to_owned(),
                release: release.clone(),
                fence,
            };
            // A newer job may have come and gone since this one said what it wants: each says so before it takes the
            // lease, so who holds it now sees that.
            if is_anothers
                && let Some(newer) = self
                    .want_release(session, job, operation, cluster_uid, release)
                    .await?
            {
                self.leave_lease(session, job, &held, None).await?;
                return Ok(match newer {
                    Newer::Supersedes(newer) => Taken::Superseded(newer),
                    Newer::GoesFirst(other) => Taken::Busy(other),
                });
            }
            return Ok(Taken::Held(held, self.at_work().begin(&key, fence)));
        }
    }

    /// Whether an invocation works for the job at this moment.
    pub(super) async fn is_worked_on(
        &self,
        session: &mut dyn Session,
        job: &Job,
        lease: &HeldLease,
    ) -> Result<bool, AppError> {
        let key = keys::release_owner(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
        let Some(stored) = session.get(&key).await? else {
            return Ok(false);
        };
        Ok(self.is_at_work(&stored.read()?, &key, job.id))
    }

    fn is_at_work(&self, owner: &Owner, key: &Key, job: JobId) -> bool {
        owner.job == job && owner.busy && self.is_live(owner, key)
    }

    /// Whether a lease is not over. Where nobody works outside this process, one that is worked under is not.
    fn is_live(&self, owner: &Owner, key: &Key) -> bool {
        owner.epoch == self.settings.epoch
            && (self.clock.now() < owner.lease_until
                || self.settings.alone && owner.busy && self.at_work().is_under(key, owner.fence))
    }

    /// Ends an invocation's hold. A job that goes on keeps the release for `keep`; one that ended gives it up and
    /// the job that wants it is looked at.
    pub(super) async fn leave_lease(
        &self,
        session: &mut dyn Session,
        job: &Job,
        lease: &HeldLease,
        keep: Option<Duration>,
    ) -> Result<(), AppError> {
        let key = keys::release_owner(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
        if let Some(stored) = session.get(&key).await? {
            let mut owner: Owner = stored.read()?;
            // Fenced out: somebody else has taken it since, and it is theirs to change.
            if owner.job == job.id && owner.fence == lease.fence {
                owner.busy = false;
                // Given up for good it is over at once, also if the clock is set back.
                let given_up = Timestamp::from_millis(0);
                owner.lease_until = keep.map_or(given_up, |keep| self.clock.now().plus(keep));
                session
                    .put(&key, Item::of(&owner), Guard::Version(stored.version))
                    .await?;
            }
        }
        if keep.is_none() {
            let key = keys::release_wanted(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
            if let Some(stored) = session.get(&key).await? {
                let wanted = stored.read::<Wish>()?.newest;
                if wanted.job != job.id {
                    self.send_job(session, &wanted.tenant, wanted.job, Duration::ZERO);
                }
            }
        }
        Ok(())
    }
}
