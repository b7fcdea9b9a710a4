//! Files that are not as they were left: a log that is torn or changed at its end, and a damaged database.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{
    error::Error as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use slipway_embedded::{Embedded, OpenError, Options};
use slipway_model::Queue;
use slipway_ports::{Guard, Key};
use slipway_testkit::fixtures::{item, message};

const QUEUE: Queue = Queue::DeployHelm;
const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(600);
const COMMITS: usize = 30;
const PARTS: [&str; 3] = ["a", "b", "c"];

fn open(folder: &Path) -> Result<Embedded, OpenError> {
    let options = Options {
        flush_after: LONG,
        ..Options::default()
    };
    Embedded::open(folder, options)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("slipway.db-wal")
}

/// Commits one session after another. Returns how long the log was after each.
async fn write(embedded: &Embedded, folder: &Path) -> Vec<usize> {
    let mut lengths = Vec::new();
    for number in 0..COMMITS {
        let mut session = embedded.store().session();
        for part in PARTS {
            let key = Key::new("chain", format!("{number:03}/{part}"));
            session
                .put(&key, item(format!("{number}")), Guard::Absent)
                .await
                .unwrap();
        }
        session.send(QUEUE, message(&number.to_string()), NOW);
        session.settle().await.unwrap();
        lengths.push(fs::read(log(folder)).unwrap().len());
    }
    lengths
}

/// Copies what a process that was killed leaves.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Opens the folder and returns how many commits are there; each is there as a whole, and those before it too.
async fn commits(folder: &Path) -> usize {
    let embedded = open(folder).unwrap();
    let items = embedded
        .store()
        .query("chain", "", None, 1_000)
        .await
        .unwrap()
        .items;
    let count = items.len() / PARTS.len();
    let expected: Vec<(String, String)> = (0..count)
        .flat_map(|number| PARTS.map(|part| (format!("{number:03}/{part}"), number.to_string())))
        .collect();
    let found: Vec<(String, String)> = items.into_iter().map(|item| (item.key.sort, item.body)).collect();
    assert_eq!(found, expected, "a state that was never there");
    let mut bodies = Vec::new();
    loop {
        let received = embedded.receiver().receive(&QUEUE, 10, NOW, LONG).await.unwrap();
        if received.is_empty() {
            break;
        }
        bodies.extend(received.into_iter().map(|delivery| delivery.body));
    }
    let sent: Vec<String> = (0..count)
        .map(|number| message(&number.to_string()).to_body())
        .collect();
    assert_eq!(bodies, sent);
    // It goes on from there.
    let mut session = embedded.store().session();
    session
        .put(&Key::new("other", "s"), item("new"), Guard::Absent)
        .await
        .unwrap();
    session.settle().await.unwrap();
    count
}

/// Places in a log: around the end of every commit, and many that a fixed sequence picks.
fn places(lengths: &[usize]) -> Vec<usize> {
    let end = *lengths.last().unwrap();
    let around = lengths
        .iter()
        .flat_map(|length| [length - 1, *length, length + 24]);
    let picked = (1..40).map(|number: usize| number.wrapping_mul(0x9e37_79b9) % end);
    around.chain(picked).filter(|place| *place < end).collect()
}

/// The commits that end at or before a place.
fn before(lengths: &[usize], place: usize) -> usize {
    lengths.iter().filter(|length| **length <= place).count()
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_leaves_the_commits_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path()).unwrap();
    let lengths = write(&embedded, folder.path()).await;
    for place in places(&lengths) {
        let torn = tempfile::tempdir().unwrap();
        copy(folder.path(), torn.path());
        let file = fs::File::options().write(true).open(log(torn.path())).unwrap();
        file.set_len(place as u64).unwrap();
        assert_eq!(
            commits(torn.path()).await,
            before(&lengths, place),
            "cut at {place}"
        );
    }
}

#[tokio::test]
async fn a_log_that_was_changed_anywhere_leaves_the_commits_before_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path()).unwrap();
    let lengths = write(&embedded, folder.path()).await;
    for place in places(&lengths) {
        let changed = tempfile::tempdir().unwrap();
        copy(folder.path(), changed.path());
        let mut content = fs::read(log(changed.path())).unwrap();
        content[place] ^= 0x55;
        fs::write(log(changed.path()), content).unwrap();
        assert_eq!(
            commits(changed.path()).await,
            before(&lengths, place),
            "changed at {place}"
        );
    }
}

/// A change of a database's content.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn a_damaged_database_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path()).unwrap();
    let _ = write(&embedded, folder.path()).await;
    drop(embedded);
    let damages: [(&str, Damage); 4] = [
        ("another file", |content| {
            content[..16].copy_from_slice(b"something else!!");
        }),
        ("no head", |content| content[16..100].fill(0)),
        ("half of it", |content| content.truncate(content.len() / 2)),
        ("one page overwritten", |content| {
            let page = 4096;
            // The first page of a table with rows in it: not the head, and not a page that nothing uses.
            let rows = (1..content.len() / page)
                .find(|number| content[number * page] == 10)
                .unwrap();
            content[rows * page..(rows + 1) * page].fill(0xff);
        }),
    ];
    for (name, damage) in damages {
        let damaged = tempfile::tempdir().unwrap();
        copy(folder.path(), damaged.path());
        let database = damaged.path().join("slipway.db");
        let mut content = fs::read(&database).unwrap();
        damage(&mut content);
        fs::write(&database, &content).unwrap();
        expect_damaged(damaged.path(), name);
        assert_eq!(fs::read(&database).unwrap(), content, "{name}: it was changed");
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_not_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path()).unwrap();
    let _ = write(&embedded, folder.path()).await;
    let left = tempfile::tempdir().unwrap();
    copy(folder.path(), left.path());
    let kept = fs::read(log(left.path())).unwrap();
    fs::write(left.path().join("slipway.db"), "").unwrap();
    expect_damaged(left.path(), "empty");
    fs::remove_file(left.path().join("slipway.db")).unwrap();
    expect_damaged(left.path(), "missing");
    assert_eq!(fs::read(log(left.path())).unwrap(), kept);
}

fn expect_damaged(folder: &Path, name: &str) {
    let error = open(folder).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error:?}");
    let said = error.to_string();
    assert!(
        said.contains("slipway.db") && said.contains("put a copy of the whole folder"),
        "{name}: {said}"
    );
    assert!(error.source().is_some(), "{name}");
}
