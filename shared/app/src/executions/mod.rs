//! Executions: runs of DAGs.

mod cancel;
mod create;
mod outputs;
mod plans;
mod progress;
mod query;

pub(crate) use create::{LONGEST_DELAY, NewExecution};
pub(crate) use outputs::{INLINE_OUTPUTS, larger_than};
pub(crate) use plans::PlanCache;
pub(crate) use progress::{each_chunk, publish};
pub use query::Approval;
