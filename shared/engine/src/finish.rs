//! How an execution closes and ends.

use slipway_model::{Execution, ExecutionStatus, OnFailure};

/// Why nothing new may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A caller cancelled.
    Cancelled,
    /// The deadline passed.
    TimedOut,
    /// A step failed, and the execution stops on failures.
    Failing,
}

/// Why nothing new may start, if so. A cancellation outweighs a deadline, and both a failure.
pub fn closing(header: &Execution) -> Option<Closing> {
    if header.cancel.is_some() {
        Some(Closing::Cancelled)
    } else if header.timed_out_at.is_some() {
        Some(Closing::TimedOut)
    } else if header.failure.is_some() && header.settings.on_failure != OnFailure::Continue {
        Some(Closing::Failing)
    } else {
        None
    }
}

/// The status that an execution ends with once every step has ended.
pub fn final_status(header: &Execution) -> ExecutionStatus {
    if header.cancel.is_some() {
        ExecutionStatus::Cancelled
    } else if header.timed_out_at.is_some() {
        ExecutionStatus::TimedOut
    } else if header.failure.is_some() {
        ExecutionStatus::Failed
    } else {
        ExecutionStatus::Completed
    }
}
