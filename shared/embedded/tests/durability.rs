//! Nothing that was settled is lost, whatever happens to the process.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what tests share fails as tests do, and the process that is killed speaks to its parent"
)]

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use slipway_embedded::{Embedded, Options};
use slipway_model::Queue;
use slipway_ports::{Guard, Key};
use slipway_testkit::{
    ManualClock,
    fixtures::{item, message},
};

const QUEUE: Queue = Queue::DeployHelm;
const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Options::default()).unwrap()
}

async fn send(embedded: &Embedded, name: &str, delay: Duration) {
    let mut session = embedded.store().session();
    session.send(QUEUE, message(name), delay);
    session.settle().await.unwrap();
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
        steady: false,
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
