//! Percent and the time that remains.

use slipway_model::{Execution, Timestamp};

/// Steps that ended, of 100, with one decimal.
pub fn percent(finished: u32, total: u32) -> f64 {
    if total == 0 {
        100.0
    } else {
        (f64::from(finished.min(total)) * 1000.0 / f64::from(total)).floor() / 10.0
    }
}

/// Seconds that the rest will take if it goes on as it went so far; absent until a step has ended and once the
/// execution is over.
pub fn eta_seconds(header: &Execution, finished: u32, now: Timestamp) -> Option<u64> {
    if header.status.is_terminal() || finished == 0 || finished >= header.step_count {
        return None;
    }
    let elapsed = now.since(header.created_at).as_millis();
    let remaining = elapsed * u128::from(header.step_count - finished) / u128::from(finished);
    u64::try_from(remaining.div_ceil(1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_reaches_one_hundred_only_at_the_end() {
        assert!((percent(9_999, 10_000) - 99.9).abs() < f64::EPSILON);
        assert!((percent(1, 3) - 33.3).abs() < f64::EPSILON);
        assert!((percent(0, 0) - 100.0).abs() < f64::EPSILON);
    }
}
