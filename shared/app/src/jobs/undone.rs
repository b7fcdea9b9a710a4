//! What a job that undoes knows of the job that it undoes, and whether others have changed the release since.
//!
//! An execution may be undone long after its jobs changed their releases, and another execution may have changed one of
//! them meanwhile. What that made is not this one's to destroy. Each revision says under which fence it was written, and
//! fences of a release only ever grow, whatever clocks say.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_model::{ExecutionId, Job, JobId, Timestamp};
use slipway_ports::{ReleaseRecord, TargetError};

use super::{deploy_helm::Run, work::JobWork};
use crate::{App, AppError, keys};

/// Where a step that undoes, and then its job's metadata, say what is undone.
pub(crate) const UNDOES: &str = "undoes";

/// Where a job's metadata say which job made what it replaces.
pub(super) const REPLACES_JOB: &str = "replaces_job";

/// How often in a row what was undone is looked through.
const MOST_UNDONE: usize = 20;

/// The job that is undone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Undone {
    job: JobId,
    execution: ExecutionId,
    /// When its step made it.
    pub(super) created_at: Timestamp,
    /// The last fence under which it had the release.
    fence: u64,
}

impl Undone {
    /// What a job says that it undoes.
    pub(super) fn by(job: &Job) -> Option<Self> {
        let undone = job.metadata_.get(UNDOES).filter(|_| job.undoes)?;
        serde_json::from_value(undone.clone()).ok()
    }
}

impl App {
    /// What a job that undoes `job` has to know of it; nothing if it never came to a release.
    pub(crate) async fn undone(&self, job: &Job) -> Result<Option<Undone>, AppError> {
        let Some((execution, _)) = job.step else {
            return Ok(None);
        };
        let fence = self.last_fence(job).await?;
        Ok(fence.map(|fence| Undone {
            job: job.id,
            execution,
            created_at: job.created_at,
            fence,
        }))
    }

    /// The last fence under which a job had its release.
    async fn last_fence(&self, job: &Job) -> Result<Option<u64>, AppError> {
        let work: JobWork = match self.store.get(&keys::job_work(&job.tenant, job.id)).await? {
            Some(stored) => stored.read()?,
            None => return Ok(None),
        };
        Ok(work.lease.map(|lease| lease.fence))
    }
}

impl Run<'_> {
    /// Why a job that undoes must leave a release: what is there is somebody else's, and was made since.
    pub(super) async fn changed_since(
        &self,
        record: Option<&ReleaseRecord>,
    ) -> Result<Option<TargetError>, AppError> {
        let (Some(record), Some(undone)) = (record, Undone::by(&self.job)) else {
            return Ok(None);
        };
        let label = |name: &str| record.labels.get(name);
        let fence = label("slipway-fence").and_then(|fence| fence.parse::<u64>().ok());
        if self.is_mine(record) || fence.is_none_or(|fence| fence <= undone.fence) {
            return Ok(None);
        }
        let Some(by) = label("slipway-job").and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        let of = |job: &Job| job.step.map(|(execution, _)| execution);
        let is_own = |job: &Job| of(job) == Some(undone.execution) || of(job) == of(&self.job);
        // An earlier attempt of this one, whatever that brought back.
        let newest = self.app.load_job(&self.job.tenant, by).await?;
        if newest.is_some_and(|newest| newest.step == self.job.step) {
            return Ok(None);
        }
        let maker = self.maker_behind(by).await?;
        if let Some(maker) = &maker
            && (is_own(maker)
                || self
                    .app
                    .last_fence(maker)
                    .await?
                    .is_some_and(|fence| fence <= undone.fence))
        {
            return Ok(None);
        }
        let by = maker.map_or(by, |maker| maker.id);
        let release = &self.lease.release;
        Ok(Some(TargetError::permanent(format!(
            "release {release} was changed since by job {by}; it is left as that one made it"
        ))))
    }

    /// The job that made what a revision of `by` holds: what undoes a job brings back what another one had made. That
    /// which undoes, where this is not known; nothing if a job is not known any more.
    async fn maker_behind(&self, by: JobId) -> Result<Option<Job>, AppError> {
        let mut next = by;
        let mut found = None;
        for _ in 0..MOST_UNDONE {
            let Some(job) = self.app.load_job(&self.job.tenant, next).await? else {
                break;
            };
            let undone = Undone::by(&job);
            found = Some(job);
            let Some(undone) = undone else { break };
            let undone = self.app.load_job(&self.job.tenant, undone.job).await?;
            let replaced = undone
                .as_ref()
                .and_then(|undone| undone.metadata_.get(REPLACES_JOB));
            match replaced.and_then(Value::as_str).and_then(|id| id.parse().ok()) {
                Some(id) => next = id,
                None => break,
            }
        }
        Ok(found)
    }
}
