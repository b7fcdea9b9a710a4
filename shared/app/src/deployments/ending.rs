//! What the end of an execution means for its deployment.

use std::collections::BTreeSet;

use slipway_model::{
    ComponentDeployment, Deployment, DeploymentId, DeploymentOperation, DeploymentStatus, ExecutionId,
    ExecutionStatus, TenantId,
};
use slipway_ports::{Guard, Session};

use super::{
    delete::once_each,
    operation::{begin, send_plan},
};
use crate::{App, AppError, keys};

/// How an execution ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) execution: ExecutionId,
    /// The deployment's generation that it worked for.
    pub(crate) generation: u64,
    /// Terminal.
    pub(crate) status: ExecutionStatus,
    pub(crate) error_message: Option<String>,
    /// Whether it was read from the execution itself, so that it outweighs what events said before.
    pub(crate) certain: bool,
}

impl App {
    /// Gives a deployment the status that the end of its execution means, then does what follows from it. A repeat,
    /// and the end of an execution that is not the newest, change nothing.
    pub(crate) async fn end_deployment(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        id: DeploymentId,
        ending: &Ending,
    ) -> Result<Option<Deployment>, AppError> {
        let next = ExecutionId(self.ids.uuid());
        let updated = self
            .update_deployment(session, tenant, id, |deployment| {
                Ok(apply(deployment, ending, next))
            })
            .await?;
        let Some((deployment, _)) = updated else {
            return Ok(None);
        };
        // From here on everything follows from what is stored now, so that a repeat does it again.
        if deployment.pipeline_execution_id == Some(ending.execution) {
            if ending.status == ExecutionStatus::Cancelled {
                self.stop_components(session, &deployment, Some(ending.execution))
                    .await?;
            }
            match deployment.status {
                DeploymentStatus::Running => {
                    let components = self.components_of(&deployment).await?;
                    let removed = components.iter().filter(|component| component.removed);
                    self.drop_removed(session, &deployment, removed).await?;
                    self.schedule_drift(session, &deployment).await?;
                }
                DeploymentStatus::Deleted => {
                    // Those that another one spoke for: its release was theirs.
                    let components = self.components_of(&deployment).await?;
                    let spoke: BTreeSet<&str> = once_each(components.iter())
                        .map(|component| component.component_name.as_str())
                        .collect();
                    let silent = |component: &&ComponentDeployment| {
                        component.removed && !spoke.contains(component.component_name.as_str())
                    };
                    self.drop_removed(session, &deployment, components.iter().filter(silent))
                        .await?;
                }
                _ => {}
            }
        } else if deployment.operation == Some(DeploymentOperation::Delete)
            && deployment.status == DeploymentStatus::Deleting
        {
            self.stop_components(session, &deployment, Some(ending.execution))
                .await?;
            send_plan(session, &deployment);
        }
        self.close_revision(
            session,
            &deployment,
            (ending.execution, ending.generation),
            ending.status,
        )
        .await?;
        Ok(Some(deployment))
    }

    /// Forgets the components that an upgrade or rollback has uninstalled. What a newer generation removes, which may have
    /// begun meanwhile, is still there.
    async fn drop_removed(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        removed: impl Iterator<Item = &ComponentDeployment>,
    ) -> Result<(), AppError> {
        for component in removed {
            let key = keys::component(&deployment.tenant, deployment.id, &component.component_name);
            let Some(stored) = session.get(&key).await? else {
                continue;
            };
            let component: ComponentDeployment = stored.read()?;
            if component.removed && component.generation <= deployment.generation {
                session.delete(&key, Guard::Version(stored.version)).await?;
            }
        }
        Ok(())
    }
}

fn apply(deployment: &mut Deployment, ending: &Ending, next: ExecutionId) -> bool {
    if deployment.pipeline_execution_id != Some(ending.execution) {
        return false;
    }
    let may_change = deployment.status.is_in_flight()
        || (ending.certain
            && matches!(
                deployment.status,
                DeploymentStatus::Running | DeploymentStatus::Failed | DeploymentStatus::Stopped
            ));
    if !may_change {
        return false;
    }
    let deletes = deployment.operation == Some(DeploymentOperation::Delete);
    if deployment.delete_requested && !deletes {
        begin(deployment, DeploymentOperation::Delete, next);
        return true;
    }
    let before = deployment.clone();
    deployment.status = match ending.status {
        ExecutionStatus::Completed if deletes => DeploymentStatus::Deleted,
        ExecutionStatus::Completed => DeploymentStatus::Running,
        ExecutionStatus::Cancelled => DeploymentStatus::Stopped,
        _ => DeploymentStatus::Failed,
    };
    deployment.stop_requested = false;
    deployment.delete_requested = false;
    deployment.error_message = match deployment.status {
        DeploymentStatus::Failed => {
            let message = ending.error_message.clone();
            Some(message.unwrap_or_else(|| "Pipeline execution failed".to_owned()))
        }
        _ => None,
    };
    *deployment != before
}
