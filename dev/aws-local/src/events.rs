//! Event sources: pollers that bring the messages of queues to functions, as Lambda's do.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::lambda::{Function, Outcome};
use crate::part::Parts;
use crate::template::{QueueSource, REGION};

/// Most messages of one call of ReceiveMessage.
const LARGEST_RECEIVE: usize = 10;

/// How long a call of ReceiveMessage waits for messages, in seconds. Lambda's pollers wait for 20, but whoever ends this
/// program has to wait for the last call: what it brings nobody else would see before the visibility time-out.
const LONG_POLL: u64 = 1;

/// How long a poller waits before it asks a queue again that did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Brings the messages of a queue to a function until `stop` is true, and what was received by then.
pub(crate) async fn poll(
    source: QueueSource,
    url: String,
    function: Arc<Function>,
    parts: Parts,
    stop: watch::Receiver<bool>,
) {
    let most = source.concurrency.unwrap_or(usize::MAX).min(function.limit());
    let permits = Arc::new(Semaphore::new(most));
    while !*stop.borrow() {
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("the permits are never closed");
        match gather(&source, &url, &parts).await {
            Ok(messages) if messages.is_empty() => {}
            Ok(messages) => {
                let (source, url, function, parts) =
                    (source.clone(), url.clone(), Arc::clone(&function), parts.clone());
                tokio::spawn(async move {
                    let done = bring(&source, &function, &messages).await;
                    if let Err(error) = delete(&url, &parts, &done).await {
                        complain(&format!("cannot delete messages of {url}: {error:#}"));
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                complain(&format!("cannot receive from {url}: {error:#}"));
                clock::pause(RETRY).await;
            }
        }
    }
    // Those that hold permits are still at work.
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    let _ = permits.acquire_many(all).await;
}

/// A batch: what one call receives, or, with a window, what comes until the batch is full or the window is over.
async fn gather(source: &QueueSource, url: &str, parts: &Parts) -> Result<Vec<Value>> {
    let mut messages = receive(url, parts, source.batch, LONG_POLL).await?;
    let end = Instant::now() + source.window;
    while !messages.is_empty() && messages.len() < source.batch && Instant::now() < end {
        let more = receive(url, parts, source.batch - messages.len(), 1);
        match timeout_at(end, more).await {
            Ok(more) => messages.extend(more?),
            Err(_) => break,
        }
    }
    Ok(messages)
}

async fn receive(url: &str, parts: &Parts, most: usize, seconds: u64) -> Result<Vec<Value>> {
    let request = json!({
        "QueueUrl": url,
        "MaxNumberOfMessages": most.clamp(1, LARGEST_RECEIVE),
        "WaitTimeSeconds": seconds,
        "AttributeNames": ["All"],
        "MessageSystemAttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
    });
    let mut answer = parts.call("sqs", "AmazonSQS.ReceiveMessage", &request).await?;
    Ok(match answer["Messages"].take() {
        Value::Array(messages) => messages,
        _ => Vec::new(),
    })
}

/// Invokes the function with a batch and returns the receipts of what is done.
async fn bring<'a>(source: &QueueSource, function: &Function, messages: &'a [Value]) -> Vec<&'a str> {
    let records: Vec<_> = messages
        .iter()
        .map(|message| record(message, &source.arn))
        .collect();
    let payload = json!({"Records": records}).to_string();
    match function.invoke(Bytes::from(payload)).await {
        Outcome::Answered(answer) => {
            let failed = if source.reports_failures {
                failures(&answer, messages)
            } else {
                BTreeSet::new()
            };
            messages
                .iter()
                .filter(|message| !failed.contains(text(message, "MessageId")))
                .map(|message| text(message, "ReceiptHandle"))
                .collect()
        }
        Outcome::Failed { kind, message } => {
            let program = &function.definition().program;
            complain(&format!(
                "{program} failed {} messages: {kind}: {message}",
                messages.len()
            ));
            Vec::new()
        }
    }
}

/// The ids of the messages that stay in the queue. An answer that is malformed or names a message that was not in the
/// batch counts as a failure of the whole batch.
fn failures<'a>(answer: &[u8], messages: &'a [Value]) -> BTreeSet<&'a str> {
    let ids: BTreeSet<&str> = messages
        .iter()
        .map(|message| text(message, "MessageId"))
        .collect();
    if answer.is_empty() {
        return BTreeSet::new();
    }
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return ids;
    };
    match &answer["batchItemFailures"] {
        Value::Null => BTreeSet::new(),
        Value::Array(failed) => failed
            .iter()
            .map(|item| {
                item["itemIdentifier"]
                    .as_str()
                    .and_then(|id| ids.get(id).copied())
            })
            .collect::<Option<_>>()
            .unwrap_or(ids),
        _ => ids,
    }
}

