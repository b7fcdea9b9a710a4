//! The transitions of a step, one sentence each.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod beginning;
mod blocked;
mod retrying;
mod waiting;

use std::{collections::BTreeSet, time::Duration};

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
        not_undone: None,
        secrets_read: BTreeSet::new(),
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

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
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
        answer(&claim, Outcome::AwaitApproval(JsonMap::new())),
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
