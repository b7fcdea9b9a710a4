//! What one commit writes, and how it is written.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use slipway_model::{Queue, Timestamp};
use slipway_ports::{Arrivals, DUE_SHARDS, Item, Key};

/// Ids of messages count up; no two messages or dead letters have the same.
pub(crate) type MessageId = i64;

/// What sessions need to know of an item.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) body: Arc<str>,
    pub(crate) version: u64,
}

/// The new state of an item; `None` is removed.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) record: Record,
    pub(crate) item: Item,
}

/// A message that a session sends.
#[derive(Debug)]
pub(crate) struct NewMessage {
    pub(crate) id: MessageId,
    pub(crate) queue: Queue,
    pub(crate) body: Arc<str>,
    pub(crate) sent_at: Timestamp,
    pub(crate) visible_at: Timestamp,
}

/// A message that becomes a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct Burial {
    pub(crate) id: MessageId,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// A dead letter that goes back on its queue under a new id.
#[derive(Debug)]
pub(crate) struct Revival {
    pub(crate) dead: MessageId,
    pub(crate) id: MessageId,
    pub(crate) at: Timestamp,
}

/// What consumers did to messages. These are facts whatever becomes of the sessions beside them, so they outlive a
/// commit that failed.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    pub(crate) released: BTreeMap<MessageId, (Timestamp, u32)>,
    pub(crate) buried: Vec<Burial>,
    pub(crate) revived: Vec<Revival>,
    pub(crate) removed: Vec<MessageId>,
}

impl Receipts {
    pub(crate) fn is_empty(&self) -> bool {
        self.released.is_empty()
            && self.buried.is_empty()
            && self.revived.is_empty()
            && self.removed.is_empty()
    }

    /// Adds what happened later.
    pub(crate) fn add(&mut self, later: Self) {
        self.released.extend(later.released);
        self.buried.extend(later.buried);
        self.revived.extend(later.revived);
        self.removed.extend(later.removed);
    }

    /// Adds the receipts of a commit that failed. Dead letters are not put back: who asked for that gets an error.
    pub(crate) fn carry_over(&mut self, failed: &Self) {
        for (id, state) in &failed.released {
            self.released.entry(*id).or_insert(*state);
        }
        self.buried.splice(0..0, failed.buried.iter().cloned());
        self.revived.clear();
        self.removed.extend_from_slice(&failed.removed);
    }
}

/// Everything that one commit writes. Writes to one item within a batch are one row.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) items: HashMap<Key, Option<Change>>,
    /// Of the items.
    pub(crate) partitions: HashSet<String>,
    pub(crate) joins: HashMap<Key, Arrivals>,
    pub(crate) sent: Vec<NewMessage>,
    pub(crate) receipts: Receipts,
    /// Drop what expired by then.
    pub(crate) sweep: Option<Timestamp>,
    /// About what it holds in memory.
    pub(crate) bytes: usize,
}

