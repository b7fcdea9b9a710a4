//! Queues: at least once, in no order, with delays, visibility time-outs and dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use slipway_model::Queue;
use slipway_ports::{DeadLetter, Delivery};
use tokio::{join, task::yield_now, time::Instant};

use super::QueueSubject;
use crate::fixtures::message;

/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(60);
/// How long a receive may wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clocks count whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(5);

async fn send_to(subject: &QueueSubject, queue: &Queue, names: &[String], delay: Duration) {
    let mut session = subject.store.session();
    for name in names {
        session.send(queue.clone(), message(name), delay);
    }
    session.settle().await.unwrap();
}

async fn send(subject: &QueueSubject, name: &str, delay: Duration) {
    send_to(subject, &subject.queue, &[name.to_owned()], delay).await;
}

async fn receive(subject: &QueueSubject, wait: Duration, visibility: Duration) -> Vec<Delivery> {
    subject
        .receiver
        .receive(&subject.queue, 10, wait, visibility)
        .await
        .unwrap()
}

/// The one message that must come.
async fn receive_one(subject: &QueueSubject, visibility: Duration) -> Delivery {
    let mut deliveries = receive(subject, PATIENCE, visibility).await;
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.remove(0)
}

async fn acknowledge(subject: &QueueSubject, delivery: &Delivery) {
    subject
        .receiver
        .acknowledge(&subject.queue, &delivery.receipt)
        .await
        .unwrap();
}

async fn release(subject: &QueueSubject, delivery: &Delivery, delay: Duration, reason: &str) {
    subject
        .receiver
        .release(&subject.queue, &delivery.receipt, delay, reason)
        .await
        .unwrap();
}

async fn bury(subject: &QueueSubject, delivery: &Delivery, reason: &str) {
    subject
        .receiver
        .bury(&subject.queue, &delivery.receipt, reason)
        .await
        .unwrap();
}

async fn assert_nothing_comes(subject: &QueueSubject) {
    let deliveries = receive(subject, subject.tick * 2, LONG).await;
    assert!(deliveries.is_empty(), "{deliveries:?}");
}

/// Dead letters of the queue, once there are `count` of them.
async fn dead_letters(subject: &QueueSubject, count: usize) -> Vec<DeadLetter> {
    let end = Instant::now() + PATIENCE;
    loop {
        let letters = subject.receiver.dead_letters(&subject.queue, 100).await.unwrap();
        if letters.len() >= count || Instant::now() >= end {
            assert_eq!(letters.len(), count, "{letters:?}");
            return letters;
        }
        // Some queues find out that a message was received too often when somebody receives.
        assert_nothing_comes(subject).await;
    }
}

pub async fn a_message_goes_out_when_its_session_settles(subject: &QueueSubject) {
    let mut session = subject.store.session();
    session.send(subject.queue.clone(), message("a"), Duration::ZERO);
    assert_nothing_comes(subject).await;
    session.settle().await.unwrap();
    let delivery = receive_one(subject, LONG).await;
    assert_eq!(delivery.body, message("a").to_body());
    assert_eq!(delivery.receive_count, 1);
}

pub async fn every_message_is_received(subject: &QueueSubject) {
    let names: Vec<String> = (0..57).map(|n| format!("m{n}")).collect();
    send_to(subject, &subject.queue, &names, Duration::ZERO).await;
    let mut missing: BTreeSet<String> = names.iter().map(|name| message(name).to_body()).collect();
    while !missing.is_empty() {
        let deliveries = receive(subject, PATIENCE, LONG).await;
        assert!(!deliveries.is_empty(), "missing: {missing:?}");
        assert!(deliveries.len() <= 10);
        for delivery in deliveries {
            missing.remove(&delivery.body);
            acknowledge(subject, &delivery).await;
        }
    }
    assert_nothing_comes(subject).await;
}

pub async fn a_receive_gives_no_more_than_was_asked_for(subject: &QueueSubject) {
    let names: Vec<String> = (0..7).map(|n| format!("m{n}")).collect();
    send_to(subject, &subject.queue, &names, Duration::ZERO).await;
    let mut seen = BTreeMap::<String, usize>::new();
    while seen.len() < names.len() {
        let deliveries = subject
            .receiver
            .receive(&subject.queue, 3, PATIENCE, LONG)
            .await
            .unwrap();
        assert!((1..=3).contains(&deliveries.len()), "{deliveries:?}");
        for delivery in deliveries {
            *seen.entry(delivery.body).or_default() += 1;
        }
    }
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}

