//! `USE_PIPELINE_ORCHESTRATION=false`: jobs straight from the deployment, status by `/sync` and by the sweep.

mod plan;

use serde_json::{Value, json};
use slipway_model::{
    Cancellation, ComponentDeployment, ComponentStatus, Deployment, DeploymentOperation, DeploymentStatus,
    ExecutionId, Job, JobId, JobPhase, JobStatus, JsonMap, TenantId, Timestamp,
};
use slipway_ports::Session;

use self::plan::{Legacy, LegacyJob};
use crate::{
    App, AppError,
    deployments::{STOPPED, Started, refuse_unless_pending, wrong_state},
};

impl App {
    /// Starts a deployment without an execution.
    ///
    /// # Errors
    /// 409 when it is not `PENDING`; 422 for a template that only an execution can bring up.
    pub(crate) async fn start_legacy(&self, found: &Deployment) -> Result<Started, AppError> {
        refuse_unless_pending(found)?;
        self.bring_up(found, refuse_unless_pending, "start_requested")
            .await
    }

    /// Makes new jobs for what failed or was stopped.
    ///
    /// # Errors
    /// 409 when it is neither `FAILED` nor `STOPPED`.
    pub(crate) async fn retry_legacy(&self, found: &Deployment) -> Result<Started, AppError> {
        let may = |deployment: &Deployment| match deployment.status {
            DeploymentStatus::Failed | DeploymentStatus::Stopped => Ok(()),
            _ => Err(wrong_state(deployment, "is not in FAILED or STOPPED status")),
        };
        may(found)?;
        self.bring_up(found, may, "retry_requested").await
    }

    async fn bring_up(
        &self,
        found: &Deployment,
        may: impl Fn(&Deployment) -> Result<(), AppError> + Send + Sync,
        entry_type: &str,
    ) -> Result<Started, AppError> {
        let plan = self.legacy_plan(found).await?;
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(session.as_mut(), &found.tenant, found.id, |deployment| {
                may(deployment)?;
                deployment.generation += 1;
                deployment.operation = Some(DeploymentOperation::Start);
                deployment.status = DeploymentStatus::Deploying;
                deployment.stop_requested = false;
                deployment.error_message = None;
                Ok(true)
            })
            .await?
            .map_or_else(|| found.clone(), |(deployment, _)| deployment);
        self.make_jobs(session.as_mut(), &deployment, &plan).await?;
        let message = "started with jobs of its own, without an execution";
        self.note(session.as_mut(), &deployment, entry_type, message)
            .await?;
        session.settle().await?;
        self.cancel_unwanted_jobs(&deployment).await?;
        Ok(Started::from(&deployment))
    }

    /// A stop that came while the jobs were made has seen none, or not all of them.
    async fn cancel_unwanted_jobs(&self, made_for: &Deployment) -> Result<(), AppError> {
        let now = self.load_deployment(&made_for.tenant, made_for.id).await?;
        let Some(now) = now.filter(|now| now.generation == made_for.generation) else {
            return Ok(());
        };
        let has_stopped = now.status == DeploymentStatus::Stopped;
        if now.stop_requested || has_stopped {
            self.cancel_legacy_jobs(made_for, STOPPED).await?;
        }
        if has_stopped {
            // Nobody looks at it again: what was begun after its end is over when its job is.
            let mut session = self.store.session();
            for component in self.components_of(made_for).await? {
                let name = &component.component_name;
                self.update_component(session.as_mut(), made_for, name, stop_unbegun)
                    .await?;
            }
            session.settle().await?;
        }
        Ok(())
    }

    /// Writes the jobs of this generation that are not there yet: of what has none so far, and of what failed or was
    /// stopped in an earlier one.
    async fn make_jobs(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        plan: &[Legacy],
    ) -> Result<(), AppError> {
        for one in plan {
            let name = &one.component;
            let wanted = one.job.is_some().then(|| job_id(deployment, name));
            let mut job = None;
            self.update_component(session, deployment, name, |component| {
                let begins = match component.status {
                    ComponentStatus::Pending => true,
                    ComponentStatus::Failed | ComponentStatus::Stopped => component.job_id != wanted,
                    _ => false,
                };
                if begins {
                    component.status = match wanted {
                        Some(_) => ComponentStatus::Deploying,
                        None => ComponentStatus::Stopped,
                    };
                    component.job_id = wanted;
                    component.error_message = None;
                }
                job = component
                    .job_id
                    .filter(|_| component.status == ComponentStatus::Deploying);
                begins
            })
            .await?;
            if let (Some(id), Some(draft)) = (job, &one.job) {
                let job = legacy_job(deployment, id, draft, self.clock.now());
                self.write_job(session, &job).await?;
            }
        }
        Ok(())
    }

