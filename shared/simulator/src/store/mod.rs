//! The simulated state store: one table with durable rows, and what no commit has made durable yet.

mod session;
mod tables;

use async_trait::async_trait;
use slipway_model::Timestamp;
use slipway_ports::{DueItem, Filter, Key, ListPage, Session, Store, StoreError, Stored};

pub(crate) use tables::{Row, Tables};

use crate::{
    coverage::Fault,
    tasks::Fate,
    world::{Shape, Sim, World},
};

/// Why a simulated call failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// What a failed call says, such as a throttle or a time-out.
pub(crate) fn broken(world: &mut World) -> Broken {
    Broken(world.choices.one_of(&[
        "throttled",
        "timed out",
        "transaction conflict",
        "connection reset",
    ]))
}

pub(crate) fn unavailable(sim: &Sim) -> StoreError {
    let broken = broken(&mut sim.world());
    StoreError::Unavailable(Box::new(broken))
}

/// The store of a run.
pub(crate) struct SimStore(pub(crate) Sim);

impl SimStore {
    /// How a read fares: without effect, it only fails or not.
    async fn read(&self, name: &'static str) -> Result<(), StoreError> {
        match self.0.call(name).await {
            Fate::Well => Ok(()),
            Fate::Refused | Fate::Unanswered => Err(unavailable(&self.0)),
        }
    }
}

/// How long an index lags behind at most, in milliseconds.
const LAG: i64 = 5000;

/// Whether this read of an index sees rows as they were before they were changed lately.
fn lag(world: &mut World) -> i64 {
    if world.shape == Shape::Aws {
        let rate = world.rates.stale;
        if world.goes_wrong(rate, Fault::StaleIndex) {
            return LAG;
        }
    }
    0
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.read("get").await?;
        let found = {
            let world = self.0.world();
            world.tables.settled(key).map(|row| row.stored(key))
        };
        self.0.answer().await;
        Ok(found)
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.read("query").await?;
        let page = {
            let world = self.0.world();
            let mut found: Vec<Stored> = world
                .tables
                .partition(partition, prefix)
                .filter(|(key, _)| after.is_none_or(|after| key.sort.as_str() > after))
                .take(limit + 1)
                .map(|(key, row)| row.stored(key))
                .collect();
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|last| last.key.sort.clone());
            ListPage { items: found, next }
        };
        self.0.answer().await;
        Ok(page)
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.read("list").await?;
        let mut world = self.0.world();
        let since = world.now - lag(&mut world);
        let mut found: Vec<(Stored, String)> = world
            .tables
            .rows()
            .filter_map(|(key, row)| {
                let row = row.as_of(since)?;
                let listing = row.item.listing.as_ref()?;
                let wanted = listing.list == list
                    && after.is_none_or(|after| listing.position.as_str() < after)
                    && filters
                        .iter()
                        .all(|(name, value)| listing.attributes.get(name) == Some(value));
                wanted.then(|| (row.stored(key), listing.position.clone()))
            })
            .collect();
        found.sort_by(|(_, a), (_, b)| b.cmp(a));
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .map(|(_, position)| position.clone());
        let items = found.into_iter().map(|(stored, _)| stored).collect();
        Ok(ListPage { items, next })
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        // Where nothing is due and nothing goes wrong, asking takes no time: most of the sweep's questions are such.
        let is_empty = {
            let world = self.0.world();
            !world
                .tables
                .is_due(shard, until.plus(std::time::Duration::from_secs(5)))
        };
        if !is_empty {
            self.read("due").await?;
        }
        let mut world = self.0.world();
        let since = world.now - lag(&mut world);
        Ok(world.tables.due(shard, until, limit, since))
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(session::SimSession::new(&self.0))
    }
}