pub async fn queues_do_not_mix(subject: &QueueSubject) {
    send_to(subject, &subject.other, &["theirs".to_owned()], Duration::ZERO).await;
    assert_nothing_comes(subject).await;
    send(subject, "ours", Duration::ZERO).await;
    let delivery = receive_one(subject, LONG).await;
    assert_eq!(delivery.body, message("ours").to_body());
    // A receipt is good for its own queue only.
    subject
        .receiver
        .bury(&subject.other, &delivery.receipt, "wrong")
        .await
        .unwrap();
    let theirs = subject.receiver.dead_letters(&subject.other, 10).await.unwrap();
    assert_eq!(theirs, []);
    let theirs = subject
        .receiver
        .receive(&subject.other, 10, PATIENCE, LONG)
        .await
        .unwrap();
    assert_eq!(theirs[0].body, message("theirs").to_body());
}

pub async fn an_empty_queue_answers_when_the_wait_is_over(subject: &QueueSubject) {
    let started = Instant::now();
    let deliveries = receive(subject, subject.tick * 2, LONG).await;
    assert!(deliveries.is_empty());
    assert!(
        started.elapsed() + ROUNDING >= subject.tick * 2,
        "{:?}",
        started.elapsed()
    );
    assert!(receive(subject, Duration::ZERO, LONG).await.is_empty());
}

pub async fn a_waiting_receiver_wakes_when_a_message_comes(subject: &QueueSubject) {
    let started = Instant::now();
    // The receiver waits before anything is sent, because it is polled first.
    let (delivery, ()) = join!(receive_one(subject, LONG), async {
        yield_now().await;
        send(subject, "a", Duration::ZERO).await;
    });
    assert_eq!(delivery.body, message("a").to_body());
    assert!(started.elapsed() < PATIENCE, "it came at the end of the wait");
}

pub async fn an_acknowledged_message_does_not_come_back(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let delivery = receive_one(subject, subject.tick * 3).await;
    acknowledge(subject, &delivery).await;
    // Acknowledging again is no error.
    acknowledge(subject, &delivery).await;
    let deliveries = receive(subject, subject.tick * 4, LONG).await;
    assert!(deliveries.is_empty(), "{deliveries:?}");
}

