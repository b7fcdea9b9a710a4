//! Clocks and identifiers for tests.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use slipway_model::Timestamp;
use slipway_ports::{Clock, Ids};
use tokio::time::Instant;
use uuid::{Builder, Uuid};

/// 2026-01-01T00:00:00Z, where the clocks of tests begin unless told otherwise.
pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves it on.
    pub fn advance(&self, by: std::time::Duration) {
        let mut now = self.lock();
        *now = now.plus(by);
    }

    /// Moves it to `now`, which may be earlier.
    pub fn set(&self, now: Timestamp) {
        *self.lock() = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.0.lock().expect("nothing panics while it holds the clock")
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::at(START)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

/// A clock that goes with tokio's, also when that is paused: then waiting costs no time.
#[derive(Debug)]
pub struct TokioClock {
    start: Instant,
}

impl TokioClock {
    /// A clock that shows [`START`] now. Must be made inside a runtime.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START.plus(self.start.elapsed())
    }
}

/// Identifiers that count up: version 4 in form, and different in the first eight digits.
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU32);

impl SequentialIds {
    /// Begins with 1.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ids for SequentialIds {
    fn uuid(&self) -> Uuid {
        let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Builder::from_random_bytes((u128::from(number) << 96).to_be_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::default();
        assert_eq!(clock.now(), START);
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.now().since(START), Duration::from_secs(60));
    }

    #[test]
    fn sequential_ids_differ_where_short_names_are_cut() {
        let ids = SequentialIds::new();
        let (first, second) = (ids.uuid(), ids.uuid());
        assert_eq!(first.to_string(), "00000001-0000-4000-8000-000000000000");
        assert_ne!(first.to_string()[..8], second.to_string()[..8]);
    }
}
