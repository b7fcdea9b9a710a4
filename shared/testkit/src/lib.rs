//! What tests need: contract suites that every adapter must pass, the ports in memory, clocks and identifiers that do
//! what a test says. A dev-dependency only.

mod clock;
pub mod contract;
pub mod fixtures;
pub mod memory;
mod nothing;

pub use clock::{ManualClock, START, SequentialIds, TokioClock};
pub use nothing::{NoCharts, NoClusters, NoOutside};
