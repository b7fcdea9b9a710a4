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

/// What somebody else does right before an item is written: the item's sort key, and what is done.
type Meanwhile = Arc<Mutex<Option<(String, Pin<Box<dyn Future<Output = ()> + Send>>)>>>;

/// Fails `per_mille` of all calls.
pub(crate) struct FlakyStore {
    inner: Arc<SimpleStore>,
    meanwhile: Meanwhile,
    chance: Arc<Chance>,
    per_mille: Arc<AtomicU64>,
}

impl FlakyStore {
    pub(crate) fn new(inner: Arc<SimpleStore>) -> Self {
        Self {
            inner,
            meanwhile: Arc::default(),
            chance: Arc::new(Chance::new(0)),
            per_mille: Arc::default(),
        }
    }

    pub(crate) fn fail(&self, seed: u64, per_mille: u64) {
        *self.chance.0.lock().unwrap() = seed;
        self.per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Has that done once, right before an item with that sort key is written.
    pub(crate) fn before_put(&self, sort: &str, then: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((sort.to_owned(), Box::pin(then)));
    }

    fn call(&self) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)
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
        self.call()?;
        self.inner.get(key).await
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.call()?;
        self.inner.query(partition, prefix, after, limit).await
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.call()?;
        self.inner.list(list, filters, after, limit).await
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        self.call()?;
        self.inner.due(shard, until, limit).await
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(FlakySession {
            inner: self.inner.session(),
            meanwhile: self.meanwhile.clone(),
            chance: self.chance.clone(),
            per_mille: self.per_mille.clone(),
        })
    }
}

struct FlakySession {
    inner: Box<dyn Session>,
    meanwhile: Meanwhile,
    chance: Arc<Chance>,
    per_mille: Arc<AtomicU64>,
}

#[async_trait]
impl Session for FlakySession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        call(&self.chance, &self.per_mille)?;
        self.inner.get(key).await
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        call(&self.chance, &self.per_mille)?;
        let then = self
            .meanwhile
            .lock()
            .unwrap()
            .take_if(|(sort, _)| *sort == key.sort);
        if let Some((_, then)) = then {
            then.await;
        }
        let put = self.inner.put(key, item, guard).await;
        // Written, and the answer lost.
        call(&self.chance, &self.per_mille)?;
        put
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        call(&self.chance, &self.per_mille)?;
        self.inner.delete(key, guard).await
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        call(&self.chance, &self.per_mille)?;
        self.inner.arrive(join, slot, ok).await
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        call(&self.chance, &self.per_mille)?;
        self.inner.arrivals(join).await
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        self.inner.send(queue, message, delay);
    }

    async fn settle(self: Box<Self>) -> Result<(), StoreError> {
        call(&self.chance, &self.per_mille)?;
        self.inner.settle().await?;
        call(&self.chance, &self.per_mille)
    }
}