    /// Brings components and deployment up to date from the jobs, and carries on with the start or the stop that was
    /// asked for.
    pub(crate) async fn sync_legacy(&self, found: &Deployment) -> Result<Deployment, AppError> {
        let tenant = &found.tenant;
        if found.generation == 0 {
            return Ok(found.clone());
        }
        let mut refused = None;
        if found.stop_requested || found.status == DeploymentStatus::Stopped {
            self.cancel_legacy_jobs(found, STOPPED).await?;
        } else if found.status == DeploymentStatus::Deploying {
            // A crash may have kept the start and lost some of the jobs.
            match self.legacy_plan(found).await {
                Ok(plan) => {
                    let mut session = self.store.session();
                    self.make_jobs(session.as_mut(), found, &plan).await?;
                    session.settle().await?;
                    self.cancel_unwanted_jobs(found).await?;
                }
                // The catalog may be another one by now. What has its job goes on.
                Err(AppError::Problem(problem)) => {
                    tracing::warn!(deployment = %found.id, %problem, "a deployment cannot be planned any more");
                    refused = Some(problem.detail);
                }
                Err(error) => return Err(error),
            }
        }
        let mut session = self.store.session();
        for component in self.components_of(found).await? {
            let known = component.job_id;
            let job = match known {
                Some(id) => self.load_job(tenant, id).await?,
                None => None,
            };
            self.update_component(
                session.as_mut(),
                found,
                &component.component_name,
                |component| match &job {
                    Some(job) => component.job_id == Some(job.id) && hear_job(component, job),
                    None => match &refused {
                        Some(why) => component.job_id == known && fail_unbegun(component, why),
                        None => found.stop_requested && stop_unbegun(component),
                    },
                },
            )
            .await?;
        }
        session.settle().await?;
        let components = self.components_of(found).await?;
        let mut session = self.store.session();
        let updated = self
            .update_deployment(session.as_mut(), tenant, found.id, |deployment| {
                if deployment.status != DeploymentStatus::Deploying
                    || deployment.generation != found.generation
                    || deployment.stop_requested != found.stop_requested
                {
                    return Ok(false);
                }
                let (status, error) = status_of(&components, deployment.stop_requested);
                let changes = status != deployment.status;
                deployment.status = status;
                deployment.stop_requested &= status.is_in_flight();
                deployment.error_message = error;
                Ok(changes)
            })
            .await?;
        session.settle().await?;
        Ok(updated.map_or_else(|| found.clone(), |(deployment, _)| deployment))
    }

    /// Cancels the jobs of a deployment that no execution brings up.
    pub(crate) async fn cancel_legacy_jobs(
        &self,
        deployment: &Deployment,
        reason: &str,
    ) -> Result<(), AppError> {
        let mut session = self.store.session();
        for component in self.components_of(deployment).await? {
            let Some(id) = component.job_id else { continue };
            let job = self.load_job(&deployment.tenant, id).await?;
            if job.is_some_and(|job| !job.status.is_terminal()) {
                let cancellation = Cancellation {
                    at: self.clock.now(),
                    reason: reason.to_owned(),
                    uninstall: true,
                };
                self.request_job_cancel(session.as_mut(), &deployment.tenant, id, cancellation)
                    .await?;
            }
        }
        Ok(session.settle().await?)
    }

    /// What a component without a step waits for.
    pub(crate) async fn legacy_wait(
        &self,
        tenant: &TenantId,
        component: &ComponentDeployment,
    ) -> Result<Option<String>, AppError> {
        let (Some(id), ComponentStatus::Deploying) = (component.job_id, component.status) else {
            return Ok(None);
        };
        let waits = self
            .load_job(tenant, id)
            .await?
            .map(|job| job.waiting_for)
            .unwrap_or_default();
        let list: Vec<String> = waits.iter().map(ToString::to_string).collect();
        Ok((!list.is_empty()).then(|| list.join("; ")))
    }
}

