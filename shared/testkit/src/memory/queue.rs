//! Queues: a message that is being handled is one that is not visible for a while.

use std::{collections::BTreeMap, sync::MutexGuard, time::Duration};

use async_trait::async_trait;
use slipway_model::{Queue, Timestamp};
use slipway_ports::{DeadLetter, Delivery, QueueError, Receiver};
use tokio::{
    pin, select,
    time::{Instant, sleep_until},
};

use super::SimpleStore;

#[derive(Debug)]
struct Message {
    queue: Queue,
    body: String,
    visible_at: Timestamp,
    receive_count: u32,
}

#[derive(Debug)]
pub(super) struct Queues {
    max_receives: u32,
    messages: BTreeMap<u64, Message>,
    dead: BTreeMap<u64, (Queue, DeadLetter)>,
    last: u64,
}

impl Queues {
    pub(super) fn new(max_receives: u32) -> Self {
        Self {
            max_receives,
            messages: BTreeMap::new(),
            dead: BTreeMap::new(),
            last: 0,
        }
    }

    pub(super) fn send(&mut self, queue: Queue, body: String, visible_at: Timestamp) {
        self.last += 1;
        let message = Message {
            queue,
            body,
            visible_at,
            receive_count: 0,
        };
        self.messages.insert(self.last, message);
    }

    /// The number of the message that a receipt stands for, if it is the last one given out.
    fn number(&self, queue: &Queue, receipt: &str) -> Option<u64> {
        let (number, receive_count) = receipt.split_once('.')?;
        let number = number.parse().ok()?;
        let message = self.messages.get(&number)?;
        let current = message.queue == *queue && receive_count.parse() == Ok(message.receive_count);
        current.then_some(number)
    }

    fn bury(&mut self, number: u64, reason: String, at: Timestamp) {
        if let Some(message) = self.messages.remove(&number) {
            self.last += 1;
            let letter = DeadLetter {
                id: self.last.to_string(),
                body: message.body,
                reason,
                at,
            };
            self.dead.insert(self.last, (message.queue, letter));
        }
    }

    fn bury_exhausted(&mut self, now: Timestamp) {
        let exhausted: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, message)| message.receive_count >= self.max_receives && message.visible_at <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in exhausted {
            self.bury(
                number,
                "received too often and never acknowledged".to_owned(),
                now,
            );
        }
    }

    fn take(&mut self, queue: &Queue, max: usize, now: Timestamp, until: Timestamp) -> Vec<Delivery> {
        self.bury_exhausted(now);
        self.messages
            .iter_mut()
            .filter(|(_, message)| message.queue == *queue && message.visible_at <= now)
            .take(max.clamp(1, 10))
            .map(|(number, message)| {
                message.receive_count += 1;
                message.visible_at = until;
                Delivery {
                    body: message.body.clone(),
                    receipt: format!("{number}.{}", message.receive_count),
                    receive_count: message.receive_count,
                }
            })
            .collect()
    }

    fn next(&self, queue: &Queue) -> Option<Timestamp> {
        self.messages
            .values()
            .filter(|message| message.queue == *queue)
            .map(|message| message.visible_at)
            .min()
    }
}

impl SimpleStore {
    pub(super) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues
            .lock()
            .expect("nothing panics while it holds the queues")
    }

    /// Messages on a queue, whether they can be received or not.
    pub fn queue_length(&self, queue: &Queue) -> usize {
        let queues = self.queues();
        queues
            .messages
            .values()
            .filter(|message| message.queue == *queue)
            .count()
    }

    /// When the next message of any queue can be received; may be in the past.
    pub fn next_message_at(&self) -> Option<Timestamp> {
        let queues = self.queues();
        queues.messages.values().map(|message| message.visible_at).min()
    }
}

#[async_trait]
impl Receiver for SimpleStore {
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let end = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            pin!(changed);
            changed.as_mut().enable();
            let now = self.clock.now();
            let (deliveries, next) = {
                let mut queues = self.queues();
                let deliveries = queues.take(queue, max, now, now.plus(visibility));
                (deliveries, queues.next(queue))
            };
            if !deliveries.is_empty() {
                // Others that wait may have to look again sooner now.
                self.changed.notify_waiters();
                return Ok(deliveries);
            }
            let looked = Instant::now();
            if looked >= end {
                return Ok(Vec::new());
            }
            let until = next.map_or(end, |next| end.min(looked + next.since(now)));
            select! {
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    async fn acknowledge(&self, queue: &Queue, receipt: &str) -> Result<(), QueueError> {
        let mut queues = self.queues();
        if let Some(number) = queues.number(queue, receipt) {
            queues.messages.remove(&number);
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
        let now = self.clock.now();
        let mut queues = self.queues();
        let Some(number) = queues.number(queue, receipt) else {
            return Ok(());
        };
        let max_receives = queues.max_receives;
        match queues.messages.get_mut(&number) {
            Some(message) if message.receive_count < max_receives => message.visible_at = now.plus(delay),
            _ => queues.bury(number, reason.to_owned(), now),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn bury(&self, queue: &Queue, receipt: &str, reason: &str) -> Result<(), QueueError> {
        let now = self.clock.now();
        let mut queues = self.queues();
        if let Some(number) = queues.number(queue, receipt) {
            queues.bury(number, reason.to_owned(), now);
        }
        Ok(())
    }

    async fn dead_letters(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let mut queues = self.queues();
        queues.bury_exhausted(self.clock.now());
        let letters = queues.dead.values().filter(|(of, _)| of == queue);
        Ok(letters.map(|(_, letter)| letter.clone()).take(limit).collect())
    }

    async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError> {
        let mut queues = self.queues();
        let Ok(number) = id.parse::<u64>() else {
            return Ok(false);
        };
        match queues.dead.remove(&number) {
            Some((of, letter)) if of == *queue => {
                queues.send(of, letter.body, self.clock.now());
                self.changed.notify_waiters();
                Ok(true)
            }
            Some(other) => {
                queues.dead.insert(number, other);
                Ok(false)
            }
            None => Ok(false),
        }
    }
}
