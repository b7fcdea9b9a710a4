//! Making a preview.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_model::{
    ComponentDeployment, Deployment, DeploymentId, DeploymentOperation, DeploymentStatus, Job, JsonMap,
    PlanRequestId, StepStatus, TenantId, Timestamp,
};

use super::super::{components::planned, delete::has_release_of};
use super::{
    ComponentChange, ComponentPlan, DeploymentPlan, PlanSummary, component::Before, rendering::OutputSources,
    requests::PlanRequest, size,
};
use crate::{
    App, AppError,
    clusters::ConnectError,
    drift::{ComponentDrift, DeploymentDrift, not_compared},
    keys,
    plan_dag::leave_room_out,
};

/// Why nothing is said of a component.
pub(super) const NOT_LOOKED_AT: &str =
    "not looked at: the time of the invocation that made this plan was over";

/// Until when something is begun, so that a plan of any size is made within one invocation.
pub(super) struct Time {
    /// Looking at a component: each may take what Helm and dry runs take.
    pub(super) components: Timestamp,
    /// Looking at a component's drift, which takes no Helm.
    drift: Timestamp,
}

impl Time {
    pub(super) fn of(app: &App) -> Self {
        let (now, invocation) = (app.clock.now(), app.settings.invocation);
        Self {
            components: now.plus(invocation / 2),
            drift: now.plus(invocation * 3 / 4),
        }
    }
}

impl App {
    /// Makes the preview that a request asked for, unless it is there already or another was asked for since.
    pub(crate) async fn write_preview(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
    ) -> Result<(), AppError> {
        let Some((present, asked)) = self.asked_last(tenant, id, request).await? else {
            return self.drop_preview(tenant, id, request).await;
        };
        if self.has_preview(tenant, id, request).await? {
            return Ok(());
        }
        let is_to_be_deleted = present.operation == Some(DeploymentOperation::Delete);
        let made = match &asked.wanted {
            None if is_to_be_deleted => Ok(self.preview_deletion(&present).await?),
            wanted => self.make_preview(&present, wanted.as_ref()).await?,
        };
        let mut plan = made.unwrap_or_else(|errors| {
            tracing::warn!(deployment = %id, ?errors, "a deployment cannot be planned");
            self.without_components(&present, asked.wanted.as_ref().unwrap_or(&present), errors)
        });
        plan.request_id = Some(request);
        self.store_preview(tenant, id, request, &plan).await
    }

    /// Writes a plan that says why there is none, unless there is one already: whoever asked would wait for nothing.
    pub(crate) async fn give_up_preview(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
        reason: String,
    ) -> Result<(), AppError> {
        let Some((present, asked)) = self.asked_last(tenant, id, request).await? else {
            return self.drop_preview(tenant, id, request).await;
        };
        let wanted = asked.wanted.as_ref().unwrap_or(&present);
        let mut plan = self.without_components(&present, wanted, vec![reason]);
        plan.request_id = Some(request);
        self.store_preview(tenant, id, request, &plan).await
    }

    /// The deployment and the request, if that is the newest one and the deployment is there.
    async fn asked_last(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
    ) -> Result<Option<(Deployment, PlanRequest)>, AppError> {
        let asked = self.plan_request(tenant, id).await?;
        let Some(asked) = asked.filter(|asked| asked.id == request) else {
            return Ok(None);
        };
        let present = self.load_deployment(tenant, id).await?;
        Ok(present
            .filter(|present| present.status != DeploymentStatus::Deleted)
            .map(|present| (present, asked)))
    }

    async fn has_preview(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
    ) -> Result<bool, AppError> {
        let place = keys::preview_blob(tenant, id, request);
        Ok(self.blobs.get(&place).await?.is_some())
    }

    /// Nothing of a plan stays that nobody can read.
    async fn drop_preview(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
    ) -> Result<(), AppError> {
        Ok(self
            .blobs
            .delete(&keys::preview_blob(tenant, id, request))
            .await?)
    }