/// The same for every repeat of a generation.
fn job_id(deployment: &Deployment, component: &str) -> JobId {
    let attempt = u32::try_from(deployment.generation).unwrap_or(u32::MAX);
    JobId::of_step(ExecutionId(deployment.id.0), component, attempt)
}

fn legacy_job(deployment: &Deployment, id: JobId, draft: &LegacyJob, now: Timestamp) -> Job {
    Job {
        id,
        tenant: deployment.tenant.clone(),
        name: format!("helm-{}", draft.config.release_name),
        job_type: draft.job_type,
        status: JobStatus::Pending,
        source: "budusecases".to_owned(),
        source_id: Some(deployment.id.to_string()),
        cluster_id: draft.cluster_id,
        namespace: Some(deployment.namespace.clone()),
        priority: 0,
        config: json!(draft.config),
        metadata_: JsonMap::from_iter([("chart_ref".to_owned(), json!(draft.config.chart_ref))]),
        error_message: None,
        replaces_revision: None,
        kept: false,
        failure_kind: None,
        retry_count: 0,
        timeout_seconds: draft.timeout_seconds,
        created_at: now,
        started_at: None,
        completed_at: None,
        phase: JobPhase::Check,
        waiting_for: Vec::new(),
        result: JsonMap::new(),
        deployment_id: Some(deployment.id),
        generation: deployment.generation,
        undoes: false,
        step: None,
        plan: String::new(),
        cancel: None,
    }
}

fn hear_job(component: &mut ComponentDeployment, job: &Job) -> bool {
    if component.status.is_terminal() && !job.status.is_terminal() {
        // Somebody else has looked since, and nobody looks again at what has ended.
        return false;
    }
    let before = component.clone();
    component.status = match job.status {
        JobStatus::Pending | JobStatus::Running => ComponentStatus::Deploying,
        JobStatus::Succeeded => ComponentStatus::Running,
        JobStatus::Failed | JobStatus::TimedOut => ComponentStatus::Failed,
        JobStatus::Cancelled => ComponentStatus::Stopped,
    };
    component.error_message = match component.status {
        ComponentStatus::Failed => job.error_message.clone(),
        _ => None,
    };
    component.endpoint_url = job
        .result
        .get("endpoint_url")
        .and_then(Value::as_str)
        .filter(|url| !url.is_empty())
        .map(str::to_owned);
    *component != before
}

/// A component of a deployment that is being stopped, and whose job was not made yet. Whether it was open.
fn stop_unbegun(component: &mut ComponentDeployment) -> bool {
    let is_open = !component.status.is_terminal();
    if is_open {
        component.status = ComponentStatus::Stopped;
    }
    is_open
}

/// A component whose job was not made yet, and cannot be made any more. Whether it was open.
fn fail_unbegun(component: &mut ComponentDeployment, why: &str) -> bool {
    let is_open = !component.status.is_terminal();
    if is_open && component.disabled {
        component.status = ComponentStatus::Stopped;
    } else if is_open {
        component.status = ComponentStatus::Failed;
        component.error_message = Some(format!("its job cannot be made: {why}"));
    }
    is_open
}

/// What the components say of a deployment that is coming up, or that is being `stopped`. It has ended when the last of
/// its jobs has.
fn status_of(components: &[ComponentDeployment], stopped: bool) -> (DeploymentStatus, Option<String>) {
    let any = |status| components.iter().find(|component| component.status == status);
    let is_open = any(ComponentStatus::Pending)
        .or(any(ComponentStatus::Deploying))
        .is_some();
    if is_open {
        return (DeploymentStatus::Deploying, None);
    }
    // A component whose condition is false has no job, and stops nothing.
    let was_stopped = components.iter().any(|component| {
        component.status == ComponentStatus::Stopped
            && (component.job_id.is_some() || (stopped && !component.disabled))
    });
    match any(ComponentStatus::Failed) {
        Some(failed) if !stopped => {
            let why = failed.error_message.as_deref().unwrap_or("its job failed");
            let message = format!("component '{}' failed: {why}", failed.component_name);
            (DeploymentStatus::Failed, Some(message))
        }
        None if !was_stopped => (DeploymentStatus::Running, None),
        _ => (DeploymentStatus::Stopped, None),
    }
}
