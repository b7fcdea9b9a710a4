//! Attempts that something outside blocks, and that are made again until their time is over.

use std::time::Duration;

use slipway_model::{FailureKind, StepRecord, StepStatus};

use crate::decide::{Decision, Step};

/// Pauses before an attempt that was blocked is made again: as long as it has been blocked, within these.
const BLOCKED_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

impl Step<'_> {
    /// A look at a step that was blocked.
    pub(crate) fn look_at_block(&self, record: &StepRecord) -> Decision {
        match (self.closed(record), record.wake_at) {
            (Some(end), _) => Decision::Write(Box::new(end)),
            (None, Some(wake)) if self.now < wake => Decision::Stay(Some(wake)),
            // Also when its time is over: what blocks it may be gone.
            (None, _) => self.attempt_again(record),
        }
    }

    /// The action could do nothing yet: it is asked again, for the last time when the attempt's time is over.
    pub(crate) fn block(&self, record: &StepRecord, why: String) -> Decision {
        let mut next = record.clone();
        next.times_blocked += 1;
        if self.is_late(record) {
            return self.blocked_too_long(&next, &why);
        }
        let limit = Duration::from_secs(self.timeout_seconds());
        let left = record.deadline.map_or(limit, |deadline| deadline.since(self.now));
        let (shortest, longest) = BLOCKED_PAUSES;
        let pause = limit.saturating_sub(left).clamp(shortest, longest).min(left);
        next.status = StepStatus::AwaitingEvent;
        next.lease_until = None;
        next.blocked_by = Some(why);
        next.wake_at = Some(self.now.plus(pause));
        Decision::Write(Box::new(next))
    }

    fn blocked_too_long(&self, record: &StepRecord, why: &str) -> Decision {
        let message = format!("{}: {why}", self.lateness());
        if self.retries_left(record) {
            return self.fail(record, message, FailureKind::Transient);
        }
        Decision::Write(Box::new(self.ended(
            record,
            StepStatus::TimedOut,
            false,
            Some(message),
        )))
    }
}