    /// Writes a plan, unless there is one: whoever reads one has the secrets deleted that it was made with, and what is
    /// made without them must not take its place.
    async fn store_preview(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
        plan: &DeploymentPlan,
    ) -> Result<(), AppError> {
        if self.has_preview(tenant, id, request).await? {
            return Ok(());
        }
        let place = keys::preview_blob(tenant, id, request);
        self.blobs.put(&place, body_of(plan)).await?;
        // Whoever asked since, or deleted the deployment, may have taken away what was there before this.
        match self.asked_last(tenant, id, request).await? {
            Some(_) => Ok(()),
            None => self.drop_preview(tenant, id, request).await,
        }
    }

    fn without_components(
        &self,
        present: &Deployment,
        wanted: &Deployment,
        errors: Vec<String>,
    ) -> DeploymentPlan {
        DeploymentPlan {
            dag: None,
            errors,
            components: Vec::new(),
            summary: PlanSummary::default(),
            generation: present.generation,
            template: wanted.template.clone(),
            generated_at: self.clock.now(),
            outdated: None,
            drift: None,
            request_id: None,
        }
    }

    /// The plan of an upgrade to what is wanted, or of a start or retry; or why there is none.
    async fn make_preview(
        &self,
        present: &Deployment,
        upgrade: Option<&Deployment>,
    ) -> Result<Result<DeploymentPlan, Vec<String>>, AppError> {
        let time = Time::of(self);
        let wanted = upgrade.unwrap_or(present);
        let tenant = &present.tenant;
        let reference = &wanted.template;
        let Some(template) = self
            .load_template(tenant, &reference.name, &reference.version)
            .await?
        else {
            return Ok(Err(vec![format!(
                "template {}@{} is not there any more: publish it again, or plan an upgrade to a version that is",
                reference.name, reference.version
            )]));
        };
        let known = self.components_of(present).await?;
        let dag = match self.component_clusters(tenant, &template, &known).await? {
            Ok(clusters) => self.plan_of(wanted, &template, &clusters),
            Err(errors) => Err(errors),
        };
        let mut dag = match dag {
            Ok(dag) => dag,
            Err(errors) => return Ok(Err(errors.iter().map(ToString::to_string).collect())),
        };
        leave_room_out(&mut dag, wanted, &known);
        let components: BTreeMap<String, ComponentDeployment> =
            planned(wanted, &template, &dag, self.clock.now())
                .into_iter()
                .map(|component| (component.component_name.clone(), component))
                .collect();
        let ran = self.outputs_so_far(present).await?;
        let is_retried = matches!(
            present.status,
            DeploymentStatus::Failed | DeploymentStatus::Stopped
        );
        let completed = match upgrade {
            None if is_retried => self.kept_steps(tenant, present.pipeline_execution_id).await?,
            _ => BTreeMap::new(),
        };
        // What steps of components that stay as they are have found, and will find again.
        let mut outputs: BTreeMap<String, Option<JsonMap>> = BTreeMap::new();
        // A slot that nothing fills has no step, and its outputs are absent.
        for component in &template.components {
            if !dag.steps.iter().any(|step| step.id == component.name) {
                outputs.insert(component.name.clone(), None);
            }
        }
        let mut found: Vec<ComponentPlan> = Vec::new();
        for step in &dag.steps {
            let Some(component) = components.get(&step.id) else {
                continue;
            };
            if component.disabled {
                outputs.insert(step.id.clone(), None);
                continue;
            }
            if let Some(outputs_of_it) = completed.get(&step.id) {
                outputs.insert(step.id.clone(), Some(outputs_of_it.clone()));
                found.push(ComponentPlan::completed(wanted, component));
                continue;
            }
            if self.clock.now() >= time.components {
                found.push(ComponentPlan::not_looked_at(wanted, component));
                continue;
            }
            let known = known.iter().find(|known| {
                known.component_name == step.id && known.release_name == component.release_name
            });
            let job = match known.and_then(|known| known.job_id) {
                Some(job) => self.load_job(tenant, job).await?,
                None => None,
            };
            let before = Before {
                deployment: present,
                job: job.as_ref(),
                health_checks: template
                    .component(&step.id)
                    .map_or(&[], |component| &component.health_checks),
                until: time.components,
            };
            let (plan, sources) = self
                .plan_component(wanted, component, before, step, &outputs)
                .await?;
            // An output that is new, or read elsewhere now, is not known before its step runs.
            if plan.change == ComponentChange::Unchanged
                && job.is_some_and(|job| reads_outputs_at(&job, sources))
                && let Some(ran) = ran.get(&step.id)
            {
                outputs.insert(step.id.clone(), Some(ran.clone()));
            }
            found.push(plan);
        }
        for gone in &known {
            let of_it = || {
                components
                    .values()
                    .filter(|component| has_release_of(component, gone))
            };
            let is_told = found
                .iter()
                .any(|plan| (plan.cluster_id, &plan.release_name) == (gone.cluster_id, &gone.release_name));
            // One that was excluded before has no release of its own.
            if gone.disabled || is_told || of_it().any(|component| !component.disabled) {
                continue;
            }
            let reason = match of_it().next() {
                Some(_) => "its condition is false",
                None => "the template does not have it any more",
            };
            if self.clock.now() >= time.components {
                found.push(ComponentPlan::not_looked_at(present, gone));
            } else if let Some(plan) = self.plan_removal(present, gone, reason).await? {
                found.push(plan);
            }
        }
        let summary = PlanSummary::of(&found);
        size::fit(&mut found);
        Ok(Ok(DeploymentPlan {
            dag: Some(dag),
            errors: Vec::new(),
            components: found,
            summary,
            generation: present.generation,
            template: reference.clone(),
            generated_at: self.clock.now(),
            outdated: None,
            drift: self.drift_for_plan(present, &known, time.drift).await?,
            request_id: None,
        }))
    }

