//! Attempts that fail or get lost.

use std::time::Duration;

use slipway_engine::{Claims, Decision, StepEvent, decide};
use slipway_model::{EffectClass, FailureKind, Outcome, StepStatus};

use crate::{NOW, READY, answer, cancelled, claimed, claims, failed, go, header, node, written};

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
