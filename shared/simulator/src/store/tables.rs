//! Rows, joins, and batches that are not durable yet.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use slipway_model::Timestamp;
use slipway_ports::{Arrivals, DUE_SHARDS, DueItem, Guard, Item, Key, Stored};

use crate::{
    queue::Letter,
    tasks::TaskId,
    world::{Happening, Shape, World},
};

/// An item with its version, and what stood there before it as indexes may still see it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) item: Arc<Item>,
    pub(crate) version: u64,
    changed_at: i64,
    before: Option<(Arc<Item>, u64)>,
}

impl Row {
    pub(crate) fn stored(&self, key: &Key) -> Stored {
        Stored {
            key: key.clone(),
            body: self.item.body.clone(),
            version: self.version,
        }
    }

    /// The row as it was at that time, as far back as is known.
    pub(super) fn as_of(&self, time: i64) -> Option<Self> {
        if self.changed_at <= time {
            return Some(self.clone());
        }
        self.before.as_ref().map(|(item, version)| Self {
            item: Arc::clone(item),
            version: *version,
            changed_at: time,
            before: None,
        })
    }
}

/// What one commit makes durable.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    rows: BTreeMap<Key, Option<Row>>,
    joins: BTreeMap<Key, Arrivals>,
    /// Messages that can be received once it is durable.
    pub(crate) letters: Vec<Letter>,
    /// Messages that were dealt with: gone for good once it is durable.
    pub(crate) acknowledged: Vec<Letter>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.joins.is_empty()
            && self.letters.is_empty()
            && self.acknowledged.is_empty()
    }
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    rows: BTreeMap<Key, Row>,
    joins: BTreeMap<Key, Arrivals>,
    flying: Option<Batch>,
    pub(crate) open: Batch,
    /// The number of the last durable batch; the one that flies has the next, the open one that after it.
    pub(crate) durable: u64,
    /// Commits that failed.
    pub(crate) failures: u64,
    commit_is_arranged: bool,
    /// Tasks that wait for a commit.
    pub(crate) waiting: Vec<TaskId>,
}

/// The shard of a key: any rule will do that always gives the same.
fn shard(key: &Key) -> u8 {
    let sum = key
        .partition
        .bytes()
        .chain(key.sort.bytes())
        .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    sum % DUE_SHARDS
}

impl Tables {
    /// The number of the batch that is written to.
    pub(crate) fn open_number(&self) -> u64 {
        self.durable + 1 + u64::from(self.flying.is_some())
    }

    /// The newest state of a row, and the batch that must be durable before anything rests on it.
    pub(crate) fn newest(&self, key: &Key) -> (Option<&Row>, u64) {
        if let Some(row) = self.open.rows.get(key) {
            return (row.as_ref(), self.open_number());
        }
        if let Some(row) = self.flying.as_ref().and_then(|flying| flying.rows.get(key)) {
            return (row.as_ref(), self.durable + 1);
        }
        (self.rows.get(key), 0)
    }

    /// The durable state of a row.
    pub(crate) fn settled(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    pub(crate) fn arrivals(&self, key: &Key) -> (Arrivals, u64) {
        if let Some(arrivals) = self.open.joins.get(key) {
            return (*arrivals, self.open_number());
        }
        if let Some(arrivals) = self.flying.as_ref().and_then(|flying| flying.joins.get(key)) {
            return (*arrivals, self.durable + 1);
        }
        (self.joins.get(key).copied().unwrap_or_default(), 0)
    }

    pub(crate) fn admits(&self, key: &Key, guard: Guard) -> bool {
        let version = self.newest(key).0.map(|row| row.version);
        match guard {
            Guard::Absent => version.is_none(),
            Guard::Version(expected) => version == Some(expected),
            Guard::Any => true,
        }
    }

    /// All durable rows, in the order of keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    /// Durable rows of a partition.
    pub(crate) fn partition<'a>(
        &'a self,
        partition: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Row)> {
        let first = Bound::Included(Key::new(partition, prefix));
        self.rows
            .range((first, Bound::Unbounded))
            .take_while(move |(key, _)| key.partition == partition && key.sort.starts_with(prefix))
    }

    /// Whether everything is durable.
    pub(crate) fn is_clean(&self) -> bool {
        self.flying.is_none() && self.open.is_empty()
    }

    /// Whether anything of a shard is due.
    pub(crate) fn is_due(&self, wanted: u8, until: Timestamp) -> bool {
        self.rows
            .iter()
            .any(|(key, row)| row.item.due.is_some_and(|due| due.at <= until) && shard(key) == wanted)
    }

    /// Whether anything is due by then, the looks that are due for ever included.
    pub(crate) fn something_is_due(&self, until: i64) -> bool {
        self.rows
            .values()
            .any(|row| row.item.due.is_some_and(|due| due.at.as_millis() <= until))
    }

    /// When the next item is due, in milliseconds.
    pub(crate) fn next_due(&self) -> Option<i64> {
        // Looking for drift is due for ever.
        self.rows
            .iter()
            .filter(|(key, _)| key.sort != "drift" && key.sort != "orphans")
            .filter_map(|(_, row)| row.item.due.map(|due| due.at.as_millis()))
            .min()
    }

