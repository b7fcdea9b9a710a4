//! A commit that fails takes down who rests on it, and nobody else.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{path::Path, time::Duration};

use futures::FutureExt as _;
use slipway_embedded::{Embedded, Options};
use slipway_model::Queue;
use slipway_ports::{Guard, Key, StoreError};
use slipway_testkit::fixtures::{item, message};

const QUEUE: Queue = Queue::DeployHelm;
const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

/// Makes every transaction fail that writes an item of the partition `bad`.
fn break_partition(folder: &Path) {
    let connection = rusqlite::Connection::open(folder.join("slipway.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON items WHEN NEW.partition = 'bad'
             BEGIN SELECT RAISE(ABORT, 'the disk is full'); END;",
        )
        .unwrap();
}

/// Opens a folder in which nothing is written before somebody waits for it.
fn open(folder: &Path) -> Embedded {
    let options = Options {
        flush_after: LONG,
        ..Options::default()
    };
    Embedded::open(folder, options).unwrap()
}

/// Everything that an error says.
fn text(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_failed_commit_is_told_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    break_partition(folder.path());
    let store = embedded.store();
    let (good, bad) = (Key::new("good", "s"), Key::new("bad", "s"));
    let mut before = store.session();
    before.put(&good, item("before"), Guard::Absent).await.unwrap();
    before.settle().await.unwrap();

    let mut innocent = store.session();
    innocent
        .put(&good, item("lost"), Guard::Version(1))
        .await
        .unwrap();
    innocent.send(QUEUE, message("lost"), NOW);
    let mut slow = store.session();
    assert_eq!(slow.get(&good).await.unwrap().unwrap().body, "lost");
    let mut guilty = store.session();
    guilty.put(&bad, item("lost"), Guard::Absent).await.unwrap();
    let (innocent, guilty) = tokio::join!(innocent.settle(), guilty.settle());
    let (innocent, guilty) = (innocent.unwrap_err(), guilty.unwrap_err());
    for error in [&innocent, &guilty] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    let texts = [text(&innocent), text(&guilty)];
    assert!(
        texts.iter().any(|text| text.contains("the disk is full")),
        "{texts:?}"
    );

    // Who saw what is gone cannot go on.
    let error = slow.get(&good).await.unwrap_err();
    assert!(text(&error).contains("begin again"), "{}", text(&error));
    assert!(slow.settle().await.is_err());

    // Everybody else sees what was there before, and can write.
    assert_eq!(store.get(&good).await.unwrap().unwrap().body, "before");
    assert_eq!(store.get(&bad).await.unwrap(), None);
    let mut after = store.session();
    assert_eq!(after.get(&good).await.unwrap().unwrap().body, "before");
    assert_eq!(after.get(&bad).await.unwrap(), None);
    after.put(&good, item("after"), Guard::Version(1)).await.unwrap();
    after.send(QUEUE, message("after"), NOW);
    after.settle().await.unwrap();
    assert_eq!(store.get(&good).await.unwrap().unwrap().body, "after");
    let received = embedded.receiver().receive(&QUEUE, 10, SOON, LONG).await.unwrap();
    let bodies: Vec<&str> = received.iter().map(|delivery| delivery.body.as_str()).collect();
    assert_eq!(bodies, [message("after").to_body()]);
}

#[tokio::test]
async fn what_consumers_did_outlives_a_failed_commit() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    break_partition(folder.path());
    let (store, receiver) = (embedded.store(), embedded.receiver());
    let mut session = store.session();
    for name in ["done", "released", "buried"] {
        session.send(QUEUE, message(name), NOW);
    }
    session.settle().await.unwrap();
    let received = receiver.receive(&QUEUE, 10, SOON, LONG).await.unwrap();
    let receipt = |name: &str| {
        let body = message(name).to_body();
        let delivery = received.iter().find(|delivery| delivery.body == body).unwrap();
        delivery.receipt.clone()
    };

    let mut guilty = store.session();
    guilty
        .put(&Key::new("bad", "s"), item("lost"), Guard::Absent)
        .await
        .unwrap();
    receiver.acknowledge(&QUEUE, &receipt("done")).await.unwrap();
    receiver
        .release(&QUEUE, &receipt("released"), LONG, "later")
        .await
        .unwrap();
    assert!(receiver.bury(&QUEUE, &receipt("buried"), "why").await.is_err());
    assert!(guilty.settle().await.is_err());
    drop((store, receiver, embedded));

    let embedded = open(folder.path());
    let letters = embedded.receiver().dead_letters(&QUEUE, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0].body, letters[0].reason.as_str()),
        (&message("buried").to_body(), "why")
    );
    let now = embedded.receiver().receive(&QUEUE, 10, NOW, LONG).await.unwrap();
    assert_eq!(now, [], "one was acknowledged, one delayed, and one is dead");
}

#[tokio::test]
async fn closing_while_commits_fail_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    break_partition(folder.path());
    let mut session = embedded.store().session();
    session
        .put(&Key::new("bad", "s"), item("lost"), Guard::Absent)
        .await
        .unwrap();
    drop(session);
    drop(embedded);
    open(folder.path());
}

#[tokio::test]
async fn nothing_is_received_while_commits_fail_although_the_disk_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let (store, receiver) = (embedded.store(), embedded.receiver());
    let mut session = store.session();
    session.send(QUEUE, message("one"), Duration::from_secs(2));
    session.settle().await.unwrap();
    // Somebody waits for it since before, and its time comes while nothing can be written.
    let mut receiving = receiver.receive(&QUEUE, 10, SOON, LONG);
    assert!(receiving.as_mut().now_or_never().is_none());

    let other = rusqlite::Connection::open(folder.path().join("slipway.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut refused = store.session();
    refused
        .put(&Key::new("good", "s"), item("lost"), Guard::Absent)
        .await
        .unwrap();
    let error = refused.settle().await.unwrap_err();
    assert!(text(&error).contains("locked"), "{}", text(&error));
    assert!(receiving.as_mut().now_or_never().is_none());

    other.execute_batch("ROLLBACK").unwrap();
    let received = receiving.await.unwrap();
    let counts: Vec<u32> = received.iter().map(|delivery| delivery.receive_count).collect();
    assert_eq!(counts, [1]);
}
