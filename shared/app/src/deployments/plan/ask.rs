//! Asking for a preview, and reading it.

use std::time::Duration;

use slipway_model::{Deployment, Message, PlanRequestId, Queue};

use super::super::{operation::wrong_state, upgrade::UpgradeRequest};
use super::{
    DeploymentPlan,
    requests::{PlanRequest, PlanRequested},
};
use crate::{App, AppError, Caller, Role, keys};

impl App {
    /// Has a preview made of what a start or retry would do, or of an upgrade; [`plan`](Self::plan) answers it once it
    /// is there.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is being deleted or is `DELETED`, 422 with everything that is wrong with
    /// the upgrade.
    pub async fn request_plan(
        &self,
        caller: &Caller,
        id_or_name: &str,
        upgrade: Option<UpgradeRequest>,
    ) -> Result<PlanRequested, AppError> {
        use slipway_model::DeploymentStatus::{Deleted, Deleting};

        caller.require(Role::Deployer)?;
        let tenant = &caller.tenant;
        let deployment = self.find_deployment(tenant, id_or_name).await?;
        if matches!(deployment.status, Deleted | Deleting) {
            return Err(wrong_state(&deployment, "cannot be planned"));
        }
        let id = PlanRequestId(self.ids.uuid());
        let wanted = match upgrade {
            Some(upgrade) => Some(self.planned_upgrade(&deployment, id, upgrade).await?),
            None => None,
        };
        let mut session = self.store.session();
        let request = PlanRequest { id, wanted };
        let before = self.ask_last(session.as_mut(), &deployment, &request).await?;
        let message = Message::Plan {
            tenant: tenant.clone(),
            deployment: deployment.id,
            generation: deployment.generation,
            request: Some(id),
        };
        // It is rendered where Helm is, which is not where DAGs are planned.
        session.send(Queue::DeployHelm, message, Duration::ZERO);
        session.settle().await?;
        if let Some(before) = before {
            self.forget_plan_secrets(tenant, deployment.id, before).await?;
            self.blobs
                .delete(&keys::preview_blob(tenant, deployment.id, before))
                .await?;
        }
        // A deletion that ended meanwhile may not have seen what this one stored.
        match self.load_deployment(tenant, deployment.id).await? {
            Some(now) if now.status == Deleted => {
                self.forget(&now).await?;
                Err(wrong_state(&now, "cannot be planned"))
            }
            _ => Ok(PlanRequested {
                deployment_id: deployment.id,
                status: deployment.status,
                request_id: id,
            }),
        }
    }

    /// The deployment as it would be; new values of secret parameters are in the secrets store until the plan was read or
    /// another is asked for.
    async fn planned_upgrade(
        &self,
        found: &Deployment,
        request: PlanRequestId,
        upgrade: UpgradeRequest,
    ) -> Result<Deployment, AppError> {
        let mut wanted = found.clone();
        let (_, secrets) = self.check_upgrade(&mut wanted, upgrade).await?;
        let brought = self.bring_secrets(found, request.0, secrets).await?;
        wanted.secret_parameters.extend(brought);
        Ok(wanted)
    }

    /// The preview that was asked for last.
    ///
    /// # Errors
    /// 404 for a deployment that is not there, and until there is the preview that was asked for last.
    pub async fn plan(&self, caller: &Caller, id_or_name: &str) -> Result<DeploymentPlan, AppError> {
        let tenant = &caller.tenant;
        let deployment = self.find_deployment(tenant, id_or_name).await?;
        let missing = || {
            AppError::not_found(format_args!(
                "a plan of deployment '{}' that was asked for and is ready",
                deployment.name
            ))
        };
        let asked = self.plan_request(tenant, deployment.id).await?;
        let asked = asked.ok_or_else(missing)?.id;
        let place = keys::preview_blob(tenant, deployment.id, asked);
        let blob = self.blobs.get(&place).await?;
        // One of another version counts as none.
        let mut plan: DeploymentPlan =
            serde_json::from_slice(&blob.ok_or_else(missing)?).map_err(|_| missing())?;
        self.forget_plan_secrets(tenant, deployment.id, asked).await?;
        if plan.generation != deployment.generation {
            plan.outdated = Some(format!(
                "it was made of generation {}, and the deployment is at generation {} now: ask for a new plan",
                plan.generation, deployment.generation
            ));
        }
        Ok(plan)
    }
}
