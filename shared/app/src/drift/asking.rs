//! Asking for a look now, instead of waiting for the hourly one.

use serde::{Deserialize, Serialize};
use slipway_model::{ClusterTarget, DeploymentStatus, Orphans, Timestamp};
use utoipa::ToSchema;

use super::orphans;
use crate::{App, AppError, Caller, Role, deployments::wrong_state};

/// What a call that asks for a look answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookRequested {
    /// When it was asked for: what was found by the look has a `checked_at` that is not before this.
    pub requested_at: Timestamp,
}

impl App {
    /// Has what runs of a deployment compared with what was applied, soon; [`deployment`](Self::deployment) answers what
    /// was found. Nothing is corrected.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is not `RUNNING`.
    pub async fn request_drift(&self, caller: &Caller, id_or_name: &str) -> Result<LookRequested, AppError> {
        caller.require(Role::Deployer)?;
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        if deployment.status != DeploymentStatus::Running {
            return Err(wrong_state(
                &deployment,
                "is compared with its clusters only while it is RUNNING",
            ));
        }
        let requested_at = self.clock.now();
        self.look_for_drift_now(&deployment).await?;
        Ok(LookRequested { requested_at })
    }

    /// Has a cluster looked at, soon, for what Slipway made there and nobody owns; [`orphans`](Self::orphans) answers
    /// what was found. Nothing is removed.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 for a `render` target, on which nothing is made.
    pub async fn request_orphans(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<LookRequested, AppError> {
        caller.require(Role::Deployer)?;
        let cluster = self.cluster(caller, id_or_name).await?;
        if cluster.target == ClusterTarget::Render {
            return Err(AppError::conflict(format!(
                "cluster '{}' is a render target: nothing is made on a cluster, so that nothing is left there",
                cluster.name
            )));
        }
        let requested_at = self.clock.now();
        let mut session = self.store.session();
        self.schedule_orphans(session.as_mut(), &caller.tenant, &cluster)
            .await?;
        orphans::send(session.as_mut(), &caller.tenant, cluster.id, None);
        session.settle().await?;
        Ok(LookRequested { requested_at })
    }

    /// What the last look at a cluster found that nobody owns.
    ///
    /// # Errors
    /// 404 for a cluster that is not there, and before the first look.
    pub async fn orphans(&self, caller: &Caller, id_or_name: &str) -> Result<Orphans, AppError> {
        let cluster = self.cluster(caller, id_or_name).await?;
        let found = self.orphans_of(&caller.tenant, cluster.id).await?;
        found.ok_or_else(|| {
            AppError::not_found(format_args!(
                "a look at cluster '{}' that has ended",
                cluster.name
            ))
        })
    }
}