async fn delete(url: &str, parts: &Parts, receipts: &[&str]) -> Result<()> {
    for receipts in receipts.chunks(LARGEST_RECEIVE) {
        let entries: Vec<_> = receipts
            .iter()
            .enumerate()
            .map(|(index, receipt)| json!({"Id": index.to_string(), "ReceiptHandle": receipt}))
            .collect();
        let request = json!({"QueueUrl": url, "Entries": entries});
        parts
            .call("sqs", "AmazonSQS.DeleteMessageBatch", &request)
            .await
            .context("they will come again")?;
    }
    Ok(())
}

/// A message as functions see it.
fn record(message: &Value, arn: &str) -> Value {
    let attributes: Map<String, Value> = message["MessageAttributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let mut attribute = json!({
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value["DataType"],
            });
            for (from, to) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
                if !value[from].is_null() {
                    attribute[to] = value[from].clone();
                }
            }
            (name.clone(), attribute)
        })
        .collect();
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "md5OfBody": message["MD5OfBody"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    })
}

fn text<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_default()
}

/// A line on standard error; that nobody reads it is not an error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Vec<Value> {
        vec![
            json!({"MessageId": "a", "ReceiptHandle": "ra"}),
            json!({"MessageId": "b", "ReceiptHandle": "rb"}),
        ]
    }

    fn failed(answer: &str) -> Vec<String> {
        failures(answer.as_bytes(), &batch())
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn only_the_messages_that_are_named_stay() {
        assert_eq!(
            failed(r#"{"batchItemFailures": [{"itemIdentifier": "b"}]}"#),
            ["b"]
        );
        for all_done in [
            "",
            "null",
            "{}",
            r#"{"batchItemFailures": []}"#,
            r#"{"batchItemFailures": null}"#,
        ] {
            assert!(failed(all_done).is_empty(), "{all_done}");
        }
    }

    #[test]
    fn an_answer_that_makes_no_sense_fails_the_whole_batch() {
        for nonsense in [
            "no JSON",
            r#"{"batchItemFailures": "b"}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": "somebody else"}]}"#,
            r#"{"batchItemFailures": [{"other": "b"}]}"#,
        ] {
            assert_eq!(failed(nonsense), ["a", "b"], "{nonsense}");
        }
    }

    #[test]
    fn a_record_has_lambdas_names_for_what_the_queue_gave() {
        let message = json!({
            "MessageId": "a", "ReceiptHandle": "r", "Body": "{}", "MD5OfBody": "m",
            "Attributes": {"ApproximateReceiveCount": "2", "AWSTraceHeader": "Root=1"},
            "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "why"}},
        });
        let record = record(&message, "arn:q");
        assert_eq!(record["attributes"]["ApproximateReceiveCount"], "2");
        assert_eq!(record["messageAttributes"]["reason"]["stringValue"], "why");
        assert_eq!(record["messageAttributes"]["reason"]["dataType"], "String");
        assert!(record["messageAttributes"]["reason"].get("binaryValue").is_none());
        assert_eq!(record["eventSourceARN"], "arn:q");
    }
}
