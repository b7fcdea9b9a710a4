//! Deriving a deployment's state again from its execution, in case events were lost.

use std::{collections::BTreeMap, time::Duration};

use slipway_model::{
    ComponentDeployment, Deployment, DeploymentOperation, DeploymentStatus, Execution, ExecutionId,
    ExecutionLook, ExecutionProgress, Message, Queue,
};

use super::{
    DeploymentView,
    ending::Ending,
    news::{StepNews, hear, is_undone},
    operation::send_plan,
    stop::STOPPED,
};
use crate::{App, AppError, Caller, Role};

impl App {
    /// Brings a deployment's state up to date: from its execution, or from its jobs where there is none. What runs is
    /// compared with its clusters soon after.
    ///
    /// # Errors
    /// 403 below `deployer`, 404.
    pub async fn sync_deployment(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<DeploymentView, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        let deployment = match found.pipeline_execution_id {
            Some(_) => self.reconcile(&found).await?,
            None => self.sync_legacy(&found).await?,
        };
        self.look_for_drift_now(&deployment).await?;
        self.view(deployment).await
    }

    /// Derives components and deployment from the steps of its newest execution, sends again what may have been lost
    /// on the way to it, and does what follows from where it rests.
    pub(crate) async fn reconcile(&self, deployment: &Deployment) -> Result<Deployment, AppError> {
        let tenant = &deployment.tenant;
        let is_deleted = deployment.status == DeploymentStatus::Deleted;
        if is_deleted
            || (deployment.status == DeploymentStatus::Stopped && deployment.pipeline_execution_id.is_none())
        {
            let mut session = self.store.session();
            self.stop_components(session.as_mut(), deployment, deployment.pipeline_execution_id)
                .await?;
            session.settle().await?;
            if deployment.pipeline_execution_id.is_none() {
                // Made by a start that a stop overtook, and that got no further.
                self.cancel_legacy_jobs(deployment, STOPPED).await?;
            }
        }
        if is_deleted {
            self.forget(deployment).await?;
            return Ok(deployment.clone());
        }
        let Some(id) = deployment.pipeline_execution_id else {
            return Ok(deployment.clone());
        };
        let Some((execution, progress)) = self.repair_components(deployment, id).await? else {
            self.tell_undone(deployment).await?;
            let mut session = self.store.session();
            if deployment.status.is_in_flight() {
                send_plan(session.as_mut(), deployment);
            } else {
                // It ended before it was planned, and whoever ended it may not have got this far.
                self.stop_components(session.as_mut(), deployment, Some(id))
                    .await?;
            }
            session.settle().await?;
            return Ok(deployment.clone());
        };
        self.repair_undone(deployment, &execution).await?;
        if !execution.status.is_terminal() {
            if !deployment.follows(id) {
                self.cancel_if_there(tenant, id, STOPPED).await?;
            }
            let mut session = self.store.session();
            let message = Message::Execution {
                tenant: tenant.clone(),
                execution: id,
                look: ExecutionLook::Repair,
            };
            session.send(Queue::ExecuteStep, message, Duration::ZERO);
            session.settle().await?;
            return Ok(deployment.clone());
        }
        let ending = Ending {
            execution: id,
            generation: execution.generation,
            status: execution.status,
            error_message: match execution.compensated_by {
                Some(_) => self.failure_of(&execution).await?,
                None => progress.error_message,
            },
            certain: true,
        };
        let mut session = self.store.session();
        let ended = self
            .end_deployment(session.as_mut(), tenant, deployment.id, &ending)
            .await?;
        session.settle().await?;
        let ended = ended.unwrap_or_else(|| deployment.clone());
        if ended.status == DeploymentStatus::Deleted {
            self.forget(&ended).await?;
        }
        Ok(ended)
    }

    /// Gives every component the status that its step's record in the deployment's newest execution means, and takes back
    /// those that planners made of generations before it. Whoever gives the deployment the status of an execution that has
    /// ended does this before. Returns the execution and its steps as
    /// they were looked at; nothing if it has not been written.
    pub(crate) async fn repair_components(
        &self,
        deployment: &Deployment,
        id: ExecutionId,
    ) -> Result<Option<(Execution, ExecutionProgress)>, AppError> {
        let deletes = deployment.operation == Some(DeploymentOperation::Delete);
        loop {
            // Before the steps: what is known since then may be newer than what is read of them.
            let known: BTreeMap<String, ComponentDeployment> = self
                .components_of(deployment)
                .await?
                .into_iter()
                .map(|component| (component.component_name.clone(), component))
                .collect();
            let Some(execution) = self.load_execution(&deployment.tenant, id).await? else {
                return Ok(None);
            };
            let progress = self.progress_of_header(&execution, true).await?;
            let mut is_outdated = false;
            let mut session = self.store.session();
            for step in progress.steps.iter().flatten() {
                let (Some(before), Some(mut news)) = (known.get(&step.step_id), StepNews::of_step(step))
                else {
                    continue;
                };
                self.learn_what_is_left(&mut news, &execution, (&step.step_id, step.attempt))
                    .await?;
                self.update_component(session.as_mut(), deployment, &step.step_id, |component| {
                    let (from, uninstalls) =
                        ((execution.id, execution.generation), deletes || component.removed);
                    let mut told = component.clone();
                    let changes =
                        !is_undone(component, &execution) && hear(&mut told, from, &news, uninstalls, true);
                    let is_as_known = component == before;
                    is_outdated |= changes && !is_as_known;
                    if changes && is_as_known {
                        *component = told;
                    }
                    changes && is_as_known
                })
                .await?;
            }
            session.settle().await?;
            if is_outdated {
                continue;
            }
            if execution.generation == deployment.generation && !deletes {
                self.take_back_strays(deployment, known.values()).await?;
            }
            return Ok(Some((execution, progress)));
        }
    }
}
