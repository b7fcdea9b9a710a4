//! Steps that wait for a job, a person or a point in time.

use std::time::Duration;

use slipway_engine::{Decision, StepEvent};
use slipway_model::{
    Execution, FailureKind, JobEnd, JobId, JobStatus, JsonMap, Node, Outcome, StepRecord, StepStatus,
};

use crate::{NOW, answer, cancelled, claimed, go, header, node, uuid, written};

fn awaiting_job(node: &Node) -> StepRecord {
    let claim = claimed(node, &header());
    let outputs = JsonMap::from_iter([("namespace".to_owned(), "ns".into())]);
    written(go(
        node,
        Some(&claim),
        &header(),
        answer(&claim, Outcome::AwaitJob(JobId(uuid()), outputs)),
        NOW,
    ))
}

fn job_end(status: JobStatus) -> StepEvent {
    StepEvent::JobEnded(JobEnd {
        job: JobId(uuid()),
        status,
        outputs: JsonMap::from_iter([("endpoint_url".to_owned(), "http://x".into())]),
        error_message: Some("because".to_owned()),
        failure_kind: FailureKind::Transient,
        kept: false,
    })
}

#[test]
fn the_end_of_its_job_ends_a_step_and_its_outputs_are_merged() {
    let waiting = awaiting_job(&node(1));
    assert_eq!(waiting.status, StepStatus::AwaitingEvent);
    let done = written(go(
        &node(1),
        Some(&waiting),
        &header(),
        job_end(JobStatus::Succeeded),
        NOW,
    ));
    assert_eq!(done.status, StepStatus::Completed);
    assert_eq!(done.outputs["namespace"], "ns");
    assert_eq!(done.outputs["endpoint_url"], "http://x");
}

#[test]
fn the_end_of_another_attempts_job_is_no_news() {
    let mut waiting = awaiting_job(&node(1));
    waiting.job_id = Some(JobId(uuid::Uuid::from_u128(8)));
    assert_eq!(
        go(
            &node(1),
            Some(&waiting),
            &header(),
            job_end(JobStatus::Failed),
            NOW
        ),
        Decision::Stay(None)
    );
}

#[test]
fn a_cancelled_job_cancels_its_step_only_if_the_execution_was_cancelled() {
    let waiting = awaiting_job(&node(3));
    let superseded = written(go(
        &node(3),
        Some(&waiting),
        &header(),
        job_end(JobStatus::Cancelled),
        NOW,
    ));
    assert_eq!(superseded.status, StepStatus::Failed);
    assert_eq!(superseded.error_message.as_deref(), Some("because"));
    let stopped = written(go(
        &node(3),
        Some(&waiting),
        &cancelled(),
        job_end(JobStatus::Cancelled),
        NOW,
    ));
    assert_eq!(stopped.status, StepStatus::Cancelled);
    assert!(stopped.outputs.is_empty(), "{:?}", stopped.outputs);
}

#[test]
fn a_step_that_waits_for_its_job_ends_only_with_it() {
    let waiting = awaiting_job(&node(1));
    let cancel = go(&node(1), Some(&waiting), &cancelled(), StepEvent::Poke, NOW);
    assert_eq!(cancel, Decision::CancelJob(JobId(uuid())));
    // Its job has the same limit and says more when it passes it, so that the step waits a little longer.
    let limit = NOW.plus(Duration::from_secs(100));
    let late = limit.plus(Duration::from_secs(120));
    assert_eq!(
        go(&node(1), Some(&waiting), &header(), StepEvent::Poke, limit),
        Decision::Stay(Some(late))
    );
    assert_eq!(
        go(&node(1), Some(&waiting), &header(), StepEvent::Poke, late),
        Decision::CancelJob(JobId(uuid()))
    );
    let timed_out = written(go(
        &node(1),
        Some(&waiting),
        &header(),
        job_end(JobStatus::Cancelled),
        late,
    ));
    assert_eq!(timed_out.status, StepStatus::TimedOut);
    let why = "the step passed its deadline of 100 seconds; because";
    assert_eq!(timed_out.error_message.as_deref(), Some(why));
}

