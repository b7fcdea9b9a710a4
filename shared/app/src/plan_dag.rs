//! The consumer of the plan queue: a deployment's inputs become an execution.

use std::collections::{BTreeMap, BTreeSet};

use slipway_model::{
    ComponentDeployment, ComponentStatus, Dag, Deployment, DeploymentId, DeploymentOperation,
    DeploymentStatus, ExecutionId, ExecutionStatus, FieldError, JsonMap, StepStatus, TenantId,
};

use crate::{
    App, AppError,
    deployments::{Ending, STOPPED, add_uninstalls, delete_dag, facts, planned},
    executions::NewExecution,
};

impl App {
    /// Plans what a deployment wants in one of its generations and writes the execution. Messages for older
    /// generations only have what their planners left cleared up; a repeat finds the execution.
    ///
    /// # Errors
    /// Parts of the control plane that do not answer: the message is to come again. What cannot be planned makes
    /// the deployment `FAILED`.
    pub async fn plan_dag(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        generation: u64,
    ) -> Result<(), AppError> {
        let Some(deployment) = self.load_deployment(tenant, id).await? else {
            tracing::info!(%tenant, deployment = %id, "a deployment that is to be planned does not exist");
            return Ok(());
        };
        let (Some(execution), true) = (
            deployment.pipeline_execution_id,
            deployment.generation == generation,
        ) else {
            // Whoever had this message before may have died with records made that nobody wants.
            return self.clear_up_after_planners(&deployment).await;
        };
        if !deployment.status.is_in_flight() {
            // It was stopped before it was planned, and whoever planned it all the same may have died since.
            if self.cancel_if_there(tenant, execution, STOPPED).await? {
                return Ok(());
            }
            return self.clear_up_after_planners(&deployment).await;
        }
        if deployment.stop_requested || deployment.delete_requested {
            return self.cancel_planned(&deployment, execution).await;
        }
        let planned = match deployment.operation {
            Some(DeploymentOperation::Delete) => {
                let dag = self.plan_delete(&deployment).await?;
                Ok(Some((dag, BTreeMap::new())))
            }
            _ => self.plan_deploy(&deployment, execution).await?,
        };
        let (dag, kept) = match planned {
            Ok(Some(planned)) => planned,
            // What is wanted by now is planned by whoever has the message for it.
            Ok(None) => return Ok(()),
            Err(errors) => return self.fail_planning(&deployment, execution, &errors).await,
        };
        if dag.steps.is_empty() {
            // Nothing was ever installed: there is nothing to uninstall.
            return self
                .end_unplanned(&deployment, execution, ExecutionStatus::Completed, None)
                .await;
        }
        let mut session = self.store.session();
        self.keep_revision(session.as_mut(), &deployment).await?;
        let new = NewExecution {
            id: execution,
            tenant: tenant.clone(),
            dag,
            secret_parameters: deployment.secret_parameters.clone(),
            secrets_read: BTreeSet::new(),
            deployment: Some(id),
            deployment_facts: facts(&deployment),
            generation,
            kept,
            compensates: None,
        };
        let written = match self.write_execution(session.as_mut(), new).await {
            Ok(written) => written,
            Err(AppError::Problem(problem)) => {
                return self
                    .fail_planning(&deployment, execution, &[FieldError::new("", problem.detail)])
                    .await;
            }
            Err(error) => return Err(error),
        };
        session.settle().await?;
        if written.status.is_terminal() {
            self.reconcile(&deployment).await?;
            return Ok(());
        }
        // A stop that came between reading the deployment and writing the execution did not find it.
        let now = self.load_deployment(tenant, id).await?;
        if now.is_some_and(|now| !now.follows(execution)) {
            self.cancel_if_there(tenant, execution, STOPPED).await?;
        }
        Ok(())
    }

    /// The DAG that brings a deployment up, and what of it is done already. The components' records are made to fit. Nothing
    /// if another generation is wanted by now.
    async fn plan_deploy(
        &self,
        deployment: &Deployment,
        execution: ExecutionId,
    ) -> Result<Result<Option<(Dag, BTreeMap<String, JsonMap>)>, Vec<FieldError>>, AppError> {
        let tenant = &deployment.tenant;
        let reference = &deployment.template;
        let Some(template) = self
            .load_template(tenant, &reference.name, &reference.version)
            .await?
        else {
            let message = format!(
                "template '{}' version {} does not exist any more",
                reference.name, reference.version
            );
            return Ok(Err(vec![FieldError::new("template", message)]));
        };
        let components = self.components_of(deployment).await?;
        let clusters = match self.component_clusters(tenant, &template, &components).await? {
            Ok(clusters) => clusters,
            Err(errors) => return Ok(Err(errors)),
        };
        let mut dag = match self.plan_of(deployment, &template, &clusters) {
            Ok(dag) => dag,
            Err(errors) => return Ok(Err(errors)),
        };
        leave_room_out(&mut dag, deployment, &components);
        let kept = match deployment.operation {
            Some(DeploymentOperation::Retry) => {
                let before = deployment.earlier_execution_ids.last().copied();
                self.kept_steps(tenant, before).await?
            }
            _ => BTreeMap::new(),
        };
        if self.load_execution(tenant, execution).await?.is_none() {
            let mut session = self.store.session();
            let wanted = planned(deployment, &template, &dag, self.clock.now());
            let made = self
                .prepare_components(session.as_mut(), deployment, execution, wanted, &kept)
                .await?;
            session.settle().await?;
            if self.take_back_components(deployment, execution, &made).await? {
                return Ok(Ok(None));
            }
        }
        add_uninstalls(&mut dag, deployment, &self.components_of(deployment).await?);
        Ok(Ok(Some((dag, kept))))
    }

