//! DynamoDB keeps the contract of the state store.

mod common;

use std::{sync::Arc, time::Duration};

use slipway_aws::Queues;
use slipway_testkit::contract::StoreSubject;

async fn subject() -> StoreSubject {
    let clients = common::clients().await;
    StoreSubject {
        store: Arc::new(common::store(&clients, Queues::default()).await),
        prefix: common::unique("case"),
        index_lag: Duration::from_secs(10),
        keep: Box::new(()),
    }
}

slipway_testkit::store_contract!(subject);
