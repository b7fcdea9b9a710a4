//! The engine: (node, its state, header, event, now) in, (new state, effects) out.
//!
//! No clock, no randomness, no I/O. Callers load a neighbourhood of the execution — one node, its record and the
//! header — and carry out what a decision says: one guarded write, then idempotent ones.

mod blocked;
mod decide;
mod events;
mod finish;
mod next;
mod progress;

pub use decide::{Claims, Decision, Illegal, StepEvent, decide};
pub use events::{execution_event, step_event, step_started_event};
pub use finish::{Closing, closing, final_status};
pub use next::abandoned;
pub use progress::{eta_seconds, percent};
