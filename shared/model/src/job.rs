//! Jobs: asynchronous pieces of work on a cluster.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ClusterId, CrdPolicy, DeploymentId, ExecutionId, FailureKind, HealthCheck, ImmutablePolicy, JobId,
    JsonMap, OutputSource, TenantId, Timestamp,
};

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobType {
    /// A model that the catalog deploys.
    ModelDeployment,
    /// Work of another service.
    CustomJob,
    /// Work of another service.
    FineTuning,
    /// Work of another service.
    BatchInference,
    /// Work of another service.
    UsecaseComponent,
    /// Work of another service.
    Benchmark,
    /// Work of another service.
    DataPipeline,
    /// A vector database or memory store that the catalog deploys.
    VectorDbDeployment,
    /// A Helm chart.
    HelmDeploy,
}

impl JobType {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelDeployment => "model_deployment",
            Self::CustomJob => "custom_job",
            Self::FineTuning => "fine_tuning",
            Self::BatchInference => "batch_inference",
            Self::UsecaseComponent => "usecase_component",
            Self::Benchmark => "benchmark",
            Self::DataPipeline => "data_pipeline",
            Self::VectorDbDeployment => "vector_db_deployment",
            Self::HelmDeploy => "helm_deploy",
        }
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a job stands. The last four are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Created, not begun.
    Pending,
    /// One of its phases is due or runs.
    Running,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Cancelled, or superseded by a newer job for the same release.
    Cancelled,
    /// It passed its deadline.
    TimedOut,
}

impl JobStatus {
    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut
        )
    }
}

/// What a Helm job does to its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HelmOperation {
    /// `helm upgrade --install`.
    #[default]
    Deploy,
    /// `helm uninstall`.
    Uninstall,
    /// `helm rollback`.
    Rollback,
    /// `helm test`.
    Test,
}

/// Configuration of a Helm job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HelmJobConfig {
    /// Chart; needed by `deploy` only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chart_ref: String,
    /// Semantic version constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart_version: Option<String>,
    /// Helm release.
    pub release_name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Values; with `render`, expressions in them are rendered once, by the job.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub values: JsonMap,
    /// Seconds until everything must be ready; read from a number or from text such as `600s` or `1h30m`.
    #[serde(default = "ten_minutes", deserialize_with = "seconds")]
    pub timeout: u64,
    /// Whether the job waits for readiness.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Whether a missing namespace is created.
    #[serde(default = "yes")]
    pub create_namespace: bool,
    /// Whether a failed first install is uninstalled.
    #[serde(default = "yes")]
    pub delete_on_failure: bool,
    /// What to do.
    #[serde(default)]
    pub operation: HelmOperation,
    /// Revision to roll back to; the one before if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// What is done with the chart's `crds/`.
    #[serde(default)]
    pub crds: CrdPolicy,
    /// What is done when an immutable field changes.
    #[serde(default)]
    pub immutable: ImmutablePolicy,
    /// Whether someone else's release of that name may be taken over.
    #[serde(default)]
    pub adopt: bool,
    /// Extractors of own outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSource>,
    /// When custom resources are ready, where they do not say so by a `Ready` condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
}

fn ten_minutes() -> u64 {
    600
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Seconds(u64),
        Text(String),
    }
    let refused = || {
        serde::de::Error::custom(
            "timeout must be a number of seconds from 1 to 86400, or text such as '600s' or '10m'",
        )
    };
    let seconds = match Raw::deserialize(deserializer).map_err(|_| refused())? {
        Raw::Seconds(seconds) => seconds,
        Raw::Text(text) => match (text.parse::<u64>(), text.parse::<jiff::SignedDuration>()) {
            (Ok(seconds), _) => seconds,
            (_, Ok(duration)) => u64::try_from(duration.as_secs()).map_err(|_| refused())?,
            _ => return Err(refused()),
        },
    };
    if (1..=86_400).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(refused())
    }
}

fn yes() -> bool {
    true
}

/// Where a Helm job stands between two invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Waits for the release's lease, then pulls, renders and checks.
    Check,
    /// Hooks run that come before the change.
    PreHooks,
    /// Helm changes the cluster.
    Apply,
    /// Readiness is looked at from time to time.
    Watch,
    /// Hooks run that come after the change, when everything is ready; or the tests of a release.
    PostHooks,
    /// Services, endpoint and outputs are read.
    Collect,
    /// What this job installed is taken away again; the status is set afterwards.
    CleanUp,
    /// Done.
    Done,
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobWait {
    /// Such as `Deployment/my-agent-rag-agent-runtime` or `lease`.
    pub object: String,
    /// Why: `image pull`, `unschedulable`, `crash loop`, …
    pub reason: String,
    /// Details for people.
    pub message: String,
}

impl fmt::Display for JobWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        Ok(())
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    #[serde(default = "TenantId::local", skip_serializing_if = "is_local")]
    pub tenant: TenantId,
    /// `helm-<release>` for Helm jobs of steps.
    pub name: String,
    /// What kind of work it is.
    pub job_type: JobType,
    /// How it stands.
    pub status: JobStatus,
    /// Who made it: `budpipeline` for steps, `budusecases` in legacy mode, else the caller's word.
    pub source: String,
    /// The execution or deployment that it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Where.
    pub cluster_id: ClusterId,
    /// Kubernetes namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Higher first, where order is free; 0 to 100.
    #[serde(default)]
    pub priority: u8,
    /// Type-specific; of Helm jobs a `HelmJobConfig`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Value,
    /// Free data, such as `step_id` and `chart_ref`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata_: JsonMap,
    /// Why it failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The revision that was deployed when this job first came to the release: what undoing it goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces_revision: Option<u32>,
    /// Whether the release was found as this job wants it, and was kept as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Whether the same again could succeed, of a job that failed for a reason that tells; another attempt is made
    /// only then, or if nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_kind: Option<FailureKind>,
    /// Times that a phase was begun again after a lost invocation.
    #[serde(default)]
    pub retry_count: u32,
    /// Seconds that the job may take.
    pub timeout_seconds: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its first phase began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it became terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Which phase is due.
    pub phase: JobPhase,
    /// What it waits for, newest look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<JobWait>,
    /// Result of a job that succeeded: `namespace`, `release_name`, `endpoint_url`, `services`, outputs.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    #[schema(value_type = Object)]
    pub result: JsonMap,
    /// The deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// The deployment's generation.
    #[serde(default)]
    pub generation: u64,
    /// Whether it undoes what an earlier job of that generation did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undoes: bool,
    /// The step that waits for it: execution and ordinal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<(ExecutionId, u32)>,
    /// The name of that execution's plan.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// Set once a caller cancels it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<crate::Cancellation>,
}

fn is_local(tenant: &TenantId) -> bool {
    *tenant == TenantId::local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_seconds_or_text_and_never_endless() {
        let read = |timeout: Value| {
            serde_json::from_value::<HelmJobConfig>(
                serde_json::json!({ "release_name": "a", "namespace": "b", "timeout": timeout }),
            )
            .map(|config| config.timeout)
        };
        assert_eq!(read("10m".into()).unwrap(), 600);
        assert_eq!(read("1h30m".into()).unwrap(), 5400);
        assert_eq!(read(90.into()).unwrap(), 90);
        for bad in [Value::from(0), "-5s".into(), "soon".into(), 90_000.into()] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
