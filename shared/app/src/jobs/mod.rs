//! Jobs: asynchronous pieces of work on a cluster.

mod applying;
mod at_work;
mod deploy_helm;
mod give_up;
mod hooks;
mod kept;
mod lease;
mod masking;
mod opening;
mod phases;
mod record;
mod removal;
mod requests;
mod unreturned;
mod work;

pub(crate) use applying::foreign;
pub(crate) use at_work::AtWork;
pub(crate) use record::{JobOrigin, NewStepJob, rendered_outputs};
pub use requests::NewJob;
pub(crate) use unreturned::UnreturnedLeases;

use slipway_model::JobPhase;

/// What a job in a phase waits for, where it has seen nothing particular; nothing once it is done.
pub(crate) fn phase_wait(phase: JobPhase) -> Option<&'static str> {
    match phase {
        JobPhase::Check => Some("its chart to be checked"),
        JobPhase::PreHooks | JobPhase::PostHooks => Some("its hooks to end"),
        JobPhase::Apply => Some("Helm to apply it"),
        JobPhase::Watch => Some("its objects to become ready"),
        JobPhase::Collect => Some("its endpoints to be read"),
        JobPhase::CleanUp => Some("what it installed to be taken away"),
        JobPhase::Done => None,
    }
}
