//! Sending to queues and topics in batches.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use futures::future::join_all;
use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Queue};
use slipway_ports::{StoreError, chain};

use crate::{
    backoff::pause,
    clients::Clients,
    error::{CallFailed, Refused},
    failure::Failure,
    queues::{Carrier, Queues},
    trace,
};

/// Bytes of one message, and of all messages of a batch. SQS takes more nowadays; SNS, older regions and local
/// stand-ins do not.
pub const LARGEST_MESSAGE: usize = 256 * 1024;
/// Messages of a batch.
const LARGEST_BATCH: usize = 10;
/// Times that an entry is sent before it is given up.
const ATTEMPTS: u32 = 5;
/// The longest delay that SQS has.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// A message that waits for its session to settle.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) queue: Queue,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

/// Sends everything, or fails; then some may have been sent. What a topic of somebody else's refuses for good is logged
/// and dropped: no execution stands still for it.
pub(crate) async fn send_all(
    clients: &Clients,
    queues: &Queues,
    outgoing: Vec<Outgoing>,
) -> Result<(), StoreError> {
    // Whatever can be found out is found out before the first is sent.
    let (mut ours, mut theirs) = (Outbox::new(), Outbox::new());
    for mut message in outgoing {
        let name = message.queue.name().to_owned();
        message.body = sendable(message.body);
        if message.body.len() > LARGEST_MESSAGE {
            return Err(StoreError::MessageTooLarge {
                queue: name,
                bytes: message.body.len(),
                limit: LARGEST_MESSAGE,
            });
        }
        let is_ours = is_ours(&message.queue);
        let Some(carrier) = queues.carrier(&message.queue) else {
            if is_ours {
                return Err(StoreError::NoQueue { queue: name });
            }
            tracing::error!(
                topic = name,
                "an event is lost: SLIPWAY_QUEUES has no entry for this topic any more"
            );
            continue;
        };
        let (Carrier::Sqs(address) | Carrier::Sns(address)) = carrier;
        let group = if is_ours { &mut ours } else { &mut theirs };
        let entry = group.entry(address).or_insert_with(|| (carrier, Vec::new()));
        entry.1.push(message);
    }
    let trace = trace::current();
    let send = |(carrier, batch)| send_batch(clients, carrier, batch, trace.as_deref());
    // A topic of somebody else's must not keep our own messages from going out.
    let sent = join_all(batches(ours).map(send)).await;
    for sent in sent.into_iter().chain(join_all(batches(theirs).map(send)).await) {
        match sent {
            Err(failure) if failure.is_for_good && failure.is_theirs => tracing::error!(
                error = chain(&failure.error),
                "events are lost: their topic takes none, and would not if they were sent again"
            ),
            other => other.map_err(|failure| StoreError::from(failure.error))?,
        }
    }
    Ok(())
}

/// Whether the control plane itself listens to a queue.
fn is_ours(queue: &Queue) -> bool {
    match queue {
        Queue::PlanDag | Queue::ExecuteStep | Queue::DeployHelm => true,
        Queue::Topic(topic) => [BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS].contains(&topic.as_str()),
    }
}

/// Messages by the address of what carries them.
type Outbox<'a> = BTreeMap<&'a str, (&'a Carrier, Vec<Outgoing>)>;

fn batches<'a>(outbox: Outbox<'a>) -> impl Iterator<Item = (&'a Carrier, Vec<Outgoing>)> {
    outbox
        .into_values()
        .flat_map(|(carrier, messages)| split(messages).into_iter().map(move |batch| (carrier, batch)))
}

/// A batch that was not sent, or not as a whole.
struct SendFailed {
    error: CallFailed,
    /// The same again would fail again.
    is_for_good: bool,
    /// On a topic of somebody else's.
    is_theirs: bool,
}

