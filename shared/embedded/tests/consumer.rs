//! What the consumer does with messages that fail for the last time.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use slipway_embedded::{Consumer, Embedded, Options};
use slipway_model::{JobId, Message, Queue, TenantId};
use slipway_ports::{DeadLetter, Receiver};
use slipway_testkit::{TokioClock, fixtures};
use tokio::sync::{mpsc, watch};

const QUEUE: Queue = Queue::DeployHelm;

#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

/// How `give_up` behaves.
#[derive(Clone, Copy)]
enum Ends {
    Well,
    WithAnError,
    WithAPanic,
}

fn job() -> Message {
    Message::Job {
        tenant: TenantId::local(),
        job: "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse::<JobId>().unwrap(),
    }
}

/// Has one message fail as often as is allowed. What was handled and given up, in order, and the dead letters.
async fn consume(message: Message, max_receives: u32, ends: Ends) -> (Vec<String>, Vec<DeadLetter>) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        clock: Arc::new(TokioClock::start()),
        steady: false,
        max_receives,
        ..Options::default()
    };
    let embedded = Embedded::open(folder.path(), options).unwrap();
    let receiver = embedded.receiver();
    let mut session = embedded.store().session();
    session.send(QUEUE, message, Duration::ZERO);
    session.settle().await.unwrap();

    let (stop, stopped) = watch::channel(false);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (handled, gave_up) = (Arc::clone(&log), Arc::clone(&log));
    let consumer = Consumer {
        queue: QUEUE,
        concurrency: 2,
        // The store's own thread does not keep this clock from jumping, so that much of its time passes in a moment.
        visibility: Duration::from_secs(3600 * 24 * 365),
        max_receives: embedded.max_receives(&QUEUE),
    };
    let judge: Arc<dyn Receiver> = Arc::clone(&receiver);
    let running = tokio::spawn(consumer.run(
        Arc::clone(&receiver),
        stopped,
        move |_, _| {
            handled.lock().unwrap().push("handled".to_owned());
            async { Err(Refused("no room")) }
        },
        move |queue: Queue, message, reason| {
            let (log, judge) = (Arc::clone(&gave_up), Arc::clone(&judge));
            async move {
                assert_eq!(message, job());
                let letters = judge.dead_letters(&queue, 10).await.unwrap();
                log.lock()
                    .unwrap()
                    .push(format!("gave up with {} letters: {reason}", letters.len()));
                match ends {
                    Ends::Well => Ok(()),
                    Ends::WithAnError => Err(Refused("out of reach")),
                    Ends::WithAPanic => panic!("on purpose"),
                }
            }
        },
    ));
    let (found, mut letters) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let letters = receiver.dead_letters(&QUEUE, 10).await.unwrap();
            if !letters.is_empty() {
                let _ = found.send(letters);
                return;
            }
            // Time passes only while everybody waits.
            tokio::task::yield_now().await;
            let mut moment = tokio::time::interval(Duration::from_millis(500));
            moment.tick().await;
            moment.tick().await;
        }
    });
    let letters = letters.recv().await.unwrap();
    stop.send_replace(true);
    running.await.unwrap();
    let log = log.lock().unwrap().clone();
    (log, letters)
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_the_last_time_is_given_up_before_it_is_a_dead_letter() {
    let (log, letters) = consume(job(), 3, Ends::Well).await;
    assert_eq!(
        log,
        ["handled", "handled", "handled", "gave up with 0 letters: no room"]
    );
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].body.as_str(), letters[0].reason.as_str()),
        (job().to_body().as_str(), "no room")
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_a_dead_letter_even_if_it_cannot_be_given_up() {
    for ends in [Ends::WithAnError, Ends::WithAPanic] {
        let (log, letters) = consume(job(), 1, ends).await;
        assert_eq!(log, ["handled", "gave up with 0 letters: no room"]);
        assert_eq!(letters[0].reason, "no room");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_a_dead_letter_at_once_and_nothing_is_given_up() {
    let (log, letters) = consume(fixtures::message("stray"), 3, Ends::Well).await;
    assert_eq!(log, [] as [&str; 0]);
    assert!(letters[0].reason.contains("cannot be read"), "{:?}", letters[0]);
}

#[tokio::test]
async fn single_queues_may_allow_other_numbers_of_receives() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_receives: 4,
        max_receives_of: [(Queue::PlanDag, 2), (Queue::ExecuteStep, 0)].into(),
        ..Options::default()
    };
    let embedded = Embedded::open(folder.path(), options).unwrap();
    assert_eq!(embedded.max_receives(&QUEUE), 4);
    assert_eq!(embedded.max_receives(&Queue::PlanDag), 2);
    assert_eq!(embedded.max_receives(&Queue::ExecuteStep), 1, "once at least");
}
