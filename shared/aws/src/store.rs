//! The state store on DynamoDB: reads, and the indexes.
//!
//! The index `list` holds keys and the attributes that filters compare, and no bodies: an item's body changes with
//! each put and its attributes seldom, so that most puts do not write to the index at all, and what the list does
//! read is read from the table, as it is now. The index `due` holds keys only, because whoever acts on an entry
//! reads the item first anyway.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    operation::query::builders::QueryFluentBuilder,
    types::{AttributeValue, KeysAndAttributes},
};
use slipway_model::Timestamp;
use slipway_ports::{DUE_SHARDS, DueItem, Filter, Key, ListPage, Session, Store, StoreError, Stored};

use crate::{
    backoff::pause,
    clients::Clients,
    error::{CallFailed, SetupError},
    queues::Queues,
    row::{Attributes, Row, key_attributes, name, number, read_key, text},
    session::DynamoSession,
    table::{self, DUE_INDEX, LIST_INDEX},
};

/// Entries of a list that one call looks at, at most: filters that drop nearly everything end a page early.
const LARGEST_SCAN: usize = 2000;
/// Keys of one read of a batch.
const LARGEST_BATCH: usize = 100;
/// Times that what a batch left out is asked for again.
const BATCH_ATTEMPTS: u32 = 8;

/// The state store on one DynamoDB table.
#[derive(Clone)]
pub struct DynamoStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) clients: Clients,
    pub(crate) table: String,
    pub(crate) queues: Queues,
    /// With the number of a write: names it in all the world.
    opened: u64,
    writes: AtomicU64,
}

impl std::fmt::Debug for DynamoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoStore")
            .field("table", &self.inner.table)
            .finish_non_exhaustive()
    }
}

impl DynamoStore {
    /// The store on the table that `SLIPWAY_TABLE` names; its sessions send to `queues`.
    ///
    /// # Errors
    /// When the table is absent, is not one of this program, or cannot be looked at.
    pub async fn open(clients: &Clients, table: &str, queues: Queues) -> Result<Self, SetupError> {
        if table.trim().is_empty() {
            return Err(SetupError::Missing {
                variable: "SLIPWAY_TABLE".to_owned(),
                expected: "the name of the DynamoDB table that was deployed",
            });
        }
        table::check(clients, table).await?;
        let opened = getrandom::u64().map_err(|error| SetupError::Unreachable {
            table: table.to_owned(),
            region: clients.region().to_owned(),
            source: Box::new(error),
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                clients: clients.clone(),
                table: table.to_owned(),
                queues,
                opened,
                writes: AtomicU64::new(0),
            }),
        })
    }
}

impl Inner {
    /// A name that no other write has.
    pub(crate) fn next_write(&self) -> String {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        format!("{:x}.{number:x}", self.opened)
    }

    pub(crate) fn failed(
        &self,
        operation: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        CallFailed::new(operation, &self.table, source).into()
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let answer = self
            .clients
            .dynamodb()
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key_attributes(key)?))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.failed("DynamoDB GetItem", error))?;
        match answer.item {
            Some(attributes) => Ok(Some(Row::from_attributes(attributes)?.into_stored())),
            None => Ok(None),
        }
    }

    fn query(&self) -> QueryFluentBuilder {
        self.clients.dynamodb().query().table_name(&self.table)
    }

    /// Items as they are now, by key; those that are gone are left out.
    async fn read_all(&self, keys: &[Key]) -> Result<HashMap<Key, Row>, StoreError> {
        let mut rows = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(LARGEST_BATCH) {
            let mut wanted = keys.iter().map(key_attributes).collect::<Result<Vec<_>, _>>()?;
            let mut attempt = 0;
            while !wanted.is_empty() {
                if attempt == BATCH_ATTEMPTS {
                    let left = crate::error::Refused {
                        count: wanted.len(),
                        first: "not processed".to_owned(),
                    };
                    return Err(self.failed("DynamoDB BatchGetItem", left));
                }
                if attempt > 0 {
                    pause(attempt).await;
                }
                let before = wanted.len();
                wanted = self.read_some(wanted, &mut rows).await?;
                // An answer holds 16 MB at most: what is over is no sign of a busy table.
                attempt = if wanted.len() < before { 0 } else { attempt + 1 };
            }
        }
        Ok(rows)
    }

    /// Reads what one call gives; returns the keys that it left out.
    async fn read_some(
        &self,
        wanted: Vec<Attributes>,
        rows: &mut HashMap<Key, Row>,
    ) -> Result<Vec<Attributes>, StoreError> {
        let keys = KeysAndAttributes::builder()
            .set_keys(Some(wanted))
            .consistent_read(true)
            .build()
            .map_err(|error| self.failed("DynamoDB BatchGetItem", error))?;
        let answer = self
            .clients
            .dynamodb()
            .batch_get_item()
            .request_items(&self.table, keys)
            .send()
            .await
            .map_err(|error| self.failed("DynamoDB BatchGetItem", error))?;
        for attributes in answer.responses.into_iter().flatten().flat_map(|(_, rows)| rows) {
            if let Some(key) = read_key(&attributes) {
                rows.insert(key, Row::from_attributes(attributes)?);
            }
        }
        Ok(answer
            .unprocessed_keys
            .into_iter()
            .flatten()
            .flat_map(|(_, keys)| keys.keys)
            .collect())
    }
}

