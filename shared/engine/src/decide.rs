//! The transitions of a step: total over (state, event), and typed.

use std::time::Duration;

use slipway_model::{
    EffectClass, Execution, FailureKind, JobEnd, JobId, JobStatus, Node, Outcome, RunCondition, StepRecord,
    StepStatus, Timestamp,
};

use crate::{Closing, closing, next::fresh};

/// How much longer than its limit a step waits for its job. The job has the same limit, and when it passes it says
/// what it waited for and tidies up; the step's own limit is for a job that nobody works on any more.
const JOB_GRACE: Duration = Duration::from_secs(120);

/// Claims of one attempt that may get lost before the step gives up: what kills every process that runs it must end.
const LOST_CLAIMS: u64 = 10;

/// How claims are made and judged.
#[derive(Debug, Clone)]
pub struct Claims<'a> {
    /// How long a claim holds: the longest invocation and a margin.
    pub lease: Duration,
    /// Who claims; a claim of another epoch is void.
    pub epoch: &'a str,
    /// What an expired claim of this step's action means.
    pub effect: EffectClass,
    /// Seconds that an attempt may take unless the node says otherwise.
    pub timeout_seconds: u64,
}

/// What happened to a step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepEvent {
    /// Every dependency ended.
    Ready {
        /// Whether all of them were satisfied.
        ok: bool,
        /// What its `when` says; true without one.
        when: bool,
    },
    /// Somebody looks: time may have passed, or the header may have changed.
    Poke,
    /// The action of the claim with this fence answered.
    Answer {
        /// The claim's fence.
        fence: u64,
        /// The answer.
        outcome: Outcome,
    },
    /// Its job ended.
    JobEnded(JobEnd),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing now; look again at that time, if one is given.
    Stay(Option<Timestamp>),
    /// It ended before: repeat what follows from its record.
    Repeat,
    /// Begin an attempt: this is the claim. An action without an effect outside needs it not written.
    Attempt(Box<StepRecord>),
    /// Write this; if it is terminal, what follows from it comes after.
    Write(Box<StepRecord>),
    /// Ask its job to end; its end decides.
    CancelJob(JobId),
}

/// An event that the state has no answer to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step '{step}' is {status:?} and cannot take the event '{event}'")]
pub struct Illegal {
    step: String,
    status: Option<StepStatus>,
    event: &'static str,
}

/// Decides what an event does to a step.
///
/// # Errors
/// [`Illegal`] when the event cannot happen in that state: the caller drops it and logs it.
pub fn decide(
    node: &Node,
    record: Option<&StepRecord>,
    header: &Execution,
    event: StepEvent,
    now: Timestamp,
    claims: &Claims<'_>,
) -> Result<Decision, Illegal> {
    let step = Step {
        node,
        header,
        now,
        claims,
    };
    let Some(record) = record else {
        return match event {
            StepEvent::Ready { ok, when } => Ok(step.begin(ok, when)),
            other => Err(step.illegal(None, &other)),
        };
    };
    if record.status.is_terminal() {
        return Ok(Decision::Repeat);
    }
    match event {
        // A second message for a step that has begun is a look.
        StepEvent::Ready { .. } | StepEvent::Poke => Ok(step.look(record)),
        StepEvent::Answer { fence, .. } if fence != record.fence || record.status != StepStatus::Running => {
            Ok(Decision::Stay(None))
        }
        StepEvent::Answer { outcome, .. } => Ok(step.answer(record, outcome)),
        StepEvent::JobEnded(end) if record.status == StepStatus::AwaitingEvent => {
            if record.job_id == Some(end.job) {
                Ok(step.job_ended(record, end))
            } else {
                Ok(Decision::Stay(None))
            }
        }
        // The job of an attempt whose claim was never replaced by the wait: the look repeats the attempt.
        other @ StepEvent::JobEnded(_) => Err(step.illegal(Some(record.status), &other)),
    }
}

