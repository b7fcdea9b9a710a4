//! Sessions: operations on the pending state, made durable together.

use std::{mem, sync::Arc, time::Duration};

use async_trait::async_trait;
use slipway_model::{Message, Queue};
use slipway_ports::{Arrivals, Guard, Item, Key, Put, Session, StoreError, Stored};

use crate::{
    batch::Record,
    core::{Core, answer},
    error::{RestsOnFailure, unavailable},
    pending::{Pending, Sent},
};

/// What fits an item of every store.
const LARGEST_BODY: usize = 350 * 1024;
/// The longest delay that every queue has.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

pub(crate) struct SqliteSession {
    core: Arc<Core>,
    /// Failed commits before this session began.
    failures: u64,
    /// The batch that must be durable before this session is settled: the newest one that it wrote to or saw.
    rests_on: u64,
    sent: Vec<Sent>,
}

impl SqliteSession {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let failures = core.pending().failures;
        Self {
            core,
            failures,
            rests_on: 0,
            sent: Vec::new(),
        }
    }

    /// Reads the pending state, unless what this session rests on is gone.
    fn look<T>(
        &mut self,
        look: impl FnOnce(&mut Pending) -> rusqlite::Result<(T, u64)>,
    ) -> Result<T, StoreError> {
        let mut pending = self.core.pending();
        if pending.failures != self.failures {
            return Err(unavailable(RestsOnFailure));
        }
        let (value, batch) = look(&mut pending).map_err(unavailable)?;
        self.rests_on = self.rests_on.max(batch);
        Ok(value)
    }

    /// Reads and perhaps writes an item. `write` says how the call ends, and whether it wrote.
    fn change(
        &mut self,
        key: &Key,
        guard: Guard,
        write: impl FnOnce(&mut Pending, u64) -> u64,
    ) -> Result<Put, StoreError> {
        let core = Arc::clone(&self.core);
        self.look(|pending| {
            let found = pending.item(key)?;
            let version = found.value.as_ref().map_or(0, |record| record.version);
            let wins = match guard {
                Guard::Absent => found.value.is_none(),
                Guard::Version(expected) => found.value.is_some() && version == expected,
                Guard::Any => true,
            };
            if !wins {
                let current = found.value.map(|record| stored(key, &record));
                return Ok((Put::Lost(current), found.batch));
            }
            let version = write(pending, version);
            core.touched(pending);
            Ok((Put::Won(version), pending.open.number))
        })
    }

    /// Hands the messages over to be published with the batch that the session rests on. Returns whether that batch
    /// is durable already.
    fn hand_over(&mut self, pending: &mut Pending) -> bool {
        let sent = mem::take(&mut self.sent);
        if self.rests_on > pending.durable {
            pending.afterwards(self.rests_on).publish.extend(sent);
            return false;
        }
        self.core.queues.publish(sent, self.core.clock.now());
        true
    }
}

fn stored(key: &Key, record: &Record) -> Stored {
    Stored {
        key: key.clone(),
        body: record.body.as_ref().to_owned(),
        version: record.version,
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let record = self.look(|pending| {
            let found = pending.item(key)?;
            Ok((found.value, found.batch))
        })?;
        Ok(record.map(|record| stored(key, &record)))
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        if item.body.len() > LARGEST_BODY {
            return Err(StoreError::TooLarge {
                key: key.to_string(),
                bytes: item.body.len(),
                limit: LARGEST_BODY,
            });
        }
        self.change(key, guard, |pending, version| {
            pending.write_item(key, item, version + 1);
            version + 1
        })
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        self.change(key, guard, |pending, version| {
            if version > 0 {
                pending.remove_item(key);
            }
            0
        })
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        assert!(slot < 32, "slot {slot} of join {join}: slots are 0 to 31");
        let core = Arc::clone(&self.core);
        self.look(|pending| {
            let found = pending.arrivals(join)?;
            let mut arrivals = found.value;
            let bit = 1 << slot;
            if (arrivals.ok | arrivals.bad) & bit != 0 {
                return Ok((arrivals, found.batch));
            }
            if ok {
                arrivals.ok |= bit;
            } else {
                arrivals.bad |= bit;
            }
            pending.write_arrivals(join, arrivals);
            core.touched(pending);
            Ok((arrivals, pending.open.number))
        })
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        self.look(|pending| {
            let found = pending.arrivals(join)?;
            Ok((found.value, found.batch))
        })
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        let body: Arc<str> = message.to_body().into();
        let now = self.core.clock.now();
        let visible_at = now.plus(delay.min(LONGEST_DELAY));
        let core = Arc::clone(&self.core);
        let sent = self.look(|pending| {
            let sent = pending.write_message(queue, body, now, visible_at);
            core.touched(pending);
            Ok((sent, pending.open.number))
        });
        // An error means that the session rests on a failed commit, and settling says so.
        self.sent.extend(sent.ok());
    }

    async fn settle(mut self: Box<Self>) -> Result<(), StoreError> {
        let waiting = {
            let core = Arc::clone(&self.core);
            let mut pending = core.pending();
            if pending.failures != self.failures {
                self.sent.clear();
                return Err(unavailable(RestsOnFailure));
            }
            if self.hand_over(&mut pending) {
                return Ok(());
            }
            if pending.should_commit_here() {
                let batch = pending.take_off();
                drop(pending);
                return core.commit(&batch).map_err(unavailable);
            }
            core.wait_for(&mut pending, self.rests_on)
        };
        answer(waiting).await.map_err(unavailable)
    }
}

impl Drop for SqliteSession {
    /// What was written stays, so what was sent goes out with it.
    fn drop(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let core = Arc::clone(&self.core);
        let mut pending = core.pending();
        if pending.failures == self.failures {
            self.hand_over(&mut pending);
            core.touched(&mut pending);
        }
    }
}
