//! The transitions of a step, one sentence each.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod blocked;

use std::time::Duration;

use slipway_engine::{Claims, Closing, Decision, StepEvent, closing, decide, final_status, step_event};
use slipway_model::{
    Cancellation, DagSettings, EffectClass, Execution, ExecutionId, ExecutionStatus, Failure, FailureKind,
    JobEnd, JobId, JobStatus, JsonMap, Node, NodeKind, OnFailure, Outcome, Retry, RunCondition, StepRecord,
    StepStatus, TenantId, Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn header() -> Execution {
    Execution {
        id: "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b"
            .parse::<ExecutionId>()
            .unwrap(),
        tenant: TenantId::local(),
        name: "test".to_owned(),
        version: "1.0.0".to_owned(),
        description: String::new(),
        status: ExecutionStatus::Running,
        parameters: JsonMap::new(),
        secret_parameters: std::collections::BTreeMap::new(),
        settings: DagSettings::default(),
        outputs: JsonMap::new(),
        output_reads: std::collections::BTreeMap::new(),
        plan: String::new(),
        callback_topics: Vec::new(),
        step_count: 1,
        node_count: 2,
        deployment_id: None,
        deployment: JsonMap::new(),
        generation: 0,
        compensates: None,
        compensated_by: None,
        created_at: NOW,
        ended_at: None,
        deadline: NOW.plus(Duration::from_secs(7200)),
        cancel: None,
        timed_out_at: None,
        failure: None,
    }
}

fn cancelled() -> Execution {
    let cancel = Cancellation {
        at: NOW,
        reason: "enough".to_owned(),
        uninstall: false,
    };
    Execution {
        cancel: Some(cancel),
        ..header()
    }
}

fn failing(on_failure: OnFailure) -> Execution {
    let failure = Failure {
        step_id: "other".to_owned(),
        message: "no".to_owned(),
    };
    let settings = DagSettings {
        on_failure,
        ..DagSettings::default()
    };
    Execution {
        failure: Some(failure),
        settings,
        ..header()
    }
}

fn node(max_attempts: u32) -> Node {
    Node {
        ordinal: 0,
        kind: NodeKind::Step,
        id: "step".to_owned(),
        action: "pass".to_owned(),
        params: JsonMap::new(),
        run: RunCondition::Success,
        when: None,
        timeout_seconds: Some(100),
        retry: Retry {
            max_attempts,
            backoff_seconds: 10,
        },
        outputs: std::collections::BTreeMap::new(),
        dependencies: Vec::new(),
        successors: Vec::new(),
        reads: std::collections::BTreeMap::new(),
    }
}

fn claims(effect: EffectClass, epoch: &str) -> Claims<'_> {
    Claims {
        lease: Duration::from_secs(60),
        epoch,
        effect,
        timeout_seconds: 3600,
    }
}

fn go(
    node: &Node,
    record: Option<&StepRecord>,
    header: &Execution,
    event: StepEvent,
    now: Timestamp,
) -> Decision {
    decide(
        node,
        record,
        header,
        event,
        now,
        &claims(EffectClass::Idempotent, "e1"),
    )
    .unwrap()
}

const READY: StepEvent = StepEvent::Ready { ok: true, when: true };

fn claimed(node: &Node, header: &Execution) -> StepRecord {
    match go(node, None, header, READY, NOW) {
        Decision::Attempt(claim) => *claim,
        other => panic!("expected an attempt, got {other:?}"),
    }
}

fn written(decision: Decision) -> StepRecord {
    match decision {
        Decision::Write(record) => *record,
        other => panic!("expected a write, got {other:?}"),
    }
}

fn answer(record: &StepRecord, outcome: Outcome) -> StepEvent {
    StepEvent::Answer {
        fence: record.fence,
        outcome,
    }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed {
        message: "no".to_owned(),
        kind,
    }
}

#[test]
fn a_ready_step_is_claimed_with_fence_lease_and_deadline() {
    let claim = claimed(&node(1), &header());
    assert_eq!(
        (claim.status, claim.attempt, claim.fence),
        (StepStatus::Running, 1, 1)
    );
    assert_eq!(claim.lease_until, Some(NOW.plus(Duration::from_secs(60))));
    assert_eq!(claim.deadline, Some(NOW.plus(Duration::from_secs(100))));
}

#[test]
fn a_false_condition_skips_and_satisfies() {
    let record = written(go(
        &node(1),
        None,
        &header(),
        StepEvent::Ready {
            ok: true,
            when: false,
        },
        NOW,
    ));
    assert_eq!((record.status, record.satisfied), (StepStatus::Skipped, true));
}

