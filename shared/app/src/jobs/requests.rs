//! What callers do with jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_model::{
    Cancellation, DeploymentId, DeploymentStatus, FieldError, Job, JobId, JobPhase, JobStatus, JobType,
    JsonMap, Problem, ProblemType,
};
use slipway_policy::ConfigCheck;
use slipway_ports::{FailureClass, Filter, Guard, Put, Release, TargetError, last_lines};

use super::{
    applying::{foreign, owner_label},
    work::JobWork,
};
use crate::{App, AppError, Caller, ListQuery, Page, Role, clusters::ConnectError, keys};

/// A job that a caller wants.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// For people; at most 200 characters.
    pub name: String,
    /// What kind of work it is.
    pub job_type: JobType,
    /// Who asks; `api` if absent.
    #[serde(default)]
    pub source: Option<String>,
    /// What it belongs to, in the source's own words.
    #[serde(default)]
    pub source_id: Option<String>,
    /// Cluster by id or name.
    pub cluster_id: String,
    /// Kubernetes namespace, where the configuration names none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// 0 to 100.
    #[serde(default)]
    pub priority: u8,
    /// Type-specific; of Helm jobs `chart_ref`, `release_name` and so on.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: JsonMap,
    /// Free data.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata_: JsonMap,
    /// Seconds that the job may take; 3600 if absent.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
}

/// Most bytes of a release's logs that are told.
const LOGS: usize = 64 << 10;

impl App {
    /// Writes a job. It begins when it is executed.
    ///
    /// # Errors
    /// 422 with every place that is wrong.
    pub async fn create_job(&self, caller: &Caller, new: NewJob) -> Result<Job, AppError> {
        self.create_job_as(caller, JobId(self.ids.uuid()), new).await
    }

