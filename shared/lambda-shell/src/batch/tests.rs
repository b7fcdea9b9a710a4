//! Each message on its own, on paused time.

use std::sync::Mutex;

use serde_json::json;
use slipway_model::{BUDPIPELINE_EVENTS, DeploymentId, TenantId};
use slipway_testkit::SequentialIds;
use tokio::sync::Barrier;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a test sees: in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Stopped(u64),
    GaveUp(u64, String),
    Buried(String, String),
    Returned(String, Duration),
}

#[derive(Default)]
struct Log(Mutex<Vec<Seen>>);

impl Log {
    fn add(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the handler failed")]
struct HandlerFailed(#[source] std::io::Error);

fn handler_failed() -> HandlerFailed {
    HandlerFailed(std::io::Error::other("the table is away"))
}

/// Does what the generation of a `Plan` message says.
#[derive(Default)]
struct Script {
    log: Arc<Log>,
    give_up_fails: bool,
    meet: Option<Barrier>,
    traces: Mutex<Vec<Option<String>>>,
}

const WELL: u64 = 0;
const FAILS: u64 = 1;
const PANICS: u64 = 2;
const HANGS: u64 = 3;
const MEETS: u64 = 4;

/// Says so when the work on a message is stopped.
struct Stops(Arc<Log>, u64);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.add(Seen::Stopped(self.1));
    }
}

#[async_trait]
impl Handler for Script {
    type Error = HandlerFailed;

