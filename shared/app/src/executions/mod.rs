//! Executions: runs of DAGs.

mod cancel;
mod create;
mod progress;
mod query;

pub(crate) use create::{LONGEST_DELAY, NewExecution, execution_item};
pub(crate) use progress::{each_chunk, publish};
pub use query::Approval;