#[test]
fn a_failed_dependency_skips_and_does_not_satisfy() {
    let record = written(go(
        &node(1),
        None,
        &header(),
        StepEvent::Ready {
            ok: false,
            when: true,
        },
        NOW,
    ));
    assert_eq!((record.status, record.satisfied), (StepStatus::Skipped, false));
    let event = step_event(&header(), &node(1), &record).unwrap();
    assert_eq!(event.event_type, "step_failed");
}

#[test]
fn run_conditions_look_at_how_dependencies_ended() {
    let with = |run, ok| {
        let node = Node { run, ..node(1) };
        go(&node, None, &header(), StepEvent::Ready { ok, when: true }, NOW)
    };
    assert!(matches!(with(RunCondition::Failure, false), Decision::Attempt(_)));
    let skipped = written(with(RunCondition::Failure, true));
    assert_eq!((skipped.status, skipped.satisfied), (StepStatus::Skipped, true));
    assert!(matches!(with(RunCondition::Always, false), Decision::Attempt(_)));
}

#[test]
fn after_a_failure_nothing_new_starts_unless_the_execution_continues() {
    let skipped = written(go(&node(1), None, &failing(OnFailure::Fail), READY, NOW));
    assert_eq!((skipped.status, skipped.satisfied), (StepStatus::Skipped, false));
    assert!(skipped.error_message.unwrap().contains("'other'"));
    assert!(matches!(
        go(&node(1), None, &failing(OnFailure::Continue), READY, NOW),
        Decision::Attempt(_)
    ));
    let cleanup = Node {
        run: RunCondition::Always,
        ..node(1)
    };
    assert!(matches!(
        go(&cleanup, None, &failing(OnFailure::Rollback), READY, NOW),
        Decision::Attempt(_)
    ));
}

#[test]
fn after_a_cancellation_nothing_starts_at_all() {
    let node = Node {
        run: RunCondition::Always,
        ..node(1)
    };
    assert_eq!(
        written(go(&node, None, &cancelled(), READY, NOW)).status,
        StepStatus::Cancelled
    );
}

#[test]
fn an_answer_with_an_old_fence_changes_nothing() {
    let record = claimed(&node(1), &header());
    let late = StepEvent::Answer {
        fence: record.fence - 1,
        outcome: Outcome::Completed(JsonMap::new()),
    };
    assert_eq!(
        go(&node(1), Some(&record), &header(), late, NOW),
        Decision::Stay(None)
    );
}

#[test]
fn a_terminal_record_never_changes_whatever_comes() {
    let claim = claimed(&node(3), &header());
    let done = written(go(
        &node(3),
        Some(&claim),
        &header(),
        answer(&claim, Outcome::Completed(JsonMap::new())),
        NOW,
    ));
    assert_eq!(done.status, StepStatus::Completed);
    let end = JobEnd {
        job: JobId(uuid()),
        status: JobStatus::Failed,
        outputs: JsonMap::new(),
        error_message: None,
        failure_kind: FailureKind::Transient,
        kept: false,
    };
    for event in [
        READY,
        StepEvent::Poke,
        answer(&claim, failed(FailureKind::Permanent)),
        StepEvent::JobEnded(end),
    ] {
        assert_eq!(
            go(&node(3), Some(&done), &cancelled(), event, NOW),
            Decision::Repeat
        );
    }
}

#[test]
fn a_transient_failure_is_retried_with_doubling_pauses_until_the_attempts_are_used_up() {
    let node = node(3);
    let first = claimed(&node, &header());
    let retrying = written(go(
        &node,
        Some(&first),
        &header(),
        answer(&first, failed(FailureKind::Transient)),
        NOW,
    ));
    assert_eq!(retrying.status, StepStatus::Retrying);
    assert_eq!(retrying.wake_at, Some(NOW.plus(Duration::from_secs(10))));
    assert_eq!(
        go(&node, Some(&retrying), &header(), StepEvent::Poke, NOW),
        Decision::Stay(retrying.wake_at)
    );

    let later = NOW.plus(Duration::from_secs(10));
    let Decision::Attempt(second) = go(&node, Some(&retrying), &header(), StepEvent::Poke, later) else {
        panic!()
    };
    assert_eq!((second.attempt, second.fence), (2, 2));
    let again = written(go(
        &node,
        Some(&second),
        &header(),
        answer(&second, failed(FailureKind::Transient)),
        later,
    ));
    assert_eq!(again.wake_at, Some(later.plus(Duration::from_secs(20))));
    assert_eq!(again.attempts.len(), 2);

    let last = later.plus(Duration::from_secs(20));
    let Decision::Attempt(third) = go(&node, Some(&again), &header(), StepEvent::Poke, last) else {
        panic!()
    };
    let end = written(go(
        &node,
        Some(&third),
        &header(),
        answer(&third, failed(FailureKind::Transient)),
        last,
    ));
    assert_eq!((end.status, end.satisfied), (StepStatus::Failed, false));
}

