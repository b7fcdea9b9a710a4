//! Reads of what is settled.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use slipway_model::Timestamp;
use slipway_ports::{DueItem, Filter, Key, ListPage, Session, Store, StoreError, Stored};

use crate::{core::Core, error::unavailable, session::SqliteSession};

/// Rows of a list that one call looks at, at most: filters that drop nearly everything end a page early.
const LARGEST_SCAN: usize = 2000;

/// The state store on SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    core: Arc<Core>,
}

impl SqliteStore {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.core.read(read).map_err(unavailable)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let found: Option<(String, u64)> = self.read(|connection| {
            connection
                .prepare_cached("SELECT body, version FROM items WHERE partition = ?1 AND sort = ?2")?
                .query_row((&key.partition, &key.sort), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        Ok(found.map(|(body, version)| Stored {
            key: key.clone(),
            body,
            version,
        }))
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        // Nothing sorts between a text and the same text with the least character behind it.
        let after_or_prefix = after.map(|after| format!("{after}\0"));
        let from = after_or_prefix
            .as_deref()
            .map_or(prefix, |after| after.max(prefix));
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sort, body, version FROM items WHERE partition = ?1 AND sort >= ?2 ORDER BY sort",
            )?;
            let mut rows = statement.query((partition, from))?;
            let mut page = ListPage::default();
            while let Some(row) = rows.next()? {
                let sort: String = row.get(0)?;
                if !sort.starts_with(prefix) {
                    break;
                }
                if page.items.len() >= limit {
                    page.next = page.items.last().map(|last: &Stored| last.key.sort.clone());
                    break;
                }
                page.items.push(Stored {
                    key: Key::new(partition, sort),
                    body: row.get(1)?,
                    version: row.get(2)?,
                });
            }
            Ok(page)
        })
    }

    async fn list(
        &self,
        list: &str,
        filters: &[Filter],
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.read(|connection| {
            // A bound parameter may be null, but then SQLite would not use the index for it.
            let mut statement = connection.prepare_cached(match after {
                Some(_) => {
                    "SELECT partition, sort, body, version, position, attributes FROM items
                     WHERE list = ?1 AND position < ?2 ORDER BY position DESC, partition DESC, sort DESC"
                }
                None => {
                    "SELECT partition, sort, body, version, position, attributes FROM items
                     WHERE list = ?1 ORDER BY position DESC, partition DESC, sort DESC"
                }
            })?;
            let mut rows = match after {
                Some(after) => statement.query((list, after))?,
                None => statement.query([list])?,
            };
            let mut page = ListPage::default();
            let mut last: Option<String> = None;
            let mut scanned = 0;
            while let Some(row) = rows.next()? {
                let position: String = row.get(4)?;
                let full = page.items.len() >= limit || scanned >= LARGEST_SCAN;
                // Items at one position are never parted, because a page goes on below a position.
                if full && last.as_ref() != Some(&position) {
                    page.next = last;
                    break;
                }
                if matches(row, filters)? {
                    page.items.push(Stored {
                        key: Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
                        body: row.get(2)?,
                        version: row.get(3)?,
                    });
                }
                scanned += 1;
                last = Some(position);
            }
            Ok(page)
        })
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT partition, sort, due_at FROM items
                     WHERE due_shard = ?1 AND due_at <= ?2 ORDER BY due_at, partition, sort LIMIT ?3",
                )?
                .query_map(params![shard, until.as_millis(), limit], |row| {
                    Ok(DueItem {
                        key: Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
                        at: Timestamp::from_millis(row.get(2)?),
                    })
                })?
                .collect()
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(SqliteSession::new(Arc::clone(&self.core)))
    }
}

/// Whether a row has every attribute that the filters ask for.
fn matches(row: &Row<'_>, filters: &[Filter]) -> rusqlite::Result<bool> {
    if filters.is_empty() {
        return Ok(true);
    }
    let text: String = row.get(5)?;
    let attributes: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(filters
        .iter()
        .all(|(name, value)| attributes.get(name) == Some(value)))
}
