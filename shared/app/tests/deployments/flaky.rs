//! A store that fails between any two calls, as a crash or a throttled table does.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use slipway_model::{Message, Queue, Timestamp};
use slipway_ports::{
    Arrivals, DueItem, Filter, Guard, Item, Key, ListPage, Put, Session, Store, StoreError, Stored,
};
use slipway_testkit::memory::SimpleStore;

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// A number below `limit`.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What somebody else does right before an item is written or a query is made: the item's sort key or the query's
/// prefix, and what is done.
type Meanwhile = Arc<Mutex<Option<(String, Pin<Box<dyn Future<Output = ()> + Send>>)>>>;

/// Does what is to be done before that, if anything is.
async fn meet(meanwhile: &Meanwhile, what: &str) {
    let then = meanwhile.lock().unwrap().take_if(|(on, _)| on == what);
    if let Some((_, then)) = then {
        then.await;
    }
}

/// Calls since they were counted last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Reads of items and joins, and queries.
    pub(crate) reads: u64,
    /// Puts, deletes and arrivals.
    pub(crate) writes: u64,
    /// Messages.
    pub(crate) sends: u64,
}

impl Calls {
    pub(crate) fn all(self) -> u64 {
        self.reads + self.writes + self.sends
    }
}

/// What is to go wrong once, and what was counted.
#[derive(Default)]
struct Plan {
    calls: Calls,
    /// How many calls are made before the process ends; nothing if it goes on.
    calls_left: Option<u64>,
    /// How many messages of the next session that has some are sent before the process ends.
    sends_left: Option<usize>,
    /// Which put of items with which sort key fails: those before it are counted down.
    refused: Option<(String, usize)>,
    /// Items with this sort key are never put.
    never_put: Option<String>,
    /// Shards that were asked for what is due.
    shards: Vec<u8>,
    /// The shard that never says what is due.
    silent: Option<u8>,
}

/// Fails `per_mille` of all calls.
pub(crate) struct FlakyStore {
    inner: Arc<SimpleStore>,
    meanwhile: Meanwhile,
    chance: Arc<Chance>,
    per_mille: Arc<AtomicU64>,
    plan: Arc<Mutex<Plan>>,
}

impl FlakyStore {
    pub(crate) fn new(inner: Arc<SimpleStore>) -> Self {
        Self {
            inner,
            meanwhile: Arc::default(),
            chance: Arc::new(Chance::new(0)),
            per_mille: Arc::default(),
            plan: Arc::default(),
        }
    }

    /// The calls since this was asked last.
    pub(crate) fn calls(&self) -> Calls {
        std::mem::take(&mut self.plan.lock().unwrap().calls)
    }

    /// Has the process end after so many calls; every later one fails. Nothing: it works again.
    pub(crate) fn die_after_calls(&self, calls: Option<u64>) {
        self.plan.lock().unwrap().calls_left = calls;
    }

    /// Has one put of an item with that sort key fail, after `others` more of them.
    pub(crate) fn refuse_put(&self, sort: &str, others: usize) {
        self.plan.lock().unwrap().refused = Some((sort.to_owned(), others));
    }

    /// Whether that is still to happen.
    pub(crate) fn is_to_refuse(&self) -> bool {
        self.plan.lock().unwrap().refused.is_some()
    }

    /// Has every put of an item with that sort key fail. Nothing: it works again.
    pub(crate) fn never_put(&self, sort: Option<&str>) {
        self.plan.lock().unwrap().never_put = sort.map(str::to_owned);
    }

    /// The shards that were asked for what is due since this was asked last.
    pub(crate) fn shards(&self) -> Vec<u8> {
        std::mem::take(&mut self.plan.lock().unwrap().shards)
    }

    /// Has a shard never say what is due.
    pub(crate) fn silence(&self, shard: u8) {
        self.plan.lock().unwrap().silent = Some(shard);
    }

    /// Has the process end while the next session that has messages sends them, after so many.
    pub(crate) fn lose_sends_after(&self, sends: usize) {
        self.plan.lock().unwrap().sends_left = Some(sends);
    }

    /// Whether that is still to happen.
    pub(crate) fn is_to_lose_sends(&self) -> bool {
        self.plan.lock().unwrap().sends_left.is_some()
    }

