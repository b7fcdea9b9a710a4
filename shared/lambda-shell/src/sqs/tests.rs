//! Events as Lambda's poller writes them.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use lambda_runtime::Context;
use serde_json::{Value, json};
use slipway_model::{DeploymentId, Message, Queue, TenantId};
use slipway_ports::{Ids as _, QueueError};
use slipway_testkit::{START, SequentialIds, TokioClock};
use tokio::time::Instant;

use super::*;
use crate::batch::Returns;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

/// In which traces messages were worked on.
type Traces = Arc<Mutex<Vec<Option<String>>>>;

/// Keeps the traces that it worked in; fails the first generation and never ends the second.
#[derive(Default)]
struct Worker(Traces);

#[async_trait]
impl Handler for Worker {
    type Error = No;

    async fn handle(&self, _: &Queue, message: Message) -> Result<(), No> {
        self.0.lock().unwrap().push(slipway_aws::trace::current());
        match message {
            Message::Plan { generation: 1, .. } => Err(No),
            Message::Plan { generation: 2, .. } => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn give_up(&self, _: &Queue, _: &Message, _: &str) -> Result<(), No> {
        Ok(())
    }
}

struct Nothing;

#[async_trait]
impl Returns for Nothing {
    async fn dead_letter(&self, _: &Queue, _: &str, _: &str) -> Result<(), QueueError> {
        Ok(())
    }

    async fn return_after(&self, _: &Queue, _: &str, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

fn consumer() -> (Consumer<Worker>, Traces) {
    let traces = Traces::default();
    let batches = Batches::new(
        Queue::PlanDag,
        Worker(Arc::clone(&traces)),
        Arc::new(Nothing),
        5,
        Duration::from_secs(10),
    );
    let consumer = Consumer {
        function: Function::new("plan-dag", Duration::from_secs(180)),
        batches,
        clock: Arc::new(TokioClock::start()),
    };
    (consumer, traces)
}

fn message(id: &str, generation: u64, trace: Option<&str>) -> Value {
    let body = Message::Plan {
        tenant: TenantId::local(),
        deployment: DeploymentId(SequentialIds::new().uuid()),
        generation,
        request: None,
    };
    let mut attributes = json!({
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1767225600000",
        "SenderId": "AROA…:slipway-deployments-api",
        "ApproximateFirstReceiveTimestamp": "1767225600001"
    });
    if let Some(trace) = trace {
        attributes["AWSTraceHeader"] = trace.into();
    }
    json!({
        "messageId": id,
        "receiptHandle": "AQEB…",
        "body": body.to_body(),
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:111122223333:slipway-dev-plan-dag",
        "awsRegion": "eu-central-1"
    })
}

async fn consume(
    consumer: &Consumer<Worker>,
    records: Vec<Value>,
    seconds: u64,
) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let event = serde_json::from_value(json!({"Records": records})).unwrap();
    let mut context = Context::default();
    context.deadline = u64::try_from(START.as_millis()).unwrap() + seconds * 1000;
    context.xray_trace_id = Some("Root=1-invocation;Sampled=1".to_owned());
    let response = consumer.consume(LambdaEvent::new(event, context)).await?;
    Ok(serde_json::to_value(response).unwrap())
}

#[tokio::test]
async fn the_answer_names_what_failed_and_nothing_else() {
    let (consumer, _) = consumer();
    let records = vec![message("one", 0, None), message("two", 1, None)];
    let answer = consume(&consumer, records, 180).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "two"}]}));
    let answer = consume(&consumer, vec![message("one", 0, None)], 180)
        .await
        .unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
}

#[tokio::test]
async fn a_message_goes_on_with_the_trace_of_its_sender() {
    let (consumer, traces) = consumer();
    let sender = "Root=1-sender;Parent=53995c3f42cd8ad8;Sampled=1";
    let records = vec![message("one", 0, Some(sender)), message("two", 0, None)];
    consume(&consumer, records, 180).await.unwrap();
    let mut traces = traces.lock().unwrap().clone();
    traces.sort();
    assert_eq!(
        traces,
        [
            Some("Root=1-invocation;Sampled=1".to_owned()),
            Some(sender.to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn work_ends_before_the_time_that_lambda_names() {
    let (consumer, _) = consumer();
    let began = Instant::now();
    let answer = consume(&consumer, vec![message("slow", 2, None)], 60)
        .await
        .unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "slow"}]}));
    assert_eq!(began.elapsed(), Duration::from_secs(50));
}

#[tokio::test]
async fn an_event_without_message_ids_is_refused_whole() {
    let (consumer, _) = consumer();
    let refused = consume(&consumer, vec![json!({"body": "{}"})], 180)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("messageId"), "{refused}");
}
