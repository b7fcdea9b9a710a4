//! Stopping a deployment: its execution, or its jobs where there is none, are cancelled, and the end of that makes it
//! `STOPPED`.

use slipway_model::{DeploymentStatus, ExecutionId};

use super::{
    operation::{send_plan, wrong_state},
    start::Started,
};
use crate::{App, AppError, Caller, Role};

/// Why an execution is cancelled that its deployment does not follow any more.
pub(crate) const STOPPED: &str = "the deployment was stopped";

impl App {
    /// Stops a deployment. One that was not started is `STOPPED` at once; one that an execution or jobs work on once
    /// those are cancelled, and first installs that are in flight are uninstalled. What completed stays.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when there is nothing to stop, naming the state.
    pub async fn stop_deployment(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(
                session.as_mut(),
                &caller.tenant,
                found.id,
                |deployment| match deployment.status {
                    DeploymentStatus::Deploying
                    | DeploymentStatus::Upgrading
                    | DeploymentStatus::RollingBack => {
                        let is_new = !deployment.stop_requested;
                        deployment.stop_requested = true;
                        Ok(is_new)
                    }
                    DeploymentStatus::Pending => {
                        deployment.status = DeploymentStatus::Stopped;
                        Ok(true)
                    }
                    _ => Err(wrong_state(deployment, "cannot be stopped")),
                },
            )
            .await?
            .map_or(found, |(deployment, _)| deployment);
        let message = format!("stop requested by {}", caller.user_id);
        self.note(session.as_mut(), &deployment, "stop_requested", message)
            .await?;
        match deployment.pipeline_execution_id {
            Some(execution) if deployment.stop_requested => {
                // Planning cancels the execution as soon as it has written it, should it be at that just now.
                send_plan(session.as_mut(), &deployment);
                session.settle().await?;
                self.cancel_if_there(&deployment.tenant, execution, STOPPED)
                    .await?;
            }
            Some(_) => session.settle().await?,
            None if deployment.stop_requested => {
                session.settle().await?;
                let deployment = self.sync_legacy(&deployment).await?;
                return Ok(Started::from(&deployment));
            }
            None => {
                self.stop_components(session.as_mut(), &deployment, None).await?;
                session.settle().await?;
            }
        }
        Ok(Started::from(&deployment))
    }

    /// Cancels an execution, unless it has not been written yet. Whether it is there.
    pub(crate) async fn cancel_if_there(
        &self,
        tenant: &slipway_model::TenantId,
        execution: ExecutionId,
        reason: &str,
    ) -> Result<bool, AppError> {
        let Some(header) = self.load_execution(tenant, execution).await? else {
            return Ok(false);
        };
        if !header.status.is_terminal() {
            self.request_cancel(tenant, execution, reason, true).await?;
        }
        Ok(true)
    }
}
