//! Attempts that something outside blocks.

use std::time::Duration;

use slipway_engine::{Decision, StepEvent};
use slipway_model::{Execution, FailureKind, JsonMap, Node, Outcome, StepRecord, StepStatus, Timestamp};

use crate::{NOW, answer, cancelled, claimed, go, header, node, written};

const AWAY: &str = "the cluster does not answer";

/// Asks an action that is blocked until the step ends; what was written each time, and when.
fn blocked_to_the_end(node: &Node) -> Vec<(Timestamp, StepRecord)> {
    let mut now = NOW;
    let mut claim = claimed(node, &header());
    let mut seen = Vec::new();
    loop {
        let outcome = Outcome::Blocked(AWAY.to_owned());
        let next = written(go(node, Some(&claim), &header(), answer(&claim, outcome), now));
        seen.push((now, next.clone()));
        let Some(wake) = next.wake_at.filter(|_| next.status == StepStatus::AwaitingEvent) else {
            return seen;
        };
        let early = Timestamp::from_millis(wake.as_millis() - 1);
        let look = |at| go(node, Some(&next), &header(), StepEvent::Poke, at);
        assert_eq!(look(early), Decision::Stay(Some(wake)));
        now = wake;
        match look(wake) {
            Decision::Attempt(again) => claim = *again,
            Decision::Write(end) => {
                seen.push((now, *end));
                return seen;
            }
            other => panic!("expected an attempt or the end, got {other:?}"),
        }
    }
}

#[test]
fn a_blocked_attempt_is_made_again_after_growing_pauses_until_its_time_is_over() {
    let seen = blocked_to_the_end(&node(1));
    let at: Vec<u64> = seen.iter().map(|(at, _)| at.since(NOW).as_secs()).collect();
    assert_eq!(at, [0, 2, 4, 8, 16, 32, 62, 92, 100]);
    let (end, waits) = seen.split_last().unwrap();
    for (nth, (_, record)) in waits.iter().enumerate() {
        assert_eq!(
            (record.status, record.attempt),
            (StepStatus::AwaitingEvent, 1),
            "{record:?}"
        );
        assert_eq!(record.fence, nth as u64 + 1);
        assert_eq!(record.blocked_by.as_deref(), Some(AWAY));
        assert_eq!(record.lease_until, None);
    }
    let end = &end.1;
    assert_eq!(end.status, StepStatus::TimedOut);
    assert_eq!(
        end.error_message.as_deref(),
        Some("the step passed its deadline of 100 seconds: the cluster does not answer")
    );
    assert_eq!(end.blocked_by, None);
}

#[test]
fn a_blocked_attempt_whose_time_is_over_is_followed_by_another_where_one_is_left() {
    let seen = blocked_to_the_end(&node(2));
    let (_, end) = seen.last().unwrap();
    assert_eq!((end.status, end.attempt), (StepStatus::Retrying, 1));
    assert!(end.attempts[0].error_message.ends_with(AWAY), "{end:?}");
    let wake = end.wake_at.unwrap();
    let Decision::Attempt(second) = go(&node(2), Some(end), &header(), StepEvent::Poke, wake) else {
        panic!("expected an attempt");
    };
    assert_eq!(second.deadline, Some(wake.plus(Duration::from_secs(100))));
    assert_eq!((second.attempt, second.blocked_by), (2, None));
}

#[test]
fn what_was_blocked_goes_on_as_soon_as_its_action_can() {
    let seen = blocked_to_the_end(&node(1));
    let (at, blocked) = &seen[3];
    let Decision::Attempt(again) = go(
        &node(1),
        Some(blocked),
        &header(),
        StepEvent::Poke,
        blocked.wake_at.unwrap(),
    ) else {
        panic!("expected an attempt");
    };
    // Another holder of the same message finds the claim.
    let held = go(&node(1), Some(&again), &header(), StepEvent::Poke, *at);
    assert_eq!(held, Decision::Stay(again.lease_until));
    let done = go(
        &node(1),
        Some(&again),
        &header(),
        answer(&again, Outcome::Completed(JsonMap::new())),
        *at,
    );
    let done = written(done);
    assert_eq!((done.status, done.blocked_by), (StepStatus::Completed, None));
    let refused = Outcome::Failed {
        message: "no rights".to_owned(),
        kind: FailureKind::Permanent,
    };
    let failed = written(go(
        &node(3),
        Some(&again),
        &header(),
        answer(&again, refused),
        *at,
    ));
    assert_eq!(failed.status, StepStatus::Failed);
    let cancelled = written(go(&node(1), Some(blocked), &cancelled(), StepEvent::Poke, *at));
    assert_eq!(cancelled.status, StepStatus::Cancelled);
    let late = Execution {
        timed_out_at: Some(NOW),
        ..header()
    };
    let late = written(go(&node(1), Some(blocked), &late, StepEvent::Poke, *at));
    assert_eq!(late.status, StepStatus::TimedOut);
    assert!(late.error_message.unwrap().ends_with(AWAY));
}

#[test]
fn a_blocked_attempt_whose_process_is_gone_gets_no_more_time_and_is_not_taken_for_lost() {
    let mut long = node(1);
    long.timeout_seconds = Some(3600);
    let seen = blocked_to_the_end(&long);
    assert!(seen.len() > 100, "{}", seen.len());
    let (at, blocked) = &seen[60];
    let wake = blocked.wake_at.unwrap();
    let Decision::Attempt(again) = go(&long, Some(blocked), &header(), StepEvent::Poke, wake) else {
        panic!("expected an attempt");
    };
    let expired = again.lease_until.unwrap();
    let Decision::Attempt(repeat) = go(&long, Some(&again), &header(), StepEvent::Poke, expired) else {
        panic!("expected an attempt after {} claims", again.fence);
    };
    assert_eq!(repeat.deadline, blocked.deadline);
    assert!(repeat.fence > again.fence && *at < expired);
    // The last look may come after the deadline, and is the last.
    let late = repeat.deadline.unwrap();
    let end = go(
        &long,
        Some(&repeat),
        &header(),
        answer(&repeat, Outcome::Blocked(AWAY.to_owned())),
        late,
    );
    assert_eq!(written(end).status, StepStatus::TimedOut);
}