    /// Writes a job under an id that was chosen before; a repeat with the same id finds the first one.
    ///
    /// # Errors
    /// As [`create_job`](Self::create_job).
    pub async fn create_job_as(&self, caller: &Caller, id: JobId, new: NewJob) -> Result<Job, AppError> {
        caller.require(Role::Deployer)?;
        let mut errors = Vec::new();
        if new.name.is_empty() || new.name.chars().count() > 200 {
            errors.push(FieldError::new("name", "must have 1 to 200 characters"));
        }
        if new.priority > 100 {
            errors.push(FieldError::new("priority", "must be from 0 to 100"));
        }
        let timeout_seconds = new.timeout_seconds.unwrap_or(3600);
        if !(1..=86_400).contains(&timeout_seconds) {
            errors.push(FieldError::new("timeout_seconds", "must be from 1 to 86400"));
        }
        let cluster = self.find_cluster(&caller.tenant, &new.cluster_id).await?;
        if cluster.is_none() {
            let message = format!(
                "there is no cluster '{}'; register it first",
                crate::shown(&new.cluster_id)
            );
            errors.push(FieldError::new("cluster_id", message));
        }
        let mut config = new.config;
        let mut detail = "Invalid job".to_owned();
        if new.job_type == JobType::HelmDeploy {
            let namespace = new
                .namespace
                .clone()
                .unwrap_or_else(|| format!("usecase-{}", id.short()));
            config.entry("namespace").or_insert(Value::String(namespace));
            config
                .entry("release_name")
                .or_insert(Value::String(format!("uc-{}", id.short())));
            let wrong = self.config_error_list(&Value::Object(config.clone()), ConfigCheck::Rendered);
            if !wrong.is_empty() {
                "Invalid Helm config".clone_into(&mut detail);
            }
            errors.extend(
                wrong
                    .into_iter()
                    .map(|error| FieldError::new(format!("config.{}", error.path), error.message)),
            );
        }
        let (Some(cluster), true) = (cluster, errors.is_empty()) else {
            return Err(AppError::invalid(&detail, errors));
        };
        let namespace = config
            .get("namespace")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or(new.namespace);
        let now = self.clock.now();
        let job = Job {
            id,
            tenant: caller.tenant.clone(),
            name: new.name,
            job_type: new.job_type,
            status: JobStatus::Pending,
            source: new.source.unwrap_or_else(|| "api".to_owned()),
            source_id: new.source_id,
            cluster_id: cluster.id,
            namespace,
            priority: new.priority,
            config: Value::Object(config),
            metadata_: new.metadata_,
            error_message: None,
            replaces_revision: None,
            kept: false,
            failure_kind: None,
            retry_count: 0,
            timeout_seconds,
            created_at: now,
            started_at: None,
            completed_at: None,
            phase: JobPhase::Check,
            waiting_for: Vec::new(),
            result: JsonMap::new(),
            deployment_id: None,
            generation: 0,
            undoes: false,
            step: None,
            plan: String::new(),
            cancel: None,
        };
        let mut session = self.store.session();
        // Not due: nothing happens until somebody executes it.
        let mut item = self.job_item(&job, Duration::ZERO);
        item.due = None;
        let put = session
            .put(&keys::job(&job.tenant, id), item, Guard::Absent)
            .await?;
        session.settle().await?;
        match put {
            Put::Lost(Some(first)) => Ok(first.read()?),
            Put::Won(_) | Put::Lost(None) => Ok(job),
        }
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// 400 for a bad cursor, 422 for a bad limit.
    pub async fn jobs(&self, caller: &Caller, query: &ListQuery) -> Result<Page<Job>, AppError> {
        let (after, limit) = (query.position()?, query.page_size()?);
        let mut filters: Vec<Filter> = Vec::new();
        let status = query.status_word::<JobStatus>()?;
        filters.extend(status.map(|status| ("status".to_owned(), status)));
        if let Some(wanted) = &query.cluster {
            let Some(cluster) = self.find_cluster(&caller.tenant, wanted).await? else {
                return Ok(Page {
                    items: Vec::new(),
                    next_cursor: None,
                });
            };
            filters.push(("cluster".to_owned(), cluster.id.to_string()));
        }
        let list = format!("{}/jobs", caller.tenant);
        let page = self.store.list(&list, &filters, after.as_deref(), limit).await?;
        Page::read(&page)
    }

    /// One job.
    ///
    /// # Errors
    /// 404, also for what cannot be an id.
    pub async fn job(&self, caller: &Caller, id: &str) -> Result<Job, AppError> {
        let missing = || AppError::not_found(format!("job '{}'", crate::shown(id)));
        let parsed: JobId = id.parse().map_err(|_| missing())?;
        self.load_job(&caller.tenant, parsed).await?.ok_or_else(missing)
    }

    /// Begins a `helm_deploy` job.
    ///
    /// # Errors
    /// 404; 400 for other types and for an invalid configuration; 409 when it has begun, naming the state.
    pub async fn execute_job(&self, caller: &Caller, id: &str) -> Result<Job, AppError> {
        caller.require(Role::Deployer)?;
        let mut job = self.job(caller, id).await?;
        if job.job_type != JobType::HelmDeploy {
            let detail = format!(
                "job type '{}' does not support direct execution; only 'helm_deploy' jobs can be executed",
                job.job_type
            );
            return Err(Problem::new(ProblemType::Malformed, detail).into());
        }
        let errors = self.config_error_list(&job.config, ConfigCheck::Rendered);
        if !errors.is_empty() {
            let list = errors
                .iter()
                .map(|error| error.message.as_str())
                .collect::<Vec<_>>()
                .join("; ");
            let problem = Problem::new(ProblemType::Malformed, format!("Invalid Helm config: {list}"));
            return Err(problem.with_errors(errors).into());
        }
        let key = keys::job(&caller.tenant, job.id);
        let mut session = self.store.session();
        let stored = session
            .get(&key)
            .await?
            .ok_or_else(|| AppError::not_found(format!("job '{id}'")))?;
        job = stored.read()?;
        if job.status != JobStatus::Pending || job.source == "budpipeline" {
            return Err(job_conflict(
                &job,
                "only a job that is PENDING and belongs to no execution can be executed",
            ));
        }
        job.status = JobStatus::Running;
        job.started_at = Some(self.clock.now());
        let item = self.job_item(&job, Duration::from_secs(60));
        if let Put::Lost(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
            return Err(job_conflict(&job, "somebody else has just begun or cancelled it"));
        }
        self.send_job(session.as_mut(), &caller.tenant, job.id, Duration::ZERO);
        session.settle().await?;
        Ok(job)
    }

    /// Cancels a job. First installs that are in flight are taken away.
    ///
    /// # Errors
    /// 404; 409 when it has ended, naming the state.
    pub async fn cancel_job(&self, caller: &Caller, id: &str) -> Result<Job, AppError> {
        caller.require(Role::Deployer)?;
        let job = self.job(caller, id).await?;
        if job.status.is_terminal() {
            return Err(job_conflict(&job, "only one that has not ended can be cancelled"));
        }
        let reason = format!("cancelled by {}", caller.user_id);
        let cancellation = Cancellation {
            at: self.clock.now(),
            reason,
            uninstall: true,
        };
        let mut session = self.store.session();
        self.request_job_cancel(session.as_mut(), &caller.tenant, job.id, cancellation)
            .await?;
        session.settle().await?;
        self.job(caller, id).await
    }

    /// The deployment of a job, if that was deleted. Its release may be there all the same.
    async fn deleted_deployment_of(&self, job: &Job) -> Result<Option<DeploymentId>, AppError> {
        let Some(id) = job.deployment_id else {
            return Ok(None);
        };
        let deployment = self.load_deployment(&job.tenant, id).await?;
        let is_there = deployment.is_some_and(|deployment| deployment.status != DeploymentStatus::Deleted);
        Ok((!is_there).then_some(id))
    }

    /// The last lines of the pods of a job's release, without the secrets that it was given.
    ///
    /// # Errors
    /// 404; 409 when the job has no release, when that is not there or somebody else's, or when its deployment was deleted;
    /// 503 when the cluster does not answer.
    pub async fn job_logs(&self, caller: &Caller, id: &str) -> Result<String, AppError> {
        let job = self.job(caller, id).await?;
        let text = |name: &str| job.config.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(namespace), Some(name)) = (text("namespace"), text("release_name")) else {
            return Err(AppError::conflict(format!(
                "job '{id}' is of type '{}' and has no release",
                job.job_type
            )));
        };
        let cannot = |error: TargetError| match error.class() {
            FailureClass::Permanent => AppError::conflict(format!("job '{id}' has no logs to show: {error}")),
            FailureClass::Transient | FailureClass::TimedOut | FailureClass::Queued => {
                Problem::new(ProblemType::Unavailable, error.to_string()).into()
            }
        };
        let target = match self.connect(&caller.tenant, job.cluster_id).await {
            Ok(target) => target,
            Err(ConnectError::App(error)) => return Err(error),
            Err(ConnectError::Target(error)) => return Err(cannot(error)),
        };
        let release = Release { namespace, name };
        // Anybody may write a job that names it: it has to be there as this job's, also where one would take it over.
        let Some(record) = target.record(&release).await.map_err(cannot)? else {
            return Err(AppError::conflict(format!(
                "job '{id}' has no logs to show: release {release} does not exist"
            )));
        };
        if let Some(error) = foreign(&record, &release, &owner_label(&job), false) {
            return Err(cannot(error));
        }
        let logs = target.logs(&release).await.map_err(cannot)?;
        let work: JobWork = match self.store.get(&keys::job_work(&job.tenant, job.id)).await? {
            Some(stored) => stored.read()?,
            None => JobWork::default(),
        };
        let values = job.config.get("values").and_then(Value::as_object).cloned();
        let secrets = self
            .secrets_of_job(&job, &work, &values.unwrap_or_default())
            .await?;
        // After they were read: they go once it is deleted.
        if let Some(deployment) = self.deleted_deployment_of(&job).await? {
            return Err(AppError::conflict(format!(
                "job '{id}' has no logs to show: deployment {deployment} was deleted, and its secrets, which would have to be \
                 left out of them, with it"
            )));
        }
        Ok(last_lines(&secrets.hide(&logs), LOGS).to_owned())
    }
}

fn job_conflict(job: &Job, right: &str) -> AppError {
    let status = json!(job.status);
    AppError::conflict(format!(
        "job '{}' is {}: {right}",
        job.id,
        status.as_str().unwrap_or_default()
    ))
}
