//! Back to the inputs of an earlier revision.

use serde::{Deserialize, Serialize};
use slipway_model::{Deployment, DeploymentOperation, ExecutionId, FieldError};
use utoipa::ToSchema;

use super::{Revision, start::Started, upgrade::refuse_unless_upgradable};
use crate::{App, AppError, Caller, Role};

/// Which revision to go back to: the one before that completed, if nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The execution that completed it.
    #[serde(default)]
    pub execution_id: Option<String>,
    /// Its generation.
    #[serde(default)]
    pub generation: Option<u64>,
}

impl App {
    /// Brings a deployment back to the inputs of an earlier execution that completed.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is not `RUNNING`, `FAILED` or `STOPPED` or there is nothing to go back
    /// to, 422 for a revision that is not this deployment's.
    pub async fn rollback_deployment(
        &self,
        caller: &Caller,
        id_or_name: &str,
        request: &RollbackRequest,
    ) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        refuse_unless_upgradable(&found, "cannot be rolled back")?;
        let revisions = self.revisions(&found).await?;
        let revision = choose(&found, &revisions, request)?;
        let mut wanted = found.clone();
        wanted.template.clone_from(&revision.template);
        wanted.parameters.clone_from(&revision.parameters);
        wanted.secret_parameters.clone_from(&revision.secret_parameters);
        wanted.selections.clone_from(&revision.selections);
        wanted.values.clone_from(&revision.values);
        let execution = ExecutionId(self.ids.uuid());
        let message = format!(
            "rollback to generation {} (version {}) requested by {}",
            revision.generation, revision.template.version, caller.user_id
        );
        let request = (
            DeploymentOperation::Rollback,
            execution,
            "rollback_requested",
            message,
        );
        self.turn_to(&found, &wanted, request).await
    }
}

fn choose<'r>(
    deployment: &Deployment,
    revisions: &'r [Revision],
    request: &RollbackRequest,
) -> Result<&'r Revision, AppError> {
    let refused = |path: &str, message: String| {
        AppError::invalid("the rollback is invalid", vec![FieldError::new(path, message)])
    };
    let named = match (&request.execution_id, request.generation) {
        (Some(_), Some(_)) => {
            let message = "give either execution_id or generation".to_owned();
            return Err(refused("", message));
        }
        (Some(id), None) => {
            let execution: Option<ExecutionId> = id.parse().ok();
            let found = revisions
                .iter()
                .find(|revision| Some(revision.execution_id) == execution);
            let message = || "no execution of this deployment has that id".to_owned();
            Some(found.ok_or_else(|| refused("execution_id", message()))?)
        }
        (None, Some(generation)) => {
            let found = revisions
                .iter()
                .find(|revision| revision.generation == generation);
            let message =
                || format!("this deployment has no generation {generation} that an execution worked on");
            Some(found.ok_or_else(|| refused("generation", message()))?)
        }
        (None, None) => None,
    };
    if let Some(revision) = named {
        if revision.is_good() {
            return Ok(revision);
        }
        return Err(AppError::conflict(format!(
            "Deployment {} cannot go back to generation {}: its execution {} did not complete",
            deployment.id, revision.generation, revision.execution_id
        )));
    }
    let earlier = revisions
        .iter()
        .rev()
        .find(|revision| revision.generation < deployment.generation && revision.is_good());
    earlier.ok_or_else(|| {
        AppError::conflict(format!(
            "Deployment {} cannot be rolled back: no earlier execution of it completed",
            deployment.id
        ))
    })
}