    /// Outputs of the steps that completed in the newest execution.
    async fn outputs_so_far(&self, deployment: &Deployment) -> Result<BTreeMap<String, JsonMap>, AppError> {
        let mut outputs = BTreeMap::new();
        let Some(execution) = deployment.pipeline_execution_id else {
            return Ok(outputs);
        };
        if self
            .load_execution(&deployment.tenant, execution)
            .await?
            .is_none()
        {
            return Ok(outputs);
        }
        let progress = self.progress_of(&deployment.tenant, execution, true).await?;
        for step in progress.steps.into_iter().flatten() {
            if step.status == StepStatus::Completed {
                outputs.insert(step.step_id, step.outputs);
            }
        }
        Ok(outputs)
    }

    /// Where what runs differs now from what was applied.
    async fn drift_for_plan(
        &self,
        deployment: &Deployment,
        components: &[ComponentDeployment],
        until: Timestamp,
    ) -> Result<Option<DeploymentDrift>, AppError> {
        if deployment.status != DeploymentStatus::Running {
            return Ok(None);
        }
        let mut drift = DeploymentDrift {
            checked_at: self.clock.now(),
            objects: Vec::new(),
            errors: Vec::new(),
            unseen: Vec::new(),
        };
        let running = components
            .iter()
            .filter(|one| !one.removed && one.status == slipway_model::ComponentStatus::Running);
        for component in running {
            let name = &component.component_name;
            if self.clock.now() >= until {
                drift.errors.push(format!("{name}: {NOT_LOOKED_AT}"));
                continue;
            }
            match self.drift_now(deployment, component).await {
                Ok(found) => {
                    drift
                        .errors
                        .extend(not_compared(&found).map(|why| format!("{name}: {why}")));
                    drift
                        .objects
                        .extend(found.objects.into_iter().map(|object| ComponentDrift {
                            component: name.clone(),
                            object,
                        }));
                }
                Err(ConnectError::Target(error)) => drift.errors.push(format!("{name}: {error}")),
                Err(ConnectError::App(error)) => return Err(error),
            }
        }
        Ok(Some(drift))
    }
}

/// Whether a job has looked for the outputs of its release there.
fn reads_outputs_at(job: &Job, sources: Option<OutputSources>) -> bool {
    let read = job.config.get("outputs").cloned().unwrap_or_else(|| json!({}));
    sources.is_some_and(|sources| json!(sources) == read)
}

fn body_of(plan: &DeploymentPlan) -> Vec<u8> {
    serde_json::to_vec(plan).unwrap_or_default()
}
