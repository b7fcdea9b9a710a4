//! Letting go of a deployment: it is deleted, and what it installed stays where it is. For clusters that are gone, where
//! nothing could ever be uninstalled, and for releases that something else is to look after.

use slipway_model::{ComponentDeployment, Deployment, DeploymentOperation, DeploymentStatus, ExecutionId};
use slipway_ports::Session;

use super::{
    delete::once_each,
    operation::{changed_meanwhile, wrong_state},
    start::Started,
};
use crate::{App, AppError, Caller, Role};

/// What a component's record says from then on.
const LEFT: &str =
    "what was left of its release stayed when the deployment was deleted; nobody looks at it any more";

/// What a deployment that something works on is told.
const NOT_YET: &str = "cannot be deleted without its releases before it is stopped";

impl App {
    /// Deletes a deployment without uninstalling anything. Its history names the releases that stay. Its name, its
    /// template, its clusters and its secrets are free at once; where the cluster is reached, the look for orphans
    /// reports what stayed.
    ///
    /// # Errors
    /// 403 below `admin`, 404, 409 when it is `DELETED` already, or while something works on it, naming the state and
    /// the execution.
    pub async fn let_go_of_deployment(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        caller.require(Role::Admin)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        if let Some(execution) = self.at_work_on(&found).await? {
            return Err(wrong_state(
                &found,
                &format!(
                    "cannot be deleted without its releases while execution {execution} works on it: cancel that, or \
                     wait until it has ended"
                ),
            ));
        }
        if found.status == DeploymentStatus::Deleted {
            // Should the call that deleted it have been interrupted.
            self.forget(&found).await?;
            return Err(wrong_state(&found, "cannot be deleted"));
        }
        if found.status.is_in_flight() {
            return Err(wrong_state(&found, NOT_YET));
        }
        let mut session = self.store.session();
        // Before it is so: a call that is interrupted in between leaves no releases that nothing names.
        let left = self.left_releases(&found).await?;
        let message = format!(
            "deletion without uninstalling requested by {}: {left}",
            caller.user_id
        );
        self.note(session.as_mut(), &found, "let_go_requested", message)
            .await?;
        let updated = self
            .update_deployment(session.as_mut(), &caller.tenant, found.id, |deployment| {
                match deployment.status {
                    DeploymentStatus::Deleted => return Err(wrong_state(deployment, "cannot be deleted")),
                    status if status.is_in_flight() => return Err(wrong_state(deployment, NOT_YET)),
                    // What began after it was looked at has ended, and may be undone just now.
                    _ if deployment.generation != found.generation => {
                        return Err(changed_meanwhile(deployment));
                    }
                    _ => {
                        deployment.status = DeploymentStatus::Deleted;
                        deployment.operation = Some(DeploymentOperation::Delete);
                        // Whoever stalled over what came before tells the components nothing any more.
                        deployment.generation += 1;
                    }
                }
                Ok(true)
            })
            .await?;
        let deployment = updated.map_or(found, |(deployment, _)| deployment);
        self.tell_they_are_left(session.as_mut(), &deployment).await?;
        session.settle().await?;
        self.forget(&deployment).await?;
        Ok(Started::from(&deployment))
    }

    /// The execution that works on a deployment, or undoes what one of its executions did: an upgrade may have begun before
    /// that had ended.
    async fn at_work_on(&self, deployment: &Deployment) -> Result<Option<ExecutionId>, AppError> {
        let earlier = deployment.earlier_execution_ids.iter().rev();
        for id in deployment.pipeline_execution_id.iter().chain(earlier) {
            let Some(execution) = self.load_execution(&deployment.tenant, *id).await? else {
                continue;
            };
            if !execution.status.is_terminal() {
                return Ok(Some(*id));
            }
            let Some(undoing) = execution.compensated_by else {
                continue;
            };
            let header = self.load_execution(&deployment.tenant, undoing).await?;
            if header.is_some_and(|header| !header.status.is_terminal()) {
                return Ok(Some(undoing));
            }
        }
        Ok(None)
    }

    /// The releases that stay, as its history names them.
    async fn left_releases(&self, deployment: &Deployment) -> Result<String, AppError> {
        let components = self.components_of(deployment).await?;
        // Also of those that never told of a job: whoever was to tell may have been given up.
        let planned = components.iter().filter(|component| may_have_release(component));
        let named: Vec<String> = once_each(planned)
            .map(|component| {
                format!(
                    "release {}/{} on cluster {}",
                    deployment.namespace, component.release_name, component.cluster_id
                )
            })
            .collect();
        Ok(match named.is_empty() {
            true => "it had no releases".to_owned(),
            false => format!("whatever is left of these stays: {}", named.join(", ")),
        })
    }

    /// Has each component that has a release say that it was left.
    async fn tell_they_are_left(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
    ) -> Result<(), AppError> {
        for component in self.components_of(deployment).await? {
            self.update_component(session, deployment, &component.component_name, |found| {
                let has_release = may_have_release(found);
                let is_told = found.error_message.as_deref() == Some(LEFT);
                if has_release && !is_told {
                    found.error_message = Some(LEFT.to_owned());
                    found.generation = deployment.generation;
                }
                has_release && !is_told
            })
            .await?;
        }
        Ok(())
    }
}

/// Whether a component was ever to be brought up: by an execution, or without one by a job.
fn may_have_release(component: &ComponentDeployment) -> bool {
    !component.disabled && (component.generation > 0 || component.job_id.is_some())
}