    pub(crate) fn due(&self, wanted: u8, until: Timestamp, limit: usize, since: i64) -> Vec<DueItem> {
        let mut found: Vec<DueItem> = self
            .rows
            .iter()
            .filter(|(_, row)| row.item.due.is_some() || row.before.is_some())
            .filter(|(key, _)| shard(key) == wanted)
            .filter_map(|(key, row)| {
                let at = row.as_of(since)?.item.due?.at;
                (at <= until).then(|| DueItem { key: key.clone(), at })
            })
            .collect();
        found.sort_by_key(|item| item.at);
        found.truncate(limit);
        found
    }
}

impl World {
    /// Writes a row; nothing removes it. The new version.
    pub(crate) fn write_row(&mut self, key: &Key, item: Option<Item>) -> u64 {
        let old = self.tables.newest(key).0.cloned();
        let version = old.as_ref().map_or(0, |row| row.version) + 1;
        let new = item.map(|item| Row {
            item: Arc::new(item),
            version,
            changed_at: self.now,
            before: old.as_ref().map(|row| (Arc::clone(&row.item), row.version)),
        });
        self.sum(version ^ new.as_ref().map_or(0, |row| row.item.body.len() as u64) << 8);
        self.check_write(key, old.as_ref(), new.as_ref());
        let gone = new.is_none();
        match self.shape {
            Shape::Aws => match new {
                Some(row) => {
                    self.tables.rows.insert(key.clone(), row);
                    self.check_durable(key);
                }
                None => drop(self.tables.rows.remove(key)),
            },
            Shape::Embedded => {
                self.tables.open.rows.insert(key.clone(), new);
                self.arrange_commit();
            }
        }
        if gone { 0 } else { version }
    }

    /// Records an arrival; the first of a slot counts.
    pub(crate) fn write_arrival(&mut self, key: &Key, slot: u8, ok: bool) -> Arrivals {
        let mut arrivals = self.tables.arrivals(key).0;
        let bit = 1 << slot;
        if (arrivals.ok | arrivals.bad) & bit != 0 {
            return arrivals;
        }
        *(if ok { &mut arrivals.ok } else { &mut arrivals.bad }) |= bit;
        self.sum(u64::from(arrivals.ok) << 32 | u64::from(arrivals.bad));
        match self.shape {
            Shape::Aws => drop(self.tables.joins.insert(key.clone(), arrivals)),
            Shape::Embedded => {
                self.tables.open.joins.insert(key.clone(), arrivals);
                self.arrange_commit();
            }
        }
        arrivals
    }

    /// Sees to it that the open batch gets to the disk in time.
    pub(crate) fn arrange_commit(&mut self) {
        if !std::mem::replace(&mut self.tables.commit_is_arranged, true) {
            let delay = i64::from(self.choices.below(4));
            self.after(delay, Happening::BeginCommit);
        }
    }

    /// Takes the open batch to the disk.
    pub(crate) fn begin_commit(&mut self) {
        self.tables.commit_is_arranged = false;
        if self.tables.flying.is_some() {
            // The next one begins when this one has landed.
            return;
        }
        if self.tables.open.is_empty() {
            return;
        }
        self.tables.flying = Some(std::mem::take(&mut self.tables.open));
        let time = match self.choices.below(16) {
            15 => i64::from(self.choices.below(400)),
            few => i64::from(few % 4) + 1,
        };
        self.after(time, Happening::EndCommit);
    }

    /// The batch on its way is durable, or lost with everything that rests on it.
    pub(crate) fn end_commit(&mut self) {
        let Some(batch) = self.tables.flying.take() else {
            return;
        };
        let rate = self.rates.fail;
        if self.goes_wrong(rate, crate::coverage::Fault::CommitFails) {
            self.tables.failures += 1;
            let lost = std::mem::take(&mut self.tables.open);
            self.check_loss(batch.rows.keys().chain(lost.rows.keys()));
            // What consumers did to messages is a fact, whatever becomes of the sessions beside it.
            self.tables.open.acknowledged = batch.acknowledged;
            self.tables.open.acknowledged.extend(lost.acknowledged);
            self.wake_committers();
            if !self.tables.open.is_empty() {
                self.arrange_commit();
            }
            return;
        }
        self.tables.durable += 1;
        for (key, row) in batch.rows {
            match row {
                Some(row) => {
                    self.tables.rows.insert(key.clone(), row);
                    self.check_durable(&key);
                }
                None => drop(self.tables.rows.remove(&key)),
            }
        }
        self.tables.joins.extend(batch.joins);
        for letter in batch.letters {
            self.post(letter);
        }
        self.wake_committers();
        if !self.tables.open.is_empty() {
            self.arrange_commit();
        }
    }

    fn wake_committers(&mut self) {
        for task in std::mem::take(&mut self.tables.waiting) {
            self.after(0, Happening::Wake(task));
        }
    }

    /// The process died: what no commit made durable is gone.
    pub(crate) fn lose_uncommitted(&mut self) -> Vec<Letter> {
        let flying = self.tables.flying.take().unwrap_or_default();
        let open = std::mem::take(&mut self.tables.open);
        self.check_loss(flying.rows.keys().chain(open.rows.keys()));
        self.tables.commit_is_arranged = false;
        self.tables.waiting.clear();
        flying.acknowledged.into_iter().chain(open.acknowledged).collect()
    }
}
