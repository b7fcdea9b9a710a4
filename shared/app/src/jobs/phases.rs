//! The phases of a Helm job that change nothing: check, watch and collect.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{HelmOperation, JobId, JobPhase, JobStatus, JobWait, JsonMap};
use slipway_policy::ConfigCheck;
use slipway_ports::{ChartError, HookEvent, ReleaseRecord, ReleaseStatus, TargetError};

use super::{
    deploy_helm::{Next, Run, superseded},
    lease::Newer,
    masking::Seen,
    work::PinnedChart,
};
use crate::{AppError, steps::Resolved};

/// What comes after a phase, or why it failed.
pub(super) type Phase = Result<Result<Next, TargetError>, AppError>;

/// Charts may put a value into an error; no secret gets further than this.
pub(super) fn without_secrets(mut error: TargetError, resolved: &Resolved) -> TargetError {
    error.0.message = resolved.hide_in_error(&error.0.message);
    error
}

/// Most objects that a job says it waits for by name.
const MOST_WAITS: usize = 20;

/// What a job waits for as it is told: so many by name, and how many more there are.
pub(super) fn told(mut waits: Vec<JobWait>) -> Vec<JobWait> {
    if waits.len() > MOST_WAITS {
        let more = waits.len() - MOST_WAITS;
        waits.truncate(MOST_WAITS);
        waits.push(JobWait {
            object: format!("{more} more"),
            reason: "not named here".to_owned(),
            message: String::new(),
        });
    }
    waits
}

/// Largest part of a job's records that a cluster decides about, as JSON.
const LARGEST_FIND: usize = 100 * 1024;

/// Refuses what no store could hold.
fn fits(what: &str, found: &Value) -> Result<(), TargetError> {
    let size = found.to_string().len();
    if size <= LARGEST_FIND {
        return Ok(());
    }
    Err(TargetError::permanent(format!(
        "{what} are {} KiB, more than the {} KiB that are kept of a release",
        size / 1024,
        LARGEST_FIND / 1024
    )))
}

