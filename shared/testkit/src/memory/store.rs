//! Items, joins and sessions.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use slipway_model::{Message, Queue, Timestamp};
use slipway_ports::{
    Arrivals, Clock, DUE_SHARDS, DueItem, Filter, Guard, Item, Key, ListPage, Put, Session, Store,
    StoreError, Stored,
};
use tokio::sync::Notify;

use super::queue::Queues;

const LARGEST_BODY: usize = 350 * 1024;

#[derive(Debug, Clone)]
struct Row {
    item: Item,
    version: u64,
}

#[derive(Debug, Default)]
struct Join {
    arrivals: Arrivals,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Tables {
    items: BTreeMap<Key, Row>,
    joins: BTreeMap<Key, Join>,
}

impl Tables {
    fn stored(&self, key: &Key) -> Option<Stored> {
        self.items.get(key).map(|row| Stored {
            key: key.clone(),
            body: row.item.body.clone(),
            version: row.version,
        })
    }

    fn admits(&self, key: &Key, guard: Guard) -> bool {
        let version = self.items.get(key).map(|row| row.version);
        match guard {
            Guard::Absent => version.is_none(),
            Guard::Version(expected) => version == Some(expected),
            Guard::Any => true,
        }
    }
}

/// A state store with its queues, in memory. Clones share their content.
#[derive(Clone)]
pub struct SimpleStore {
    tables: Arc<Mutex<Tables>>,
    pub(super) queues: Arc<Mutex<Queues>>,
    pub(super) changed: Arc<Notify>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for SimpleStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleStore").finish_non_exhaustive()
    }
}

impl SimpleStore {
    /// An empty store. A message becomes a dead letter when it was received `max_receives` times in vain.
    pub fn new(clock: Arc<dyn Clock>, max_receives: u32) -> Self {
        Self {
            tables: Arc::default(),
            queues: Arc::new(Mutex::new(Queues::new(max_receives))),
            changed: Arc::default(),
            clock,
        }
    }

    /// Every item, in the order of keys: for invariants over the whole store.
    pub fn items(&self) -> Vec<Stored> {
        let tables = self.tables();
        tables.items.keys().filter_map(|key| tables.stored(key)).collect()
    }

    /// Drops what expired.
    pub fn sweep(&self) {
        let now = self.clock.now();
        let mut tables = self.tables();
        tables
            .items
            .retain(|_, row| row.item.expires_at.is_none_or(|at| at > now));
        tables
            .joins
            .retain(|_, join| join.expires_at.is_none_or(|at| at > now));
    }

    /// The keys of all joins at which something arrived.
    pub fn joins(&self) -> Vec<Key> {
        self.tables().joins.keys().cloned().collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables
            .lock()
            .expect("nothing panics while it holds the tables")
    }
}

/// The shard of a key: any rule will do that always gives the same.
fn shard(key: &Key) -> u8 {
    let sum = key
        .to_string()
        .bytes()
        .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    sum % DUE_SHARDS
}

/// The first `limit` of `items`, and where to go on if there are more.
fn page(items: Vec<(Stored, String)>, limit: usize) -> ListPage {
    let more = items.len() > limit;
    let (items, mut positions): (Vec<_>, Vec<_>) = items.into_iter().take(limit).unzip();
    ListPage {
        items,
        next: if more { positions.pop() } else { None },
    }
}

#[async_trait]
impl Store for SimpleStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.tables().stored(key))
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let tables = self.tables();
        let first = Bound::Included(Key::new(partition, prefix));
        let found = tables
            .items
            .range((first, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.partition == partition && key.sort.starts_with(prefix))
            .filter(|key| after.is_none_or(|after| key.sort.as_str() > after))
            .filter_map(|key| Some((tables.stored(key)?, key.sort.clone())))
            .collect();
        Ok(page(found, limit))
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let tables = self.tables();
        let mut found: Vec<(Stored, String)> = tables
            .items
            .iter()
            .filter_map(|(key, row)| {
                let listing = row.item.listing.as_ref()?;
                let wanted = listing.list == list
                    && after.is_none_or(|after| listing.position.as_str() < after)
                    && filters
                        .iter()
                        .all(|(name, value)| listing.attributes.get(name) == Some(value));
                wanted.then(|| Some((tables.stored(key)?, listing.position.clone())))?
            })
            .collect();
        found.sort_by(|(_, a), (_, b)| b.cmp(a));
        Ok(page(found, limit))
    }

    async fn due(&self, wanted: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        let tables = self.tables();
        let mut found: Vec<DueItem> = tables
            .items
            .iter()
            .filter(|(key, _)| shard(key) == wanted)
            .filter_map(|(key, row)| {
                let at = row.item.due?.at;
                (at <= until).then(|| DueItem { key: key.clone(), at })
            })
            .collect();
        found.sort_by_key(|item| item.at);
        found.truncate(limit);
        Ok(found)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(SimpleSession {
            store: self.clone(),
            sent: Vec::new(),
            joins_expire_at: None,
        })
    }
}

struct SimpleSession {
    store: SimpleStore,
    sent: Vec<(Queue, String, Timestamp)>,
    joins_expire_at: Option<Timestamp>,
}

#[async_trait]
impl Session for SimpleSession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.store.tables().stored(key))
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        if item.body.len() > LARGEST_BODY {
            return Err(StoreError::TooLarge {
                key: key.to_string(),
                bytes: item.body.len(),
                limit: LARGEST_BODY,
            });
        }
        let mut tables = self.store.tables();
        if !tables.admits(key, guard) {
            return Ok(Put::Lost(tables.stored(key)));
        }
        let version = tables.items.get(key).map_or(0, |row| row.version) + 1;
        tables.items.insert(key.clone(), Row { item, version });
        Ok(Put::Won(version))
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        let mut tables = self.store.tables();
        if !tables.admits(key, guard) {
            return Ok(Put::Lost(tables.stored(key)));
        }
        tables.items.remove(key);
        Ok(Put::Won(0))
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        assert!(slot < 32, "slot {slot} of join {join}: slots are 0 to 31");
        let mut tables = self.store.tables();
        let Join { arrivals, expires_at } = tables.joins.entry(join.clone()).or_default();
        *expires_at = self.joins_expire_at.or(*expires_at);
        let bit = 1 << slot;
        if (arrivals.ok | arrivals.bad) & bit == 0 {
            *(if ok { &mut arrivals.ok } else { &mut arrivals.bad }) |= bit;
        }
        Ok(*arrivals)
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        let tables = self.store.tables();
        Ok(tables
            .joins
            .get(join)
            .map(|join| join.arrivals)
            .unwrap_or_default())
    }

    fn joins_expire_at(&mut self, at: Timestamp) {
        self.joins_expire_at = Some(at);
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        let visible_at = self.store.clock.now().plus(delay);
        self.sent.push((queue, message.to_body(), visible_at));
    }

    async fn settle(self: Box<Self>) -> Result<(), StoreError> {
        for (queue, body, visible_at) in self.sent {
            self.store.queues().send(queue, body, visible_at);
        }
        self.store.changed.notify_waiters();
        Ok(())
    }
}
