//! Queues: at least once, in no order, with delays, visibility time-outs and dead letters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use slipway_model::{Queue, Timestamp};
use slipway_ports::{DeadLetter, Delivery, QueueError, Receiver};

use crate::{
    coverage::Fault,
    mutants::Mutant,
    store::broken,
    tasks::Fate,
    world::{Happening, Shape, Sim, World},
};

/// A message that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) id: u64,
    pub(crate) queue: Queue,
    pub(crate) body: Arc<str>,
    /// How long it waits before it can be received, in milliseconds.
    delay: i64,
    receive_count: u32,
    /// How often it was received when that was last made durable.
    kept_count: u32,
    visible_at: i64,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) queue: Queue,
    pub(crate) body: Arc<str>,
    pub(crate) receive_count: u32,
    pub(crate) is_last: bool,
}

/// All queues of a run.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) letters: BTreeMap<u64, Letter>,
    pub(crate) dead: BTreeMap<u64, (Queue, DeadLetter)>,
    last: u64,
    /// Dead letters that there ever were.
    pub(crate) buried: u64,
    /// How many of these there were when somebody began to look at them, and came to the end.
    pub(crate) looked_at: u64,
    /// Times that a message is received before it becomes a dead letter.
    pub(crate) max_receives: u32,
}

/// How long a message is invisible while it is handled, in milliseconds.
pub(crate) fn visibility(shape: Shape, queue: &Queue) -> i64 {
    match (shape, queue) {
        (Shape::Embedded, _) => 300_000,
        (Shape::Aws, Queue::DeployHelm) => 1_800_000,
        (Shape::Aws, _) => 1_080_000,
    }
}

impl World {
    /// A message that is not sent yet.
    pub(crate) fn letter(&mut self, queue: Queue, body: String, delay: i64) -> Letter {
        self.queues.last += 1;
        self.check_body("message", &body);
        Letter {
            id: self.queues.last,
            queue,
            body: body.into(),
            delay,
            receive_count: 0,
            kept_count: 0,
            visible_at: 0,
        }
    }

    /// A message is on its queue.
    pub(crate) fn post(&mut self, mut letter: Letter) {
        if self.has(Mutant::DropEvents)
            && matches!(letter.queue, Queue::Topic(_))
            && letter.id.is_multiple_of(5)
        {
            return;
        }
        if self.trace.is_some() {
            let line = format!("  sent {} on {}: {}", letter.id, letter.queue.name(), letter.body);
            self.say(format_args!("{line}"));
        }
        self.sum(letter.id);
        self.check_post(&letter);
        letter.visible_at = self.now + letter.delay;
        self.arrange_delivery(&letter);
        self.queues.letters.insert(letter.id, letter);
    }

    fn arrange_delivery(&mut self, letter: &Letter) {
        // Some messages of a queue overtake others.
        let way = match self.choices.below(32) {
            31 if self.stormy => i64::from(self.choices.below(20_000)),
            few => i64::from(few % 16),
        };
        self.at(
            letter.visible_at.max(self.now) + way,
            Happening::Deliver(letter.id),
        );
    }

    /// Receives a message, if it can be received; `twice` even if somebody works on it.
    pub(crate) fn receive(&mut self, id: u64, twice: bool) -> Option<Received> {
        let now = self.now;
        let max = self.queues.max_receives;
        let letter = self.queues.letters.get(&id)?;
        let visibility = visibility(self.shape, &letter.queue);
        if letter.visible_at > now && !twice {
            return None;
        }
        if letter.receive_count >= max {
            if !twice {
                self.bury(id, "received too often and never acknowledged".to_owned());
            }
            return None;
        }
        let letter = self.queues.letters.get_mut(&id)?;
        letter.receive_count += 1;
        letter.visible_at = now + visibility;
        let received = Received {
            id,
            queue: letter.queue.clone(),
            body: Arc::clone(&letter.body),
            receive_count: letter.receive_count,
            is_last: letter.receive_count >= max,
        };
        let again = letter.clone();
        self.at(again.visible_at, Happening::Deliver(id));
        let rate = self.rates.duplicate;
        if self.goes_wrong(rate, Fault::Duplicate) {
            let delay = i64::from(self.choices.below(3000));
            self.after(delay, Happening::Duplicate(id));
        }
        self.coverage.messages += 1;
        self.checks.worked_on += u64::from(!matches!(received.queue, Queue::Topic(_)));
        Some(received)
    }