#[test]
fn twenty_long_messages_fit_into_one_record() {
    let mut record = claimed(&node(20), &header());
    let mut now = NOW;
    for _ in 1..20 {
        let outcome = Outcome::Failed {
            message: "é".repeat(100_000),
            kind: FailureKind::Transient,
        };
        let retrying = written(go(
            &node(20),
            Some(&record),
            &header(),
            answer(&record, outcome),
            now,
        ));
        now = retrying.wake_at.unwrap();
        let mut calm = header();
        calm.deadline = now.plus(Duration::from_secs(7200));
        let Decision::Attempt(next) = go(&node(20), Some(&retrying), &calm, StepEvent::Poke, now) else {
            panic!()
        };
        record = *next;
    }
    assert_eq!(record.attempts.len(), 19);
    let kept: usize = record
        .attempts
        .iter()
        .map(|attempt| attempt.error_message.len())
        .sum();
    assert!(kept < 64 * 1024, "{kept} bytes");
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let claim = claimed(&node(5), &header());
    let end = written(go(
        &node(5),
        Some(&claim),
        &header(),
        answer(&claim, failed(FailureKind::Permanent)),
        NOW,
    ));
    assert_eq!(end.status, StepStatus::Failed);
}

#[test]
fn an_expired_claim_is_taken_over_if_repeating_is_safe_and_fails_otherwise() {
    let claim = claimed(&node(1), &header());
    let expired = NOW.plus(Duration::from_secs(60));
    assert_eq!(
        go(&node(1), Some(&claim), &header(), StepEvent::Poke, NOW),
        Decision::Stay(claim.lease_until)
    );
    let Decision::Attempt(taken) = go(&node(1), Some(&claim), &header(), StepEvent::Poke, expired) else {
        panic!()
    };
    assert_eq!((taken.attempt, taken.fence), (1, 2));

    let once = claims(EffectClass::Once, "e1");
    let end = decide(&node(5), Some(&claim), &header(), StepEvent::Poke, expired, &once).unwrap();
    let end = written(end);
    assert_eq!(end.status, StepStatus::Failed);
    assert!(end.error_message.unwrap().starts_with("outcome unknown"));
}

#[test]
fn an_expired_claim_is_taken_over_although_the_time_of_its_attempt_is_over() {
    // Functions hold claims for longer than most attempts may take.
    let long = |effect| Claims {
        lease: Duration::from_secs(300),
        ..claims(effect, "e1")
    };
    let (idempotent, once) = (long(EffectClass::Idempotent), long(EffectClass::Once));
    let begin = |claims| match decide(&node(1), None, &header(), READY, NOW, claims).unwrap() {
        Decision::Attempt(claim) => *claim,
        other => panic!("{other:?}"),
    };
    let mut claim = begin(&idempotent);
    let until = claim.lease_until.unwrap();
    assert!(until > claim.deadline.unwrap() && until < NOW.plus(Duration::from_secs(300)));
    // Until it is certain that nobody runs it any more, what must not be repeated is left alone.
    assert_eq!(begin(&once).lease_until, Some(NOW.plus(Duration::from_secs(300))));

    for lost in 1..=10 {
        let at = claim.lease_until.unwrap();
        let next = match decide(
            &node(1),
            Some(&claim),
            &header(),
            StepEvent::Poke,
            at,
            &idempotent,
        )
        .unwrap()
        {
            Decision::Attempt(next) => *next,
            other => panic!("{other:?}"),
        };
        assert_eq!((next.attempt, next.fence), (1, lost + 1));
        assert_eq!(next.deadline, Some(at.plus(Duration::from_secs(100))));
        claim = next;
    }
    // What kills every process that runs it ends.
    let at = claim.lease_until.unwrap();
    let end = decide(
        &node(5),
        Some(&claim),
        &header(),
        StepEvent::Poke,
        at,
        &idempotent,
    )
    .unwrap();
    let end = written(end);
    assert_eq!(end.status, StepStatus::Failed);
    assert!(end.error_message.unwrap().contains("10 times"));

    let cancelled = decide(
        &node(1),
        Some(&begin(&idempotent)),
        &cancelled(),
        StepEvent::Poke,
        at,
        &idempotent,
    );
    assert_eq!(written(cancelled.unwrap()).status, StepStatus::Cancelled);
}

