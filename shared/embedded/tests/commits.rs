//! One commit for many, and what is seen before and after it.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{path::Path, sync::Arc, time::Duration};

use slipway_embedded::{Embedded, Options};
use slipway_model::Queue;
use slipway_ports::{Guard, Key, Put};
use slipway_testkit::{
    ManualClock, START,
    fixtures::{item, message},
};
use tokio::{sync::Barrier, task::JoinSet};

const QUEUE: Queue = Queue::DeployHelm;
const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(600);

/// Opens a folder in which nothing is written before somebody waits for it.
fn open(folder: &Path) -> Embedded {
    let options = Options {
        flush_after: LONG,
        ..Options::default()
    };
    Embedded::open(folder, options).unwrap()
}

async fn send(embedded: &Embedded, name: &str, delay: Duration) {
    let mut session = embedded.store().session();
    session.send(QUEUE, message(name), delay);
    session.settle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_that_settle_at_once_share_few_commits() {
    const SESSIONS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let written = Arc::new(Barrier::new(SESSIONS));
    let before = embedded.statistics().commits;
    let mut tasks = JoinSet::new();
    for n in 0..SESSIONS {
        let (store, written) = (embedded.store(), Arc::clone(&written));
        tasks.spawn(async move {
            let mut session = store.session();
            let key = Key::new(format!("p{n}"), "s");
            session.put(&key, item("1"), Guard::Absent).await.unwrap();
            written.wait().await;
            session.settle().await.unwrap();
            assert!(store.get(&key).await.unwrap().is_some(), "settled and not there");
        });
    }
    tasks.join_all().await;
    // All of them wrote before the first one settled.
    assert_eq!(embedded.statistics().commits - before, 1);
}

#[tokio::test]
async fn settling_what_is_durable_already_costs_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let key = Key::new("p", "s");
    let mut session = embedded.store().session();
    session.put(&key, item("1"), Guard::Absent).await.unwrap();
    session.settle().await.unwrap();
    let before = embedded.statistics().commits;
    let mut session = embedded.store().session();
    assert!(session.get(&key).await.unwrap().is_some());
    assert!(matches!(
        session.put(&key, item("2"), Guard::Absent).await.unwrap(),
        Put::Lost(Some(_))
    ));
    session.settle().await.unwrap();
    embedded.store().session().settle().await.unwrap();
    assert_eq!(embedded.statistics().commits, before);
}

#[tokio::test]
async fn what_is_new_is_not_asked_for_and_what_is_old_is_found() {
    // Together more than what stays in memory.
    const ITEMS: usize = 100;
    let large = "x".repeat(100_000);
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let keys: Vec<Key> = (0..ITEMS).map(|n| Key::new("p", format!("s{n}"))).collect();
    let mut session = embedded.store().session();
    let before = embedded.statistics().reads;
    for key in &keys {
        session.put(key, item(&large), Guard::Absent).await.unwrap();
    }
    session.settle().await.unwrap();
    assert_eq!(
        embedded.statistics().reads - before,
        1,
        "one question about the partition"
    );
    let mut session = embedded.store().session();
    for key in &keys {
        let put = session.put(key, item("again"), Guard::Absent).await.unwrap();
        assert!(matches!(put, Put::Lost(Some(_))), "{key} was written before");
    }
    assert!(embedded.statistics().reads > before + 1, "some were asked for");
}

#[tokio::test]
async fn who_saw_what_is_not_durable_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let key = Key::new("p", "s");
    let mut writer = embedded.store().session();
    writer.put(&key, item("1"), Guard::Absent).await.unwrap();
    let mut reader = embedded.store().session();
    assert!(reader.get(&key).await.unwrap().is_some());
    reader.settle().await.unwrap();
    // The writer has not settled, but the reader may act on what it saw.
    assert!(embedded.store().get(&key).await.unwrap().is_some());
    writer.settle().await.unwrap();
}

