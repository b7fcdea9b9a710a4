//! How items stand in the table.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use slipway_model::Timestamp;
use slipway_ports::{DUE_SHARDS, Item, Key, StoreError, Stored};

/// Bytes that a body may have in every store.
pub(crate) const LARGEST_BODY: usize = 350 * 1024;
/// Bytes that an item of the table may have, names of attributes included.
const LARGEST_ROW: usize = 400 * 1024;
/// Bytes that the parts of a key of the table may have.
const LONGEST_PARTITION: usize = 2048;
const LONGEST_SORT: usize = 1024;

/// What a join's partition has behind the items' one. Keys are printable text, so that no item is ever there, and a
/// query of the partition sees no join.
const JOINS: &str = "\u{1f}joins";

/// Names of attributes.
pub(crate) mod name {
    pub(crate) const PARTITION: &str = "pk";
    pub(crate) const SORT: &str = "sk";
    pub(crate) const BODY: &str = "body";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const WRITTEN_BY: &str = "written_by";
    pub(crate) const DUE_SHARD: &str = "due_shard";
    pub(crate) const DUE_AT: &str = "due_at";
    pub(crate) const LIST: &str = "list";
    pub(crate) const POSITION: &str = "position";
    pub(crate) const ATTRIBUTES: &str = "attributes";
    pub(crate) const EXPIRES: &str = "expires";
    pub(crate) const OK: &str = "ok";
    pub(crate) const BAD: &str = "bad";

    /// What an item may lack; a write of the whole item removes those that it does not set.
    pub(crate) const OPTIONAL: [&str; 6] = [DUE_SHARD, DUE_AT, LIST, POSITION, ATTRIBUTES, EXPIRES];
}

/// An item of the table, as serde reads and writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pk: String,
    sk: String,
    body: String,
    version: u64,
    /// Names the write, so that a repeated request knows its own effect again.
    written_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) list: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
    /// Seconds since the epoch, rounded up: the table's time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

pub(crate) type Attributes = HashMap<String, AttributeValue>;

impl Row {
    /// The row of an item.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] if the table cannot hold it.
    pub(crate) fn new(key: &Key, item: Item, version: u64, written_by: String) -> Result<Self, StoreError> {
        check_key(key)?;
        let refuse = |bytes, limit| StoreError::TooLarge {
            key: key.to_string(),
            bytes,
            limit,
        };
        if item.body.len() > LARGEST_BODY {
            return Err(refuse(item.body.len(), LARGEST_BODY));
        }
        let (list, position, attributes) = match item.listing {
            Some(listing) => (Some(listing.list), Some(listing.position), listing.attributes),
            None => (None, None, BTreeMap::new()),
        };
        let row = Self {
            pk: key.partition.clone(),
            sk: key.sort.clone(),
            body: item.body,
            version,
            written_by,
            due_shard: item.due.map(|_| due_shard(key)),
            due_at: item.due.map(|due| due.at.as_millis()),
            list,
            position,
            attributes,
            expires: item.expires_at.map(seconds),
        };
        let bytes = row.bytes();
        if bytes > LARGEST_ROW {
            return Err(refuse(bytes, LARGEST_ROW));
        }
        Ok(row)
    }

    /// Bytes of the item in the table, at most.
    fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let attributes: usize = self
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        let names_and_numbers = 256;
        names_and_numbers
            + self.pk.len()
            + self.sk.len()
            + self.body.len()
            + self.written_by.len()
            + length(&self.list)
            + length(&self.position)
            + attributes
    }

    pub(crate) fn to_attributes(&self) -> Attributes {
        serde_dynamo::to_item(self).expect("a row holds only text, numbers and a map of text")
    }

    /// Reads an item of the table.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is no item of this program.
    pub(crate) fn from_attributes(attributes: Attributes) -> Result<Self, StoreError> {
        let key = read_key(&attributes).map_or_else(|| "without a key".to_owned(), |key| key.to_string());
        serde_dynamo::from_item(attributes).map_err(|source| StoreError::Corrupt {
            key,
            source: Box::new(source),
        })
    }

    pub(crate) fn written_by(&self) -> &str {
        &self.written_by
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn into_stored(self) -> Stored {
        Stored {
            key: Key::new(self.pk, self.sk),
            body: self.body,
            version: self.version,
        }
    }
}

/// A time as the table's time to live has it: a part of a second counts as a whole one, so that nothing goes early.
pub(crate) fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000) + i64::from(at.as_millis().rem_euclid(1000) > 0)
}

