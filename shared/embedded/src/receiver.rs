//! Receiving from the queues.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use slipway_model::{Queue, Timestamp};
use slipway_ports::{DeadLetter, Delivery, QueueError, Receiver};
use tokio::{
    pin, select,
    time::{Instant, sleep_until},
};

use crate::{
    batch::{MessageId, Receipts, Revival, queue_to_text},
    core::{Core, answer},
    pending::Sent,
    queues::Waiting,
};

/// Between two looks whether the disk takes anything again.
const PAUSE: Duration = Duration::from_secs(2);

/// Queues whose messages are rows beside the items, with the semantics of SQS.
#[derive(Debug, Clone)]
pub struct SqliteReceiver {
    core: Arc<Core>,
    epoch: u64,
    /// Dead letters are put back one at a time, so that none is put back twice.
    reviving: Arc<tokio::sync::Mutex<()>>,
}

impl SqliteReceiver {
    pub(crate) fn new(core: Arc<Core>, epoch: u64) -> Self {
        Self {
            core,
            epoch,
            reviving: Arc::default(),
        }
    }

    /// A receipt names the run of the process, the message and the delivery.
    fn receipt(&self, waiting: &Waiting) -> String {
        format!("{}.{}.{}", self.epoch, waiting.id, waiting.receive_count)
    }

    /// Message and delivery, if the receipt is of this run of the process.
    fn read_receipt(&self, receipt: &str) -> Option<(MessageId, u32)> {
        let (epoch, rest) = receipt.split_once('.')?;
        let (id, receive_count) = rest.split_once('.')?;
        if epoch.parse() != Ok(self.epoch) {
            return None;
        }
        Some((id.parse().ok()?, receive_count.parse().ok()?))
    }

    /// Writes receipts with the next commit, without waiting for it.
    fn note(&self, receipts: Receipts) {
        if !receipts.is_empty() {
            let mut pending = self.core.pending();
            pending.open.receipts.add(receipts);
            self.core.touched(&mut pending);
        }
    }

    /// Writes receipts and waits for the commit if there are burials among them, because people look for those.
    async fn note_burials(&self, queue: &Queue, receipts: Receipts) -> Result<(), QueueError> {
        let buried = !receipts.buried.is_empty();
        self.note(receipts);
        if buried {
            self.core.flush().await.map_err(|error| failed(queue, error))?;
        }
        Ok(())
    }

    fn deliver(&self, queue: &Queue, messages: Vec<Waiting>) -> Result<Vec<Delivery>, QueueError> {
        let mut deliveries = Vec::with_capacity(messages.len());
        for waiting in messages {
            let body = match &waiting.body {
                Some(body) => body.as_ref().to_owned(),
                None => match self.body(waiting.id).map_err(|error| failed(queue, error))? {
                    Some(body) => body,
                    None => continue,
                },
            };
            deliveries.push(Delivery {
                body,
                receipt: self.receipt(&waiting),
                receive_count: waiting.receive_count,
            });
        }
        Ok(deliveries)
    }

    fn body(&self, id: MessageId) -> rusqlite::Result<Option<String>> {
        self.core.read(|connection| {
            connection
                .prepare_cached("SELECT body FROM messages WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()
        })
    }
}

fn failed(queue: &Queue, source: impl Error + Send + Sync + 'static) -> QueueError {
    QueueError {
        queue: queue.name().to_owned(),
        source: Box::new(source),
    }
}

#[async_trait]
impl Receiver for SqliteReceiver {
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let end = Instant::now() + wait;
        let arrival = self.core.queues.arrival(queue);
        loop {
            // Listening begins before the look, so that nothing that arrives in between is missed.
            let arrived = arrival.notified();
            pin!(arrived);
            arrived.as_mut().enable();

            if !self.core.can_write().await {
                // A message whose work cannot be written down would only be received in vain, and count as failed in the
                // end.
                tracing::warn!(
                    queue = queue.name(),
                    "the disk takes nothing: messages wait until there is room"
                );
                let next = Instant::now() + PAUSE;
                sleep_until(next.min(end)).await;
                if next >= end {
                    return Ok(Vec::new());
                }
                continue;
            }
            let now = self.core.clock.now();
            let look = self.core.queues.look(queue, max.clamp(1, 10), visibility, now);
            self.note(look.receipts);
            if !look.messages.is_empty() {
                return self.deliver(queue, look.messages);
            }
            let looked = Instant::now();
            if looked >= end {
                return Ok(Vec::new());
            }
            let until = match look.next {
                Some(next) => end.min(looked + next.since(now)),
                None => end,
            };
            select! {
                () = arrived => {}
                () = sleep_until(until) => {}
            }
        }
    }

