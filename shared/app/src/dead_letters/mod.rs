//! Messages that nobody will receive again: what they were about ends, and operators see them and put them back.

mod about;
mod give_up;
mod look;
mod operators;

pub use about::About;
pub use operators::{DeadLetterSummary, DeadLetterView};

pub(crate) use give_up::{Verdict, is_unreadable};

use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Queue};

/// Every queue that the control plane consumes, and that therefore can have dead letters.
fn consumed() -> [Queue; 5] {
    [
        Queue::PlanDag,
        Queue::ExecuteStep,
        Queue::DeployHelm,
        Queue::Topic(BUDPIPELINE_EVENTS.to_owned()),
        Queue::Topic(BUDUSECASES_EVENTS.to_owned()),
    ]
}