    /// The DAG that uninstalls a deployment.
    pub(crate) async fn plan_delete(&self, deployment: &Deployment) -> Result<Dag, AppError> {
        let tenant = &deployment.tenant;
        let reference = &deployment.template;
        let components = self.components_of(deployment).await?;
        let mut deployed = None;
        if let Some(template) = self
            .load_template(tenant, &reference.name, &reference.version)
            .await?
            && let Ok(clusters) = self.component_clusters(tenant, &template, &components).await?
        {
            // What cannot be planned any more can still be uninstalled.
            deployed = self.plan_of(deployment, &template, &clusters).ok();
        }
        Ok(delete_dag(deployment, &components, deployed.as_ref()))
    }

    /// The steps that a retry keeps, with their outputs: what completed in the execution before it, unless that was undone.
    pub(crate) async fn kept_steps(
        &self,
        tenant: &TenantId,
        before: Option<ExecutionId>,
    ) -> Result<BTreeMap<String, JsonMap>, AppError> {
        let mut kept = BTreeMap::new();
        let Some(before) = before else {
            return Ok(kept);
        };
        match self.load_execution(tenant, before).await? {
            // One that has not ended may still be undone.
            Some(execution) if execution.status.is_terminal() && execution.compensated_by.is_none() => {}
            _ => return Ok(kept),
        }
        let progress = self.progress_of(tenant, before, true).await?;
        for step in progress.steps.into_iter().flatten() {
            if step.status == StepStatus::Completed {
                kept.insert(step.step_id, step.outputs);
            }
        }
        Ok(kept)
    }

    /// A stop or deletion was asked for before the execution was planned, or while it runs.
    async fn cancel_planned(&self, deployment: &Deployment, execution: ExecutionId) -> Result<(), AppError> {
        let reason = if deployment.delete_requested {
            "the deployment is being deleted"
        } else {
            STOPPED
        };
        if self
            .cancel_if_there(&deployment.tenant, execution, reason)
            .await?
        {
            return Ok(());
        }
        self.end_unplanned(deployment, execution, ExecutionStatus::Cancelled, None)
            .await
    }

    /// Ends a generation that cannot be planned, unless it was planned before: what has changed since says nothing of that.
    async fn fail_planning(
        &self,
        deployment: &Deployment,
        execution: ExecutionId,
        errors: &[FieldError],
    ) -> Result<(), AppError> {
        if self
            .load_execution(&deployment.tenant, execution)
            .await?
            .is_some()
        {
            // Whoever planned it may have died before sending its first steps.
            self.reconcile(deployment).await?;
            return Ok(());
        }
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let message = format!("the deployment cannot be planned: {}", list.join("; "));
        tracing::warn!(deployment = %deployment.id, %message, "a deployment cannot be planned");
        self.end_unplanned(deployment, execution, ExecutionStatus::Failed, Some(message))
            .await
    }

    /// Ends a generation whose execution is not there. Its components stay as the one before left them.
    pub(crate) async fn end_unplanned(
        &self,
        deployment: &Deployment,
        execution: ExecutionId,
        status: ExecutionStatus,
        error_message: Option<String>,
    ) -> Result<(), AppError> {
        // Planning would have told it.
        self.tell_undone(deployment).await?;
        let ending = Ending {
            execution,
            generation: deployment.generation,
            status,
            error_message: error_message.clone(),
            certain: false,
        };
        let mut session = self.store.session();
        let ended = self
            .end_deployment(session.as_mut(), &deployment.tenant, deployment.id, &ending)
            .await?;
        if let Some(message) = error_message {
            self.note(session.as_mut(), deployment, "planning_failed", message)
                .await?;
        }
        session.settle().await?;
        match ended {
            Some(ended) if ended.status == DeploymentStatus::Deleted => self.forget(&ended).await,
            _ => Ok(()),
        }
    }
}

/// Has nobody ask whether a cluster has room for what is there already, once the deployment itself may have taken what
/// its template needs at the least: the scheduler says what does not fit besides.
pub(crate) fn leave_room_out(dag: &mut Dag, deployment: &Deployment, components: &[ComponentDeployment]) {
    let was_up = matches!(
        deployment.operation,
        Some(DeploymentOperation::Upgrade | DeploymentOperation::Rollback)
    );
    let is_up = |component: &ComponentDeployment| component.status == ComponentStatus::Running;
    if was_up || components.iter().any(is_up) {
        for step in &mut dag.steps {
            if step.action == "cluster_health" {
                step.params.remove("minimum");
            }
        }
    }
}