    async fn acknowledge(&self, queue: &Queue, receipt: &str) -> Result<(), QueueError> {
        if let Some((id, receive_count)) = self.read_receipt(receipt) {
            self.note(self.core.queues.acknowledge(queue, id, receive_count));
        }
        Ok(())
    }

    async fn release(
        &self,
        queue: &Queue,
        receipt: &str,
        delay: Duration,
        reason: &str,
    ) -> Result<(), QueueError> {
        let Some((id, receive_count)) = self.read_receipt(receipt) else {
            return Ok(());
        };
        let now = self.core.clock.now();
        let receipts = self
            .core
            .queues
            .release(queue, id, receive_count, delay, reason, now);
        self.note_burials(queue, receipts).await
    }

    async fn bury(&self, queue: &Queue, receipt: &str, reason: &str) -> Result<(), QueueError> {
        let Some((id, receive_count)) = self.read_receipt(receipt) else {
            return Ok(());
        };
        let now = self.core.clock.now();
        let receipts = self.core.queues.bury(queue, id, receive_count, reason, now);
        self.note_burials(queue, receipts).await
    }

    async fn dead_letters(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let overdue = self.core.queues.settle_overdue(queue, self.core.clock.now());
        self.note(overdue);
        self.core.flush().await.map_err(|error| failed(queue, error))?;
        self.core
            .read(|connection| {
                connection
                    .prepare_cached(
                        "SELECT id, body, reason, at FROM dead_letters WHERE queue = ?1 ORDER BY at, id LIMIT ?2",
                    )?
                    .query_map(params![queue_to_text(queue), limit], |row| {
                        Ok(DeadLetter {
                            id: row.get::<_, MessageId>(0)?.to_string(),
                            body: row.get(1)?,
                            reason: row.get(2)?,
                            at: Timestamp::from_millis(row.get(3)?),
                        })
                    })?
                    .collect()
            })
            .map_err(|error: rusqlite::Error| failed(queue, error))
    }

    async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError> {
        let Ok(dead) = id.parse::<MessageId>() else {
            return Ok(false);
        };
        let _one_at_a_time = self.reviving.lock().await;
        let found = self
            .core
            .read(|connection| {
                connection
                    .prepare_cached("SELECT 1 FROM dead_letters WHERE id = ?1 AND queue = ?2")?
                    .exists(params![dead, queue_to_text(queue)])
            })
            .map_err(|error| failed(queue, error))?;
        if !found {
            return Ok(false);
        }
        let now = self.core.clock.now();
        let waiting = {
            let mut pending = self.core.pending();
            let id = pending.message_id();
            let batch = pending.open.number;
            pending.open.receipts.revived.push(Revival { dead, id, at: now });
            pending.afterwards(batch).publish.push(Sent {
                queue: queue.clone(),
                waiting: Waiting {
                    id,
                    body: None,
                    sent_at: now,
                    receive_count: 0,
                },
                visible_at: now,
                batch,
            });
            self.core.wait_for(&mut pending, batch)
        };
        answer(waiting).await.map_err(|error| failed(queue, error))?;
        Ok(true)
    }
}