    pub(crate) fn fail(&self, seed: u64, per_mille: u64) {
        *self.chance.0.lock().unwrap() = seed;
        self.per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Has that done once, right before an item with that sort key is written.
    pub(crate) fn before_put(&self, sort: &str, then: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((sort.to_owned(), Box::pin(then)));
    }

    /// Has that done once, right before what is behind that prefix is asked for.
    pub(crate) fn before_query(&self, prefix: &str, then: impl Future<Output = ()> + Send + 'static) {
        self.before_put(prefix, then);
    }

    /// Has that done once, right before an item with that sort key is read outside of sessions.
    pub(crate) fn before_get(&self, sort: &str, then: impl Future<Output = ()> + Send + 'static) {
        self.before_put(&format!("get {sort}"), then);
    }

    /// Has that done once, right before an item with that sort key is read in a session.
    pub(crate) fn before_session_get(&self, sort: &str, then: impl Future<Output = ()> + Send + 'static) {
        self.before_put(&format!("session get {sort}"), then);
    }

    fn read(&self) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)?;
        count(&self.plan, |calls| calls.reads += 1)
    }
}

fn count(plan: &Mutex<Plan>, one: impl FnOnce(&mut Calls)) -> Result<(), StoreError> {
    let mut plan = plan.lock().unwrap();
    one(&mut plan.calls);
    match &mut plan.calls_left {
        Some(0) => Err(StoreError::Unavailable("the process has ended".into())),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn call(chance: &Chance, per_mille: &AtomicU64) -> Result<(), StoreError> {
    let limit = per_mille.load(Ordering::Relaxed);
    if limit > 0 && chance.below(1000) < limit {
        return Err(StoreError::Unavailable("throttled".into()));
    }
    Ok(())
}

#[async_trait]
impl Store for FlakyStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.read()?;
        meet(&self.meanwhile, &format!("get {}", key.sort)).await;
        self.inner.get(key).await
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.read()?;
        meet(&self.meanwhile, prefix).await;
        self.inner.query(partition, prefix, after, limit).await
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.read()?;
        self.inner.list(list, filters, after, limit).await
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        self.read()?;
        let is_silent = {
            let mut plan = self.plan.lock().unwrap();
            plan.shards.push(shard);
            plan.silent == Some(shard)
        };
        if is_silent {
            return Err(StoreError::Unavailable("the shard does not answer".into()));
        }
        self.inner.due(shard, until, limit).await
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(FlakySession {
            inner: self.inner.session(),
            meanwhile: self.meanwhile.clone(),
            chance: self.chance.clone(),
            per_mille: self.per_mille.clone(),
            plan: self.plan.clone(),
            sends: Vec::new(),
        })
    }
}

struct FlakySession {
    inner: Box<dyn Session>,
    meanwhile: Meanwhile,
    chance: Arc<Chance>,
    per_mille: Arc<AtomicU64>,
    plan: Arc<Mutex<Plan>>,
    sends: Vec<(Queue, Message, Duration)>,
}

impl FlakySession {
    fn read(&self) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)?;
        count(&self.plan, |calls| calls.reads += 1)
    }

    fn refuse(&self, key: &Key) -> Result<(), StoreError> {
        let mut plan = self.plan.lock().unwrap();
        if plan.never_put.as_ref() == Some(&key.sort) {
            return Err(StoreError::Unavailable("refused".into()));
        }
        match &mut plan.refused {
            Some((sort, 0)) if *sort == key.sort => {
                plan.refused = None;
                Err(StoreError::Unavailable("throttled".into()))
            }
            Some((sort, others)) if *sort == key.sort => {
                *others -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)?;
        count(&self.plan, |calls| calls.writes += 1)
    }
}

#[async_trait]
impl Session for FlakySession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.read()?;
        meet(&self.meanwhile, &format!("session get {}", key.sort)).await;
        self.inner.get(key).await
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        self.write()?;
        self.refuse(key)?;
        meet(&self.meanwhile, &key.sort).await;
        let put = self.inner.put(key, item, guard).await;
        // Written, and the answer lost.
        call(&self.chance, &self.per_mille)?;
        put
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        self.write()?;
        self.inner.delete(key, guard).await
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        self.write()?;
        self.inner.arrive(join, slot, ok).await
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        self.read()?;
        self.inner.arrivals(join).await
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        self.sends.push((queue, message, delay));
    }

    fn joins_expire_at(&mut self, at: Timestamp) {
        self.inner.joins_expire_at(at);
    }

    async fn settle(mut self: Box<Self>) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)?;
        let sends = std::mem::take(&mut self.sends);
        let lost = match sends.is_empty() {
            true => None,
            false => self.plan.lock().unwrap().sends_left.take(),
        };
        let kept = lost.unwrap_or(sends.len());
        for (queue, message, delay) in sends.into_iter().take(kept) {
            count(&self.plan, |calls| calls.sends += 1)?;
            self.inner.send(queue, message, delay);
        }
        self.inner.settle().await?;
        if lost.is_some() {
            return Err(StoreError::Unavailable("the process has ended".into()));
        }
        call(&self.chance, &self.per_mille)
    }
}
