//! One release has one writer: a fenced lease per (cluster, namespace, release).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use slipway_model::{DeploymentId, HelmOperation, Job, JobId, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Key, Put, Release, Session};

use super::{at_work::Working, work::HeldLease};
use crate::{App, AppError, keys};

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
    /// When somebody said so: a step began, or the job was to be executed.
    created_at: Timestamp,
}

impl Wanted {
    fn of(job: &Job) -> Self {
        let created_at = match job.step {
            Some(_) => job.created_at,
            None => job.started_at.unwrap_or(job.created_at),
        };
        Self {
            tenant: job.tenant.clone(),
            job: job.id,
            owner: job.deployment_id,
            generation: job.generation,
            undoes: job.undoes,
            created_at,
        }
    }

    /// What is wanted later ranks higher. Whatever clocks say, what undoes a generation of a deployment comes after it,
    /// and before the next one. Without a deployment there are no generations: what undoes one execution is older than
    /// all that is posted after it.
    fn rank(&self) -> (u64, bool, Timestamp, bool, JobId) {
        let undoes_a_generation = self.undoes && self.owner.is_some();
        (
            self.generation,
            undoes_a_generation,
            self.created_at,
            self.undoes,
            self.job,
        )
    }
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

/// How a lease stands that a job took.
pub(super) enum Hold {
    /// An invocation works under it right now.
    Working,
    /// It is kept for the job's next message, until then or until it ran out then.
    Idle(Timestamp),
    /// Nobody works under it: it has expired in mid-invocation, or another job has the release.
    Lost,
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

    /// How the lease stands that a job took.
    pub(super) async fn hold_of(
        &self,
        session: &mut dyn Session,
        job: &Job,
        lease: &HeldLease,
    ) -> Result<Hold, AppError> {
        let key = keys::release_owner(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
        let Some(stored) = session.get(&key).await? else {
            return Ok(Hold::Lost);
        };
        let owner: Owner = stored.read()?;
        if owner.job != job.id {
            return Ok(Hold::Lost);
        }
        Ok(match owner.busy {
            true if self.is_live(&owner, &key) => Hold::Working,
            true => Hold::Lost,
            false => Hold::Idle(owner.lease_until),
        })
    }

    /// Says that a job wants its release; the newest one wins. Returns the newer one, if there is one.
    pub(super) async fn want_release(
        &self,
        session: &mut dyn Session,
        job: &Job,
        operation: HelmOperation,
        cluster_uid: &str,
        release: &Release,
    ) -> Result<Option<JobId>, AppError> {
        let key = keys::release_wanted(cluster_uid, &release.namespace, &release.name);
        let mine = Wanted::of(job);
        loop {
            let (guard, current) = match session.get(&key).await? {
                Some(stored) => (Guard::Version(stored.version), Some(stored.read::<Wanted>()?)),
                None => (Guard::Absent, None),
            };
            if let Some(current) = current {
                if current.job == job.id {
                    return Ok(None);
                }
                if current.owner != mine.owner {
                    // Whose release it is, is not a matter of age: the later one waits its turn, and finds out then.
                    let other = self.load_job(&current.tenant, current.job).await?;
                    if other.is_some_and(|other| !other.status.is_terminal()) {
                        return Ok(None);
                    }
                } else if current.rank() > mine.rank() {
                    // A test waits its turn, whoever is newer.
                    return Ok((operation != HelmOperation::Test).then_some(current.job));
                }
            }
            if operation == HelmOperation::Test {
                return Ok(None);
            }
            if let Put::Won(_) = session.put(&key, Item::of(&mine), guard).await? {
                return Ok(None);
            }
        }
    }

    /// Takes the lease of a release for an invocation, if it is free, expired, or this job's own and idle.
    pub(super) async fn take_lease(
        &self,
        session: &mut dyn Session,
        job: &Job,
        operation: HelmOperation,
        cluster_uid: &str,
        release: &Release,
    ) -> Result<Taken, AppError> {
        let key = keys::release_owner(cluster_uid, &release.namespace, &release.name);
        if let Some(newer) = self
            .want_release(session, job, operation, cluster_uid, release)
            .await?
        {
            // A newer job preempts what waits, never what changes the cluster: that one finds out when it is done.
            let owner = match session.get(&key).await? {
                Some(stored) => Some(stored.read::<Owner>()?),
                None => None,
            };
            return Ok(match owner.filter(|owner| self.is_at_work(owner, &key, job.id)) {
                Some(_) => Taken::Busy(job.id),
                None => Taken::Superseded(newer),
            });
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
                return Ok(Taken::Superseded(newer));
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
                owner.lease_until = self.clock.now().plus(keep.unwrap_or_default());
                session
                    .put(&key, Item::of(&owner), Guard::Version(stored.version))
                    .await?;
            }
        }
        if keep.is_none() {
            let key = keys::release_wanted(&lease.cluster_uid, &lease.release.namespace, &lease.release.name);
            if let Some(stored) = session.get(&key).await? {
                let wanted: Wanted = stored.read()?;
                if wanted.job != job.id {
                    self.send_job(session, &wanted.tenant, wanted.job, Duration::ZERO);
                }
            }
        }
        Ok(())
    }
}
