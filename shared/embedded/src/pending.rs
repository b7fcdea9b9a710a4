//! What sessions wrote and no commit has made durable yet, over what the database holds.
//!
//! Sessions write into the *open* batch. When somebody waits, the committer takes the whole batch away — it is
//! *flying* then — and writes it in one transaction while sessions go on in the next one. So everybody who waits
//! shares one fsync, and nobody waits for an fsync to do an operation.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use slipway_model::{Queue, Timestamp};
use slipway_ports::{Arrivals, Item, Key};
use tokio::sync::oneshot;

use crate::{
    batch::{Batch, Change, MessageId, NewMessage, Record},
    cache::Cache,
    error::CommitFailed,
    fresh::Fresh,
    queues::Waiting,
};

/// A batch this large is written though nobody waits for it.
const LARGE_BATCH: usize = 4 << 20;
/// A commit this quick does not hold up a thread that others need.
const QUICK_COMMIT: Duration = Duration::from_millis(5);
/// After so many commits in a row that one alone waited for, whoever waits next commits by itself.
const LONELY: u32 = 4;
/// Every so many of those go to the committer all the same, to see whether others would join.
const PROBE: u32 = 16;
const ITEM_CACHE: usize = 3 << 20;
const JOIN_CACHE: usize = 1 << 20;

/// A message that can be received as soon as it is durable.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) queue: Queue,
    pub(crate) waiting: Waiting,
    pub(crate) visible_at: Timestamp,
    /// The batch that it is in.
    pub(crate) batch: u64,
}

/// Tells how the commit ended.
pub(crate) type Waiter = oneshot::Sender<Result<(), CommitFailed>>;

/// What happens when a batch is durable.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) publish: Vec<Sent>,
}

/// What stands under a key, and the batch that must be durable before anything may rest on it (0: it is).
#[derive(Debug, Clone)]
pub(crate) struct Found<V> {
    pub(crate) value: V,
    pub(crate) batch: u64,
}

pub(crate) struct Pending {
    pub(crate) open: Batch,
    pub(crate) open_afterwards: Afterwards,
    flying: Option<Arc<Batch>>,
    flying_afterwards: Afterwards,
    /// The last batch that is durable.
    pub(crate) durable: u64,
    /// Commits that failed. A session that began before the last of them may rest on what is gone.
    pub(crate) failures: u64,
    /// The process is about to end.
    pub(crate) closing: bool,
    /// The committer waits without a time limit: whoever writes must wake it.
    pub(crate) asleep: bool,
    /// What the last commit took.
    pub(crate) last_commit: Duration,
    /// Commits in a row that no more than one waited for, and during which nobody came to wait.
    lonely: u32,
    items: Cache<Option<Record>>,
    joins: Cache<Arrivals>,
    fresh: Fresh,
    /// Rows that were asked for.
    pub(crate) reads: u64,
    /// The connection that commits. Between commits it is the better one to read with, because its pages stay good
    /// when it writes; other connections drop theirs.
    writer: Arc<Mutex<Connection>>,
    reader: Connection,
    next_message: MessageId,
}

impl Pending {
    pub(crate) fn new(writer: Arc<Mutex<Connection>>, reader: Connection, next_message: MessageId) -> Self {
        Self {
            open: Batch::new(1),
            open_afterwards: Afterwards::default(),
            flying: None,
            flying_afterwards: Afterwards::default(),
            durable: 0,
            failures: 0,
            closing: false,
            asleep: false,
            last_commit: Duration::ZERO,
            lonely: 0,
            items: Cache::new(ITEM_CACHE),
            joins: Cache::new(JOIN_CACHE),
            fresh: Fresh::default(),
            reads: 0,
            writer,
            reader,
            next_message,
        }
    }