/// One step at one moment.
pub(crate) struct Step<'a> {
    pub(crate) node: &'a Node,
    pub(crate) header: &'a Execution,
    pub(crate) now: Timestamp,
    pub(crate) claims: &'a Claims<'a>,
}

impl Step<'_> {
    fn illegal(&self, status: Option<StepStatus>, event: &StepEvent) -> Illegal {
        let event = match event {
            StepEvent::Ready { .. } => "ready",
            StepEvent::Poke => "poke",
            StepEvent::Answer { .. } => "answer",
            StepEvent::JobEnded(_) => "job ended",
        };
        Illegal {
            step: self.node.id.clone(),
            status,
            event,
        }
    }

    /// A step whose dependencies have ended and that has no record.
    fn begin(&self, ok: bool, when: bool) -> Decision {
        let skip = |satisfied, why: String| {
            let record = self.ended(&fresh(), StepStatus::Skipped, satisfied, Some(why));
            Decision::Write(Box::new(record))
        };
        match closing(self.header) {
            Some(Closing::Cancelled) => {
                let why = "the execution was cancelled before the step started".to_owned();
                return Decision::Write(Box::new(self.ended(
                    &fresh(),
                    StepStatus::Cancelled,
                    false,
                    Some(why),
                )));
            }
            Some(Closing::TimedOut) => {
                return skip(
                    false,
                    "the execution passed its deadline before the step started".to_owned(),
                );
            }
            Some(Closing::Failing) | None => {}
        }
        match (self.node.run, ok) {
            (RunCondition::Success, false) => {
                return skip(false, "a step that it depends on did not complete".to_owned());
            }
            (RunCondition::Failure, true) => {
                return skip(
                    true,
                    "it runs on failure only, and nothing that it depends on failed".to_owned(),
                );
            }
            (RunCondition::Success, true) if closing(self.header) == Some(Closing::Failing) => {
                let failed = self
                    .header
                    .failure
                    .as_ref()
                    .map_or("", |failure| failure.step_id.as_str());
                return skip(false, format!("nothing starts after step '{failed}' failed"));
            }
            _ => {}
        }
        if !when {
            return skip(true, "its condition is false".to_owned());
        }
        self.attempt(&fresh(), 1)
    }

    /// A look at a step that has begun and not ended.
    fn look(&self, record: &StepRecord) -> Decision {
        match record.status {
            StepStatus::Running => self.look_at_claim(record),
            StepStatus::AwaitingEvent => self.look_at_wait(record),
            StepStatus::Retrying => match (self.stopped(record), record.wake_at) {
                (Some(end), _) => Decision::Write(Box::new(end)),
                (None, Some(wake)) if self.now < wake => Decision::Stay(Some(wake)),
                (None, _) => self.attempt(record, record.attempt + 1),
            },
            // No record is ever written as pending, and terminal ones were answered before.
            _ => Decision::Stay(None),
        }
    }

    fn look_at_claim(&self, record: &StepRecord) -> Decision {
        let held =
            record.epoch == self.claims.epoch && record.lease_until.is_some_and(|until| self.now < until);
        if held {
            return Decision::Stay(record.lease_until);
        }
        match self.claims.effect {
            EffectClass::Once => {
                let why = "outcome unknown: the process that ran the action ended before it answered, and the action \
                           must not be repeated";
                self.fail(record, why.to_owned(), FailureKind::Permanent)
            }
            EffectClass::Pure | EffectClass::Idempotent => match self.closed(record) {
                Some(end) => Decision::Write(Box::new(end)),
                None if record.fence > LOST_CLAIMS + record.attempts.len() as u64 + record.times_blocked => {
                    let why = format!(
                        "the process that ran the action ended before it answered, {LOST_CLAIMS} times and more"
                    );
                    self.fail(record, why, FailureKind::Permanent)
                }
                None if record.blocked_by.is_some() => self.attempt_again(record),
                // Whatever its deadline says: the time was the lost process's, and a repeat gets as much again.
                None => self.attempt(record, record.attempt),
            },
        }
    }

    fn look_at_wait(&self, record: &StepRecord) -> Decision {
        if let Some(job) = record.job_id {
            return match self.stopped(record) {
                Some(_) => Decision::CancelJob(job),
                None => Decision::Stay(record.deadline),
            };
        }
        if record.blocked_by.is_some() {
            return self.look_at_block(record);
        }
        if let Some(end) = self.closed(record) {
            return Decision::Write(Box::new(end));
        }
        match record.approval {
            // What was decided in time counts, whenever that is looked at.
            Some(true) => return self.complete(record, record.outputs.clone()),
            Some(false) => return self.fail(record, refusal(record), FailureKind::Permanent),
            None => {}
        }
        // So does a point in time that came in time.
        if let Some(wake) = record.wake_at
            && self.now >= wake
            && record.deadline.is_none_or(|deadline| wake <= deadline)
        {
            return self.complete(record, record.outputs.clone());
        }
        match self.stopped(record) {
            Some(end) => Decision::Write(Box::new(end)),
            None => Decision::Stay(record.wake_at.or(record.deadline)),
        }
    }

    fn answer(&self, record: &StepRecord, outcome: Outcome) -> Decision {
        match outcome {
            Outcome::Completed(outputs) => self.complete(record, outputs),
            Outcome::Failed { message, kind } => self.fail(record, message, kind),
            Outcome::AwaitJob(job, outputs) => self.wait(record, |next| {
                next.job_id = Some(job);
                next.outputs = outputs;
                next.deadline = next.deadline.map(|deadline| deadline.plus(JOB_GRACE));
            }),
            Outcome::AwaitApproval(outputs) => self.wait(record, |next| next.outputs = outputs),
            Outcome::WaitUntil(wake, outputs) => self.wait(record, |next| {
                next.wake_at = Some(wake);
                next.outputs = outputs;
                // Its limit begins with the wait, some time after the claim: a wait as long as its limit ends in time.
                next.deadline = Some(self.now.plus(Duration::from_secs(self.timeout_seconds())));
            }),
            Outcome::Blocked(why) => self.block(record, why),
        }
    }

    fn job_ended(&self, record: &StepRecord, end: JobEnd) -> Decision {
        let message = end
            .error_message
            .unwrap_or_else(|| format!("job {} ended without a reason", end.job));
        match end.status {
            JobStatus::Succeeded => {
                let mut outputs = record.outputs.clone();
                outputs.extend(end.outputs);
                let mut next = self.ended(record, StepStatus::Completed, true, None);
                next.outputs = outputs;
                next.kept = end.kept;
                Decision::Write(Box::new(next))
            }
            JobStatus::Cancelled => match self.stopped(record) {
                Some(mut stopped) => {
                    if stopped.status == StepStatus::TimedOut {
                        let why = stopped.error_message.unwrap_or_default();
                        stopped.error_message = Some(format!("{why}; {message}"));
                    }
                    Decision::Write(Box::new(stopped))
                }
                // Superseded, or cancelled by a caller: another attempt would fight with the successor.
                None => self.fail(record, message, FailureKind::Permanent),
            },
            JobStatus::TimedOut if self.retries_left(record) => {
                self.fail(record, message, FailureKind::Transient)
            }
            JobStatus::TimedOut => Decision::Write(Box::new(self.ended(
                record,
                StepStatus::TimedOut,
                false,
                Some(message),
            ))),
            JobStatus::Failed | JobStatus::Pending | JobStatus::Running => {
                self.fail(record, message, end.failure_kind)
            }
        }
    }
}

/// Who refused an approval, and what they said.
fn refusal(record: &StepRecord) -> String {
    let text = |name: &str| record.outputs.get(name).and_then(serde_json::Value::as_str);
    let by = text("approved_by").map_or_else(String::new, |who| format!(" by {who}"));
    let why = text("comment").map_or_else(String::new, |comment| format!(": {comment}"));
    format!("the approval was refused{by}{why}")
}
