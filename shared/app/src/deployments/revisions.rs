//! Revisions: what each generation of a deployment was made from, so that a rollback can go back to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipway_model::{
    Deployment, DeploymentOperation, ExecutionId, ExecutionStatus, JsonMap, TemplateReference,
};
use slipway_ports::{Guard, Item, Put, Session};

use crate::{App, AppError, keys};

/// The inputs of one generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) generation: u64,
    pub(crate) execution_id: ExecutionId,
    pub(crate) operation: DeploymentOperation,
    pub(crate) template: TemplateReference,
    pub(crate) parameters: JsonMap,
    pub(crate) secret_parameters: BTreeMap<String, String>,
    pub(crate) selections: BTreeMap<String, String>,
    pub(crate) values: BTreeMap<String, JsonMap>,
    /// How its execution ended, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<ExecutionStatus>,
}

impl Revision {
    /// What a deployment is made from now; nothing before the first execution.
    pub(crate) fn of(deployment: &Deployment) -> Option<Self> {
        Some(Self {
            generation: deployment.generation,
            execution_id: deployment.pipeline_execution_id?,
            operation: deployment.operation?,
            template: deployment.template.clone(),
            parameters: deployment.parameters.clone(),
            secret_parameters: deployment.secret_parameters.clone(),
            selections: deployment.selections.clone(),
            values: deployment.values.clone(),
            outcome: None,
        })
    }

    /// Whether a rollback can go back to it.
    pub(crate) fn is_good(&self) -> bool {
        self.outcome == Some(ExecutionStatus::Completed) && self.operation != DeploymentOperation::Delete
    }
}

impl App {
    /// Keeps what the present generation is made from. A repeat changes nothing.
    pub(crate) async fn keep_revision(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
    ) -> Result<(), AppError> {
        if let Some(revision) = Revision::of(deployment) {
            let key = keys::revision(&deployment.tenant, deployment.id, deployment.generation);
            session.put(&key, Item::of(&revision), Guard::Absent).await?;
        }
        Ok(())
    }

    /// Notes how the execution of a generation ended.
    pub(crate) async fn close_revision(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        (execution, generation): (ExecutionId, u64),
        outcome: ExecutionStatus,
    ) -> Result<(), AppError> {
        let key = keys::revision(&deployment.tenant, deployment.id, generation);
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(());
            };
            let mut revision: Revision = stored.read()?;
            // What undoes an execution works for the same generation, and does not make it any better by succeeding.
            if revision.execution_id != execution || revision.outcome == Some(outcome) {
                return Ok(());
            }
            revision.outcome = Some(outcome);
            let item = Item::of(&revision);
            if let Put::Won(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                return Ok(());
            }
        }
    }

    /// All revisions, oldest first.
    pub(crate) async fn revisions(&self, deployment: &Deployment) -> Result<Vec<Revision>, AppError> {
        self.all_of(deployment, keys::REVISIONS).await
    }
}
