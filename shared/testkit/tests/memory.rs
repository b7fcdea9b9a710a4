//! The ports in memory keep the contract: what passes on them means something.

use std::{sync::Arc, time::Duration};

use slipway_model::Queue;
use slipway_testkit::{
    ManualClock, TokioClock,
    contract::{BlobsSubject, QueueSubject, SecretsSubject, StoreSubject},
    memory::{SimpleBlobs, SimpleSecrets, SimpleStore},
};

async fn store() -> StoreSubject {
    StoreSubject {
        store: Arc::new(SimpleStore::new(Arc::new(ManualClock::default()), 5)),
        prefix: "case".to_owned(),
        index_lag: Duration::ZERO,
        keep: Box::new(()),
    }
}

async fn queue() -> QueueSubject {
    let store = Arc::new(SimpleStore::new(Arc::new(TokioClock::start()), 3));
    QueueSubject {
        receiver: store.clone(),
        store,
        queue: Queue::Topic("one".to_owned()),
        other: Queue::Topic("two".to_owned()),
        max_receives: 3,
        tick: Duration::from_secs(1),
        keep: Box::new(()),
    }
}

async fn secrets() -> SecretsSubject {
    SecretsSubject {
        secrets: Arc::new(SimpleSecrets::default()),
        keep: Box::new(()),
    }
}

async fn blobs() -> BlobsSubject {
    BlobsSubject {
        blobs: Arc::new(SimpleBlobs::default()),
        keep: Box::new(()),
    }
}

slipway_testkit::store_contract!(store);
slipway_testkit::queue_contract!(queue, slipway_testkit::contract::run_paused);
slipway_testkit::secrets_contract!(secrets);
slipway_testkit::blobs_contract!(blobs);
