//! Steps that may begin.

use std::time::Duration;

use slipway_engine::{Decision, StepEvent, step_event};
use slipway_model::{Node, OnFailure, RunCondition, StepStatus};

use crate::{NOW, READY, cancelled, claimed, failing, go, header, node, written};

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
