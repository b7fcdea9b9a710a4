//! What can be received, in memory: a restart makes every message receivable again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use slipway_model::{Queue, Timestamp};
use tokio::sync::Notify;

use crate::{
    batch::{Burial, MessageId, Receipts},
    pending::Sent,
};

/// Bytes of bodies that one queue keeps in memory so that receiving needs no read.
const KEPT_BODIES: usize = 1 << 20;

/// A message that waits to be received.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: MessageId,
    /// Absent: it has to be read from the database.
    pub(crate) body: Option<Arc<str>>,
    pub(crate) sent_at: Timestamp,
    pub(crate) receive_count: u32,
}

/// A message that somebody received.
#[derive(Debug)]
struct Flight {
    waiting: Waiting,
    deadline: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Waiting>,
    delayed: BTreeMap<(Timestamp, MessageId), Waiting>,
    flying: HashMap<MessageId, Flight>,
    deadlines: BTreeSet<(Timestamp, MessageId)>,
    kept: usize,
    /// Every receiver that waits looks again at this time or before; `None`: some wait without such a time.
    armed: Option<Timestamp>,
    arrival: Arc<Notify>,
}

/// What a look at a queue gave.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) messages: Vec<Waiting>,
    /// When the next message becomes receivable by itself.
    pub(crate) next: Option<Timestamp>,
    /// What became of messages that were not acknowledged in time.
    pub(crate) receipts: Receipts,
}

/// All queues.
#[derive(Debug)]
pub(crate) struct Queues {
    states: Mutex<HashMap<Queue, State>>,
    max_receives: u32,
    max_receives_of: BTreeMap<Queue, u32>,
}

impl Queues {
    pub(crate) fn new(max_receives: u32, max_receives_of: BTreeMap<Queue, u32>) -> Self {
        Self {
            states: Mutex::default(),
            max_receives,
            max_receives_of,
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<Queue, State>> {
        self.states
            .lock()
            .expect("nothing panics while it holds the queues")
    }

    /// Times that a message of that queue is received before it becomes a dead letter.
    pub(crate) fn allowed(&self, queue: &Queue) -> u32 {
        self.max_receives_of
            .get(queue)
            .copied()
            .unwrap_or(self.max_receives)
            .max(1)
    }

    /// Wakes one receiver of a queue that got something to receive.
    pub(crate) fn arrival(&self, queue: &Queue) -> Arc<Notify> {
        Arc::clone(&self.states().entry(queue.clone()).or_default().arrival)
    }

    /// Puts messages that are durable on their queues.
    pub(crate) fn publish(&self, sent: Vec<Sent>, now: Timestamp) {
        if sent.is_empty() {
            return;
        }
        let mut states = self.states();
        for message in sent {
            states
                .entry(message.queue)
                .or_default()
                .add(message.waiting, message.visible_at, now);
        }
    }

    /// Takes up to `max` messages, each invisible to others for `visibility`.
    pub(crate) fn look(&self, queue: &Queue, max: usize, visibility: Duration, now: Timestamp) -> Look {
        let allowed = self.allowed(queue);
        let mut states = self.states();
        let state = states.entry(queue.clone()).or_default();
        let mut receipts = Receipts::default();
        state.promote(now, allowed, &mut receipts);
        let deadline = now.plus(visibility);
        let messages = state.take(max, deadline);
        let next = state.next();
        if messages.is_empty() {
            // The caller will wait until then; whoever waits already looks again no later.
            state.armed = next;
        } else if !state.ready.is_empty() {
            state.arrival.notify_one();
        }
        Look {
            messages,
            next,
            receipts,
        }
    }

    /// Ends a delivery for good. Nothing happens when the receipt is no longer current.
    pub(crate) fn acknowledge(&self, queue: &Queue, id: MessageId, receive_count: u32) -> Receipts {
        let mut receipts = Receipts::default();
        if let Some(state) = self.states().get_mut(queue)
            && state.land(id, receive_count).is_some()
        {
            receipts.removed.push(id);
        }
        receipts
    }

    /// Gives a message back, or buries it when it was received as often as is allowed.
    pub(crate) fn release(
        &self,
        queue: &Queue,
        id: MessageId,
        receive_count: u32,
        delay: Duration,
        reason: &str,
        now: Timestamp,
    ) -> Receipts {
        let allowed = self.allowed(queue);
        let mut receipts = Receipts::default();
        let mut states = self.states();
        let Some(state) = states.get_mut(queue) else {
            return receipts;
        };
        let Some(waiting) = state.land(id, receive_count) else {
            return receipts;
        };
        if waiting.receive_count >= allowed {
            receipts.buried.push(Burial {
                id,
                reason: reason.to_owned(),
                at: now,
            });
        } else {
            let visible_at = now.plus(delay);
            receipts.released.insert(id, (visible_at, waiting.receive_count));
            state.add(waiting, visible_at, now);
        }
        receipts
    }

    /// Makes a message a dead letter at once.
    pub(crate) fn bury(
        &self,
        queue: &Queue,
        id: MessageId,
        receive_count: u32,
        reason: &str,
        now: Timestamp,
    ) -> Receipts {
        let mut receipts = Receipts::default();
        if let Some(state) = self.states().get_mut(queue)
            && state.land(id, receive_count).is_some()
        {
            receipts.buried.push(Burial {
                id,
                reason: reason.to_owned(),
                at: now,
            });
        }
        receipts
    }

    /// Deals with the messages of a queue whose visibility has ended, without receiving any.
    pub(crate) fn settle_overdue(&self, queue: &Queue, now: Timestamp) -> Receipts {
        let allowed = self.allowed(queue);
        let mut receipts = Receipts::default();
        if let Some(state) = self.states().get_mut(queue) {
            state.promote(now, allowed, &mut receipts);
        }
        receipts
    }

    /// Forgets messages that nobody received since before `sent_before`.
    pub(crate) fn expire(&self, sent_before: Timestamp) -> Receipts {
        let mut receipts = Receipts::default();
        for state in self.states().values_mut() {
            let old = |waiting: &Waiting| waiting.sent_at < sent_before;
            let (mut expired, ready): (Vec<_>, Vec<_>) =
                mem::take(&mut state.ready).into_iter().partition(old);
            state.ready = ready.into();
            let (late, delayed): (BTreeMap<_, _>, BTreeMap<_, _>) = mem::take(&mut state.delayed)
                .into_iter()
                .partition(|(_, waiting)| old(waiting));
            state.delayed = delayed;
            expired.extend(late.into_values());
            for waiting in expired {
                state.kept -= waiting.body.as_ref().map_or(0, |body| body.len());
                receipts.removed.push(waiting.id);
            }
        }
        receipts
    }
}

impl State {
    fn add(&mut self, mut waiting: Waiting, visible_at: Timestamp, now: Timestamp) {
        let length = waiting.body.as_ref().map_or(0, |body| body.len());
        if self.kept + length > KEPT_BODIES {
            waiting.body = None;
        } else {
            self.kept += length;
        }
        if visible_at <= now {
            self.ready.push_back(waiting);
            self.arrival.notify_one();
        } else {
            self.delayed.insert((visible_at, waiting.id), waiting);
            self.arm(visible_at);
        }
    }

    /// Makes sure that receivers that wait look again at that time.
    fn arm(&mut self, at: Timestamp) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.arrival.notify_waiters();
        }
    }