/// Whether there is every attribute that the filters ask for.
fn matches(attributes: &BTreeMap<String, String>, filters: &[Filter]) -> bool {
    filters
        .iter()
        .all(|(name, value)| attributes.get(name) == Some(value))
}

fn whole(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key).await
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let mut page = ListPage::default();
        let mut start = match after {
            // Where a query goes on must lie within what it asks for.
            Some(after) if after.starts_with(prefix) && !after.is_empty() => {
                Some(key_attributes(&Key::new(partition, after))?)
            }
            Some(after) if after > prefix => return Ok(page),
            _ => None,
        };
        // One more than asked for tells whether there is more.
        let wanted = limit.saturating_add(1);
        loop {
            let mut query = self
                .inner
                .query()
                .consistent_read(true)
                .expression_attribute_names("#pk", name::PARTITION)
                .expression_attribute_values(":pk", AttributeValue::S(partition.to_owned()))
                .set_exclusive_start_key(start)
                .limit(whole(wanted - page.items.len()));
            query = if prefix.is_empty() {
                query.key_condition_expression("#pk = :pk")
            } else {
                query
                    .key_condition_expression("#pk = :pk AND begins_with(#sk, :prefix)")
                    .expression_attribute_names("#sk", name::SORT)
                    .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            };
            let answer = query
                .send()
                .await
                .map_err(|error| self.inner.failed("DynamoDB Query", error))?;
            for attributes in answer.items.into_iter().flatten() {
                page.items.push(Row::from_attributes(attributes)?.into_stored());
            }
            if page.items.len() > limit {
                page.items.truncate(limit);
                page.next = page.items.last().map(|last| last.key.sort.clone());
                return Ok(page);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(page);
            }
        }
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let (keys, next) = self.inner.listed(list, filters, after, limit).await?;
        let mut rows = self.inner.read_all(&keys).await?;
        let items = keys
            .iter()
            .filter_map(|key| rows.remove(key))
            // The index may not have heard yet of what the item became.
            .filter(|row| row.list.as_deref() == Some(list) && matches(&row.attributes, filters))
            .map(Row::into_stored)
            .collect();
        Ok(ListPage { items, next })
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        debug_assert!(shard < DUE_SHARDS, "there are {DUE_SHARDS} shards");
        let mut items = Vec::new();
        let mut start = None;
        while items.len() < limit {
            let answer = self
                .inner
                .query()
                .index_name(DUE_INDEX)
                .key_condition_expression("#shard = :shard AND #at <= :until")
                .expression_attribute_names("#shard", name::DUE_SHARD)
                .expression_attribute_names("#at", name::DUE_AT)
                .expression_attribute_values(":shard", AttributeValue::N(shard.to_string()))
                .expression_attribute_values(":until", AttributeValue::N(until.as_millis().to_string()))
                .set_exclusive_start_key(start)
                .limit(whole(limit - items.len()))
                .send()
                .await
                .map_err(|error| self.inner.failed("DynamoDB Query (due)", error))?;
            items.extend(answer.items.into_iter().flatten().filter_map(|entry| {
                Some(DueItem {
                    key: read_key(&entry)?,
                    at: Timestamp::from_millis(number(&entry, name::DUE_AT)?),
                })
            }));
            start = answer.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(items)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(DynamoSession::new(Arc::clone(&self.inner)))
    }
}

impl Inner {
    /// Keys of a list's entries that match, and where to go on if there are more.
    async fn listed(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Key>, Option<String>), StoreError> {
        let mut keys = Vec::new();
        let mut last: Option<String> = None;
        let mut scanned = 0;
        let mut start = None;
        // With filters, what is needed is not known; entries are short, and a round trip is long.
        let page = if filters.is_empty() {
            limit.saturating_add(1)
        } else {
            limit.saturating_add(1).max(200)
        };
        loop {
            let mut query = self
                .query()
                .index_name(LIST_INDEX)
                .scan_index_forward(false)
                .expression_attribute_names("#list", name::LIST)
                .expression_attribute_values(":list", AttributeValue::S(list.to_owned()))
                .set_exclusive_start_key(start)
                .limit(whole(page));
            query = match after {
                Some(after) => query
                    .key_condition_expression("#list = :list AND #position < :after")
                    .expression_attribute_names("#position", name::POSITION)
                    .expression_attribute_values(":after", AttributeValue::S(after.to_owned())),
                None => query.key_condition_expression("#list = :list"),
            };
            let answer = query
                .send()
                .await
                .map_err(|error| self.failed("DynamoDB Query (list)", error))?;
            for entry in answer.items.into_iter().flatten() {
                let (Some(key), Some(position)) = (read_key(&entry), text(&entry, name::POSITION)) else {
                    continue;
                };
                let full = keys.len() >= limit || scanned >= LARGEST_SCAN;
                // Items at one position are never parted, because a page goes on below a position.
                if full && last.as_deref() != Some(position) {
                    return Ok((keys, last));
                }
                if matches(&attributes(&entry), filters) {
                    keys.push(key);
                }
                scanned += 1;
                last = Some(position.to_owned());
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok((keys, None));
            }
        }
    }
}

/// What filters compare, of an entry of the index.
fn attributes(entry: &Attributes) -> BTreeMap<String, String> {
    let Some(Ok(map)) = entry.get(name::ATTRIBUTES).map(AttributeValue::as_m) else {
        return BTreeMap::new();
    };
    map.iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone())))
        .collect()
}