pub async fn a_message_that_is_not_acknowledged_comes_back(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let started = Instant::now();
    let first = receive_one(subject, subject.tick).await;
    let second = receive_one(subject, LONG).await;
    assert!(
        started.elapsed() + ROUNDING >= subject.tick,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(first.body, second.body);
    assert_eq!((first.receive_count, second.receive_count), (1, 2));
    assert_ne!(first.receipt, second.receipt);
    assert_nothing_comes(subject).await;
}

pub async fn a_stale_receipt_is_ignored(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let stale = receive_one(subject, subject.tick).await;
    let current = receive_one(subject, LONG).await;
    bury(subject, &stale, "stale").await;
    release(subject, &stale, Duration::ZERO, "stale").await;
    acknowledge(subject, &stale).await;
    assert_nothing_comes(subject).await;
    assert_eq!(dead_letters(subject, 0).await, []);
    // The message is still there, and the current receipt still good.
    release(subject, &current, Duration::ZERO, "current").await;
    assert_eq!(receive_one(subject, LONG).await.receive_count, 3);
}

pub async fn a_receipt_that_never_was_is_ignored(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let delivery = receive_one(subject, LONG).await;
    acknowledge(subject, &delivery).await;
    bury(subject, &delivery, "late").await;
    release(subject, &delivery, Duration::ZERO, "late").await;
    assert_nothing_comes(subject).await;
    assert_eq!(dead_letters(subject, 0).await, []);
}

pub async fn a_delayed_message_waits(subject: &QueueSubject) {
    let started = Instant::now();
    send(subject, "late", subject.tick * 2).await;
    send(subject, "now", Duration::ZERO).await;
    let first = receive_one(subject, LONG).await;
    let second = receive_one(subject, LONG).await;
    assert_eq!(first.body, message("now").to_body());
    assert_eq!(second.body, message("late").to_body());
    assert!(
        started.elapsed() + ROUNDING >= subject.tick * 2,
        "{:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < PATIENCE, "it came at the end of the wait");
}

pub async fn a_delay_wakes_a_receiver_that_waits_already(subject: &QueueSubject) {
    let started = Instant::now();
    let ((), delivery, nothing) = join!(
        async {
            yield_now().await;
            send(subject, "a", subject.tick).await;
        },
        receive_one(subject, LONG),
        // This one looks too, and goes away before the message can be received.
        subject.receiver.receive(&subject.other, 1, Duration::ZERO, LONG),
    );
    assert_eq!(nothing.unwrap(), []);
    assert_eq!(delivery.body, message("a").to_body());
    assert!(
        started.elapsed() + ROUNDING >= subject.tick,
        "{:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < PATIENCE, "it came at the end of the wait");
}

pub async fn a_released_message_comes_back_after_its_delay(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let first = receive_one(subject, LONG).await;
    release(subject, &first, Duration::ZERO, "try again").await;
    let second = receive_one(subject, LONG).await;
    let started = Instant::now();
    release(subject, &second, subject.tick, "try later").await;
    let third = receive_one(subject, LONG).await;
    assert!(
        started.elapsed() + ROUNDING >= subject.tick,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(third.receive_count, 3);
    assert_eq!(third.body, first.body);
}

pub async fn a_message_released_too_often_is_a_dead_letter(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    for time in 1..=subject.max_receives {
        let delivery = receive_one(subject, LONG).await;
        assert_eq!(delivery.receive_count, time);
        release(subject, &delivery, Duration::ZERO, &format!("reason {time}")).await;
    }
    let letters = dead_letters(subject, 1).await;
    assert_eq!(letters[0].body, message("a").to_body());
    assert_eq!(letters[0].reason, format!("reason {}", subject.max_receives));
    assert_nothing_comes(subject).await;
}

pub async fn a_message_never_acknowledged_is_a_dead_letter(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    for time in 1..=subject.max_receives {
        let delivery = receive_one(subject, subject.tick).await;
        assert_eq!(delivery.receive_count, time);
    }
    let deliveries = receive(subject, subject.tick * 3, LONG).await;
    assert!(deliveries.is_empty(), "received too often: {deliveries:?}");
    let letters = dead_letters(subject, 1).await;
    assert_eq!(letters[0].body, message("a").to_body());
    assert!(!letters[0].reason.is_empty());
}

pub async fn a_buried_message_is_a_dead_letter_at_once(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let delivery = receive_one(subject, subject.tick).await;
    bury(subject, &delivery, "nobody can read it").await;
    let letters = dead_letters(subject, 1).await;
    assert_eq!(letters[0].body, message("a").to_body());
    assert_eq!(letters[0].reason, "nobody can read it");
    assert_nothing_comes(subject).await;
    let others = subject.receiver.dead_letters(&subject.other, 10).await.unwrap();
    assert_eq!(others, []);
}

pub async fn dead_letters_come_oldest_first_and_within_the_limit(subject: &QueueSubject) {
    for name in ["a", "b", "c"] {
        send(subject, name, Duration::ZERO).await;
        let delivery = receive_one(subject, LONG).await;
        bury(subject, &delivery, name).await;
    }
    let letters = dead_letters(subject, 3).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["a", "b", "c"]);
    assert!(letters.is_sorted_by_key(|letter| letter.at));
    let ids: BTreeSet<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    let first = subject.receiver.dead_letters(&subject.queue, 2).await.unwrap();
    assert_eq!(first, letters[..2]);
}

pub async fn a_redriven_message_begins_anew(subject: &QueueSubject) {
    send(subject, "a", Duration::ZERO).await;
    let delivery = receive_one(subject, LONG).await;
    release(subject, &delivery, Duration::ZERO, "once more").await;
    let delivery = receive_one(subject, LONG).await;
    bury(subject, &delivery, "enough").await;
    let id = dead_letters(subject, 1).await[0].id.clone();

    assert!(
        !subject
            .receiver
            .redrive(&subject.queue, "no-such-letter")
            .await
            .unwrap()
    );
    assert!(!subject.receiver.redrive(&subject.other, &id).await.unwrap());
    assert!(subject.receiver.redrive(&subject.queue, &id).await.unwrap());
    assert!(!subject.receiver.redrive(&subject.queue, &id).await.unwrap());
    let letters = subject.receiver.dead_letters(&subject.queue, 10).await.unwrap();
    assert_eq!(letters, []);
    let anew = receive_one(subject, LONG).await;
    assert_eq!((anew.body, anew.receive_count), (message("a").to_body(), 1));
}
