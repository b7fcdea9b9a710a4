//! From templates to plans, as pure functions: what is checked when a template or DAG is saved, how a deployment
//! becomes a DAG, and how a DAG becomes the numbered nodes that executions run.
//!
//! Nothing here does I/O or reads a clock. Errors are lists of [`FieldError`](slipway_model::FieldError), all at
//! once, each naming the place, what is wrong and what would be right.

mod catalog;
mod compile;
pub mod dag;
mod faults;
pub mod graph;
mod limits;
pub mod parameters;
mod parse;
mod planning;
mod reads;
pub mod selections;
mod shape;
mod suggest;
pub mod template;
mod topology;

pub use catalog::bundled_catalog;
pub use compile::{Plan, compile};
pub use parse::{MAX_DAG_BYTES, MAX_DEPTH, MAX_TEMPLATE_BYTES, ParseError, parse};
pub use planning::{DeploymentInput, literal_value, merge_values, plan_deployment, release_name};
