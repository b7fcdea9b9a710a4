//! The phases of a Helm job: check, apply, watch, collect, and cleaning up.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use slipway_model::{HelmOperation, JobPhase, JobStatus, JsonMap};
use slipway_policy::{ConfigCheck, check_values};
use slipway_ports::{
    ChartError, Observation, ReleaseRecord, ReleaseRequest, ReleaseStatus, TargetError, UninstallRequest,
};

use super::{
    deploy_helm::{Next, Run, superseded},
    work::PinnedChart,
};
use crate::{
    AppError,
    steps::{Rendered, Resolved, at_values},
};

type Phase = Result<Result<Next, TargetError>, AppError>;

/// What Helm gets, and the secrets in it.
type Request = (ReleaseRequest, Resolved);

/// Charts may put a value into an error; no secret gets further than this.
fn without_secrets(mut error: TargetError, resolved: &Resolved) -> TargetError {
    error.0.message = resolved.hide(&error.0.message);
    error
}

/// Most objects that a job says it waits for.
const MOST_WAITS: usize = 20;

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

/// Helm is stopped this long before the invocation must end.
const MARGIN: Duration = Duration::from_secs(45);

impl Run<'_> {
    /// Pulls the chart once, renders the values, and has everything rendered against the cluster. Changes nothing.
    pub(super) async fn check(&mut self) -> Phase {
        let config = json!(self.config);
        // Values may still hold expressions here; they are judged below, when they are rendered.
        if let Some(message) = self.app.config_errors(&config, ConfigCheck::Literal) {
            return Ok(Err(TargetError::permanent(message)));
        }
        if self.config.operation != HelmOperation::Deploy {
            self.job.phase = JobPhase::Apply;
            return Ok(Ok(Next::Go));
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
        let (request, resolved) = match self.request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        match self.target.check(&request).await {
            Ok(checked) => {
                if let Err(error) = fits("the list of its objects", &json!(checked.objects)) {
                    return Ok(Err(error));
                }
                self.work.objects = checked.objects;
                // What a later plan is compared with.
                self.job
                    .metadata_
                    .insert("manifest_digest".to_owned(), json!(checked.manifest_digest));
                self.job.phase = JobPhase::Apply;
                Ok(Ok(Next::Go))
            }
            Err(error) => Ok(Err(without_secrets(error, &resolved))),
        }
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
                config.chart_version.as_deref(),
            )
            .await;
        let chart = match pulled {
            Ok(chart) => chart,
            Err(error @ ChartError::Unavailable { .. }) => {
                return Ok(Err(TargetError::transient(error.to_string())));
            }
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

    /// Why somebody else's release must not be touched.
    fn foreign(&self, record: &ReleaseRecord) -> Option<TargetError> {
        if self.config.adopt {
            return None;
        }
        let release = &self.lease.release;
        let owner = record.labels.get("slipway-deployment").map(String::as_str);
        let mine = self.owner_label();
        if !record.labels.contains_key("slipway-job") {
            return Some(TargetError::permanent(format!(
                "release {release} exists and was not made by Slipway (chart {}): set 'adopt: true' to take it over, \
                 or choose another release_name",
                record.chart
            )));
        }
        (owner != Some(mine.as_str())).then(|| {
            TargetError::permanent(format!(
                "conflict: release {release} belongs to {}: choose another release_name or namespace",
                owner.unwrap_or("somebody else")
            ))
        })
    }

    /// Whose releases this job may change: its deployment's, or those of jobs without one.
    fn owner_label(&self) -> String {
        self.job
            .deployment_id
            .map_or_else(|| "none".to_owned(), |id| id.to_string())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("slipway-job".to_owned(), self.job.id.to_string()),
            ("slipway-fence".to_owned(), self.lease.fence.to_string()),
            ("slipway-deployment".to_owned(), self.owner_label()),
        ])
    }

    fn helm_time(&self) -> Duration {
        self.app
            .settings
            .invocation
            .saturating_sub(MARGIN)
            .max(Duration::from_secs(30))
    }

    /// What Helm gets, and the secrets in it. Values are rendered here and kept nowhere.
    async fn request(&self) -> Result<Result<Request, TargetError>, AppError> {
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
            labels: self.labels(),
            deployment: self.job.deployment_id,
            create_namespace: self.config.create_namespace,
            crds: self.config.crds,
            immutable: self.config.immutable,
            time_limit: self.helm_time(),
        };
        Ok(Ok((request, resolved)))
    }

    /// Has Helm change the cluster, unless this job already did.
    pub(super) async fn apply(&mut self) -> Phase {
        let record = match self.target.record(&self.lease.release).await {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = record.as_ref().and_then(|record| self.foreign(record)) {
            return Ok(Err(error));
        }
        if self.work.first_install.is_none() {
            let first = record.as_ref().is_none_or(|record| !record.ever_deployed);
            self.work.first_install = Some(first && self.config.operation == HelmOperation::Deploy);
            self.work.apply_began = true;
            // Known before anything is done, so that a crash in the middle is cleaned up.
            let mut session = self.app.store.session();
            if !self.save(session.as_mut()).await? {
                return Ok(Ok(Next::Ended));
            }
            session.settle().await?;
            if self.job.cancel.is_some() {
                return Ok(Ok(Next::Go));
            }
        }
        match self.config.operation {
            HelmOperation::Deploy => self.deploy(record).await,
            HelmOperation::Rollback => Ok(self.roll_back(record).await),
            HelmOperation::Uninstall => Ok(self.uninstall().await),
            HelmOperation::Test => Ok(self.test().await),
        }
    }

    fn is_mine(&self, record: &ReleaseRecord) -> bool {
        record
            .labels
            .get("slipway-job")
            .is_some_and(|job| *job == self.job.id.to_string())
    }

    async fn recover(&mut self, record: &ReleaseRecord) -> Result<(), TargetError> {
        if record.status.is_pending() {
            let done = self.target.recover(&self.lease.release, record.revision).await?;
            tracing::info!(job = %self.job.id, release = %self.lease.release, done, "recovered a release");
            self.work.recovered.push(done);
            self.job
                .metadata_
                .insert("recovered".to_owned(), json!(self.work.recovered));
        }
        Ok(())
    }

    async fn deploy(&mut self, record: Option<ReleaseRecord>) -> Phase {
        if let Some(record) = &record {
            if self.is_mine(record) && record.status == ReleaseStatus::Deployed {
                self.applied(record.revision, record.objects.clone());
                return Ok(Ok(Next::Go));
            }
            if let Err(error) = self.recover(record).await {
                return Ok(Err(error));
            }
        }
        let (request, resolved) = match self.request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match self.target.apply(&request).await {
            Ok(applied) => {
                self.applied(applied.revision, applied.objects);
                Ok(Next::Go)
            }
            Err(error) => Err(without_secrets(error, &resolved)),
        })
    }

    async fn roll_back(&mut self, record: Option<ReleaseRecord>) -> Result<Next, TargetError> {
        let Some(record) = record else {
            let message = format!(
                "release {} does not exist: there is nothing to roll back",
                self.lease.release
            );
            return Err(TargetError::permanent(message));
        };
        if self.is_mine(&record) && record.status == ReleaseStatus::Deployed {
            self.applied(record.revision, record.objects);
            return Ok(Next::Go);
        }
        self.recover(&record).await?;
        let labels = self.labels();
        let (revision, limit) = (self.config.revision, self.helm_time());
        let applied = self
            .target
            .rollback(&self.lease.release, revision, &labels, limit)
            .await?;
        self.applied(applied.revision, applied.objects);
        Ok(Next::Go)
    }

    async fn uninstall(&mut self) -> Result<Next, TargetError> {
        let gone = self.target.uninstall(&self.uninstall_request()).await?;
        if gone.remaining.is_empty() {
            self.job.result = self.result("uninstalled");
            return Ok(self.ended(JobStatus::Succeeded, None));
        }
        self.job.waiting_for = gone.remaining;
        self.job.waiting_for.truncate(MOST_WAITS);
        let limit = Duration::from_secs(self.config.timeout);
        if self
            .job
            .started_at
            .is_some_and(|started| self.app.clock.now() >= started.plus(limit))
        {
            let message = format!(
                "release {} is not gone after {} seconds",
                self.lease.release,
                limit.as_secs()
            );
            let message = self.with_diagnosis(message);
            return Ok(self.ended(JobStatus::TimedOut, Some(message)));
        }
        Ok(Next::Later(Duration::from_millis(500)))
    }

    fn uninstall_request(&self) -> UninstallRequest {
        UninstallRequest {
            release: self.lease.release.clone(),
            leftovers: self.work.objects.clone(),
            namespace_of: self.job.deployment_id,
            time_limit: self.helm_time(),
        }
    }

    async fn test(&mut self) -> Result<Next, TargetError> {
        let limit = self.helm_time().min(Duration::from_secs(self.config.timeout));
        let log = self.target.test(&self.lease.release, limit).await?;
        self.job.result = self.result("tested");
        self.job.result.insert("log".to_owned(), json!(log));
        Ok(self.ended(JobStatus::Succeeded, None))
    }

    fn applied(&mut self, revision: u32, objects: Vec<slipway_ports::ObjectReference>) {
        self.work.revision = Some(revision);
        self.work.objects = objects;
        self.work.applied_at = Some(self.app.clock.now());
        let first = self.work.first_install.unwrap_or_default();
        self.job.metadata_.insert("revision".to_owned(), json!(revision));
        self.job
            .metadata_
            .insert("first_install".to_owned(), json!(first));
        self.job.waiting_for.clear();
        self.job.phase = if self.config.wait {
            JobPhase::Watch
        } else {
            JobPhase::Collect
        };
    }

    /// Looks at readiness once, and comes back by message.
    pub(super) async fn watch(&mut self) -> Phase {
        let mut session = self.app.store.session();
        let (uid, release) = (self.lease.cluster_uid.clone(), self.lease.release.clone());
        let newer = self
            .app
            .want_release(session.as_mut(), &self.job, self.config.operation, &uid, &release)
            .await?;
        session.settle().await?;
        if let Some(newer) = newer {
            // The newer job takes the release over as it stands.
            return Ok(Ok(self.ended(JobStatus::Cancelled, Some(superseded(newer)))));
        }
        let now = self.app.clock.now();
        let applied_at = self.work.applied_at.unwrap_or(now);
        let deadline = applied_at
            .plus(Duration::from_secs(self.config.timeout))
            .min(self.deadline().unwrap_or(now));
        let hold = self.app.settings.watch_hold.min(deadline.since(now));
        let seen = match self.target.observe(&release, &self.work.objects, hold).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(self.judge(seen, deadline)))
    }

    fn judge(&mut self, seen: Observation, deadline: slipway_model::Timestamp) -> Next {
        self.work.diagnosis = seen.diagnosis;
        if seen.ready {
            self.job.waiting_for.clear();
            self.job.phase = JobPhase::Collect;
            return Next::Go;
        }
        self.job.waiting_for = seen.waiting;
        self.job.waiting_for.truncate(MOST_WAITS);
        if let Some(failed) = seen.failed {
            let message = self.with_diagnosis(format!("{failed}"));
            return self.stop(JobStatus::Failed, message, self.config.delete_on_failure);
        }
        if self.app.clock.now() >= deadline {
            let limit = self.config.timeout.min(self.job.timeout_seconds);
            let message = self.with_diagnosis(format!("not ready after {limit} seconds"));
            return self.stop(JobStatus::TimedOut, message, self.config.delete_on_failure);
        }
        Next::Later(Duration::ZERO)
    }

    fn result(&self, status: &str) -> JsonMap {
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
    pub(super) async fn collect(&mut self) -> Result<Next, TargetError> {
        let ingress = self.cluster.ingress_url.as_deref();
        let collected = self
            .target
            .collect(
                &self.lease.release,
                &self.work.objects,
                &self.config.outputs,
                ingress,
            )
            .await?;
        let mut result = self.result("running");
        result.insert("endpoint_url".to_owned(), json!(collected.endpoint_url));
        result.insert("services".to_owned(), json!(collected.services));
        result.extend(collected.outputs);
        fits("its services and outputs", &json!(result))?;
        self.job.result = result;
        Ok(self.ended(JobStatus::Succeeded, None))
    }

    /// Takes away what this job installed, then ends it as was decided before.
    pub(super) async fn clean_up(&mut self) -> Result<Next, TargetError> {
        let gone = self.target.uninstall(&self.uninstall_request()).await?;
        if gone.remaining.is_empty() {
            return Ok(self.give_up(""));
        }
        let until = self.work.ending.as_ref().map(|ending| ending.until);
        if until.is_none_or(|until| self.app.clock.now() >= until) {
            let list: Vec<String> = gone.remaining.iter().map(ToString::to_string).collect();
            return Ok(self.give_up(&format!("; still there after cleaning up: {}", list.join("; "))));
        }
        self.job.waiting_for = gone.remaining;
        self.job.waiting_for.truncate(MOST_WAITS);
        Ok(Next::Later(Duration::from_millis(500)))
    }
}
