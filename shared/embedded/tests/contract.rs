//! SQLite and the local disk keep the contract of the ports.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::time::Duration;

use slipway_embedded::{Embedded, Options};
use slipway_model::Queue;
use slipway_testkit::contract::{BlobsSubject, QueueSubject, SecretsSubject, StoreSubject};
use tempfile::TempDir;

fn open(options: Options) -> (TempDir, Embedded) {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), options).unwrap();
    (folder, embedded)
}

async fn store() -> StoreSubject {
    let (folder, embedded) = open(Options::default());
    StoreSubject {
        store: embedded.store(),
        prefix: "case".to_owned(),
        index_lag: Duration::ZERO,
        keep: Box::new(folder),
    }
}

async fn queue() -> QueueSubject {
    let (folder, embedded) = open(Options {
        max_receives: 3,
        ..Options::default()
    });
    QueueSubject {
        store: embedded.store(),
        receiver: embedded.receiver(),
        queue: Queue::ExecuteStep,
        // Of the same name, and yet another queue.
        other: Queue::Topic("execute-step".to_owned()),
        max_receives: 3,
        tick: Duration::from_millis(150),
        keep: Box::new(folder),
    }
}

async fn secrets() -> SecretsSubject {
    let (folder, embedded) = open(Options::default());
    SecretsSubject {
        secrets: embedded.secrets(),
        keep: Box::new(folder),
    }
}

async fn blobs() -> BlobsSubject {
    let (folder, embedded) = open(Options::default());
    BlobsSubject {
        blobs: embedded.blobs(),
        keep: Box::new(folder),
    }
}

slipway_testkit::store_contract!(store);
slipway_testkit::queue_contract!(queue);
slipway_testkit::secrets_contract!(secrets);
slipway_testkit::blobs_contract!(blobs);
