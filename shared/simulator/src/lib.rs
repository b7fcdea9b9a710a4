//! Plays the control plane, one seed at a time.
//!
//! The handlers are the real ones of `slipway-app`. Everything around them is simulated: store, queues, secrets,
//! charts, clusters with Helm, callers, and time. Every call to a port is a point at which others go on, at which the
//! call may fail with or without effect, and at which the invocation may die. Which of that happens is decided by the
//! seed and by nothing else, so that a run can be repeated to the letter. After every step the invariants are checked.

mod callers;
mod check;
mod choice;
mod cluster;
mod coverage;
mod generate;
mod mutants;
mod outside;
mod queue;
mod run;
mod services;
mod shrink;
mod store;
mod tasks;
mod world;

pub use check::{Invariant, Violation};
pub use coverage::{Coverage, Fault};
pub use mutants::Mutant;
pub use run::{Options, Outcome, play_choices, play_seed};
pub use shrink::shrink;
