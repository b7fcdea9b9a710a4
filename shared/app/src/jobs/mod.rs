//! Jobs: asynchronous pieces of work on a cluster.

mod applying;
mod at_work;
mod base;
mod deploy_helm;
mod give_up;
mod hooks;
mod kept;
mod lease;
mod left;
mod masking;
mod opening;
mod phases;
mod record;
mod removal;
mod requests;
mod undone;
mod unreturned;
mod work;

pub(crate) use applying::foreign;
pub(crate) use at_work::AtWork;
pub(crate) use deploy_helm::is_superseded;
pub(crate) use left::Left;
pub(crate) use record::{JobOrigin, NewStepJob, rendered_outputs};
pub(crate) use removal::TAKEN_AWAY;
pub use requests::NewJob;
pub(crate) use undone::UNDOES;
pub(crate) use unreturned::UnreturnedLeases;
pub(crate) use work::FIRST_INSTALL;

use slipway_model::{HelmOperation, Job, JobPhase};

/// What a job waits for by its phase, where it has seen nothing particular; nothing once it is done.
pub(crate) fn phase_wait(job: &Job) -> Option<&'static str> {
    let operation = serde_json::from_value(job.config["operation"].clone()).unwrap_or_default();
    match (job.phase, operation) {
        (JobPhase::Check, HelmOperation::Deploy) => Some("its chart to be checked"),
        (JobPhase::Check, _) => Some("its release to be looked at"),
        (JobPhase::PreHooks | JobPhase::PostHooks, _) => Some("its hooks to end"),
        (JobPhase::Apply, HelmOperation::Deploy) => Some("Helm to apply it"),
        (JobPhase::Apply, HelmOperation::Rollback) => Some("Helm to roll it back"),
        (JobPhase::Apply, HelmOperation::Uninstall) => Some("Helm to uninstall it"),
        (JobPhase::Apply, HelmOperation::Test) => Some("its tests to begin"),
        (JobPhase::Watch, HelmOperation::Uninstall) => Some("its objects to be gone"),
        (JobPhase::Watch, _) => Some("its objects to become ready"),
        (JobPhase::Collect, _) => Some("its endpoints to be read"),
        (JobPhase::CleanUp, _) => Some("what it installed to be taken away"),
        (JobPhase::Done, _) => None,
    }
}
