//! What becomes of a step's record: claims, waits, retries and ends.

use std::time::Duration;

use slipway_model::{AttemptRecord, EffectClass, FailureKind, JsonMap, StepRecord, StepStatus, Timestamp};

use crate::{
    Closing, closing,
    decide::{Decision, Step},
};

/// Longest pause between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// Characters that are kept of the message of an earlier attempt.
const LONGEST_OLD_MESSAGE: usize = 1000;

/// How much longer than its attempt may take the claim of an action holds that can be repeated.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);

/// How long an action may take whatever its step says: a call that has begun is let finish.
const LONGEST_ACTION: Duration = Duration::from_secs(120);

impl Step<'_> {
    /// The record of a step that must end because of a cancellation or a deadline.
    pub(crate) fn stopped(&self, record: &StepRecord) -> Option<StepRecord> {
        self.closed(record).or_else(|| {
            self.is_late(record)
                .then(|| self.ended(record, StepStatus::TimedOut, false, Some(self.lateness())))
        })
    }

    pub(crate) fn is_late(&self, record: &StepRecord) -> bool {
        record.deadline.is_some_and(|deadline| self.now >= deadline)
    }

    pub(crate) fn lateness(&self) -> String {
        format!(
            "the step passed its deadline of {} seconds",
            self.timeout_seconds()
        )
    }

    /// The record of a step that must end because its execution does.
    pub(crate) fn closed(&self, record: &StepRecord) -> Option<StepRecord> {
        match closing(self.header) {
            Some(Closing::Cancelled) => {
                let why = "the execution was cancelled".to_owned();
                Some(self.ended(record, StepStatus::Cancelled, false, Some(why)))
            }
            Some(Closing::TimedOut) => {
                let mut why = "the execution passed its deadline".to_owned();
                if let Some(blocked) = &record.blocked_by {
                    why = format!("{why} while the step was blocked: {blocked}");
                }
                Some(self.ended(record, StepStatus::TimedOut, false, Some(why)))
            }
            Some(Closing::Failing) | None => None,
        }
    }

    pub(crate) fn timeout_seconds(&self) -> u64 {
        self.node.timeout_seconds.unwrap_or(self.claims.timeout_seconds)
    }

    pub(crate) fn retries_left(&self, record: &StepRecord) -> bool {
        record.attempt < self.node.retry.max_attempts
            && closing(self.header).is_none_or(|why| why == Closing::Failing)
    }

    pub(crate) fn attempt(&self, record: &StepRecord, attempt: u32) -> Decision {
        let mut next = self.claim(record);
        next.attempt = attempt;
        next.blocked_by = None;
        next.deadline = Some(self.now.plus(Duration::from_secs(self.timeout_seconds())));
        Decision::Attempt(Box::new(next))
    }

    /// The same attempt once more, within the time that it has, whoever lost some of that.
    pub(crate) fn attempt_again(&self, record: &StepRecord) -> Decision {
        Decision::Attempt(Box::new(self.claim(record)))
    }

    fn claim(&self, record: &StepRecord) -> StepRecord {
        let limit = Duration::from_secs(self.timeout_seconds());
        let mut next = record.clone();
        next.status = StepStatus::Running;
        next.fence += 1;
        // What can be repeated is, soon after its time is over; what cannot has to be over for certain.
        let lease = match self.claims.effect {
            EffectClass::Once => self.claims.lease,
            EffectClass::Pure | EffectClass::Idempotent => {
                self.claims.lease.min(limit.max(LONGEST_ACTION) + CLAIM_MARGIN)
            }
        };
        next.lease_until = Some(self.now.plus(lease));
        self.claims.epoch.clone_into(&mut next.epoch);
        next.wake_at = None;
        next.job_id = None;
        next.started_at = next.started_at.or(Some(self.now));
        next
    }

    pub(crate) fn wait(&self, record: &StepRecord, fill: impl FnOnce(&mut StepRecord)) -> Decision {
        let mut next = record.clone();
        next.status = StepStatus::AwaitingEvent;
        next.lease_until = None;
        next.blocked_by = None;
        fill(&mut next);
        Decision::Write(Box::new(next))
    }

    pub(crate) fn complete(&self, record: &StepRecord, outputs: JsonMap) -> Decision {
        let mut next = self.ended(record, StepStatus::Completed, true, None);
        next.outputs = outputs;
        Decision::Write(Box::new(next))
    }

    pub(crate) fn fail(&self, record: &StepRecord, message: String, kind: FailureKind) -> Decision {
        if kind == FailureKind::Permanent || !self.retries_left(record) {
            return Decision::Write(Box::new(self.ended(
                record,
                StepStatus::Failed,
                false,
                Some(message),
            )));
        }
        let mut next = record.clone();
        next.attempts.push(AttemptRecord {
            attempt: record.attempt,
            started_at: record
                .attempts
                .last()
                .map_or(record.started_at.unwrap_or(self.now), |last| last.ended_at),
            ended_at: self.now,
            error_message: shortened(&message),
            job_id: record.job_id,
        });
        next.status = StepStatus::Retrying;
        next.lease_until = None;
        next.blocked_by = None;
        next.deadline = None;
        next.job_id = None;
        next.outputs = JsonMap::new();
        next.error_message = Some(message);
        let doublings = record.attempt.saturating_sub(1).min(16);
        let backoff = Duration::from_secs(self.node.retry.backoff_seconds.saturating_mul(1 << doublings));
        next.wake_at = Some(self.now.plus(backoff.min(LONGEST_BACKOFF)));
        Decision::Write(Box::new(next))
    }

    pub(crate) fn ended(
        &self,
        record: &StepRecord,
        status: StepStatus,
        satisfied: bool,
        error_message: Option<String>,
    ) -> StepRecord {
        let mut next = record.clone();
        next.status = status;
        next.satisfied = satisfied;
        next.error_message = error_message;
        if next.job_id.is_some() && status != StepStatus::Completed {
            // What its job was about to bring up; nobody may take it for what is there.
            next.outputs.clear();
        }
        next.lease_until = None;
        next.deadline = None;
        next.wake_at = None;
        next.blocked_by = None;
        next.ended_at = Some(self.now);
        next
    }
}

/// The record of a step that had not ended when its execution was ended from outside, because it could not go on.
pub fn abandoned(record: &StepRecord, now: Timestamp) -> StepRecord {
    let why = "the execution was ended before this step had ended; what it had begun runs to its own end";
    StepRecord {
        status: StepStatus::Cancelled,
        satisfied: false,
        error_message: Some(why.to_owned()),
        lease_until: None,
        deadline: None,
        wake_at: None,
        blocked_by: None,
        ended_at: Some(now),
        ..record.clone()
    }
}

/// What is kept of an earlier attempt's message: twenty of them have to fit into a record. Its job has all of it.
fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_OLD_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// The record of a step that has none yet.
pub(crate) fn fresh() -> StepRecord {
    StepRecord {
        status: StepStatus::Pending,
        attempt: 0,
        fence: 0,
        lease_until: None,
        epoch: String::new(),
        deadline: None,
        wake_at: None,
        blocked_by: None,
        times_blocked: 0,
        job_id: None,
        outputs: JsonMap::new(),
        outputs_blob: None,
        error_message: None,
        satisfied: false,
        started_at: None,
        ended_at: None,
        attempts: Vec::new(),
        kept: false,
        approval: None,
    }
}
