//! What is special about SQLite: one fsync for many, and nothing lost whatever happens to the process.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what tests share fails as tests do, and the process that is killed speaks to its parent"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use slipway_embedded::{Embedded, OpenError, Options};
use slipway_model::{Event, Message, Queue, TenantId};
use slipway_ports::{Guard, Item, Key, Put};
use slipway_testkit::{ManualClock, START};
use tokio::{sync::Barrier, task::JoinSet};

const QUEUE: Queue = Queue::DeployHelm;
const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

fn item(body: impl Into<String>) -> Item {
    Item {
        body: body.into(),
        ..Item::default()
    }
}

fn message(name: &str) -> Message {
    Message::Event(Event {
        event_type: "test".to_owned(),
        workflow_id: name.to_owned(),
        tenant_id: None,
        payload: serde_json::Value::Null,
    })
}

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Options::default()).unwrap()
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
    let before = embedded.commits();
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
    // All of them wrote before the first one settled: one commit, or two if a flush came in between.
    let commits = embedded.commits() - before;
    assert!((1..=3).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn settling_what_is_durable_already_costs_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let key = Key::new("p", "s");
    let mut session = embedded.store().session();
    session.put(&key, item("1"), Guard::Absent).await.unwrap();
    session.settle().await.unwrap();
    let before = embedded.commits();
    let mut session = embedded.store().session();
    assert!(session.get(&key).await.unwrap().is_some());
    assert!(matches!(
        session.put(&key, item("2"), Guard::Absent).await.unwrap(),
        Put::Lost(Some(_))
    ));
    session.settle().await.unwrap();
    embedded.store().session().settle().await.unwrap();
    assert_eq!(embedded.commits(), before);
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
        let seen = store.get(&key).await.unwrap();
        // What nobody waits for is written after a while, too; on a very slow machine that may have been just now.
        assert!(
            seen.is_none() || embedded.commits() > 0,
            "{seen:?} was never committed"
        );
    }
    session.settle().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn what_nobody_settled_is_written_when_the_folder_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let mut session = embedded.store().session();
    session
        .put(&Key::new("p", "s"), item("1"), Guard::Absent)
        .await
        .unwrap();
    session.send(QUEUE, message("a"), NOW);
    drop(session);
    drop(embedded);
    let embedded = open(folder.path());
    assert!(embedded.store().get(&Key::new("p", "s")).await.unwrap().is_some());
    let received = embedded.receiver().receive(&QUEUE, 10, NOW, LONG).await.unwrap();
    assert_eq!(received.len(), 1);
}

#[tokio::test]
async fn a_restart_voids_receipts_and_keeps_delays_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = || Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let embedded = Embedded::open(folder.path(), options()).unwrap();
    let receiver = embedded.receiver();
    assert_eq!(embedded.epoch(), 1);
    send(&embedded, "held", NOW).await;
    send(&embedded, "acknowledged", NOW).await;
    send(&embedded, "delayed", LONG).await;
    let released = receiver.receive(&QUEUE, 1, SOON, LONG).await.unwrap();
    receiver
        .release(&QUEUE, &released[0].receipt, NOW, "again")
        .await
        .unwrap();
    let held = receiver.receive(&QUEUE, 10, SOON, LONG).await.unwrap();
    assert_eq!(held.len(), 2);
    let (again, other): (Vec<_>, Vec<_>) = held.into_iter().partition(|delivery| delivery.receive_count == 2);
    receiver.acknowledge(&QUEUE, &other[0].receipt).await.unwrap();
    drop((receiver, embedded));

    let embedded = Embedded::open(folder.path(), options()).unwrap();
    assert_eq!(embedded.epoch(), 2);
    let receiver = embedded.receiver();
    let received = receiver.receive(&QUEUE, 10, NOW, LONG).await.unwrap();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0].body, again[0].body);
    assert_eq!(
        received[0].receive_count, 2,
        "once before it was released, once now"
    );
    // The receipt of the earlier run means nothing, although message and count are the same.
    receiver.acknowledge(&QUEUE, &again[0].receipt).await.unwrap();
    receiver
        .release(&QUEUE, &received[0].receipt, NOW, "again")
        .await
        .unwrap();
    assert_eq!(receiver.receive(&QUEUE, 10, NOW, LONG).await.unwrap().len(), 1);
    clock.advance(LONG);
    let late = receiver.receive(&QUEUE, 10, NOW, LONG).await.unwrap();
    assert!(
        late.iter()
            .any(|delivery| delivery.body == message("delayed").to_body())
    );
}

