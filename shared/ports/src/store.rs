//! The state store: items under two-part keys, guarded writes, and sessions that commit prefixes.
//!
//! A transition is one guarded write, then idempotent writes in a fixed order. There are no transactions
//! over items, no decrements, and no item that grows with the size of a DAG.

use std::{collections::BTreeMap, error::Error, fmt, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use slipway_model::{Message, Queue, Timestamp};

/// Shards of the index of due items.
pub const DUE_SHARDS: u8 = 16;

/// Where an item stands. Both parts are at most 1,024 bytes of printable text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Items of one partition are read together, in the order of `sort`.
    pub partition: String,
    /// Position in the partition.
    pub sort: String,
}

impl Key {
    /// A key of both parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self {
            partition: partition.into(),
            sort: sort.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.partition, self.sort)
    }
}

/// What is written under a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Item {
    /// JSON text; at most 350 KB, so that it fits every store.
    pub body: String,
    /// Places it in the index of due items.
    pub due: Option<Due>,
    /// Places it in a list.
    pub listing: Option<Listing>,
    /// When the store may drop it.
    pub expires_at: Option<Timestamp>,
}

impl Item {
    /// An item whose body is the JSON of `value`.
    ///
    /// # Panics
    /// If `value` has a map with keys that are not text; no record has one.
    pub fn of<T: Serialize>(value: &T) -> Self {
        Self {
            body: serde_json::to_string(value).expect("records have text keys only"),
            ..Self::default()
        }
    }

    /// Also due at that time.
    #[must_use]
    pub fn due_at(mut self, at: Option<Timestamp>) -> Self {
        self.due = at.map(|at| Due { at });
        self
    }

    /// Also in a list.
    #[must_use]
    pub fn listed(mut self, listing: Listing) -> Self {
        self.listing = Some(listing);
        self
    }

    /// May be dropped from then on.
    #[must_use]
    pub fn expiring_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// An item that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// From when on.
    pub at: Timestamp,
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which list, such as `T/deployments`.
    pub list: String,
    /// Position; lists are read from the greatest down.
    pub position: String,
    /// What filters compare, such as `status`.
    pub attributes: BTreeMap<String, String>,
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Where.
    pub key: Key,
    /// JSON text.
    pub body: String,
    /// Raised by one by every `put`; 1 after the first.
    pub version: u64,
}

impl Stored {
    /// Reads the body.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the body has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_str(&self.body).map_err(|source| StoreError::Corrupt {
            key: self.key.to_string(),
            source: source.into(),
        })
    }
}

/// What must be true for a `put` to win.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing stands under the key.
    Absent,
    /// The item has this version.
    Version(u64),
    /// Anything: for writes that are the same whoever repeats them.
    Any,
}

/// How a `put` or `delete` ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// Written; the item has this version now (after a delete: 0).
    Won(u64),
    /// Not written: this stands there instead (nothing, if the item is absent).
    Lost(Option<Stored>),
}

/// Dependency slots that have arrived at a join, as bit sets (bit `n` is slot `n`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// Slots whose dependency is satisfied.
    pub ok: u32,
    /// Slots whose dependency failed.
    pub bad: u32,
}

impl Arrivals {
    /// Slots that arrived either way.
    pub fn count(self) -> u32 {
        (self.ok | self.bad).count_ones()
    }
}

/// A filter of a list: attribute and value.
pub type Filter = (String, String);

/// One page of a list or partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListPage {
    /// The items.
    pub items: Vec<Stored>,
    /// Position to go on after; absent on the last page.
    pub next: Option<String>,
}

/// An entry of the index of due items. It may be stale: read the item before acting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueItem {
    /// Which item.
    pub key: Key,
    /// Since when.
    pub at: Timestamp,
}

/// Reads, and the door to sessions.
#[async_trait]
pub trait Store: Send + Sync {
    /// A consistent read: sees every write that was settled before it began.
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// Items of a partition whose sort key starts with `prefix`, ascending, after `after` (exclusive), at most `limit`.
    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError>;

    /// Items of a list, from the greatest position down, after (that is, below) `after`. The index may be stale by
    /// seconds on some stores. Fewer than `limit` items with a `next` are possible when filters drop some.
    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError>;

    /// Items of one shard (0 to 15) that are due at or before `until`, earliest first, at most `limit`.
    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError>;

    /// Begins a session.
    fn session(&self) -> Box<dyn Session>;
}

/// A sequence of calls of one handler. A crash may keep any prefix of it; every call is idempotent. Nothing outside
/// the store may be done on the strength of a call before `settle` returned.
#[async_trait]
pub trait Session: Send {
    /// A consistent read that also sees this session's own writes.
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// A guarded write of the whole item.
    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError>;

    /// A guarded removal. Removing what is absent with [`Guard::Any`] wins.
    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError>;

    /// Adds slot `slot` (0 to 31) to the join's satisfied (`ok`) or failed set and returns both sets as they are
    /// then. The first arrival of a slot counts; repeats and contradictions change nothing.
    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError>;

    /// When the store may drop the joins that this session touches from now on. Never, unless it is said; a store that
    /// keeps everything need not listen.
    fn joins_expire_at(&mut self, at: Timestamp) {
        let _ = at;
    }

    /// The sets of a join as they are now; empty if nothing arrived.
    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError>;

    /// Sends a message, to be received after `delay` (at most 15 minutes) or later.
    fn send(&mut self, queue: Queue, message: Message, delay: Duration);

    /// Makes everything so far durable. After an error any prefix may have been kept.
    async fn settle(self: Box<Self>) -> Result<(), StoreError>;
}

/// Why a store call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Worth repeating: throttled, timed out, or out of reach.
    #[error("the state store does not answer")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// An item is larger than every store can hold.
    #[error("item {key} has {bytes} bytes, more than the {limit} that a store can hold")]
    TooLarge {
        /// Which item.
        key: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A key is empty, or longer than every store can hold.
    #[error("the {part} of key '{key}' has {bytes} bytes: 1 to {limit} are possible")]
    InvalidKey {
        /// Which key.
        key: String,
        /// `partition` or `sort key`.
        part: &'static str,
        /// Its length.
        bytes: usize,
        /// The greatest length.
        limit: usize,
    },
    /// A message is larger than every queue can carry. Nothing was sent.
    #[error("a message for queue '{queue}' has {bytes} bytes, more than the {limit} that a queue can carry")]
    MessageTooLarge {
        /// Which queue.
        queue: String,
        /// The message's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A message is for a queue that does not exist here. Nothing was sent.
    #[error("there is no queue '{queue}': add it to the settings of the queues")]
    NoQueue {
        /// Which queue.
        queue: String,
    },
    /// An item does not have the shape that this version writes.
    #[error("item {key} cannot be read")]
    Corrupt {
        /// Which item.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