/// The key of an item of the table or of an index.
pub(crate) fn read_key(attributes: &Attributes) -> Option<Key> {
    Some(Key::new(
        text(attributes, name::PARTITION)?,
        text(attributes, name::SORT)?,
    ))
}

pub(crate) fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    Some(attributes.get(name)?.as_s().ok()?)
}

pub(crate) fn number<N: std::str::FromStr>(attributes: &Attributes, name: &str) -> Option<N> {
    attributes.get(name)?.as_n().ok()?.parse().ok()
}

/// The attributes of a key.
///
/// # Errors
/// [`StoreError::InvalidKey`] for one that the table cannot have.
pub(crate) fn key_attributes(key: &Key) -> Result<Attributes, StoreError> {
    check_key(key)?;
    Ok(pair(key.partition.clone(), key.sort.clone()))
}

/// Where a join stands.
///
/// # Errors
/// [`StoreError::InvalidKey`] for one that the table cannot have.
pub(crate) fn join_attributes(join: &Key) -> Result<Attributes, StoreError> {
    check_key(join)?;
    Ok(pair(format!("{}{JOINS}", join.partition), join.sort.clone()))
}

fn pair(partition: String, sort: String) -> Attributes {
    Attributes::from([
        (name::PARTITION.to_owned(), AttributeValue::S(partition)),
        (name::SORT.to_owned(), AttributeValue::S(sort)),
    ])
}

fn check_key(key: &Key) -> Result<(), StoreError> {
    for (part, text, limit) in [
        ("partition", &key.partition, LONGEST_PARTITION - JOINS.len()),
        ("sort key", &key.sort, LONGEST_SORT),
    ] {
        if text.is_empty() || text.len() > limit {
            return Err(StoreError::InvalidKey {
                key: key.to_string(),
                part,
                bytes: text.len(),
                limit,
            });
        }
    }
    Ok(())
}

/// The shard of the index of due items that a key is in, for ever: a sum over its bytes (FNV-1a), then mixed, because
/// the last bytes reach only the low bits of the sum.
pub(crate) fn due_shard(key: &Key) -> u8 {
    let sum = key
        .partition
        .bytes()
        .chain([0])
        .chain(key.sort.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) % u64::from(DUE_SHARDS)) as u8
}

#[cfg(test)]
mod tests {
    use slipway_ports::Listing;

    use super::*;

    fn written(item: Item) -> Attributes {
        Row::new(&Key::new("p", "s"), item, 3, "w".to_owned())
            .unwrap()
            .to_attributes()
    }

    #[test]
    fn what_an_item_lacks_is_no_attribute() {
        let mut names: Vec<String> = written(Item::of(&1)).into_keys().collect();
        names.sort();
        assert_eq!(names, ["body", "pk", "sk", "version", "written_by"]);
    }

    #[test]
    fn every_attribute_of_a_row_is_read_back() {
        let item = Item::of(&1)
            .due_at(Some(Timestamp::from_millis(1001)))
            .expiring_at(Timestamp::from_millis(1001))
            .listed(Listing {
                list: "l".to_owned(),
                position: "p".to_owned(),
                attributes: BTreeMap::from([("status".to_owned(), "FAILED".to_owned())]),
            });
        let attributes = written(item);
        assert_eq!(number::<i64>(&attributes, name::DUE_AT), Some(1001));
        assert_eq!(number::<i64>(&attributes, name::EXPIRES), Some(2));
        for optional in name::OPTIONAL {
            assert!(attributes.contains_key(optional), "{optional}");
        }
        let row = Row::from_attributes(attributes).unwrap();
        assert_eq!(row.attributes["status"], "FAILED");
        assert_eq!(row.into_stored().version, 3);
    }

    #[test]
    fn attributes_count_towards_the_size() {
        let item = Item::of(&1).listed(Listing {
            list: "l".to_owned(),
            position: "p".to_owned(),
            attributes: BTreeMap::from([("note".to_owned(), "x".repeat(LARGEST_ROW))]),
        });
        let error = Row::new(&Key::new("p", "s"), item, 1, String::new()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::TooLarge {
                    limit: LARGEST_ROW,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn shards_never_change() {
        // Items that stand in a table are found by what these were when they were written.
        let shards: Vec<u8> = ["a", "b", "T/x/1", "T/x/2"]
            .map(|partition| due_shard(&Key::new(partition, "x")))
            .to_vec();
        assert_eq!(shards, [12, 0, 8, 6]);
    }
}
