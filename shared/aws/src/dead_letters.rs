//! Dead-letter queues: what was buried on purpose, and what SQS moved there.
//!
//! A queue can only be looked at by receiving from it. What is looked at is hidden from others for a moment, and made
//! visible again when the look is over.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName,
};
use slipway_model::{Queue, Timestamp};
use slipway_ports::{DeadLetter, QueueError};

use crate::{
    clients::Clients,
    error::CallFailed,
    queues::Queues,
    receiver::{NotConfigured, failed},
    sending::whole_seconds,
};

/// The message attribute that says why a message was buried.
pub const REASON: &str = "reason";
/// Bytes of a reason that are kept.
const LONGEST_REASON: usize = 2000;
/// How long a look hides letters, at most: longer than it takes.
const LOOK: Duration = Duration::from_secs(30);
/// Letters that one look sees, at most.
const LARGEST_LOOK: usize = 1000;
/// Times that a letter is looked for while others look at the queue.
const LOOKS: u32 = 5;

#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    clients: Clients,
    queues: Queues,
    dead_letter_queues: Queues,
    max_receives: u32,
}

/// A letter that a look found.
struct Seen {
    letter: DeadLetter,
    receipt: String,
}

impl DeadLetters {
    pub(crate) fn new(
        clients: Clients,
        queues: Queues,
        dead_letter_queues: Queues,
        max_receives: u32,
    ) -> Self {
        Self {
            clients,
            queues,
            dead_letter_queues,
            max_receives,
        }
    }

    /// Where a queue's dead letters are.
    fn url(&self, queue: &Queue) -> Result<&str, QueueError> {
        self.dead_letter_queues
            .url(queue)
            .ok_or_else(|| failed(queue, NotConfigured))
    }

