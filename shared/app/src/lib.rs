//! The use cases of Slipway: load, decide, commit, send.
//!
//! Everything that the HTTP API and the queue consumers do is here, written against the ports. A Lambda
//! function and the embedded server call the same functions.

mod caller;
mod clusters;
mod dead_letters;
mod deployments;
mod dispatch;
mod drift;
mod error;
mod executions;
mod idempotency;
mod jobs;
mod keys;
mod legacy;
mod names;
mod paging;
mod plan_dag;
mod registry;
mod services;
mod steps;
mod sync_deployments;
mod templates;
mod track_deployments;

pub use caller::{Caller, Role};
pub use clusters::{ClusterCredentials, ClusterHealthView, ClusterType, NewCluster};
pub use dead_letters::{About, DeadLetterSummary, DeadLetterView};
pub use deployments::{
    ComponentChange, ComponentPlan, ComponentProgress, DeploymentPlan, DeploymentProgress, DeploymentView,
    NewDeployment, PlanRequested, PlanSummary, RollbackRequest, Started, UpgradeRequest,
    check_deployment_name,
};
pub use drift::{ComponentDrift, DeploymentDrift, LookRequested};
pub use error::AppError;
pub use executions::Approval;
pub use idempotency::IdempotentRequest;
pub use jobs::NewJob;
pub use paging::{ListQuery, Page};
pub use registry::ActionRegistry;
pub use services::{App, Services, Settings};
pub use templates::TemplateVersions;

/// A caller's text as it may stand in an error: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
