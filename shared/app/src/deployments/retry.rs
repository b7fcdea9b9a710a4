//! Doing again what failed or was stopped.

use slipway_model::{DeploymentOperation, DeploymentStatus, ExecutionId};

use super::{
    operation::{begin, send_plan, wrong_state},
    start::Started,
};
use crate::{App, AppError, Caller, Role};

impl App {
    /// Starts a new execution of a deployment that failed or was stopped. Steps that completed in the last one are
    /// kept with their outputs. A deletion that failed is tried again.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is neither `FAILED` nor `STOPPED`.
    pub async fn retry_deployment(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        if !self.settings.use_pipeline_orchestration && found.pipeline_execution_id.is_none() {
            return self.retry_legacy(&found).await;
        }
        self.make_intent_key(&caller.tenant).await?;
        let execution = ExecutionId(self.ids.uuid());
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(session.as_mut(), &caller.tenant, found.id, |deployment| {
                match deployment.status {
                    DeploymentStatus::Failed | DeploymentStatus::Stopped => {}
                    _ => return Err(wrong_state(deployment, "is not in FAILED or STOPPED status")),
                }
                let operation = match deployment.operation {
                    Some(DeploymentOperation::Delete) => DeploymentOperation::Delete,
                    _ if deployment.pipeline_execution_id.is_none() => DeploymentOperation::Start,
                    _ => DeploymentOperation::Retry,
                };
                begin(deployment, operation, execution);
                Ok(true)
            })
            .await?
            .map_or(found, |(deployment, _)| deployment);
        send_plan(session.as_mut(), &deployment);
        let message = format!("retry requested by {}", caller.user_id);
        self.note(session.as_mut(), &deployment, "retry_requested", message)
            .await?;
        session.settle().await?;
        Ok(Started::from(&deployment))
    }
}