    async fn handle(&self, _queue: &Queue, message: Message) -> Result<(), HandlerFailed> {
        self.traces.lock().unwrap().push(trace::current());
        let Message::Plan { generation, .. } = message else {
            return Ok(());
        };
        match generation {
            FAILS => Err(handler_failed()),
            PANICS => panic!("out of luck"),
            HANGS => {
                let _stops = Stops(Arc::clone(&self.log), generation);
                std::future::pending().await
            }
            MEETS => {
                self.meet.as_ref().unwrap().wait().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn give_up(&self, _queue: &Queue, message: &Message, reason: &str) -> Result<(), HandlerFailed> {
        if self.give_up_fails {
            return Err(handler_failed());
        }
        let Message::Plan { generation, .. } = message else {
            panic!("only plans are given up here");
        };
        self.log.add(Seen::GaveUp(*generation, reason.to_owned()));
        Ok(())
    }
}

/// The queue's side.
#[derive(Default)]
struct Side {
    log: Arc<Log>,
    bury_fails: bool,
}

#[async_trait]
impl Returns for Side {
    async fn dead_letter(&self, queue: &Queue, body: &str, reason: &str) -> Result<(), QueueError> {
        if self.bury_fails {
            return Err(QueueError {
                queue: queue.name().to_owned(),
                source: "no dead-letter queue".into(),
            });
        }
        self.log.add(Seen::Buried(body.to_owned(), reason.to_owned()));
        Ok(())
    }

    async fn return_after(&self, _queue: &Queue, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        self.log.add(Seen::Returned(receipt.to_owned(), delay));
        Ok(())
    }
}

fn plan(generation: u64) -> String {
    use slipway_ports::Ids as _;

    Message::Plan {
        tenant: TenantId::local(),
        deployment: DeploymentId(SequentialIds::new().uuid()),
        generation,
        request: None,
    }
    .to_body()
}

fn record(id: &str, body: impl Into<String>, receive_count: u32) -> Record {
    Record {
        id: id.to_owned(),
        receipt: format!("receipt-{id}"),
        body: body.into(),
        receive_count,
        trace: None,
    }
}

struct Run {
    failed: Vec<String>,
    seen: Vec<Seen>,
}

async fn run_on(queue: Queue, script: Script, side: Side, records: Vec<Record>) -> Run {
    let log = Arc::new(Log::default());
    let script = Script {
        log: Arc::clone(&log),
        ..script
    };
    let side = Side {
        log: Arc::clone(&log),
        ..side
    };
    let batches = Batches::new(queue, script, Arc::new(side), 5, 10 * SECOND);
    let mut failed = batches.run(records, 170 * SECOND).await;
    failed.sort();
    Run {
        failed,
        seen: log.all(),
    }
}

async fn run(records: Vec<Record>) -> Run {
    run_on(Queue::PlanDag, Script::default(), Side::default(), records).await
}

#[tokio::test]
async fn one_failure_and_one_panic_hold_nobody_else_up() {
    let run = run(vec![
        record("well", plan(WELL), 1),
        record("fails", plan(FAILS), 1),
        record("panics", plan(PANICS), 3),
        record("also-well", plan(WELL), 1),
    ])
    .await;
    assert_eq!(run.failed, ["fails", "panics"]);
    let mut seen = run.seen;
    seen.sort_by_key(|seen| format!("{seen:?}"));
    assert_eq!(
        seen,
        [
            Seen::Returned("receipt-fails".to_owned(), 2 * SECOND),
            Seen::Returned("receipt-panics".to_owned(), 8 * SECOND),
        ],
        "those that failed come again soon, and later each time"
    );
}

#[tokio::test]
async fn records_are_worked_on_at_the_same_time() {
    let script = Script {
        meet: Some(Barrier::new(3)),
        ..Script::default()
    };
    let records = ["a", "b", "c"].map(|id| record(id, plan(MEETS), 1));
    let run = run_on(Queue::PlanDag, script, Side::default(), records.into()).await;
    assert!(
        run.failed.is_empty(),
        "each waits for the other two: {:?}",
        run.failed
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_buried_with_the_reason_and_done() {
    let run = run(vec![
        record("poison", "{\"kind\": \"riddle\"}", 1),
        record("well", plan(WELL), 1),
    ])
    .await;
    assert!(run.failed.is_empty(), "{:?}", run.failed);
    let [Seen::Buried(body, reason)] = &run.seen[..] else {
        panic!("{:?}", run.seen)
    };
    assert_eq!(body, "{\"kind\": \"riddle\"}");
    assert!(
        reason.contains("'plan-dag'") && reason.contains("riddle"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_dropped_because_anybody_may_write_to_a_topic() {
    let topic = Queue::Topic(BUDPIPELINE_EVENTS.to_owned());
    let records = vec![record("noise", json!({"hello": "world"}).to_string(), 1)];
    let run = run_on(topic, Script::default(), Side::default(), records).await;
    assert!(run.failed.is_empty());
    assert!(run.seen.is_empty(), "{:?}", run.seen);
}

#[tokio::test]
async fn the_last_failure_is_told_to_the_application_and_then_buried() {
    let run = run(vec![record("last", plan(FAILS), 5)]).await;
    assert!(
        run.failed.is_empty(),
        "a buried message is done: {:?}",
        run.failed
    );
    let [Seen::GaveUp(FAILS, told), Seen::Buried(body, reason)] = &run.seen[..] else {
        panic!("{:?}", run.seen)
    };
    assert_eq!(told, reason);
    assert_eq!(*body, plan(FAILS));
    assert!(
        reason.contains("the handler failed: the table is away"),
        "the whole chain: {reason}"
    );
}

#[tokio::test]
async fn the_failure_before_the_last_is_not_given_up() {
    let run = run(vec![record("fourth", plan(FAILS), 4)]).await;
    assert_eq!(run.failed, ["fourth"]);
    assert_eq!(
        run.seen,
        [Seen::Returned("receipt-fourth".to_owned(), 16 * SECOND)]
    );
}

#[tokio::test]
async fn a_message_is_buried_even_if_the_application_cannot_be_told() {
    let script = Script {
        give_up_fails: true,
        ..Script::default()
    };
    let records = vec![record("last", plan(PANICS), 5)];
    let run = run_on(Queue::PlanDag, script, Side::default(), records).await;
    assert!(run.failed.is_empty(), "the schedule finds it: {:?}", run.failed);
    let [Seen::Buried(_, reason)] = &run.seen[..] else {
        panic!("{:?}", run.seen)
    };
    assert!(reason.contains("panicked: out of luck"), "{reason}");
}

#[tokio::test]
async fn a_message_that_cannot_be_buried_comes_again() {
    let side = Side {
        bury_fails: true,
        ..Side::default()
    };
    let records = vec![record("poison", "not JSON", 1)];
    let run = run_on(Queue::PlanDag, Script::default(), side, records).await;
    assert_eq!(run.failed, ["poison"], "nothing is lost");
    assert_eq!(
        run.seen,
        [Seen::Returned("receipt-poison".to_owned(), 2 * SECOND)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_in_time_is_stopped_and_handed_back_at_once() {
    let began = Instant::now();
    let run = run(vec![
        record("slow", plan(HANGS), 1),
        record("well", plan(WELL), 1),
    ])
    .await;
    assert_eq!(began.elapsed(), 170 * SECOND, "not a moment after the budget");
    assert_eq!(run.failed, ["slow"]);
    assert_eq!(
        run.seen,
        [
            Seen::Stopped(HANGS),
            Seen::Returned("receipt-slow".to_owned(), SECOND),
        ],
        "it is stopped before somebody else can receive it"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_never_finished_is_given_up_at_last() {
    let run = run(vec![record("slow", plan(HANGS), 5)]).await;
    assert!(run.failed.is_empty());
    let [
        Seen::Stopped(HANGS),
        Seen::GaveUp(HANGS, reason),
        Seen::Buried(..),
    ] = &run.seen[..]
    else {
        panic!("{:?}", run.seen)
    };
    assert!(reason.contains("received 5 times"), "{reason}");
}

#[tokio::test]
async fn two_deliveries_of_one_message_are_reported_once() {
    let run = run(vec![
        record("twin", plan(FAILS), 1),
        record("twin", plan(FAILS), 1),
        record("half", plan(WELL), 1),
        record("half", plan(FAILS), 1),
    ])
    .await;
    assert_eq!(run.failed, ["half", "twin"]);
}

#[tokio::test]
async fn each_message_is_worked_on_in_its_own_trace() {
    let log = Arc::new(Log::default());
    let batches = Batches::new(
        Queue::PlanDag,
        Script::default(),
        Arc::new(Side {
            log,
            bury_fails: false,
        }),
        5,
        10 * SECOND,
    );
    let traced = |id: &str, trace: &str| Record {
        trace: Some(trace.to_owned()),
        ..record(id, plan(WELL), 1)
    };
    batches
        .run(
            vec![traced("a", "Root=1-a"), traced("b", "Root=1-b")],
            10 * SECOND,
        )
        .await;
    let mut traces = batches.shared.handler.traces.lock().unwrap().clone();
    traces.sort();
    assert_eq!(traces, [Some("Root=1-a".to_owned()), Some("Root=1-b".to_owned())]);
}

#[test]
fn an_outage_of_a_quarter_of_an_hour_buries_nothing() {
    let pauses: Duration = (1..10).map(pause_after).sum();
    assert!(pauses >= Duration::from_secs(15 * 60), "{pauses:?}");
}