impl Run<'_> {
    /// Pulls the chart once, renders the values, and has everything rendered against the cluster. Changes nothing.
    pub(super) async fn check(&mut self) -> Phase {
        let config = json!(self.config);
        // Values may still hold expressions here; they are judged below, when they are rendered.
        if let Some(message) = self.app.config_errors(&config, ConfigCheck::Literal) {
            return Ok(Err(TargetError::permanent(message)));
        }
        if self.config.operation != HelmOperation::Deploy {
            return self.find_release().await;
        }
        if let Err(error) = self.pin_chart().await? {
            return Ok(Err(error));
        }
        let record = match self.target.record(&self.lease.release).await {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = record.as_ref().and_then(|record| self.foreign(record)) {
            return Ok(Err(error));
        }
        let record = match self.judged_base(record).await? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        // Helm renders no upgrade of a release that is pending. A first install is rendered as one whatever there is.
        if let Some(record) = record.as_ref().filter(|record| !record.is_absent())
            && let Err(error) = self.recover(record).await
        {
            return Ok(Err(error));
        }
        let (request, resolved) = match self.request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        match self.keep(record.as_ref(), &request).await? {
            Ok(false) => {}
            Ok(true) => {
                self.reach().await?;
                return Ok(Ok(Next::Go));
            }
            Err(error) => return Ok(Err(error)),
        }
        match self.target.check(&request).await {
            Ok(checked) => {
                if let Err(error) = fits("the list of its objects", &json!(checked.objects)) {
                    return Ok(Err(error));
                }
                self.work.objects = checked.objects;
                self.learn_hooks(&checked.hooks);
                // What a later plan is compared with.
                self.job
                    .metadata_
                    .insert("manifest_digest".to_owned(), json!(checked.manifest_digest));
                let first = record.is_none_or(|record| record.is_absent());
                self.go_to_change(self.event_before(first));
                Ok(Ok(Next::Go))
            }
            Err(error) => Ok(Err(without_secrets(error, &resolved))),
        }
    }

    /// What is rolled back, tested or taken away must be there, and be ours; what is absent is uninstalled.
    async fn find_release(&mut self) -> Phase {
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
        Ok(match self.judged_base(record).await? {
            Ok(record) => self.begin_with(record).await,
            Err(error) => Err(error),
        })
    }

    async fn begin_with(&mut self, record: Option<ReleaseRecord>) -> Result<Next, TargetError> {
        let release = self.lease.release.clone();
        let operation = self.config.operation;
        let Some(record) = record else {
            let verb = match operation {
                HelmOperation::Rollback => "roll back",
                HelmOperation::Test => "test",
                HelmOperation::Deploy | HelmOperation::Uninstall => {
                    self.job.phase = JobPhase::Apply;
                    return Ok(Next::Go);
                }
            };
            let message = format!("release {release} does not exist: there is nothing to {verb}");
            return Err(TargetError::permanent(message));
        };
        self.learn_hooks(&record.hooks);
        match operation {
            HelmOperation::Test => {
                self.work.revision = Some(record.revision);
                self.job.phase = JobPhase::PostHooks;
            }
            HelmOperation::Uninstall if record.status == ReleaseStatus::Uninstalled => {
                // Somebody, perhaps this job, was interrupted after the objects were gone.
                self.work.revision = Some(record.revision);
                self.job.phase = JobPhase::Apply;
            }
            HelmOperation::Uninstall => {
                self.work.revision = Some(record.revision);
                self.go_to_change(HookEvent::PreDelete);
            }
            HelmOperation::Deploy | HelmOperation::Rollback => {
                let wanted = self
                    .target
                    .rollback_target(&release, self.config.revision)
                    .await?;
                self.work.rollback_to = Some(wanted);
                // Its hooks are those of the revision that comes back: whether there are any is seen there.
                self.job.phase = JobPhase::PreHooks;
            }
        }
        Ok(Next::Go)
    }

    /// The phase of the change, or that of the hooks before it.
    fn go_to_change(&mut self, event: HookEvent) {
        self.job.phase = if self.has_hooks(event) {
            JobPhase::PreHooks
        } else {
            JobPhase::Apply
        };
    }

    async fn pin_chart(&mut self) -> Result<Result<(), TargetError>, AppError> {
        if self.work.chart.is_some() {
            return Ok(Ok(()));
        }
        let config = &self.config;
        let pulled = self
            .app
            .charts
            .pull(
                &self.job.tenant,
                &config.chart_ref,
                config
                    .chart_version
                    .as_deref()
                    .filter(|version| !version.is_empty()),
            )
            .await;
        let chart = match pulled {
            Ok(chart) => chart,
            Err(error @ ChartError::Unavailable { .. }) => {
                return Ok(Err(TargetError::transient(error.to_string())));
            }
            Err(ChartError::Queued { reason, .. }) => return Ok(Err(TargetError::queued(reason))),
            Err(error) => return Ok(Err(TargetError::permanent(error.to_string()))),
        };
        // By content, so that the jobs of a fleet share one copy.
        let blob = format!(
            "{}/charts/{}.tgz",
            self.job.tenant,
            chart.digest.replace(':', "-")
        );
        self.app.blobs.put(&blob, chart.archive).await?;
        self.job
            .metadata_
            .insert("chart_version".to_owned(), json!(chart.version));
        self.job
            .metadata_
            .insert("chart_digest".to_owned(), json!(chart.digest));
        self.work.chart = Some(PinnedChart {
            name: chart.name,
            version: chart.version,
            digest: chart.digest,
            blob,
        });
        Ok(Ok(()))
    }

    /// Looks at readiness once, and comes back by message.
    pub(super) async fn watch(&mut self) -> Phase {
        let release = self.lease.release.clone();
        if let Some(newer) = self.newer_wish().await? {
            // The newer job takes the release over as it stands.
            return Ok(Ok(self.ended(JobStatus::Cancelled, Some(superseded(newer)))));
        }
        let now = self.app.clock.now();
        let applied_at = self.work.applied_at.unwrap_or(now);
        let deadline = applied_at
            .plus(Duration::from_secs(self.config.timeout))
            .min(self.deadline().unwrap_or(now));
        let limit = deadline.since(applied_at);
        let hold = self.app.settings.watch_hold.min(deadline.since(now));
        let seen = match self
            .target
            .observe(&release, &self.work.objects, &self.config.health_checks, hold)
            .await
        {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let seen = self.mask_observation(seen).await?;
        Ok(Ok(self.judge(seen, deadline, limit)))
    }

    /// The newer job that takes the release over, if there is one.
    pub(super) async fn newer_wish(&self) -> Result<Option<JobId>, AppError> {
        let mut session = self.app.store.session();
        let (uid, release) = (&self.lease.cluster_uid, &self.lease.release);
        let newer = self
            .app
            .want_release(session.as_mut(), &self.job, self.config.operation, uid, release)
            .await?;
        session.settle().await?;
        Ok(match newer {
            Some(Newer::Supersedes(newer)) => Some(newer),
            // What undoes has begun.
            Some(Newer::GoesFirst(_)) | None => None,
        })
    }

    /// What comes of a look at what has until `deadline` to become ready, which is `limit` after it was applied.
    fn judge(&mut self, seen: Seen, deadline: slipway_model::Timestamp, limit: Duration) -> Next {
        self.work.diagnosis = seen.diagnosis;
        if seen.ready {
            self.job.waiting_for.clear();
            self.after_ready();
            return Next::Go;
        }
        self.job.waiting_for = told(seen.waiting);
        if let Some(failed) = seen.failed {
            let message = self.with_diagnosis(format!("{failed}"));
            return self.stop(JobStatus::Failed, message, self.config.delete_on_failure);
        }
        if self.app.clock.now() >= deadline {
            let mut message = format!("not ready after {} seconds", limit.as_secs());
            if limit < Duration::from_secs(self.config.timeout) {
                // Its turn and its hooks took the rest.
                let all = self.job.timeout_seconds;
                message = format!("{message}, when the job passed its deadline of {all} seconds");
            }
            let message = self.with_diagnosis(message);
            return self.stop(JobStatus::TimedOut, message, self.config.delete_on_failure);
        }
        Next::Later(Duration::ZERO)
    }

    pub(super) fn result(&self, status: &str) -> JsonMap {
        JsonMap::from_iter([
            ("job_id".to_owned(), json!(self.job.id)),
            ("namespace".to_owned(), json!(self.lease.release.namespace)),
            ("release_name".to_owned(), json!(self.lease.release.name)),
            ("endpoint_url".to_owned(), json!("")),
            ("services".to_owned(), json!([])),
            ("status".to_owned(), json!(status)),
        ])
    }

    /// Reads services, endpoint and outputs.
    pub(super) async fn collect(&mut self) -> Phase {
        let now = self.app.clock.now();
        self.work.collect_began.get_or_insert(now);
        let ingress = self.cluster.ingress_url.as_deref();
        let collected = self
            .target
            .collect(
                &self.lease.release,
                &self.work.objects,
                &self.config.outputs,
                ingress,
            )
            .await;
        let mut collected = match collected {
            Ok(collected) => collected,
            Err(error) => return Ok(Err(error)),
        };
        self.mask_outputs(&mut collected.outputs).await?;
        let mut result = self.result("running");
        result.insert("endpoint_url".to_owned(), json!(collected.endpoint_url));
        result.insert("services".to_owned(), json!(collected.services));
        result.extend(collected.outputs);
        if let Err(error) = fits("its services and outputs", &json!(result)) {
            return Ok(Err(error));
        }
        self.job.result = result;
        Ok(Ok(self.ended(JobStatus::Succeeded, None)))
    }
}
