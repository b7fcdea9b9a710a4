//! The real clock and real chance, which every control plane injects.

use std::time::{SystemTime, UNIX_EPOCH};

use slipway_model::Timestamp;
use uuid::Uuid;

use crate::{Clock, Ids};

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that is injected everywhere else"
        )]
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Random identifiers from the operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn uuid(&self) -> Uuid {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the generator that is injected everywhere else"
        )]
        Uuid::new_v4()
    }
}
