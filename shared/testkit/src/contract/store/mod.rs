//! Stores and sessions.

pub mod items;
pub mod joins;
pub mod lists;
pub mod queries;
pub mod sessions;

use slipway_ports::{Item, Put, Stored};

use super::StoreSubject;
use crate::fixtures::item;

fn won(put: &Put) -> u64 {
    match put {
        Put::Won(version) => *version,
        Put::Lost(current) => panic!("the write lost against {current:?}"),
    }
}

fn lost(put: Put) -> Option<Stored> {
    match put {
        Put::Won(version) => panic!("the write won and made version {version}"),
        Put::Lost(current) => current,
    }
}

/// Writes items in one session and settles it.
async fn settled(subject: &StoreSubject, items: impl IntoIterator<Item = (slipway_ports::Key, Item)>) {
    let mut session = subject.store.session();
    for (key, item) in items {
        won(&session.put(&key, item, slipway_ports::Guard::Any).await.unwrap());
    }
    session.settle().await.unwrap();
}

fn sorts(items: &[Stored]) -> Vec<&str> {
    items.iter().map(|stored| stored.key.sort.as_str()).collect()
}
