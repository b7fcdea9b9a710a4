//! Releases that are kept: what a job wants is what the newest revision was made from, and is there.
//!
//! Every job that deploys for a deployment notes what it makes its release from: a hash of the chart's digest, the
//! rendered values and the policies, with a key of the tenant's own, because values may hold secrets that are easily
//! guessed. A later job that comes to the same hash changes nothing, if Helm's newest record is that of a job which
//! succeeded with it and everything is ready. Whatever is in doubt is applied.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use slipway_model::{DeploymentId, Job, JobId, JobPhase, JobStatus, TenantId};
use slipway_ports::{ExposeSecret, ReleaseRecord, ReleaseRequest, ReleaseStatus, TargetError};

use super::{deploy_helm::Run, work::FIRST_INSTALL};
use crate::{App, AppError};

/// Where the key of a tenant's hashes is kept; no expression reaches it.
const KEY: &str = "deployment/intent-key";

/// The hash in a job's metadata.
const INTENT: &str = "intent";

/// Where a job that kept a release says which one made it: that is the one that the release itself names.
pub(super) const MADE_BY: &str = "made_by";

/// What a kept release's job takes over from the one that made the revision.
const TAKEN_OVER: [&str; 2] = ["manifest_digest", "revision"];

impl App {
    /// Makes the key of a tenant's hashes, unless there is one. Two calls at once may make two: what was hashed with
    /// the first is applied once more.
    pub(crate) async fn make_intent_key(&self, tenant: &TenantId) -> Result<(), AppError> {
        if self.secrets.get(tenant, KEY).await?.is_none() {
            let key = format!("{}{}", self.ids.uuid().simple(), self.ids.uuid().simple());
            self.secrets.put(tenant, KEY, key.into()).await?;
        }
        Ok(())
    }

    /// The hash of what a release is made from; nothing if the tenant has no key yet.
    pub(crate) async fn intent(
        &self,
        tenant: &TenantId,
        chart_digest: &str,
        request: &ReleaseRequest,
    ) -> Result<Option<String>, AppError> {
        let Some(key) = self.secrets.get(tenant, KEY).await? else {
            return Ok(None);
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else {
            return Ok(None);
        };
        let made_from = json!([
            chart_digest,
            sorted(Value::Object(request.values.clone())),
            request.crds,
            request.immutable,
        ]);
        mac.update(made_from.to_string().as_bytes());
        let bytes = mac.finalize().into_bytes();
        Ok(Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The job that made the newest revision of a release of just that, for that deployment: another job keeps the
    /// release then, if all of it is ready.
    pub(crate) async fn maker_of(
        &self,
        tenant: &TenantId,
        deployment: DeploymentId,
        record: &ReleaseRecord,
        intent: &str,
    ) -> Result<Option<Job>, AppError> {
        if record.status != ReleaseStatus::Deployed {
            return Ok(None);
        }
        let maker = record
            .labels
            .get("slipway-job")
            .and_then(|id| id.parse::<JobId>().ok());
        let Some(maker) = maker else {
            return Ok(None);
        };
        let maker = self.load_job(tenant, maker).await?;
        // A label outlives what others do with Helm; the revision does not.
        Ok(maker.filter(|maker| {
            maker.status == JobStatus::Succeeded
                && maker.deployment_id == Some(deployment)
                && maker.metadata_.get(INTENT) == Some(&json!(intent))
                && maker.metadata_.get("revision") == Some(&json!(record.revision))
        }))
    }
}

impl Run<'_> {
    /// Notes what the release is made from, and keeps it if it is just that already. Whether it is kept.
    pub(super) async fn keep(
        &mut self,
        record: Option<&ReleaseRecord>,
        request: &ReleaseRequest,
    ) -> Result<Result<bool, TargetError>, AppError> {
        let Some(deployment) = self.job.deployment_id else {
            // Whoever posts a job by hand wants it run.
            return Ok(Ok(false));
        };
        let Some(chart) = &self.work.chart else {
            return Ok(Ok(false));
        };
        let tenant = &self.job.tenant;
        let Some(intent) = self.app.intent(tenant, &chart.digest, request).await? else {
            return Ok(Ok(false));
        };
        let maker = match record {
            Some(record) => self.app.maker_of(tenant, deployment, record, &intent).await?,
            None => None,
        };
        self.job.metadata_.insert(INTENT.to_owned(), json!(intent));
        let (Some(record), Some(maker)) = (record, maker.filter(|maker| maker.id != self.job.id)) else {
            return Ok(Ok(false));
        };
        let seen = self
            .target
            .observe(
                &self.lease.release,
                &record.objects,
                &self.config.health_checks,
                Duration::ZERO,
            )
            .await;
        match seen {
            Ok(seen) if seen.ready => {}
            Ok(_) => return Ok(Ok(false)),
            Err(error) => return Ok(Err(error)),
        }
        for name in TAKEN_OVER {
            if let Some(value) = maker.metadata_.get(name) {
                self.job.metadata_.insert(name.to_owned(), value.clone());
            }
        }
        self.job.metadata_.insert(FIRST_INSTALL.to_owned(), json!(false));
        self.job.metadata_.insert(MADE_BY.to_owned(), json!(maker.id));
        self.job.kept = true;
        self.job.phase = JobPhase::Collect;
        self.work.first_install = Some(false);
        self.work.revision = Some(record.revision);
        self.work.objects.clone_from(&record.objects);
        self.work.applied_at = Some(self.app.clock.now());
        Ok(Ok(true))
    }
}

/// The same whatever order the keys were written in.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
