//! Requests for previews. Only the newest one of a deployment counts: its plan is the one that is read.

use serde::{Deserialize, Serialize};
use slipway_model::{Deployment, DeploymentId, DeploymentStatus, PlanRequestId, TenantId};
use slipway_ports::{Guard, Item, Put, Session};
use utoipa::ToSchema;

use crate::{App, AppError, keys};

/// What asking for a plan answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanRequested {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// How it stands now.
    pub status: DeploymentStatus,
    /// The request: the plan that answers it has the same `request_id`.
    pub request_id: PlanRequestId,
}

/// A request as it is stored. Holds no secret, but may name some.
#[derive(Serialize, Deserialize)]
pub(crate) struct PlanRequest {
    /// Which.
    pub(crate) id: PlanRequestId,
    /// The deployment as it would be; absent where it is planned as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wanted: Option<Deployment>,
}

impl App {
    /// The newest request for a preview.
    pub(crate) async fn plan_request(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
    ) -> Result<Option<PlanRequest>, AppError> {
        match self.store.get(&keys::plan_request(tenant, id)).await? {
            Some(stored) => Ok(Some(stored.read()?)),
            None => Ok(None),
        }
    }

    /// Makes a request the newest one. Returns the id of the one whose place it takes: each is returned once, so that
    /// somebody takes away what was kept for it.
    pub(super) async fn ask_last(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        request: &PlanRequest,
    ) -> Result<Option<PlanRequestId>, AppError> {
        let key = keys::plan_request(&deployment.tenant, deployment.id);
        loop {
            let stored = session.get(&key).await?;
            let guard = stored
                .as_ref()
                .map_or(Guard::Absent, |stored| Guard::Version(stored.version));
            let before: Option<PlanRequest> = stored.map(|stored| stored.read()).transpose()?;
            if let Put::Won(_) = session.put(&key, Item::of(request), guard).await? {
                return Ok(before.map(|before| before.id));
            }
        }
    }

    /// Deletes the secrets that only the plan of a request reads: called where callers are answered, because that part of
    /// the control plane may delete secrets, and the part that makes previews only reads them.
    pub(super) async fn forget_plan_secrets(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        request: PlanRequestId,
    ) -> Result<(), AppError> {
        let key = keys::secrets_of(tenant, id, request.0);
        let Some(stored) = self.store.get(&key).await? else {
            return Ok(());
        };
        for name in stored.read::<Vec<String>>()? {
            self.secrets.delete(tenant, &name).await?;
        }
        let mut session = self.store.session();
        session.delete(&key, Guard::Any).await?;
        Ok(session.settle().await?)
    }
}