#[test]
fn an_event_fits_into_a_message_whatever_its_step_gave() {
    let mut record = claimed(&node(1), &header());
    record.status = StepStatus::Completed;
    record.satisfied = true;
    record
        .outputs
        .insert("endpoint_url".to_owned(), "http://x".into());
    record.outputs.insert("small".to_owned(), vec![1, 2].into());
    let small = step_event(&header(), &node(1), &record).unwrap();
    assert_eq!(small.payload["outputs"]["small"][1], 2);

    record
        .outputs
        .insert("large".to_owned(), "\u{1}".repeat(60_000).into());
    record.error_message = Some("e".repeat(300_000));
    let large = step_event(&header(), &node(1), &record).unwrap();
    assert!(serde_json::to_string(&large).unwrap().len() <= slipway_model::LARGEST_EVENT);
    let outputs = large.payload["outputs"].as_object().unwrap();
    assert_eq!(outputs["endpoint_url"], "http://x");
    assert!(
        !outputs.contains_key("large") && !outputs.contains_key("small"),
        "{outputs:?}"
    );
    let note = outputs["outputs_left_out"].as_str().unwrap();
    assert!(
        note.contains(&format!(
            "/api/v1/executions/{}/progress?detail=steps",
            header().id
        )),
        "{note}"
    );
    assert!(large.payload["error_message"].as_str().unwrap().ends_with('…'));
}

#[test]
fn a_restart_voids_the_claims_of_the_process_before() {
    let claim = claimed(&node(1), &header());
    let restarted = claims(EffectClass::Idempotent, "e2");
    let decision = decide(
        &node(1),
        Some(&claim),
        &header(),
        StepEvent::Poke,
        NOW,
        &restarted,
    )
    .unwrap();
    assert!(matches!(decision, Decision::Attempt(_)));
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

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
fn an_approval_waits_for_a_person_and_for_no_longer_than_its_deadline() {
    let claim = claimed(&node(1), &header());
    let waiting = written(go(
        &node(1),
        Some(&claim),
        &header(),
        answer(&claim, Outcome::AwaitApproval),
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
    let end = written(go(&node(1), Some(&waiting), &header(), StepEvent::Poke, late));
    assert_eq!(end.status, StepStatus::TimedOut);
}

#[test]
fn every_pair_of_state_and_event_has_an_answer() {
    let node = node(2);
    let claim = claimed(&node, &header());
    let end = JobEnd {
        job: JobId(uuid()),
        status: JobStatus::Failed,
        outputs: JsonMap::new(),
        error_message: None,
        failure_kind: FailureKind::Transient,
        kept: false,
    };
    let statuses = [
        StepStatus::Pending,
        StepStatus::Running,
        StepStatus::AwaitingEvent,
        StepStatus::Retrying,
        StepStatus::Completed,
        StepStatus::Failed,
        StepStatus::Skipped,
        StepStatus::Cancelled,
        StepStatus::TimedOut,
    ];
    let events = [
        READY,
        StepEvent::Poke,
        answer(&claim, Outcome::AwaitApproval),
        StepEvent::JobEnded(end),
    ];
    let mut illegal = 0;
    for status in statuses {
        for event in &events {
            for header in [header(), cancelled(), failing(OnFailure::Fail)] {
                let record = StepRecord {
                    status,
                    ..claim.clone()
                };
                let claims = claims(EffectClass::Once, "e1");
                illegal +=
                    usize::from(decide(&node, Some(&record), &header, event.clone(), NOW, &claims).is_err());
            }
        }
    }
    // A job's end while no job is waited for: pending, running and retrying, under three headers.
    assert_eq!(illegal, 9);
    assert!(
        decide(
            &node,
            None,
            &header(),
            StepEvent::Poke,
            NOW,
            &claims(EffectClass::Pure, "e1")
        )
        .is_err()
    );
}

#[test]
fn a_cancellation_outweighs_a_deadline_and_both_outweigh_a_failure() {
    let both = Execution {
        timed_out_at: Some(NOW),
        ..cancelled()
    };
    assert_eq!(closing(&both), Some(Closing::Cancelled));
    assert_eq!(final_status(&both), ExecutionStatus::Cancelled);
    let late = Execution {
        timed_out_at: Some(NOW),
        ..failing(OnFailure::Fail)
    };
    assert_eq!(final_status(&late), ExecutionStatus::TimedOut);
    assert_eq!(closing(&failing(OnFailure::Continue)), None);
    assert_eq!(
        final_status(&failing(OnFailure::Continue)),
        ExecutionStatus::Failed
    );
}