    pub(crate) async fn bury(&self, queue: &Queue, body: &str, reason: &str) -> Result<(), QueueError> {
        const OPERATION: &str = "SQS SendMessage";
        let url = self.url(queue)?;
        let reason = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(readable(reason))
            .build()
            .map_err(|error| failed(queue, CallFailed::new(OPERATION, url, error)))?;
        self.clients
            .sqs()
            .send_message()
            .queue_url(url)
            .message_body(body)
            .message_attributes(REASON, reason)
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new(OPERATION, url, error)))?;
        Ok(())
    }

    pub(crate) async fn list(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let url = self.url(queue)?;
        let mut letters = BTreeMap::new();
        for look in 1..=LOOKS {
            let seen = self.look(queue, url, look > 1, |_| false).await?;
            self.hide(queue, url, &seen, Duration::ZERO).await?;
            letters.extend(seen.into_iter().map(|seen| (seen.letter.id.clone(), seen.letter)));
            // Somebody else who looks hides letters, and shows them again in a moment.
            let (visible, hidden) = self.count(queue, url).await?;
            if hidden == 0 || letters.len() >= LARGEST_LOOK.min(visible + hidden) {
                break;
            }
        }
        let mut letters: Vec<DeadLetter> = letters.into_values().collect();
        letters.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        letters.truncate(limit);
        Ok(letters)
    }

    pub(crate) async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError> {
        let url = self.url(queue)?;
        let source = self
            .queues
            .url(queue)
            .ok_or_else(|| failed(queue, NotConfigured))?;
        for look in 1..=LOOKS {
            let mut seen = self.look(queue, url, look > 1, |letter| letter.id == id).await?;
            let found = seen.iter().position(|seen| seen.letter.id == id);
            let found = found.map(|index| seen.swap_remove(index));
            self.hide(queue, url, &seen, Duration::ZERO).await?;
            if let Some(found) = found {
                // Sent before it is removed: rather twice than never.
                self.send_back(queue, source, &found.letter.body).await?;
                self.remove(queue, url, &found.receipt).await?;
                return Ok(true);
            }
            let (_, hidden) = self.count(queue, url).await?;
            if hidden == 0 {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Receives letters until one is as wanted, or none is left. Waits for the first, where some are hidden.
    async fn look(
        &self,
        queue: &Queue,
        url: &str,
        are_hidden: bool,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Result<Vec<Seen>, QueueError> {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let mut expected = None;
        while seen.len() < LARGEST_LOOK {
            // A short poll asks some of SQS's servers only, so that finding nothing means nothing while there should
            // be something.
            let wait = if are_hidden || expected.is_some() { 1 } else { 0 };
            let messages = self.receive(queue, url, wait).await?;
            let nothing = messages.is_empty();
            let mut done = false;
            for message in messages {
                let Some(found) = self.read(queue, message) else {
                    continue;
                };
                done |= wanted(&found.letter);
                seen.insert(found.letter.id.clone(), found);
            }
            if done {
                break;
            }
            match expected {
                None => {
                    let (visible, _) = self.count(queue, url).await?;
                    expected = Some(visible);
                    if visible == 0 {
                        break;
                    }
                }
                Some(_) if nothing => break,
                Some(_) => {}
            }
        }
        Ok(seen.into_values().collect())
    }

    async fn receive(&self, queue: &Queue, url: &str, wait: i32) -> Result<Vec<Message>, QueueError> {
        let answer = self
            .clients
            .sqs()
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .wait_time_seconds(wait)
            .visibility_timeout(whole_seconds(LOOK))
            .message_attribute_names(REASON)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new("SQS ReceiveMessage", url, error)))?;
        Ok(answer.messages.unwrap_or_default())
    }

    fn read(&self, queue: &Queue, message: Message) -> Option<Seen> {
        let at = message
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.get(&MessageSystemAttributeName::SentTimestamp))
            .and_then(|sent| sent.parse().ok())
            .map_or(Timestamp::from_millis(0), Timestamp::from_millis);
        let reason = message
            .message_attributes
            .as_ref()
            .and_then(|attributes| attributes.get(REASON)?.string_value.clone())
            .unwrap_or_else(|| {
                format!(
                    "received {} times and never dealt with; the log of the function that consumes '{}' says why, some time after {at}",
                    self.max_receives,
                    queue.name()
                )
            });
        Some(Seen {
            letter: DeadLetter {
                id: message.message_id?,
                body: message.body?,
                reason,
                at,
            },
            receipt: message.receipt_handle?,
        })
    }

    /// Letters that can be received, and those that somebody looks at, as far as SQS knows.
    async fn count(&self, queue: &Queue, url: &str) -> Result<(usize, usize), QueueError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let answer = self
            .clients
            .sqs()
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new("SQS GetQueueAttributes", url, error)))?;
        let [visible, hidden] = names.map(|name| {
            answer
                .attributes()
                .and_then(|attributes| attributes.get(&name)?.parse().ok())
                .unwrap_or(0)
        });
        Ok((visible, hidden))
    }

    async fn hide(
        &self,
        queue: &Queue,
        url: &str,
        seen: &[Seen],
        visibility: Duration,
    ) -> Result<(), QueueError> {
        const OPERATION: &str = "SQS ChangeMessageVisibilityBatch";
        for batch in seen.chunks(10) {
            let mut call = self
                .clients
                .sqs()
                .change_message_visibility_batch()
                .queue_url(url);
            for (index, seen) in batch.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(&seen.receipt)
                    .visibility_timeout(whole_seconds(visibility))
                    .build()
                    .map_err(|error| failed(queue, CallFailed::new(OPERATION, url, error)))?;
                call = call.entries(entry);
            }
            // An entry that is refused becomes visible by itself a little later.
            call.send()
                .await
                .map_err(|error| failed(queue, CallFailed::new(OPERATION, url, error)))?;
        }
        Ok(())
    }

    async fn send_back(&self, queue: &Queue, url: &str, body: &str) -> Result<(), QueueError> {
        self.clients
            .sqs()
            .send_message()
            .queue_url(url)
            .message_body(body)
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new("SQS SendMessage", url, error)))?;
        Ok(())
    }

    async fn remove(&self, queue: &Queue, url: &str, receipt: &str) -> Result<(), QueueError> {
        self.clients
            .sqs()
            .delete_message()
            .queue_url(url)
            .receipt_handle(receipt)
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new("SQS DeleteMessage", url, error)))?;
        Ok(())
    }
}

/// A reason as an attribute can carry it: not empty, not too long, and of characters that SQS takes.
fn readable(reason: &str) -> String {
    let mut text: String = reason
        .chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => ' ',
            c => c,
        })
        .collect();
    text.truncate(text.floor_char_boundary(LONGEST_REASON));
    if text.trim().is_empty() {
        return "no reason was given".to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_text_that_sqs_takes() {
        assert_eq!(readable("a\u{0}b\n"), "a b\n");
        assert_eq!(readable("  "), "no reason was given");
        assert_eq!(readable(&"ä".repeat(1500)).len(), LONGEST_REASON);
    }
}
