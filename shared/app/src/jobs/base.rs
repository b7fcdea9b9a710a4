//! What a job finds deployed, and whether it worked.
//!
//! Helm calls a revision deployed before its objects are ready and its last hooks have run. A job that does not succeed
//! marks its revision failed when it ends; but its cluster may be away then, it may be given up, or be superseded while
//! nobody works for it. The next job that changes the release makes up for that before it does anything else: what it
//! goes back to should it fail is what last succeeded, for Helm as for us.

use serde_json::json;
use slipway_model::{HelmOperation, Job, JobId, JobStatus};
use slipway_ports::{ReleaseRecord, ReleaseStatus, TargetError};

use super::{deploy_helm::Run, work::JobWork};
use crate::{AppError, keys};

impl Run<'_> {
    /// The record as it is to be read: a deployed revision whose job did not succeed counts as failed. If that job has
    /// ended it is marked so. One that is open may go on yet, should this job come to nothing, and is left alone.
    pub(super) async fn judged_base(
        &self,
        record: Option<ReleaseRecord>,
    ) -> Result<Result<Option<ReleaseRecord>, TargetError>, AppError> {
        let Some(found) = record else {
            return Ok(Ok(None));
        };
        let Some(maker) = self.unlucky_maker(&found).await? else {
            return Ok(Ok(Some(found)));
        };
        if maker.status.is_terminal() {
            return self.settle_base(Some(found)).await;
        }
        Ok(self.last_that_worked().await.map(|worked| {
            Some(ReleaseRecord {
                status: ReleaseStatus::Failed,
                ever_deployed: worked.is_some(),
                ..found
            })
        }))
    }

    /// Marks the newest revision failed if Helm calls it deployed and its job did not succeed. The record as it is then.
    pub(super) async fn settle_base(
        &self,
        record: Option<ReleaseRecord>,
    ) -> Result<Result<Option<ReleaseRecord>, TargetError>, AppError> {
        let Some(found) = &record else {
            return Ok(Ok(None));
        };
        let Some(maker) = self.unlucky_maker(found).await? else {
            return Ok(Ok(record));
        };
        let release = &self.lease.release;
        let why = maker.error_message.as_deref().and_then(|why| why.lines().next());
        let reason = match why {
            Some(why) => why.to_owned(),
            None => format!("job {} did not succeed", maker.id),
        };
        if let Err(error) = self.target.mark_failed(release, found.revision, &reason).await {
            return Ok(Err(error));
        }
        tracing::info!(
            job = %self.job.id,
            %release,
            revision = found.revision,
            maker = %maker.id,
            "marked a revision failed whose job did not succeed"
        );
        Ok(self.target.record(release).await)
    }

    /// The job that made a deployed revision for the same owner and did not succeed. One whose hook runs is not done
    /// with it; any other that is open has lost the release to this one.
    async fn unlucky_maker(&self, record: &ReleaseRecord) -> Result<Option<Job>, AppError> {
        let changes = matches!(
            self.config.operation,
            HelmOperation::Deploy | HelmOperation::Rollback
        );
        if !changes || record.status != ReleaseStatus::Deployed || self.is_mine(record) {
            return Ok(None);
        }
        let label = record.labels.get("slipway-job");
        let Some(id) = label.and_then(|id| id.parse::<JobId>().ok()) else {
            return Ok(None);
        };
        let tenant = &self.job.tenant;
        let Some(maker) = self.app.load_job(tenant, id).await? else {
            return Ok(None);
        };
        if maker.status == JobStatus::Succeeded || maker.deployment_id != self.job.deployment_id {
            return Ok(None);
        }
        let work: JobWork = match self.app.store.get(&keys::job_work(tenant, id)).await? {
            Some(stored) => stored.read()?,
            None => JobWork::default(),
        };
        let is_in_hook = !maker.status.is_terminal() && work.may_have_hook();
        // A label outlives what others do with Helm; the revision does not.
        let made_it = match maker.metadata_.get("revision") {
            Some(revision) => *revision == json!(record.revision),
            // It never heard that Helm was done.
            None => work.apply_began && work.newest_before.checked_add(1) == Some(record.revision),
        };
        Ok((made_it && !is_in_hook).then_some(maker))
    }
}
