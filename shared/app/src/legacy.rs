//! `USE_PIPELINE_ORCHESTRATION=false`: jobs straight from the deployment, status by `/sync`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_dag::merge_values;
use slipway_expr::{Reference, Scope, collect_references};
use slipway_model::{
    ClusterId, ComponentDeployment, ComponentStatus, ComponentType, Dag, DagStep, Deployment,
    DeploymentOperation, DeploymentStatus, ExecutionId, FieldError, HelmJobConfig, Job, JobId, JobPhase,
    JobStatus, JobType, JsonMap, Template, TenantId, Timestamp,
};
use slipway_policy::ConfigCheck;
use slipway_ports::Session;

use crate::{
    App, AppError, Caller,
    deployments::{Started, facts, refuse_unless_pending, wrong_state},
    steps::{RenderContext, at_values},
};

/// Seconds that a job may take.
const JOB_SECONDS: u64 = 3600;

/// Seconds until everything must be ready, unless template or catalog say otherwise.
const READY_SECONDS: u64 = 600;

/// What becomes of a component: a job, or nothing because its `when` is false.
struct Legacy {
    component: String,
    job: Option<LegacyJob>,
}

struct LegacyJob {
    cluster_id: ClusterId,
    job_type: JobType,
    config: HelmJobConfig,
    timeout_seconds: u64,
}

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
                deployment.error_message = None;
                Ok(true)
            })
            .await?
            .map_or_else(|| found.clone(), |(deployment, _)| deployment);
        self.make_jobs(session.as_mut(), &deployment, &plan, true).await?;
        let message = "started with jobs of its own, without an execution";
        self.note(session.as_mut(), &deployment, entry_type, message)
            .await?;
        session.settle().await?;
        Ok(Started::from(&deployment))
    }

    /// Writes the jobs that are not there yet. With `again`, what failed or was stopped gets a new one.
    async fn make_jobs(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        plan: &[Legacy],
        again: bool,
    ) -> Result<(), AppError> {
        for one in plan {
            let name = &one.component;
            let wanted = one.job.is_some().then(|| job_id(deployment, name));
            let mut job = None;
            self.update_component(session, deployment, name, |component| {
                let begins = component.status == ComponentStatus::Pending
                    || (again
                        && matches!(
                            component.status,
                            ComponentStatus::Failed | ComponentStatus::Stopped
                        ));
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

    /// Brings components and deployment up to date from the jobs.
    pub(crate) async fn sync_legacy(&self, found: &Deployment) -> Result<Deployment, AppError> {
        let tenant = &found.tenant;
        if found.generation == 0 {
            return Ok(found.clone());
        }
        let mut session = self.store.session();
        if found.status == DeploymentStatus::Deploying {
            // A crash may have kept the start and lost some of the jobs.
            let plan = self.legacy_plan(found).await?;
            self.make_jobs(session.as_mut(), found, &plan, false).await?;
        }
        session.settle().await?;
        let mut session = self.store.session();
        for component in self.components_of(found).await? {
            let Some(job) = component.job_id else { continue };
            let Some(job) = self.load_job(tenant, job).await? else {
                continue;
            };
            self.update_component(session.as_mut(), found, &component.component_name, |component| {
                component.job_id == Some(job.id) && hear_job(component, &job)
            })
            .await?;
        }
        session.settle().await?;
        let components = self.components_of(found).await?;
        let mut session = self.store.session();
        let updated = self
            .update_deployment(session.as_mut(), tenant, found.id, |deployment| {
                if deployment.status != DeploymentStatus::Deploying
                    || deployment.generation != found.generation
                {
                    return Ok(false);
                }
                let (status, error) = status_of(&components);
                let changes = status != deployment.status;
                deployment.status = status;
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
        caller: &Caller,
        deployment: &Deployment,
    ) -> Result<(), AppError> {
        for component in self.components_of(deployment).await? {
            let Some(id) = component.job_id else { continue };
            let job = self.load_job(&deployment.tenant, id).await?;
            if job.is_some_and(|job| !job.status.is_terminal()) {
                match self.cancel_job(caller, &id.to_string()).await {
                    // It ended in between.
                    Ok(_) | Err(AppError::Problem(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
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

    /// What each component becomes, in the order of deployment.
    async fn legacy_plan(&self, deployment: &Deployment) -> Result<Vec<Legacy>, AppError> {
        let reference = &deployment.template;
        let template = self
            .load_template(&deployment.tenant, &reference.name, &reference.version)
            .await?
            .ok_or_else(|| AppError::not_found(format_args!("template '{}'", reference.name)))?;
        let refused =
            |errors| AppError::invalid("the deployment cannot be started without orchestration", errors);
        let mut errors = helm_components(&template);
        if !errors.is_empty() {
            return Err(refused(errors));
        }
        let components = self.components_of(deployment).await?;
        let clusters = self
            .component_clusters(&deployment.tenant, &template, &components)
            .await?;
        let dag: Dag = clusters
            .and_then(|clusters| self.plan_of(deployment, &template, &clusters))
            .map_err(refused)?;
        let mut plan = Vec::new();
        for step in &dag.steps {
            if template.component(&step.id).is_none() {
                continue;
            }
            match self.legacy_step(deployment, step) {
                Ok(job) => plan.push(Legacy {
                    component: step.id.clone(),
                    job,
                }),
                Err(message) => errors.push(FieldError::new(format!("values.{}", step.id), message)),
            }
        }
        if errors.is_empty() {
            Ok(plan)
        } else {
            Err(refused(errors))
        }
    }

    fn legacy_step(&self, deployment: &Deployment, step: &DagStep) -> Result<Option<LegacyJob>, String> {
        let context = RenderContext {
            parameters: deployment.parameters.clone(),
            secret_parameters: deployment.secret_parameters.clone(),
            steps: BTreeMap::new(),
            deployment: facts(deployment),
        };
        if let Some(when) = &step.when
            && !context.condition(when)?
        {
            return Ok(None);
        }
        let text = |name: &str| step.params.get(name).and_then(Value::as_str).unwrap_or_default();
        let selected = text("selected_component");
        let entry = self.catalog.entry(selected);
        let entry = entry.ok_or_else(|| format!("the catalog has no component '{selected}'"))?;
        let over = step
            .params
            .get("values")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let values = merge_values(&entry.chart.values, &over);
        refuse_unknown(deployment, &values)?;
        let values = context.render_without_secrets(&values, &at_values())?;
        let seconds = step.timeout_seconds;
        let mut config = JsonMap::from_iter([
            ("chart_ref".to_owned(), json!(entry.chart.reference)),
            ("chart_version".to_owned(), json!(entry.chart.version)),
            ("release_name".to_owned(), json!(text("release_name"))),
            ("namespace".to_owned(), json!(deployment.namespace)),
            ("values".to_owned(), Value::Object(values)),
            ("timeout".to_owned(), json!(seconds.unwrap_or(READY_SECONDS))),
            ("outputs".to_owned(), json!(step.outputs)),
        ]);
        for option in ["crds", "immutable", "adopt", "delete_on_failure"] {
            if let Some(value) = step.params.get(option) {
                config.insert(option.to_owned(), value.clone());
            }
        }
        let config = Value::Object(config);
        if let Some(message) = self.config_errors(&config, ConfigCheck::Rendered) {
            return Err(message);
        }
        let component_type = step.params.get("component_type").cloned().unwrap_or_default();
        let component_type = serde_json::from_value(component_type).unwrap_or(ComponentType::Model);
        Ok(Some(LegacyJob {
            cluster_id: text("cluster_id").parse().unwrap_or(deployment.cluster_id),
            job_type: job_type(component_type),
            config: serde_json::from_value(config).map_err(|error| error.to_string())?,
            timeout_seconds: seconds.unwrap_or(JOB_SECONDS),
        }))
    }
}

/// What only an execution can bring up.
fn helm_components(template: &Template) -> Vec<FieldError> {
    let helm = |component: &slipway_model::Component| component.component_type == ComponentType::Helm;
    template
        .components
        .iter()
        .enumerate()
        .filter(|(_, component)| helm(component))
        .map(|(index, component)| {
            let message = format!(
                "component '{}' is of type helm, which needs pipeline orchestration; set USE_PIPELINE_ORCHESTRATION=true",
                component.name
            );
            FieldError::new(format!("components[{index}].type"), message)
        })
        .collect()
}

/// Without an execution there are no outputs to read, and nobody who resolves secrets.
fn refuse_unknown(deployment: &Deployment, values: &JsonMap) -> Result<(), String> {
    let read = collect_references(&Value::Object(values.clone()), &at_values(), Scope::VALUES);
    for (path, read) in read.references {
        let what = match read.reference {
            Reference::Output { step, .. } => format!("the outputs of '{step}'"),
            Reference::Secret { name } => format!("secret '{name}'"),
            Reference::Parameter { name } if deployment.secret_parameters.contains_key(&name) => {
                format!("secret parameter '{name}'")
            }
            _ => continue,
        };
        return Err(format!("{path} reads {what}, which needs pipeline orchestration"));
    }
    Ok(())
}

fn job_type(component_type: ComponentType) -> JobType {
    match component_type {
        ComponentType::VectorDb | ComponentType::MemoryStore => JobType::VectorDbDeployment,
        ComponentType::Helm => JobType::HelmDeploy,
        ComponentType::Model | ComponentType::Llm | ComponentType::Embedder | ComponentType::Reranker => {
            JobType::ModelDeployment
        }
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
        step: None,
        cancel: None,
    }
}

fn hear_job(component: &mut ComponentDeployment, job: &Job) -> bool {
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

/// What the components say of a deployment that is coming up.
fn status_of(components: &[ComponentDeployment]) -> (DeploymentStatus, Option<String>) {
    let any = |status| components.iter().find(|component| component.status == status);
    if let Some(failed) = any(ComponentStatus::Failed) {
        let why = failed.error_message.as_deref().unwrap_or("its job failed");
        let message = format!("component '{}' failed: {why}", failed.component_name);
        return (DeploymentStatus::Failed, Some(message));
    }
    let is_open = any(ComponentStatus::Pending)
        .or(any(ComponentStatus::Deploying))
        .is_some();
    if is_open {
        return (DeploymentStatus::Deploying, None);
    }
    // A component whose condition is false has no job, and stops nothing.
    let was_stopped = components
        .iter()
        .any(|component| component.status == ComponentStatus::Stopped && component.job_id.is_some());
    if was_stopped {
        (DeploymentStatus::Stopped, None)
    } else {
        (DeploymentStatus::Running, None)
    }
}
