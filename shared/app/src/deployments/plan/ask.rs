//! Asking for a preview, and reading it.

use std::time::Duration;

use slipway_model::{Deployment, Message, Queue};

use super::super::{operation::wrong_state, start::Started, upgrade::UpgradeRequest};
use super::DeploymentPlan;
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
    ) -> Result<Started, AppError> {
        use slipway_model::DeploymentStatus::{Deleted, Deleting};

        caller.require(Role::Deployer)?;
        let tenant = &caller.tenant;
        let deployment = self.find_deployment(tenant, id_or_name).await?;
        if matches!(deployment.status, Deleted | Deleting) {
            return Err(wrong_state(&deployment, "cannot be planned"));
        }
        self.forget_inputs(tenant, deployment.id).await?;
        let inputs = match upgrade {
            Some(upgrade) => Some(self.planned_upgrade(&deployment, upgrade).await?),
            None => None,
        };
        if let Some(inputs) = inputs {
            let body = serde_json::to_vec(&inputs).unwrap_or_default();
            self.blobs
                .put(&keys::preview_inputs(tenant, deployment.id), body)
                .await?;
        }
        // Whoever asks now must not be answered with what was true before.
        self.blobs
            .delete(&keys::preview_blob(tenant, deployment.id))
            .await?;
        let message = Message::Plan {
            tenant: tenant.clone(),
            deployment: deployment.id,
            generation: deployment.generation,
            preview: true,
        };
        let mut session = self.store.session();
        // It is rendered where Helm is, which is not where DAGs are planned.
        session.send(Queue::DeployHelm, message, Duration::ZERO);
        session.settle().await?;
        Ok(Started::from(&deployment))
    }

    /// The deployment as it would be; new values of secret parameters are in the secrets store, in a place that the
    /// next preview takes over.
    async fn planned_upgrade(
        &self,
        found: &Deployment,
        upgrade: UpgradeRequest,
    ) -> Result<Deployment, AppError> {
        let mut wanted = found.clone();
        let (_, secrets) = self.check_upgrade(&mut wanted, upgrade).await?;
        let kept = self
            .keep_secrets(&found.tenant, &keys::preview_secrets(found.id), secrets)
            .await?;
        wanted.secret_parameters.extend(kept);
        Ok(wanted)
    }

    /// The preview that was asked for last.
    ///
    /// # Errors
    /// 404 for a deployment that is not there, and until there is a preview.
    pub async fn plan(&self, caller: &Caller, id_or_name: &str) -> Result<DeploymentPlan, AppError> {
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        let missing = || {
            AppError::not_found(format_args!(
                "a plan of deployment '{}' that was asked for and is ready",
                deployment.name
            ))
        };
        let blob = self
            .blobs
            .get(&keys::preview_blob(&caller.tenant, deployment.id))
            .await?;
        // One of another version counts as none.
        let mut plan: DeploymentPlan =
            serde_json::from_slice(&blob.ok_or_else(missing)?).map_err(|_| missing())?;
        self.forget_inputs(&caller.tenant, deployment.id).await?;
        if plan.generation != deployment.generation {
            plan.outdated = Some(format!(
                "it was made of generation {}, and the deployment is at generation {} now: ask for a new plan",
                plan.generation, deployment.generation
            ));
        }
        Ok(plan)
    }
}
