//! Receiving from SQS by polling, for whoever is no Lambda function with an event source.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use slipway_model::Queue;
use slipway_ports::{DeadLetter, Delivery, QueueError, Receiver};
use tokio::time::Instant;

use crate::{
    clients::{Clients, timeouts},
    dead_letters::DeadLetters,
    error::CallFailed,
    queues::Queues,
    sending::whole_seconds,
};

/// The longest wait of one receive.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// The longest visibility time-out that SQS has.
const LONGEST_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

/// Queues on SQS. Clones share what they received.
///
/// SQS answers a receipt that is no longer current in several ways, some of which touch the message. So the receiver
/// remembers what it was given, and ignores receipts of messages that it no longer holds.
#[derive(Debug, Clone)]
pub struct SqsReceiver {
    clients: Clients,
    queues: Queues,
    dead_letters: DeadLetters,
    max_receives: u32,
    held: Arc<Mutex<HashMap<String, Held>>>,
}

/// A message that was received and may still be dealt with.
#[derive(Debug, Clone)]
struct Held {
    url: String,
    message: String,
    body: String,
    receive_count: u32,
    until: Instant,
}

/// A queue that the settings do not name.
#[derive(Debug, thiserror::Error)]
#[error("the settings of the queues have no SQS queue of this name")]
pub(crate) struct NotConfigured;

pub(crate) fn failed(queue: &Queue, source: impl Into<Box<dyn Error + Send + Sync>>) -> QueueError {
    QueueError {
        queue: queue.name().to_owned(),
        source: source.into(),
    }
}

impl SqsReceiver {
    /// A receiver of `queues`, whose dead letters are on `dead_letter_queues`. `max_receives` is what their redrive
    /// policies say.
    pub fn new(clients: &Clients, queues: Queues, dead_letter_queues: Queues, max_receives: u32) -> Self {
        Self {
            clients: clients.clone(),
            dead_letters: DeadLetters::new(clients.clone(), queues.clone(), dead_letter_queues, max_receives),
            queues,
            max_receives,
            held: Arc::default(),
        }
    }

    /// Puts a message that nobody can deal with on its queue's dead-letter queue, for consumers whose event source
    /// removes it from the queue itself.
    ///
    /// # Errors
    /// When the queue has no dead-letter queue, or that does not answer.
    pub async fn dead_letter(&self, queue: &Queue, body: &str, reason: &str) -> Result<(), QueueError> {
        self.dead_letters.bury(queue, body, reason).await
    }

    /// Lets a message that an event source gave be received again after `delay`.
    ///
    /// # Errors
    /// When the queue does not answer. A receipt that is no longer current is none.
    pub async fn return_after(
        &self,
        queue: &Queue,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError> {
        let url = self.url(queue)?;
        let answer = self
            .clients
            .sqs()
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle(receipt)
            .visibility_timeout(whole_seconds(delay.min(LONGEST_VISIBILITY)))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(no_longer_current) => Ok(()),
            Err(error) => Err(failed(
                queue,
                CallFailed::new("SQS ChangeMessageVisibility", url, error),
            )),
        }
    }

    fn url(&self, queue: &Queue) -> Result<&str, QueueError> {
        self.queues.url(queue).ok_or_else(|| failed(queue, NotConfigured))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held
            .lock()
            .expect("nothing panics while it holds the messages")
    }

    /// What a receipt stands for, if it is current; it is not any more.
    fn take(&self, queue: &Queue, receipt: &str) -> Result<Option<Held>, QueueError> {
        let url = self.url(queue)?;
        let mut held = self.held();
        let current = held
            .get(receipt)
            .is_some_and(|held| held.url == url && held.until > Instant::now());
        Ok(if current { held.remove(receipt) } else { None })
    }

    async fn remove(&self, queue: &Queue, url: &str, receipt: &str) -> Result<(), QueueError> {
        let answer = self
            .clients
            .sqs()
            .delete_message()
            .queue_url(url)
            .receipt_handle(receipt)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_receipt_handle_is_invalid()) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(queue, CallFailed::new("SQS DeleteMessage", url, error))),
        }
    }

    async fn poll(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let url = self.url(queue)?;
        let answer = self
            .clients
            .sqs()
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(max.clamp(1, 10)).unwrap_or(10))
            .wait_time_seconds(whole_seconds(wait.min(LONGEST_POLL)))
            .visibility_timeout(whole_seconds(visibility.min(LONGEST_VISIBILITY)))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(
                aws_sdk_sqs::config::Config::builder()
                    .timeout_config(timeouts(LONGEST_POLL * 2, LONGEST_POLL * 3)),
            )
            .send()
            .await
            .map_err(|error| failed(queue, CallFailed::new("SQS ReceiveMessage", url, error)))?;
        let now = Instant::now();
        let until = now + visibility;
        let mut held = self.held();
        held.retain(|_, held| held.until > now);
        let mut deliveries = Vec::new();
        for message in answer.messages.into_iter().flatten() {
            let (Some(receipt), Some(id), Some(body)) =
                (message.receipt_handle, message.message_id, message.body)
            else {
                continue;
            };
            let receive_count = message
                .attributes
                .iter()
                .flatten()
                .find(|(name, _)| **name == MessageSystemAttributeName::ApproximateReceiveCount)
                .and_then(|(_, value)| value.parse().ok())
                .unwrap_or(1);
            // What was received again is no longer held under its old receipt.
            held.retain(|_, held| held.message != id);
            held.insert(
                receipt.clone(),
                Held {
                    url: url.to_owned(),
                    message: id,
                    body: body.clone(),
                    receive_count,
                    until,
                },
            );
            deliveries.push(Delivery {
                body,
                receipt,
                receive_count,
            });
        }
        Ok(deliveries)
    }
}

/// Whether a visibility time-out could not be changed because somebody else holds the message, or nobody can.
fn no_longer_current(
    error: &aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError,
) -> bool {
    error.is_message_not_inflight()
        || error.is_receipt_handle_is_invalid()
        || error.meta().code() == Some("InvalidParameterValue")
}

#[async_trait]
impl Receiver for SqsReceiver {
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let deliveries = self.poll(queue, max, left, visibility).await?;
            if !deliveries.is_empty() || Instant::now() >= end {
                return Ok(deliveries);
            }
        }
    }

    async fn acknowledge(&self, queue: &Queue, receipt: &str) -> Result<(), QueueError> {
        match self.take(queue, receipt)? {
            Some(held) => self.remove(queue, &held.url, receipt).await,
            None => Ok(()),
        }
    }

    async fn release(
        &self,
        queue: &Queue,
        receipt: &str,
        delay: Duration,
        reason: &str,
    ) -> Result<(), QueueError> {
        let Some(held) = self.take(queue, receipt)? else {
            return Ok(());
        };
        if held.receive_count >= self.max_receives {
            self.dead_letters.bury(queue, &held.body, reason).await?;
            return self.remove(queue, &held.url, receipt).await;
        }
        self.return_after(queue, receipt, delay).await
    }

    async fn bury(&self, queue: &Queue, receipt: &str, reason: &str) -> Result<(), QueueError> {
        let Some(held) = self.take(queue, receipt)? else {
            return Ok(());
        };
        self.dead_letters.bury(queue, &held.body, reason).await?;
        self.remove(queue, &held.url, receipt).await
    }

    async fn dead_letters(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.dead_letters.list(queue, limit).await
    }

    async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError> {
        self.dead_letters.redrive(queue, id).await
    }
}