impl Batch {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.joins.is_empty()
            && self.sent.is_empty()
            && self.receipts.is_empty()
            && self.sweep.is_none()
    }

    /// Writes and commits. Returns the keys that the sweep dropped. After an error nothing was written.
    pub(crate) fn commit(&self, connection: &mut Connection) -> rusqlite::Result<Vec<Key>> {
        // Dropping the transaction on the way out rolls it back.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let swept = match self.sweep {
            Some(until) => {
                note_time(&transaction, until)?;
                sweep(&transaction, until)?
            }
            None => Vec::new(),
        };
        self.write_items(&transaction)?;
        self.write_joins(&transaction)?;
        self.write_messages(&transaction)?;
        transaction.commit()?;
        Ok(swept)
    }

    fn write_items(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut write = transaction.prepare_cached(
            "INSERT INTO items (partition, sort, body, version, due_shard, due_at, list, position, attributes, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (partition, sort) DO UPDATE SET
                 body = excluded.body, version = excluded.version, due_shard = excluded.due_shard,
                 due_at = excluded.due_at, list = excluded.list, position = excluded.position,
                 attributes = excluded.attributes, expires_at = excluded.expires_at",
        )?;
        for (key, change) in &self.items {
            let Some(change) = change else {
                transaction
                    .prepare_cached("DELETE FROM items WHERE partition = ?1 AND sort = ?2")?
                    .execute((&key.partition, &key.sort))?;
                continue;
            };
            let item = &change.item;
            let due_at = item.due.map(|due| due.at.as_millis());
            let listing = item.listing.as_ref();
            write.execute(params![
                key.partition,
                key.sort,
                change.record.body,
                change.record.version,
                due_at.map(|_| due_shard(key)),
                due_at,
                listing.map(|listing| &listing.list),
                listing.map(|listing| &listing.position),
                listing.map(|listing| {
                    serde_json::to_string(&listing.attributes).expect("a map of text is JSON")
                }),
                item.expires_at.map(Timestamp::as_millis),
            ])?;
        }
        Ok(())
    }

    fn write_joins(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.joins.is_empty() {
            return Ok(());
        }
        let mut write = transaction.prepare_cached(
            "INSERT INTO joins (partition, sort, ok, bad) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (partition, sort) DO UPDATE SET ok = excluded.ok, bad = excluded.bad",
        )?;
        for (key, arrivals) in &self.joins {
            write.execute((&key.partition, &key.sort, arrivals.ok, arrivals.bad))?;
        }
        Ok(())
    }

    fn write_messages(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for message in &self.sent {
            transaction
                .prepare_cached(
                    "INSERT INTO messages (id, queue, body, sent_at, visible_at, receive_count)
                     VALUES (?1, ?2, ?3, ?4, ?5, 0)",
                )?
                .execute(params![
                    message.id,
                    queue_to_text(&message.queue),
                    message.body,
                    message.sent_at.as_millis(),
                    message.visible_at.as_millis(),
                ])?;
        }
        for (id, (visible_at, receive_count)) in &self.receipts.released {
            transaction
                .prepare_cached("UPDATE messages SET visible_at = ?2, receive_count = ?3 WHERE id = ?1")?
                .execute((id, visible_at.as_millis(), receive_count))?;
        }
        for burial in &self.receipts.buried {
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO dead_letters (id, queue, body, reason, at)
                     SELECT id, queue, body, ?2, ?3 FROM messages WHERE id = ?1",
                )?
                .execute((burial.id, &burial.reason, burial.at.as_millis()))?;
            remove_message(transaction, burial.id)?;
        }
        for revival in &self.receipts.revived {
            transaction
                .prepare_cached(
                    "INSERT INTO messages (id, queue, body, sent_at, visible_at, receive_count)
                     SELECT ?2, queue, body, ?3, ?3, 0 FROM dead_letters WHERE id = ?1",
                )?
                .execute((revival.dead, revival.id, revival.at.as_millis()))?;
            transaction
                .prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?
                .execute([revival.dead])?;
        }
        for id in &self.receipts.removed {
            remove_message(transaction, *id)?;
        }
        Ok(())
    }
}

fn remove_message(transaction: &Transaction<'_>, id: MessageId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM messages WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Records what the time is, never an earlier one.
fn note_time(transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO counters (name, value) VALUES ('clock', ?1)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )?
        .execute([now.as_millis()])?;
    Ok(())
}

/// Removes what expired, and the joins of partitions in which nothing is left.
fn sweep(transaction: &Transaction<'_>, until: Timestamp) -> rusqlite::Result<Vec<Key>> {
    let mut expired =
        transaction.prepare_cached("DELETE FROM items WHERE expires_at <= ?1 RETURNING partition, sort")?;
    let swept = expired
        .query_map([until.as_millis()], |row| {
            Ok(Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut left = transaction.prepare_cached(
        "DELETE FROM joins WHERE partition = ?1 AND NOT EXISTS (SELECT 1 FROM items WHERE partition = ?1)",
    )?;
    let mut partitions: Vec<&str> = swept.iter().map(|key| key.partition.as_str()).collect();
    partitions.sort_unstable();
    partitions.dedup();
    for partition in partitions {
        left.execute([partition])?;
    }
    Ok(swept)
}

/// The shard of the due index that a key belongs to, for ever: FNV-1a over both parts, then mixed, because the last
/// bytes of a key reach only the low bits.
fn due_shard(key: &Key) -> u64 {
    let hash = key
        .partition
        .bytes()
        .chain([0])
        .chain(key.sort.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) % u64::from(DUE_SHARDS)
}

const TOPIC: &str = "topic:";

/// How a queue is named in the tables: topics are told apart from internal queues of that name.
pub(crate) fn queue_to_text(queue: &Queue) -> String {
    match queue {
        Queue::Topic(topic) => format!("{TOPIC}{topic}"),
        internal => internal.name().to_owned(),
    }
}

/// The queue of that name; `None` for one that this version does not have.
pub(crate) fn queue_from_text(text: &str) -> Option<Queue> {
    if let Some(topic) = text.strip_prefix(TOPIC) {
        return Some(Queue::Topic(topic.to_owned()));
    }
    [Queue::PlanDag, Queue::ExecuteStep, Queue::DeployHelm]
        .into_iter()
        .find(|queue| queue.name() == text)
}
