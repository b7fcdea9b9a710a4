//! Time that nobody can set.

use rustix::time::{ClockId, clock_gettime};
use slipway_model::Timestamp;
use slipway_ports::Clock;

/// Goes on by itself from what the time was when it began: somebody who sets the machine's clock, by hand or because it
/// was wrong, moves no deadline, lease or delay of a control plane that runs. Time goes on while the machine sleeps.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    /// What it showed when the machine was started, in milliseconds.
    zero: i64,
}

impl SteadyClock {
    /// A clock that begins with what `wall` shows, but no earlier than `seen`, which is what the control plane's records
    /// have seen of the time: should the machine's clock be behind that, nothing waits until it has caught up.
    pub(crate) fn begin(wall: &dyn Clock, seen: Timestamp) -> Self {
        let now = wall.now();
        if now < seen {
            tracing::warn!(
                machine = %now,
                records = %seen,
                "the machine's clock is behind what the records have seen: times go on from there"
            );
        }
        Self {
            zero: now.max(seen).as_millis().saturating_sub(since_start()),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.zero.saturating_add(since_start()))
    }
}

/// Milliseconds since the machine was started.
fn since_start() -> i64 {
    // Elsewhere the monotonic clock goes on during sleep, too.
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}
