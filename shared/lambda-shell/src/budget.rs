//! How long an invocation may work.

use std::time::Duration;

use slipway_model::Timestamp;
use slipway_ports::Clock;

/// Time that an invocation may spend on its work: until `reserve` before the function's end, which Lambda names in
/// milliseconds since the epoch. A function whose configured time-out is longer than `time_out` does not get more,
/// because its leases count on that.
pub(crate) fn budget(clock: &dyn Clock, end: u64, time_out: Duration) -> Duration {
    let end = Timestamp::from_millis(i64::try_from(end).unwrap_or(i64::MAX));
    end.since(clock.now())
        .min(time_out)
        .saturating_sub(reserve(time_out))
}

/// What is kept of an invocation for handing back what is not finished: a tenth, between one and ten seconds.
pub(crate) fn reserve(time_out: Duration) -> Duration {
    (time_out / 10).clamp(Duration::from_secs(1), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use slipway_testkit::{ManualClock, START};

    use super::*;

    #[test]
    fn work_ends_before_the_function_does() {
        let clock = ManualClock::default();
        let end = u64::try_from(START.as_millis()).unwrap() + 20_000;
        let seconds = |time_out| budget(&clock, end, Duration::from_secs(time_out)).as_millis();
        assert_eq!(seconds(180), 10_000);
        assert_eq!(seconds(29), 17_100);
        assert_eq!(seconds(15), 13_500, "never more than the function's own time-out");
        clock.advance(Duration::from_secs(60));
        assert_eq!(seconds(180), 0, "what has passed leaves nothing");
    }
}