    fn next(&self) -> Option<Timestamp> {
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        delayed.into_iter().chain(deadline).min()
    }

    fn take(&mut self, max: usize, deadline: Timestamp) -> Vec<Waiting> {
        let taken: Vec<Waiting> = self
            .ready
            .drain(..max.min(self.ready.len()))
            .map(|mut waiting| {
                waiting.receive_count += 1;
                waiting
            })
            .collect();
        for waiting in &taken {
            self.kept -= waiting.body.as_ref().map_or(0, |body| body.len());
            self.deadlines.insert((deadline, waiting.id));
            self.flying.insert(
                waiting.id,
                Flight {
                    waiting: waiting.clone(),
                    deadline,
                },
            );
        }
        if !taken.is_empty() {
            self.arm(deadline);
        }
        taken
    }

    /// Takes a message out by its last delivery, also when its visibility has ended and nobody received it since.
    fn land(&mut self, id: MessageId, receive_count: u32) -> Option<Waiting> {
        let is_it = |waiting: &Waiting| waiting.id == id && waiting.receive_count == receive_count;
        if let Some(flight) = self.flying.get(&id) {
            if !is_it(&flight.waiting) {
                return None;
            }
            let flight = self.flying.remove(&id)?;
            self.deadlines.remove(&(flight.deadline, id));
            return Some(flight.waiting);
        }
        let waiting = match self.ready.iter().position(is_it) {
            Some(position) => self.ready.remove(position)?,
            None => {
                let (key, _) = self.delayed.iter().find(|(_, waiting)| is_it(waiting))?;
                let key = *key;
                self.delayed.remove(&key)?
            }
        };
        self.kept -= waiting.body.as_ref().map_or(0, |body| body.len());
        Some(waiting)
    }

    /// Makes receivable what has become so by `now`.
    fn promote(&mut self, now: Timestamp, allowed: u32, receipts: &mut Receipts) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            self.ready.push_back(entry.remove());
        }
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(Flight { waiting, .. }) = self.flying.remove(&id) else {
                continue;
            };
            if waiting.receive_count >= allowed {
                receipts.buried.push(Burial {
                    id,
                    reason: format!("received {} times and never acknowledged", waiting.receive_count),
                    at: now,
                });
            } else {
                receipts.released.insert(id, (deadline, waiting.receive_count));
                self.add(waiting, deadline, now);
            }
        }
    }
}
