//! The phase in which the cluster is changed: what Helm gets, what it found there, and what it left.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use slipway_model::{HelmOperation, Job, JobPhase};
use slipway_policy::check_values;
use slipway_ports::{
    AppliedRelease, CompletionRequest, FailureClass, Release, ReleaseRecord, ReleaseRequest, ReleaseStatus,
    RollbackRequest, TargetError, UninstallRequest,
};

use super::{
    deploy_helm::{Next, Run},
    phases::{Phase, told, without_secrets},
    work::{FIRST_INSTALL, Replaced},
};
use crate::{
    AppError,
    steps::{Rendered, Resolved, at_values},
};

/// What Helm gets, and the secrets in it.
type Request = (ReleaseRequest, Resolved);

/// Helm is stopped this long before the invocation must end.
const MARGIN: Duration = Duration::from_secs(45);

/// What must be left of an invocation for something to be begun.
const LEAST: Duration = Duration::from_secs(60);

/// What an operation gets however late its job is: a change that was begun is better finished.
const SHORTEST: Duration = Duration::from_secs(5);

/// Whose releases a job may change: its deployment's, or those of jobs without one.
pub(super) fn owner_label(job: &Job) -> String {
    job.deployment_id
        .map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// Why a release must not be touched for `mine`, as releases are labelled: it is somebody else's.
pub(crate) fn foreign(
    record: &ReleaseRecord,
    release: &Release,
    mine: &str,
    adopt: bool,
) -> Option<TargetError> {
    if adopt {
        return None;
    }
    let owner = record.labels.get("slipway-deployment").map(String::as_str);
    if !record.labels.contains_key("slipway-job") {
        return Some(TargetError::permanent(format!(
            "release {release} exists and was not made by Slipway (chart {}): set 'adopt: true' to take it over, \
             or choose another release_name",
            record.chart
        )));
    }
    (owner != Some(mine)).then(|| {
        TargetError::permanent(format!(
            "conflict: release {release} belongs to {}: choose another release_name or namespace",
            owner.unwrap_or("somebody else")
        ))
    })
}

impl Run<'_> {
    /// Why somebody else's release must not be touched.
    pub(super) fn foreign(&self, record: &ReleaseRecord) -> Option<TargetError> {
        foreign(
            record,
            &self.lease.release,
            &owner_label(&self.job),
            self.config.adopt,
        )
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("slipway-job".to_owned(), self.job.id.to_string()),
            ("slipway-fence".to_owned(), self.lease.fence.to_string()),
            ("slipway-deployment".to_owned(), owner_label(&self.job)),
        ])
    }

    /// How long an operation may take: it ends well before this invocation, and not much later than the job's deadline.
    /// What cleans up after a job that is late has the time of the invocation.
    pub(super) fn helm_time(&self) -> Duration {
        match self.deadline() {
            Some(deadline) if self.job.phase != JobPhase::CleanUp => {
                let left = deadline.since(self.app.clock.now()).max(SHORTEST);
                left.min(self.left())
            }
            _ => self.left(),
        }
    }

    /// What is left of this invocation.
    fn left(&self) -> Duration {
        let whole = self.app.settings.invocation;
        let spent = self.app.clock.now().since(self.began);
        whole.saturating_sub(MARGIN.min(whole / 4)).saturating_sub(spent)
    }

    /// Whether too little is left of this invocation to begin anything; then another one goes on. Asked before each
    /// phase, and again before Helm starts: a process that stood still while it read must not begin under a lease that
    /// is over.
    pub(super) fn is_spent(&self) -> bool {
        let whole = self.app.settings.invocation;
        self.left() < LEAST.min(whole / 4)
    }

    /// What Helm gets, and the secrets in it. Values are rendered here and kept nowhere.
    pub(super) async fn request(&self) -> Result<Result<Request, TargetError>, AppError> {
        let Some(chart) = &self.work.chart else {
            return Ok(Err(TargetError::transient("the chart has not been fetched yet")));
        };
        let Some(archive) = self.app.blobs.get(&chart.blob).await? else {
            let message = format!("the copy of chart {} {} is gone", chart.name, chart.version);
            return Ok(Err(TargetError::permanent(message)));
        };
        let Rendered {
            params: values,
            resolved,
        } = match &self.work.context {
            None => Rendered {
                params: self.config.values.clone(),
                resolved: Resolved::default(),
            },
            Some(context) => {
                let rendered = self
                    .app
                    .render_with_secrets(&self.job.tenant, context, &self.config.values, &at_values())
                    .await?;
                match rendered {
                    Ok(rendered) => rendered,
                    Err(message) => return Ok(Err(TargetError::permanent(message))),
                }
            }
        };
        let blocked = check_values(&Value::Object(values.clone()));
        if !blocked.is_empty() {
            let list: Vec<String> = blocked.iter().map(ToString::to_string).collect();
            return Ok(Err(TargetError::permanent(format!(
                "Invalid Helm config: {}",
                list.join("; ")
            ))));
        }
        let request = ReleaseRequest {
            release: self.lease.release.clone(),
            chart: archive,
            values,
            secrets: resolved.texts().to_vec(),
            labels: self.labels(),
            deployment: self.job.deployment_id,
            create_namespace: self.config.create_namespace,
            crds: self.config.crds,
            immutable: self.config.immutable,
            adopt: self.config.adopt,
            leftovers: self.work.leftovers.clone(),
            time_limit: self.helm_time(),
        };
        Ok(Ok((request, resolved)))
    }

    /// Looks at the release before anything changes, and records that it begins; nothing if the job has ended or was
    /// cancelled meanwhile.
    async fn begin_with_record(
        &mut self,
    ) -> Result<Result<Option<Option<ReleaseRecord>>, TargetError>, AppError> {
        let record = match self.target.record(&self.lease.release).await {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = record.as_ref().and_then(|record| self.foreign(record)) {
            return Ok(Err(error));
        }
        if let Some(error) = self.changed_since(record.as_ref()).await? {
            return Ok(Err(error));
        }
        if self.work.first_install.is_none() {
            let judged = match self.judged_base(record.clone()).await? {
                Ok(judged) => judged,
                Err(error) => return Ok(Err(error)),
            };
            if let Err(error) = self.learn_base(judged.as_ref()).await {
                return Ok(Err(error));
            }
            // Known before anything is done, so that a crash in the middle is cleaned up.
            if !self.record_work().await? {
                self.stand_back();
                return Ok(Ok(None));
            }
        }
        self.reach().await?;
        Ok(self.settle_base(record).await?.map(Some))
    }

    /// Has older jobs know that the release is this one's from now on. A test leaves it as it is.
    pub(super) async fn reach(&self) -> Result<(), AppError> {
        if self.config.operation == HelmOperation::Test {
            return Ok(());
        }
        let mut session = self.app.store.session();
        self.app
            .reach_release(session.as_mut(), &self.job, &self.lease)
            .await?;
        Ok(session.settle().await?)
    }

    /// Notes what there is before this job begins.
    async fn learn_base(&mut self, record: Option<&ReleaseRecord>) -> Result<(), TargetError> {
        let replaces = match record {
            Some(record) if record.status == ReleaseStatus::Deployed => Some(record.revision),
            Some(record) if !record.is_absent() => self.last_that_worked().await?,
            _ => None,
        };
        let first = record.is_none_or(ReleaseRecord::is_absent);
        self.work.first_install = Some(first && self.config.operation == HelmOperation::Deploy);
        self.work.apply_began = true;
        self.work.newest_before = record.map_or(0, |record| record.revision);
        let deployed = record.filter(|record| replaces == Some(record.revision));
        let maker = deployed.and_then(|record| record.labels.get("slipway-job"));
        self.work.replaces = replaces.map(|revision| Replaced {
            revision,
            job: maker.and_then(|id| id.parse().ok()),
        });
        self.work.tell(&mut self.job);
        self.only_noted = true;
        Ok(())
    }

    /// Takes back that the job has come to its release, if this phase has only noted that: there was no place for Helm, or no
    /// time, or the job was cancelled at that moment. Should it end now, the release is as it was before.
    pub(super) fn stand_back(&mut self) {
        if !std::mem::take(&mut self.only_noted) || self.work.hooks.is_some() {
            return;
        }
        self.work.first_install = None;
        self.work.apply_began = false;
        self.work.newest_before = 0;
        self.work.replaces = None;
        self.work.tell(&mut self.job);
    }

    /// The revision before the newest one that failed: what an earlier attempt replaced is what this one does.
    pub(super) async fn last_that_worked(&self) -> Result<Option<u32>, TargetError> {
        match self.target.rollback_target(&self.lease.release, None).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.class() == FailureClass::Permanent => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records the job in mid-phase. False if it has ended or was cancelled meanwhile.
    async fn record_work(&mut self) -> Result<bool, AppError> {
        let mut session = self.app.store.session();
        let saved = self.save(session.as_mut()).await?;
        session.settle().await?;
        Ok(saved && self.job.cancel.is_none())
    }

    /// What must be done to a release before its hooks run. Says what comes next if that is something else.
    pub(super) async fn begin(&mut self) -> Result<Result<Option<Next>, TargetError>, AppError> {
        let record = match self.begin_with_record().await? {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok(Some(self.interrupted()))),
            Err(error) => return Ok(Err(error)),
        };
        match record {
            Some(record) if self.config.operation == HelmOperation::Deploy => self.make_ready(&record).await,
            Some(record) if self.config.operation == HelmOperation::Rollback => {
                Ok(self.recover(&record).await.map(|()| None))
            }
            // An uninstall takes away whatever there is.
            Some(_) | None => Ok(Ok(None)),
        }
    }

    fn interrupted(&self) -> Next {
        if self.job.cancel.is_some() {
            Next::Go
        } else {
            Next::Ended
        }
    }

    /// Has Helm change the cluster, unless this job already did.
    pub(super) async fn apply(&mut self) -> Phase {
        let record = match self.begin_with_record().await? {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok(self.interrupted())),
            Err(error) => return Ok(Err(error)),
        };
        match self.config.operation {
            HelmOperation::Deploy => self.deploy(record).await,
            HelmOperation::Rollback => Ok(self.roll_back(record).await),
            HelmOperation::Uninstall => Ok(self.uninstall().await),
            HelmOperation::Test => {
                self.job.phase = JobPhase::PostHooks;
                Ok(Ok(Next::Go))
            }
        }
    }

    pub(super) fn is_mine(&self, record: &ReleaseRecord) -> bool {
        record
            .labels
            .get("slipway-job")
            .is_some_and(|job| *job == self.job.id.to_string())
    }

    /// Recovers what a dead writer left pending.
    pub(super) async fn recover(&mut self, record: &ReleaseRecord) -> Result<(), TargetError> {
        if record.status.is_pending() {
            self.only_noted = false;
            let done = self.target.recover(&self.lease.release, record.revision).await?;
            self.tell_recovered(done);
        }
        Ok(())
    }

    fn tell_recovered(&mut self, done: String) {
        tracing::info!(job = %self.job.id, release = %self.lease.release, done, "recovered a release");
        self.work.recovered.push(done);
        self.job
            .metadata_
            .insert("recovered".to_owned(), json!(self.work.recovered));
    }

    /// Makes a release that is not as Helm left it ready to be applied: an uninstall that was begun is finished, the
    /// records of an install that never succeeded are deleted, and anything else that is pending is recovered.
    async fn make_ready(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<Result<Option<Next>, TargetError>, AppError> {
        let is_uninstalled = record.status == ReleaseStatus::Uninstalled;
        let begun = self.work.finishes_uninstall && is_uninstalled;
        if begun || record.status == ReleaseStatus::Uninstalling {
            return Ok(self.finish_uninstall(record, false).await);
        }
        // Helm says so as soon as it has deleted everything, whatever a finalizer still holds: what was adopted while it
        // is going would go all the same. Once hooks have run, this was looked at.
        if is_uninstalled && self.work.hooks.is_none() {
            return Ok(self.finish_uninstall(record, true).await);
        }
        let never = !record.ever_deployed && !is_uninstalled;
        if !never {
            return Ok(self.recover(record).await.map(|()| None));
        }
        // Without its record nothing else would know them. Of a record before it some may still be there.
        for object in &record.objects {
            if !self.work.leftovers.contains(object) {
                self.work.leftovers.push(object.clone());
            }
        }
        if !self.record_work().await? {
            return Ok(Ok(Some(self.interrupted())));
        }
        self.only_noted = false;
        match self.target.recover(&self.lease.release, record.revision).await {
            Ok(done) => {
                self.tell_recovered(done);
                Ok(Ok(None))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn finish_uninstall(
        &mut self,
        record: &ReleaseRecord,
        keep_record: bool,
    ) -> Result<Option<Next>, TargetError> {
        self.only_noted = false;
        if !keep_record && !self.work.finishes_uninstall {
            self.work.finishes_uninstall = true;
            self.tell_recovered(format!(
                "the uninstall of release {} was left unfinished: it is finished, without its hooks, before the install",
                self.lease.release
            ));
        }
        let request = UninstallRequest {
            release: self.lease.release.clone(),
            leftovers: record.objects.clone(),
            namespace_of: None,
            keep_record,
            time_limit: self.helm_time(),
        };
        let gone = self.target.uninstall(&request).await?;
        if !gone.remaining.is_empty() {
            self.job.waiting_for = told(gone.remaining);
            return Ok(Some(Next::Later(Duration::from_millis(500))));
        }
        self.work.finishes_uninstall = false;
        self.job.waiting_for.clear();
        Ok(None)
    }

    async fn deploy(&mut self, record: Option<ReleaseRecord>) -> Phase {
        if let Some(record) = &record {
            if self.is_done(record) {
                return Ok(self.complete(record).await);
            }
            match self.make_ready(record).await? {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(Ok(next)),
                Err(error) => return Ok(Err(error)),
            }
            match self.was_done_meanwhile(record).await {
                Ok(None) => {}
                Ok(Some(record)) => return Ok(self.complete(&record).await),
                Err(error) => return Ok(Err(error)),
            }
        }
        let (request, resolved) = match self.request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        if self.is_spent() {
            self.stand_back();
            return Ok(Ok(Next::Later(Duration::ZERO)));
        }
        Ok(match self.target.apply(&request).await {
            Ok(applied) => {
                self.take_over(applied);
                Ok(Next::Go)
            }
            Err(error) => Err(without_secrets(error, &resolved)),
        })
    }

    async fn roll_back(&mut self, record: Option<ReleaseRecord>) -> Result<Next, TargetError> {
        let release = self.lease.release.clone();
        let (Some(record), Some(revision)) = (record, self.work.rollback_to) else {
            let message = format!("release {release} does not exist: there is nothing to roll back");
            return Err(TargetError::permanent(message));
        };
        if self.is_done(&record) {
            return self.complete(&record).await;
        }
        self.recover(&record).await?;
        if let Some(record) = self.was_done_meanwhile(&record).await? {
            return self.complete(&record).await;
        }
        if self.is_spent() {
            self.stand_back();
            return Ok(Next::Later(Duration::ZERO));
        }
        let request = RollbackRequest {
            release,
            revision,
            newest_before: self.work.newest_before,
            labels: self.labels(),
            immutable: self.config.immutable,
            time_limit: self.helm_time(),
        };
        let applied = self.target.rollback(&request).await?;
        self.take_over(applied);
        Ok(Next::Go)
    }

    /// Whether this job has deployed already.
    fn is_done(&self, record: &ReleaseRecord) -> bool {
        self.is_mine(record) && record.status == ReleaseStatus::Deployed
    }

    /// Takes over what this job has deployed already. Nobody heard that it did, so that what comes after Helm may not
    /// have been done.
    async fn complete(&mut self, record: &ReleaseRecord) -> Result<Next, TargetError> {
        let request = CompletionRequest {
            release: self.lease.release.clone(),
            deployment: self.job.deployment_id,
            objects: record.objects.clone(),
            leftovers: self.work.leftovers.clone(),
            time_limit: self.helm_time(),
        };
        let removed = self.target.complete(&request).await?;
        self.take_over(AppliedRelease {
            revision: record.revision,
            objects: request.objects,
            hooks: record.hooks.clone(),
            namespace_created: false,
            removed,
        });
        Ok(Next::Go)
    }

    /// Looks again at what was pending: the last request of the Helm that died may have landed before it was recovered.
    async fn was_done_meanwhile(
        &self,
        pending: &ReleaseRecord,
    ) -> Result<Option<ReleaseRecord>, TargetError> {
        if !pending.status.is_pending() || !self.is_mine(pending) {
            return Ok(None);
        }
        let record = self.target.record(&self.lease.release).await?;
        Ok(record.filter(|record| self.is_done(record)))
    }

    fn take_over(&mut self, applied: AppliedRelease) {
        self.learn_hooks(&applied.hooks);
        if !applied.removed.is_empty() {
            let removed: Vec<String> = applied.removed.iter().map(ToString::to_string).collect();
            self.job
                .metadata_
                .insert("orphans_removed".to_owned(), json!(removed));
        }
        self.work.leftovers.clear();
        self.applied(applied.revision, applied.objects);
    }

    fn applied(&mut self, revision: u32, objects: Vec<slipway_ports::ObjectReference>) {
        self.work.revision = Some(revision);
        self.work.objects = objects;
        self.work.applied_at = Some(self.app.clock.now());
        let first = self.work.first_install.unwrap_or_default();
        self.job.metadata_.insert("revision".to_owned(), json!(revision));
        self.job.metadata_.insert(FIRST_INSTALL.to_owned(), json!(first));
        self.job.waiting_for.clear();
        self.job.phase = JobPhase::Watch;
        if !self.config.wait {
            self.after_ready();
        }
    }
}