/// Bodies are JSON; two characters that may stand in JSON as they are may not stand in a message.
fn sendable(body: String) -> String {
    if body.contains(['\u{fffe}', '\u{ffff}']) {
        return body.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    body
}

/// Cuts messages into batches that AWS takes.
fn split(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let fits = bytes + message.body.len() <= LARGEST_MESSAGE;
        match batches.last_mut() {
            Some(batch) if batch.len() < LARGEST_BATCH && fits => {
                bytes += message.body.len();
                batch.push(message);
            }
            _ => {
                bytes = message.body.len();
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// An entry that was refused: which one, why, and whether it is pointless to send it again.
struct Failed {
    index: usize,
    why: String,
    for_good: bool,
}

/// Sends a batch, and what was refused of it again.
async fn send_batch(
    clients: &Clients,
    carrier: &Carrier,
    batch: Vec<Outgoing>,
    trace: Option<&str>,
) -> Result<(), SendFailed> {
    let is_theirs = batch.iter().all(|message| !is_ours(&message.queue));
    let fail = |(error, is_for_good)| SendFailed {
        error,
        is_for_good,
        is_theirs,
    };
    let mut left: Vec<&Outgoing> = batch.iter().collect();
    for attempt in 1.. {
        let (operation, resource, failed) = match carrier {
            Carrier::Sqs(url) => (
                "SQS SendMessageBatch",
                url,
                send_to_sqs(clients, url, &left, trace).await.map_err(fail)?,
            ),
            Carrier::Sns(arn) => (
                "SNS PublishBatch",
                arn,
                publish_to_sns(clients, arn, &left).await.map_err(fail)?,
            ),
        };
        let Some(first) = failed.first() else {
            return Ok(());
        };
        if attempt == ATTEMPTS || failed.iter().any(|failed| failed.for_good) {
            let refused = Refused {
                count: failed.len(),
                first: first.why.clone(),
            };
            let is_for_good = failed.iter().all(|failed| failed.for_good);
            return Err(fail((CallFailed::new(operation, resource, refused), is_for_good)));
        }
        tracing::warn!(
            resource = resource.as_str(),
            refused = failed.len(),
            reason = first.why.as_str(),
            "a part of a batch was refused; it is sent again"
        );
        left = failed
            .iter()
            .filter_map(|failed| left.get(failed.index).copied())
            .collect();
        pause(attempt).await;
    }
    Ok(())
}

async fn send_to_sqs(
    clients: &Clients,
    url: &str,
    messages: &[&Outgoing],
    trace: Option<&str>,
) -> Result<Vec<Failed>, (CallFailed, bool)> {
    const OPERATION: &str = "SQS SendMessageBatch";
    let header = trace
        .map(|header| {
            MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(header)
                .build()
        })
        .transpose()
        .map_err(|error| (CallFailed::new(OPERATION, url, error), true))?;
    let mut call = clients.sqs().send_message_batch().queue_url(url);
    for (index, message) in messages.iter().enumerate() {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .message_body(&message.body);
        let delay = whole_seconds(message.delay.min(LONGEST_DELAY));
        if delay > 0 {
            entry = entry.delay_seconds(delay);
        }
        if let Some(header) = &header {
            entry = entry.message_system_attributes(
                MessageSystemAttributeNameForSends::AwsTraceHeader,
                header.clone(),
            );
        }
        let entry = entry
            .build()
            .map_err(|error| (CallFailed::new(OPERATION, url, error), true))?;
        call = call.entries(entry);
    }
    let answer = call.send().await.map_err(|error| {
        let for_good = !Failure::of(OPERATION, &error).is_transient();
        (CallFailed::new(OPERATION, url, error), for_good)
    })?;
    Ok(answer
        .failed
        .iter()
        .map(|failed| Failed {
            index: failed.id.parse().unwrap_or(usize::MAX),
            why: format!(
                "{}: {}",
                failed.code,
                failed.message.as_deref().unwrap_or_default()
            ),
            for_good: failed.sender_fault,
        })
        .collect())
}

/// A topic knows no delays: its messages go out at once.
async fn publish_to_sns(
    clients: &Clients,
    arn: &str,
    messages: &[&Outgoing],
) -> Result<Vec<Failed>, (CallFailed, bool)> {
    const OPERATION: &str = "SNS PublishBatch";
    let region = arn.split(':').nth(3).filter(|region| !region.is_empty());
    let client = clients.sns_in(region.unwrap_or_else(|| clients.region()));
    let mut call = client.publish_batch().topic_arn(arn);
    for (index, message) in messages.iter().enumerate() {
        let entry = PublishBatchRequestEntry::builder()
            .id(index.to_string())
            .message(&message.body)
            .build()
            .map_err(|error| (CallFailed::new(OPERATION, arn, error), true))?;
        call = call.publish_batch_request_entries(entry);
    }
    let answer = call.send().await.map_err(|error| {
        let for_good = !Failure::of(OPERATION, &error).is_transient();
        (CallFailed::new(OPERATION, arn, error), for_good)
    })?;
    Ok(answer
        .failed()
        .iter()
        .map(|failed| Failed {
            index: failed.id.parse().unwrap_or(usize::MAX),
            why: format!(
                "{}: {}",
                failed.code,
                failed.message.as_deref().unwrap_or_default()
            ),
            for_good: failed.sender_fault,
        })
        .collect())
}

/// SQS counts whole seconds: rather later than too early.
pub(crate) fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(bytes: usize) -> Outgoing {
        Outgoing {
            queue: Queue::ExecuteStep,
            body: "x".repeat(bytes),
            delay: Duration::ZERO,
        }
    }

    fn sizes(messages: &[usize]) -> Vec<usize> {
        let batches = split(messages.iter().map(|bytes| outgoing(*bytes)).collect());
        batches.iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_stay_within_both_limits() {
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&[1; 25]), [10, 10, 5]);
        assert_eq!(sizes(&[LARGEST_MESSAGE, 1]), [1, 1]);
        assert_eq!(sizes(&[LARGEST_MESSAGE / 2, LARGEST_MESSAGE / 2, 1]), [2, 1]);
        assert_eq!(sizes(&[100_000; 5]), [2, 2, 1]);
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (milliseconds, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(milliseconds)), seconds);
        }
    }

    #[test]
    fn characters_that_sqs_refuses_are_escaped() {
        let body = sendable("[\"a\u{ffff}b\u{fffe}\"]".to_owned());
        assert_eq!(body, r#"["a\uffffb\ufffe"]"#);
        let read: Vec<String> = serde_json::from_str(&body).unwrap();
        assert_eq!(read, ["a\u{ffff}b\u{fffe}"]);
    }
}
