//! Jobs: asynchronous pieces of work on a cluster.

mod deploy_helm;
mod lease;
mod phases;
mod record;
mod requests;
mod work;

pub(crate) use record::{JobOrigin, NewStepJob};
pub use requests::NewJob;

use slipway_model::JobPhase;

/// The word for a phase.
pub(crate) fn phase_word(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Check => "check",
        JobPhase::Apply => "apply",
        JobPhase::Watch => "watch",
        JobPhase::Collect => "collect",
        JobPhase::CleanUp => "clean up",
        JobPhase::Done => "done",
    }
}
