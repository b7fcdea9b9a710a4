//! Starting a deployment: the intent is written, and one message sent.

use serde::{Deserialize, Serialize};
use slipway_model::{Deployment, DeploymentId, DeploymentOperation, DeploymentStatus, ExecutionId};
use utoipa::ToSchema;

use super::operation::{begin, send_plan, wrong_state};
use crate::{App, AppError, Caller, Role};

/// What a call that starts an execution answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Started {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// How it stands now.
    pub status: DeploymentStatus,
    /// The execution that works on it; absent in legacy mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_execution_id: Option<ExecutionId>,
}

impl From<&Deployment> for Started {
    fn from(deployment: &Deployment) -> Self {
        Self {
            deployment_id: deployment.id,
            status: deployment.status,
            pipeline_execution_id: deployment.pipeline_execution_id,
        }
    }
}

impl App {
    /// Starts a deployment that was created.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is not `PENDING`.
    pub async fn start_deployment(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        if !self.settings.use_pipeline_orchestration {
            return self.start_legacy(&found).await;
        }
        self.make_intent_key(&caller.tenant).await?;
        let execution = ExecutionId(self.ids.uuid());
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(session.as_mut(), &caller.tenant, found.id, |deployment| {
                refuse_unless_pending(deployment)?;
                begin(deployment, DeploymentOperation::Start, execution);
                Ok(true)
            })
            .await?
            .map_or(found, |(deployment, _)| deployment);
        send_plan(session.as_mut(), &deployment);
        let message = format!("start requested by {}", caller.user_id);
        self.note(session.as_mut(), &deployment, "start_requested", message)
            .await?;
        session.settle().await?;
        Ok(Started::from(&deployment))
    }
}

/// # Errors
/// 409 that names the state.
pub(crate) fn refuse_unless_pending(deployment: &Deployment) -> Result<(), AppError> {
    if deployment.status == DeploymentStatus::Pending {
        Ok(())
    } else {
        Err(wrong_state(deployment, "is not in PENDING status"))
    }
}
