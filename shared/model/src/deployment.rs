//! Deployments and their components.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ClusterId, ComponentType, DeploymentId, ExecutionId, JobId, JsonMap, TenantId, Timestamp};

/// How a deployment stands. Only `DELETED` is terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeploymentStatus {
    /// Created, not started.
    Pending,
    /// Coming up.
    Deploying,
    /// Every component runs.
    Running,
    /// A component failed.
    Failed,
    /// Stopped by a caller.
    Stopped,
    /// A new version or new parameters come up.
    Upgrading,
    /// An earlier revision comes back.
    RollingBack,
    /// Being uninstalled.
    Deleting,
    /// Uninstalled.
    Deleted,
}

impl DeploymentStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Deploying => "DEPLOYING",
            Self::Running => "RUNNING",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
            Self::Upgrading => "UPGRADING",
            Self::RollingBack => "ROLLING_BACK",
            Self::Deleting => "DELETING",
            Self::Deleted => "DELETED",
        }
    }

    /// Whether an execution works on it.
    pub fn is_in_flight(self) -> bool {
        matches!(
            self,
            Self::Deploying | Self::Upgrading | Self::RollingBack | Self::Deleting
        )
    }
}

/// What the newest execution of a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentOperation {
    /// The first bringing up.
    Start,
    /// What failed or was stopped is done again; what completed is kept.
    Retry,
    /// A new template version, or other parameters, selections or values.
    Upgrade,
    /// Back to the inputs of an earlier revision.
    Rollback,
    /// Everything is uninstalled.
    Delete,
}

impl DeploymentOperation {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Retry => "retry",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Delete => "delete",
        }
    }

    /// The status while it is being carried out.
    pub fn status(self) -> DeploymentStatus {
        match self {
            Self::Start | Self::Retry => DeploymentStatus::Deploying,
            Self::Upgrade => DeploymentStatus::Upgrading,
            Self::Rollback => DeploymentStatus::RollingBack,
            Self::Delete => DeploymentStatus::Deleting,
        }
    }
}

/// How a component of a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ComponentStatus {
    /// Not begun.
    Pending,
    /// Its step started.
    Deploying,
    /// Its step completed.
    Running,
    /// Its step failed.
    Failed,
    /// It was stopped, or skipped because another failed.
    Stopped,
}

impl ComponentStatus {
    /// Whether an event of the same execution leaves it alone.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Running | Self::Failed | Self::Stopped)
    }
}

/// A template by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateReference {
    /// Its name.
    pub name: String,
    /// Its version.
    #[schema(value_type = String)]
    pub version: semver::Version,
}

/// A template being brought up on a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Whose it is.
    #[serde(default = "TenantId::local", skip_serializing_if = "is_local")]
    pub tenant: TenantId,
    /// Unique per tenant.
    pub name: String,
    /// What is deployed.
    pub template: TemplateReference,
    /// Where.
    pub cluster_id: ClusterId,
    /// `uc-<first 8 of the id>`.
    pub namespace: String,
    /// How it stands.
    pub status: DeploymentStatus,
    /// Parameters, checked and with defaults filled in; secret ones are not among them.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: JsonMap,
    /// Secret parameters: name → name in the secrets store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_parameters: BTreeMap<String, String>,
    /// Slot → catalog component.
    #[serde(default)]
    pub selections: BTreeMap<String, String>,
    /// Component → values, merged over the template's as Helm merges.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub values: BTreeMap<String, JsonMap>,
    /// Topics that get the execution's events, `budusecasesEvents` always among them.
    pub callback_topics: Vec<String>,
    /// Who asked for it.
    pub user_id: String,
    /// Raised by every start, retry, upgrade, rollback and delete; orders writers of one release.
    pub generation: u64,
    /// The execution that works on it or did so last; absent in legacy mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_execution_id: Option<ExecutionId>,
    /// Executions before that one, newest last, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_execution_ids: Vec<ExecutionId>,
    /// What the newest execution is for; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<DeploymentOperation>,
    /// Whether a stop was asked for and is being carried out.
    #[serde(default)]
    pub stop_requested: bool,
    /// Whether it is deleted as soon as the execution that works on it has ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delete_requested: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Deployment {
    /// Whether an execution works on it, and nobody has asked for it to end.
    pub fn follows(&self, execution: ExecutionId) -> bool {
        let is_stopping = self.stop_requested || self.delete_requested;
        self.pipeline_execution_id == Some(execution) && self.status.is_in_flight() && !is_stopping
    }
}

fn is_local(tenant: &TenantId) -> bool {
    *tenant == TenantId::local()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A component of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComponentDeployment {
    /// The template's component, and the id of its step.
    pub component_name: String,
    /// What kind of slot it is.
    pub component_type: ComponentType,
    /// Place among the template's components, from 0.
    #[serde(default)]
    pub position: u32,
    /// The catalog component that fills the slot; absent for `helm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_component: Option<String>,
    /// Helm release.
    pub release_name: String,
    /// The cluster that it goes to.
    pub cluster_id: ClusterId,
    /// How it stands.
    pub status: ComponentStatus,
    /// The deployment's generation that it was planned for last.
    #[serde(default)]
    pub generation: u64,
    /// Whether the template version that is being deployed does not have it any more: it is uninstalled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removed: bool,
    /// Whether its condition is false in what is being deployed: it has no release, and one that it had before is
    /// uninstalled under another name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Whether that execution kept it as it was, because it already was as it is wanted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kept: bool,
    /// Whether it ran when that execution came to it: where that is stopped before anything is done, it runs on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ran_before: bool,
    /// The execution that the status comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// What undoes an execution before that one and has yet to say what becomes of the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<ExecutionId>,
    /// The job that deploys it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Why it failed, or what was left of its release where it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One line of a deployment's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// Opaque, increasing; what `Last-Event-ID` and cursors hold.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// An event type, or what a caller did, such as `start_requested`.
    #[serde(rename = "type")]
    pub entry_type: String,
    /// The execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// The step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// For people.
    pub message: String,
}