    /// The item as the newest write left it.
    pub(crate) fn item(&mut self, key: &Key) -> rusqlite::Result<Found<Option<Record>>> {
        let batches = [Some(&self.open), self.flying.as_deref()];
        for batch in batches.into_iter().flatten() {
            if let Some(change) = batch.items.get(key) {
                return Ok(Found {
                    value: change.as_ref().map(|change| change.record.clone()),
                    batch: batch.number,
                });
            }
        }
        if let Some(value) = self.items.get(key, record_weight) {
            return Ok(Found { value, batch: 0 });
        }
        if self.is_new(key)? {
            return Ok(Found {
                value: None,
                batch: 0,
            });
        }
        let value = self.read(|connection| {
            connection
                .prepare_cached("SELECT body, version FROM items WHERE partition = ?1 AND sort = ?2")?
                .query_row((&key.partition, &key.sort), |row| {
                    Ok(Record {
                        body: row.get(0)?,
                        version: row.get(1)?,
                    })
                })
                .optional()
        })?;
        self.items.put(key.clone(), value.clone(), record_weight(&value));
        Ok(Found { value, batch: 0 })
    }

    /// Whether nothing was ever written under the key, as far as that is known without asking for it.
    fn is_new(&mut self, key: &Key) -> rusqlite::Result<bool> {
        if self.fresh.knows(&key.partition) {
            return Ok(self.fresh.lacks(key));
        }
        let is_written = |batch: &Batch| batch.partitions.contains(&key.partition);
        if is_written(&self.open) || self.flying.as_deref().is_some_and(is_written) {
            return Ok(false);
        }
        let found = self.read(|connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM items WHERE partition = ?1)")?
                .query_row([&key.partition], |row| row.get::<_, bool>(0))
        })?;
        if !found {
            self.fresh.is_empty_now(&key.partition);
        }
        Ok(!found)
    }

    pub(crate) fn write_item(&mut self, key: &Key, item: Item, version: u64) {
        self.note_write(key);
        self.open.bytes += 256 + item.body.len();
        let record = Record {
            body: item.body.as_str().into(),
            version,
        };
        let change = Change {
            record,
            item: Item {
                body: String::new(),
                ..item
            },
        };
        self.open.items.insert(key.clone(), Some(change));
    }

    fn note_write(&mut self, key: &Key) {
        self.fresh.note(key);
        if !self.open.partitions.contains(&key.partition) {
            self.open.partitions.insert(key.partition.clone());
        }
    }

    pub(crate) fn remove_item(&mut self, key: &Key) {
        self.note_write(key);
        self.open.bytes += 256;
        self.open.items.insert(key.clone(), None);
    }

    /// Reads what is durable.
    fn read<T>(&mut self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.reads += 1;
        match self.writer.try_lock() {
            Ok(connection) => read(&connection),
            // It is committing, and what it commits is not to be read here: the flying batch says more.
            Err(_) => read(&self.reader),
        }
    }

    /// Who has arrived at a join.
    pub(crate) fn arrivals(&mut self, key: &Key) -> rusqlite::Result<Found<Arrivals>> {
        let batches = [Some(&self.open), self.flying.as_deref()];
        for batch in batches.into_iter().flatten() {
            if let Some(arrivals) = batch.joins.get(key) {
                return Ok(Found {
                    value: *arrivals,
                    batch: batch.number,
                });
            }
        }
        if let Some(value) = self.joins.get(key, |_| 0) {
            return Ok(Found { value, batch: 0 });
        }
        let value = self.read(|connection| {
            connection
                .prepare_cached("SELECT ok, bad FROM joins WHERE partition = ?1 AND sort = ?2")?
                .query_row((&key.partition, &key.sort), |row| {
                    Ok(Arrivals {
                        ok: row.get(0)?,
                        bad: row.get(1)?,
                    })
                })
                .optional()
        })?;
        let value = value.unwrap_or_default();
        self.joins.put(key.clone(), value, 0);
        Ok(Found { value, batch: 0 })
    }

    pub(crate) fn write_arrivals(&mut self, key: &Key, arrivals: Arrivals) {
        self.open.bytes += 256;
        self.open.joins.insert(key.clone(), arrivals);
    }

    /// Adds a message to the open batch; nobody can receive it before it is published.
    pub(crate) fn write_message(
        &mut self,
        queue: Queue,
        body: Arc<str>,
        sent_at: Timestamp,
        visible_at: Timestamp,
    ) -> Sent {
        let id = self.message_id();
        self.open.bytes += 256 + body.len();
        self.open.sent.push(NewMessage {
            id,
            queue: queue.clone(),
            body: Arc::clone(&body),
            sent_at,
            visible_at,
        });
        Sent {
            queue,
            waiting: Waiting {
                id,
                body: Some(body),
                sent_at,
                receive_count: 0,
            },
            visible_at,
            batch: self.open.number,
        }
    }

    pub(crate) fn message_id(&mut self) -> MessageId {
        let id = self.next_message;
        self.next_message += 1;
        id
    }

    /// What is done after `batch`, which must not be durable yet.
    pub(crate) fn afterwards(&mut self, batch: u64) -> &mut Afterwards {
        if self.flying.as_ref().is_some_and(|flying| flying.number == batch) {
            &mut self.flying_afterwards
        } else {
            &mut self.open_afterwards
        }
    }

    /// Whether nobody is committing.
    pub(crate) fn is_idle(&self) -> bool {
        self.flying.is_none()
    }

    /// Whether the committer should write now.
    pub(crate) fn wants_commit(&self) -> bool {
        let wanted = !self.open_afterwards.waiters.is_empty()
            || self.open.bytes > LARGE_BATCH
            || (self.closing && self.has_work());
        wanted && self.is_idle()
    }

    /// Whether whoever waits for the open batch should rather commit it by itself. That saves two changes of threads,
    /// which is much beside a quick commit, but while it lasts nobody else on this thread can join the next one: so
    /// only when there seems to be nobody else.
    pub(crate) fn should_commit_here(&self) -> bool {
        self.is_idle()
            && self.open_afterwards.waiters.is_empty()
            && self.last_commit < QUICK_COMMIT
            && self.lonely >= LONELY
            && !self.lonely.is_multiple_of(PROBE)
    }

    /// Whether there is anything to write or to do afterwards.
    pub(crate) fn has_work(&self) -> bool {
        !self.open.is_empty()
            || !self.open_afterwards.waiters.is_empty()
            || !self.open_afterwards.publish.is_empty()
    }

    /// Takes the open batch away to be written.
    pub(crate) fn take_off(&mut self) -> Arc<Batch> {
        let next = Batch::new(self.open.number + 1);
        let batch = Arc::new(mem::replace(&mut self.open, next));
        self.flying = Some(Arc::clone(&batch));
        self.flying_afterwards = mem::take(&mut self.open_afterwards);
        batch
    }

    /// The flying batch is durable; `swept` items expired with it.
    pub(crate) fn landed(&mut self, batch: &Batch, swept: &[Key]) -> Afterwards {
        self.flying = None;
        self.durable = batch.number;
        let alone = self.flying_afterwards.waiters.len() <= 1 && self.open_afterwards.waiters.is_empty();
        self.lonely = if alone { self.lonely.wrapping_add(1) } else { 0 };
        for key in swept {
            self.items.forget(key);
        }
        if !swept.is_empty() {
            self.joins.clear();
        }
        for (key, change) in &batch.items {
            let value = change.as_ref().map(|change| change.record.clone());
            let weight = record_weight(&value);
            self.items.put(key.clone(), value, weight);
        }
        for (key, arrivals) in &batch.joins {
            self.joins.put(key.clone(), *arrivals, 0);
        }
        mem::take(&mut self.flying_afterwards)
    }

    /// The flying batch was rolled back, and with it goes what was written on top of it. Only what consumers did to
    /// messages is kept for the next commit. Returns who waited, and what earlier batches made receivable.
    pub(crate) fn crashed(&mut self, batch: &Batch) -> Afterwards {
        self.flying = None;
        self.failures += 1;
        let next = Batch::new(self.open.number + 1);
        let lost = mem::replace(&mut self.open, next);
        self.open.receipts = lost.receipts;
        self.open.receipts.carry_over(&batch.receipts);
        let mut afterwards = mem::take(&mut self.flying_afterwards);
        let open = mem::take(&mut self.open_afterwards);
        afterwards.waiters.extend(open.waiters);
        afterwards.publish.extend(open.publish);
        afterwards.publish.retain(|sent| sent.batch <= self.durable);
        afterwards
    }
}

#[expect(
    clippy::ref_option,
    reason = "the cache weighs its values by reference, and here a value is an option"
)]
fn record_weight(record: &Option<Record>) -> usize {
    record.as_ref().map_or(0, |record| record.body.len())
}
