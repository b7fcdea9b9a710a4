//! Deployments: templates being brought up on clusters.

mod components;
mod create;
mod delete;
mod ending;
mod history;
mod inputs;
mod let_go;
mod news;
mod operation;
mod plan;
mod progress;
mod records;
mod retry;
mod revisions;
mod rollback;
mod start;
mod stop;
mod sync;
mod undoing;
mod upgrade;
mod uses;
mod view;

pub use create::NewDeployment;
pub use plan::{ComponentChange, ComponentPlan, DeploymentPlan, PlanRequested, PlanSummary};
pub use progress::{ComponentProgress, DeploymentProgress};
pub use records::check_deployment_name;
pub use rollback::RollbackRequest;
pub use start::Started;
pub use upgrade::UpgradeRequest;
pub use view::DeploymentView;

pub(crate) use components::planned;
pub(crate) use delete::{add_uninstalls, delete_dag};
pub(crate) use ending::Ending;
pub(crate) use history::Line;
pub(crate) use inputs::facts;
pub(crate) use news::{StepNews, hear, is_undone};
pub(crate) use operation::wrong_state;
pub(crate) use records::{deployment_item, look_again};
pub(crate) use revisions::Revision;
pub(crate) use start::refuse_unless_pending;
pub(crate) use stop::STOPPED;
pub(crate) use undoing::{KEPT, UNDO, UNINSTALLED};
pub(crate) use uses::CREATION;