#[tokio::test]
async fn outside_sessions_only_what_is_settled_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let store = embedded.store();
    let key = Key::new("p", "s");
    let mut session = store.session();
    for _ in 0..2 {
        session.put(&key, item("1"), Guard::Any).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), None);
        assert_eq!(store.query("p", "", None, 10).await.unwrap().items, []);
    }
    session.settle().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn what_nobody_settles_is_written_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), Options::default()).unwrap();
    let mut session = embedded.store().session();
    session
        .put(&Key::new("p", "s"), item("1"), Guard::Absent)
        .await
        .unwrap();
    session.send(QUEUE, message("a"), NOW);
    drop(session);
    let patience = Duration::from_secs(20);
    let received = embedded
        .receiver()
        .receive(&QUEUE, 1, patience, LONG)
        .await
        .unwrap();
    assert_eq!(received.len(), 1);
    assert!(embedded.store().get(&Key::new("p", "s")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_sweep_drops_what_expired_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = Options {
        clock: clock.clone(),
        steady: false,
        message_retention: LONG,
        ..Options::default()
    };
    let embedded = Embedded::open(folder.path(), options).unwrap();
    let store = embedded.store();
    let key = |name: &str| Key::new(name, "s");
    let mut session = store.session();
    for (name, expires) in [
        ("old", Some(10)),
        ("young", Some(1000)),
        ("eternal", None),
        ("renewed", Some(10)),
    ] {
        let mut new = item("1");
        new.expires_at = expires.map(|seconds| START.plus(Duration::from_secs(seconds)));
        session.put(&key(name), new, Guard::Absent).await.unwrap();
    }
    for name in ["old", "young"] {
        session.arrive(&Key::new(name, "join"), 1, true).await.unwrap();
    }
    session.send(QUEUE, message("unwanted"), NOW);
    session.settle().await.unwrap();
    clock.advance(Duration::from_secs(700));
    send(&embedded, "wanted", NOW).await;

    // Written and not durable when the sweep comes.
    let mut session = store.session();
    session
        .put(&key("renewed"), item("2"), Guard::Version(1))
        .await
        .unwrap();
    embedded.sweep().await.unwrap();
    session.settle().await.unwrap();

    let mut session = store.session();
    for (name, there) in [
        ("old", false),
        ("young", true),
        ("eternal", true),
        ("renewed", true),
    ] {
        assert_eq!(store.get(&key(name)).await.unwrap().is_some(), there, "{name}");
        assert_eq!(
            session.get(&key(name)).await.unwrap().is_some(),
            there,
            "{name} in a session"
        );
    }
    assert_eq!(
        session.arrivals(&Key::new("old", "join")).await.unwrap().count(),
        0
    );
    assert_eq!(
        session
            .arrivals(&Key::new("young", "join"))
            .await
            .unwrap()
            .count(),
        1
    );
    let received = embedded.receiver().receive(&QUEUE, 10, NOW, LONG).await.unwrap();
    let bodies: Vec<&str> = received.iter().map(|delivery| delivery.body.as_str()).collect();
    assert_eq!(bodies, [message("wanted").to_body()]);
}

#[tokio::test]
async fn items_at_one_position_are_not_parted_by_pages() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let store = embedded.store();
    let mut session = store.session();
    for (name, position) in [("a", "1"), ("b", "2"), ("c", "2"), ("d", "2"), ("e", "3")] {
        let listing = slipway_ports::Listing {
            list: "l".to_owned(),
            position: position.to_owned(),
            attributes: Default::default(),
        };
        session
            .put(&Key::new("p", name), item("1").listed(listing), Guard::Any)
            .await
            .unwrap();
    }
    session.settle().await.unwrap();
    for limit in 1..=5 {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.list("l", &[], after.as_deref(), limit).await.unwrap();
            seen.extend(page.items.into_iter().map(|stored| stored.key.sort));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["e", "d", "c", "b", "a"], "pages of {limit}");
    }
}
