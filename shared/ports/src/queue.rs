//! The receiving side of queues. Sending is part of a store session.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use slipway_model::{Queue, Timestamp};

/// A message that was received and is invisible to others until its visibility time-out.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The text, for [`slipway_model::Message::from_body`].
    pub body: String,
    /// Names this delivery; a later delivery of the same message has another.
    pub receipt: String,
    /// Times that the message was received, this one included.
    pub receive_count: u32,
}

/// A message that was received too often, or that nobody could read.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Names it among the queue's dead letters.
    pub id: String,
    /// The text.
    pub body: String,
    /// Why it is here.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// Receiving with the semantics of SQS standard queues: at least once, in no order, with delays, visibility
/// time-outs and dead letters.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// Up to `max` (1 to 10) messages; waits up to `wait` for the first. Each is invisible to others for
    /// `visibility`.
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// The message was dealt with. A receipt that is no longer current is ignored.
    async fn acknowledge(&self, queue: &Queue, receipt: &str) -> Result<(), QueueError>;

    /// The message can be received again after `delay`. A message that was received as often as the queue allows
    /// becomes a dead letter with `reason` instead. A receipt that is no longer current is ignored.
    async fn release(
        &self,
        queue: &Queue,
        receipt: &str,
        delay: Duration,
        reason: &str,
    ) -> Result<(), QueueError>;

    /// The message becomes a dead letter at once.
    async fn bury(&self, queue: &Queue, receipt: &str, reason: &str) -> Result<(), QueueError>;

    /// Dead letters of a queue, oldest first, at most `limit`.
    async fn dead_letters(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Puts a dead letter back on its queue, received zero times. Whether it was there.
    async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError>;
}

/// Why a queue call failed.
#[derive(Debug, thiserror::Error)]
#[error("queue '{queue}' does not answer")]
pub struct QueueError {
    /// Which queue.
    pub queue: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