#[test]
fn a_job_that_succeeded_completes_its_step_even_after_a_cancellation() {
    let waiting = awaiting_job(&node(1));
    let done = written(go(
        &node(1),
        Some(&waiting),
        &cancelled(),
        job_end(JobStatus::Succeeded),
        NOW,
    ));
    assert_eq!(done.status, StepStatus::Completed);
}

#[test]
fn a_wait_completes_when_its_time_has_come_and_not_before() {
    let claim = claimed(&node(1), &header());
    let wake = NOW.plus(Duration::from_secs(5));
    let outcome = Outcome::WaitUntil(wake, JsonMap::new());
    let waiting = written(go(
        &node(1),
        Some(&claim),
        &header(),
        answer(&claim, outcome),
        NOW,
    ));
    assert_eq!(
        go(&node(1), Some(&waiting), &header(), StepEvent::Poke, NOW),
        Decision::Stay(Some(wake))
    );
    assert_eq!(
        written(go(&node(1), Some(&waiting), &header(), StepEvent::Poke, wake)).status,
        StepStatus::Completed
    );
    assert_eq!(
        written(go(&node(1), Some(&waiting), &cancelled(), StepEvent::Poke, NOW)).status,
        StepStatus::Cancelled
    );
}

#[test]
fn a_wait_whose_time_came_within_its_limit_completes_whenever_that_is_looked_at() {
    let claim = claimed(&node(1), &header());
    let look = |record: &StepRecord, header: &Execution, at| {
        written(go(&node(1), Some(record), header, StepEvent::Poke, at)).status
    };
    // The action says until when some time after the claim.
    let began = NOW.plus(Duration::from_millis(40));
    let waiting = |seconds| {
        let wake = began.plus(Duration::from_secs(seconds));
        let outcome = Outcome::WaitUntil(wake, JsonMap::new());
        let record = written(go(
            &node(1),
            Some(&claim),
            &header(),
            answer(&claim, outcome),
            began,
        ));
        (record, wake)
    };
    for seconds in [5, 100] {
        let (record, wake) = waiting(seconds);
        let late = wake.plus(Duration::from_secs(1000));
        assert_eq!(look(&record, &header(), wake), StepStatus::Completed, "{seconds}");
        assert_eq!(look(&record, &header(), late), StepStatus::Completed, "{seconds}");
        assert_eq!(
            look(&record, &cancelled(), late),
            StepStatus::Cancelled,
            "{seconds}"
        );
    }
    let (record, wake) = waiting(101);
    assert_eq!(look(&record, &header(), wake), StepStatus::TimedOut);
    let limit = began.plus(Duration::from_secs(100));
    assert_eq!(look(&record, &header(), limit), StepStatus::TimedOut);
}

#[test]
fn an_approval_waits_for_a_person_and_for_no_longer_than_its_deadline() {
    let claim = claimed(&node(1), &header());
    let waiting = written(go(
        &node(1),
        Some(&claim),
        &header(),
        answer(&claim, Outcome::AwaitApproval(JsonMap::new())),
        NOW,
    ));
    let decided = |approval| StepRecord {
        approval: Some(approval),
        ..waiting.clone()
    };
    let look = |record: &StepRecord| go(&node(1), Some(record), &header(), StepEvent::Poke, NOW);
    assert_eq!(look(&waiting), Decision::Stay(waiting.deadline));
    assert_eq!(written(look(&decided(true))).status, StepStatus::Completed);
    assert_eq!(written(look(&decided(false))).status, StepStatus::Failed);
    let late = NOW.plus(Duration::from_secs(100));
    let end =
        |record: &StepRecord| written(go(&node(1), Some(record), &header(), StepEvent::Poke, late)).status;
    assert_eq!(end(&waiting), StepStatus::TimedOut);
    // What was decided in time counts, whenever that is looked at.
    assert_eq!(end(&decided(true)), StepStatus::Completed);
    assert_eq!(end(&decided(false)), StepStatus::Failed);
}
