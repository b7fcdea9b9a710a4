//! How far a deployment is.

use serde::{Deserialize, Serialize};
use slipway_model::{
    ComponentDeployment, ComponentStatus, DeploymentId, DeploymentStatus, ExecutionProgress, StepProgress,
    StepStatus,
};
use utoipa::ToSchema;

use crate::{App, AppError, Caller};

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentProgress {
    /// Whose progress.
    pub deployment_id: DeploymentId,
    /// How it stands.
    pub status: DeploymentStatus,
    /// Of 100: steps of the newest execution that ended, or components that run where there is none.
    pub percent: f64,
    /// Seconds that it will probably still take; absent while nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Its components, in the template's order.
    pub components: Vec<ComponentProgress>,
    /// The newest execution with its steps; absent until it is planned, and in legacy mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionProgress>,
}

/// How far a component is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComponentProgress {
    /// The component.
    #[serde(flatten)]
    pub component: ComponentDeployment,
    /// What it waits for and why, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

impl App {
    /// How far a deployment and its components are.
    ///
    /// # Errors
    /// 404.
    pub async fn deployment_progress(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<DeploymentProgress, AppError> {
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        let execution = match deployment.pipeline_execution_id {
            Some(id) if self.load_execution(&caller.tenant, id).await?.is_some() => {
                Some(self.progress_of(&caller.tenant, id, true).await?)
            }
            _ => None,
        };
        let components = self.components_of(&deployment).await?;
        let percent = match &execution {
            Some(execution) => execution.percent,
            // Not planned yet: what runs is of before.
            None if deployment.pipeline_execution_id.is_some() && deployment.status.is_in_flight() => 0.0,
            None => share_of_running(&components),
        };
        let mut progress = Vec::with_capacity(components.len());
        for component in components {
            let steps = execution
                .as_ref()
                .and_then(|execution| execution.steps.as_deref())
                .unwrap_or_default();
            let step = steps.iter().find(|step| step.step_id == component.component_name);
            let waiting_for = match step {
                Some(step) => step.waiting_for.clone().or_else(|| held_up_by(step, steps)),
                None => self.legacy_wait(&caller.tenant, &component).await?,
            };
            progress.push(ComponentProgress {
                component,
                waiting_for,
            });
        }
        Ok(DeploymentProgress {
            deployment_id: deployment.id,
            status: deployment.status,
            percent,
            eta_seconds: execution.as_ref().and_then(|execution| execution.eta_seconds),
            error_message: deployment.error_message,
            components: progress,
            execution,
        })
    }
}

/// What blocks the health check before a component's step, which is no component that could say so.
fn held_up_by(step: &StepProgress, steps: &[StepProgress]) -> Option<String> {
    let is_before = |other: &&StepProgress| step.depends_on.contains(&other.step_id);
    let mut before = steps.iter().filter(is_before);
    let check = before.find(|other| other.action == "cluster_health" && other.waiting_for.is_some())?;
    check
        .waiting_for
        .clone()
        .filter(|_| step.status == StepStatus::Pending)
}

#[expect(clippy::cast_precision_loss, reason = "a template has at most 500 components")]
fn share_of_running(components: &[ComponentDeployment]) -> f64 {
    let running = |component: &&ComponentDeployment| component.status == ComponentStatus::Running;
    match components.len() {
        0 => 0.0,
        all => 100.0 * components.iter().filter(running).count() as f64 / all as f64,
    }
}