#[tokio::test]
async fn dead_letters_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    send(&embedded, "a", NOW).await;
    let received = embedded.receiver().receive(&QUEUE, 1, SOON, LONG).await.unwrap();
    embedded
        .receiver()
        .bury(&QUEUE, &received[0].receipt, "why")
        .await
        .unwrap();
    drop(embedded);
    let embedded = open(folder.path());
    let letters = embedded.receiver().dead_letters(&QUEUE, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "why"));
    send(&embedded, "b", NOW).await;
    assert!(embedded.receiver().redrive(&QUEUE, &letters[0].id).await.unwrap());
    assert_eq!(
        embedded
            .receiver()
            .receive(&QUEUE, 10, SOON, LONG)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_sweep_drops_what_expired_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = Options {
        clock: clock.clone(),
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

#[tokio::test]
async fn a_folder_in_use_names_who_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    let store = embedded.store();
    drop(embedded);
    assert!(
        Embedded::open(folder.path(), Options::default()).is_err(),
        "the store is still held"
    );
    drop(store);
    open(folder.path());
}

#[test]
fn a_newer_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = folder.path().join("slipway.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 99,
                known: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("use a newer program"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_missing_or_open_to_others_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("secrets.key");
    let tenant = TenantId::local();
    let embedded = open(folder.path());
    embedded
        .secrets()
        .put(&tenant, "a", "s3cret".into())
        .await
        .unwrap();
    drop(embedded);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("set its mode to 600"), "{error}");

    let content = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("bring it back"), "{error}");
    assert!(!key.exists(), "a new key would hide that the old one is gone");

    fs::write(&key, content).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        open(folder.path())
            .secrets()
            .get(&tenant, "a")
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_secret_on_disk_is_not_readable_and_not_movable() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
    embedded
        .secrets()
        .put(&acme, "db/password", "correct horse".into())
        .await
        .unwrap();
    embedded
        .secrets()
        .put(&other, "db/password", "battery staple".into())
        .await
        .unwrap();
    let file = |tenant: &str| {
        let mut files = fs::read_dir(folder.path().join("secrets").join(tenant)).unwrap();
        files.next().unwrap().unwrap().path()
    };
    let content = fs::read(file("acme")).unwrap();
    assert!(!content.windows(7).any(|part| part == b"correct"));
    assert_eq!(
        fs::metadata(file("acme")).unwrap().permissions().mode() & 0o777,
        0o600
    );

    fs::copy(file("acme"), file("other")).unwrap();
    let error = embedded.secrets().get(&other, "db/password").await.unwrap_err();
    assert_eq!((error.operation, error.name.as_str()), ("read", "db/password"));

    let mut changed = content;
    *changed.last_mut().unwrap() ^= 1;
    fs::write(file("acme"), &changed).unwrap();
    assert!(embedded.secrets().get(&acme, "db/password").await.is_err());
}

const KILLED_WRITER: &str = "SLIPWAY_KILLED_WRITER";

/// Writes a few items at a time, says what it settled, and does not end by itself.
async fn write_until_killed(folder: &Path) {
    let embedded = open(folder);
    for n in embedded.epoch() * 1_000_000.. {
        let mut session = embedded.store().session();
        for part in ["a", "b", "c"] {
            let key = Key::new("chain", format!("{n}/{part}"));
            let put = session.put(&key, item(format!("{n}")), Guard::Absent);
            put.await.unwrap();
        }
        let slot = u8::try_from(n % 32).unwrap();
        session
            .arrive(&Key::new("chain", "join"), slot, true)
            .await
            .unwrap();
        session.send(QUEUE, message(&n.to_string()), NOW);
        session.settle().await.unwrap();
        println!("settled {n}");
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_settled() {
    // The process that is killed is this test again.
    if let Some(folder) = env::var_os(KILLED_WRITER) {
        return write_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut settled = Vec::new();
    for round in 1..=5_usize {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill_9_loses_nothing_that_was_settled", "--nocapture"])
            .env(KILLED_WRITER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok).filter_map(|line| {
            let (_, number) = line.split_once("settled ")?;
            number.parse::<u64>().ok()
        });
        settled.extend(lines.by_ref().take(round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died.
        settled.extend(lines);
    }
    assert!(settled.len() >= 7 * 15, "the writer hardly wrote: {settled:?}");

    let embedded = open(folder.path());
    assert_eq!(embedded.epoch(), 6);
    let store = embedded.store();
    for n in &settled {
        for part in ["a", "b", "c"] {
            let key = Key::new("chain", format!("{n}/{part}"));
            let stored = store
                .get(&key)
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{key} is gone"));
            assert_eq!((stored.body, stored.version), (n.to_string(), 1));
        }
    }
    // Of what was not settled, prefixes may be there, and each is one.
    let all = store.query("chain", "", None, 1_000_000).await.unwrap().items;
    for stored in all.iter().filter(|stored| stored.key.sort.ends_with("/c")) {
        let first = stored.key.sort.replace("/c", "/a");
        assert!(
            all.iter().any(|other| other.key.sort == first),
            "{first} is missing"
        );
    }
    let mut received = Vec::new();
    loop {
        let deliveries = embedded.receiver().receive(&QUEUE, 10, NOW, LONG).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        received.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
    for n in &settled {
        let body = message(&n.to_string()).to_body();
        assert!(received.contains(&body), "the message of {n} is gone");
    }
}