    /// The message was dealt with.
    pub(crate) fn acknowledge(&mut self, id: u64) {
        if let Some(letter) = self.queues.letters.remove(&id)
            && self.shape == Shape::Embedded
        {
            self.tables.open.acknowledged.push(letter);
            self.arrange_commit();
        }
    }

    /// The message comes again after `delay` milliseconds.
    pub(crate) fn release(&mut self, id: u64, delay: i64) {
        let now = self.now;
        if let Some(letter) = self.queues.letters.get_mut(&id) {
            letter.visible_at = now + delay;
            letter.kept_count = letter.receive_count;
            let letter = letter.clone();
            self.arrange_delivery(&letter);
        }
    }

    /// The message becomes a dead letter.
    pub(crate) fn bury(&mut self, id: u64, reason: String) {
        if let Some(letter) = self.queues.letters.remove(&id) {
            self.coverage.fault(Fault::DeadLetter);
            self.say(format_args!("  buried {id}: {reason}"));
            let dead = DeadLetter {
                id: id.to_string(),
                body: letter.body.as_ref().to_owned(),
                reason,
                at: Timestamp::from_millis(self.now),
            };
            self.queues.dead.insert(id, (letter.queue, dead));
            self.queues.buried += 1;
        }
    }

    /// The process died: whatever it had received can be received again, and so can what it had dealt with if that
    /// was not durable.
    pub(crate) fn restart_queues(&mut self, undone: Vec<Letter>) {
        for letter in undone {
            self.queues.letters.insert(letter.id, letter);
        }
        let now = self.now;
        let mut again = Vec::new();
        for letter in self.queues.letters.values_mut() {
            if letter.receive_count > letter.kept_count {
                letter.receive_count = letter.kept_count;
                letter.visible_at = now;
            }
            again.push(letter.clone());
        }
        for letter in again {
            self.arrange_delivery(&letter);
        }
    }
}

/// The receiving side as handlers see it: only dead letters are looked at by them.
pub(crate) struct SimReceiver(pub(crate) Sim);

impl SimReceiver {
    async fn call(&self, queue: &Queue, name: &'static str) -> Result<(), QueueError> {
        match self.0.call(name).await {
            Fate::Well => Ok(()),
            Fate::Refused | Fate::Unanswered => Err(QueueError {
                queue: queue.name().to_owned(),
                source: Box::new(broken(&mut self.0.world())),
            }),
        }
    }
}

#[async_trait]
impl Receiver for SimReceiver {
    async fn receive(
        &self,
        queue: &Queue,
        _max: usize,
        _wait: Duration,
        _visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        // The run hands messages to handlers; nothing else receives.
        self.call(queue, "receive").await?;
        Ok(Vec::new())
    }

    async fn acknowledge(&self, queue: &Queue, receipt: &str) -> Result<(), QueueError> {
        self.call(queue, "acknowledge").await?;
        if let Ok(id) = receipt.parse() {
            self.0.world().acknowledge(id);
        }
        Ok(())
    }

    async fn release(
        &self,
        queue: &Queue,
        receipt: &str,
        delay: Duration,
        _reason: &str,
    ) -> Result<(), QueueError> {
        self.call(queue, "release").await?;
        if let Ok(id) = receipt.parse() {
            self.0.world().release(id, crate::world::millis(delay));
        }
        Ok(())
    }

    async fn bury(&self, queue: &Queue, receipt: &str, reason: &str) -> Result<(), QueueError> {
        self.call(queue, "bury").await?;
        if let Ok(id) = receipt.parse() {
            self.0.world().bury(id, reason.to_owned());
        }
        Ok(())
    }

    async fn dead_letters(&self, queue: &Queue, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let is_empty = self.0.world().queues.dead.is_empty();
        if !is_empty {
            self.call(queue, "dead letters").await?;
        }
        let world = self.0.world();
        let letters = world.queues.dead.values().filter(|(of, _)| of == queue);
        Ok(letters.map(|(_, letter)| letter.clone()).take(limit).collect())
    }

    async fn redrive(&self, queue: &Queue, id: &str) -> Result<bool, QueueError> {
        self.call(queue, "redrive").await?;
        let mut world = self.0.world();
        let Some((of, letter)) = id.parse().ok().and_then(|id: u64| world.queues.dead.remove(&id)) else {
            return Ok(false);
        };
        let letter = world.letter(of, letter.body, 0);
        world.post(letter);
        Ok(true)
    }
}
