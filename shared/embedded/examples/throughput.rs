//! What sessions cost beside bare SQLite commits, on the disk of the folder given (a temporary one if absent).
//!
//! `cargo run --release -p slipway-embedded --example throughput [FOLDER]`

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use slipway_embedded::{Embedded, Options};
use slipway_model::{Event, Message, Queue};
use slipway_ports::{Guard, Item, Key, Store};
use tokio::task::JoinSet;

const ROUNDS: u64 = 10;
const COMMITS: u64 = 1000;
const CLIENTS: u64 = 20;
const SESSIONS: u64 = 1000;
const BODY: &str = r#"{"status":"COMPLETED","attempt":1,"fence":1,"outputs":{"endpoint_url":"http://llm.usecase-8f14e45f.svc:8000"}}"#;

fn item() -> Item {
    Item {
        body: BODY.to_owned(),
        ..Item::default()
    }
}

fn bare(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL);",
    )?;
    Ok(connection)
}

fn bare_commits(connection: &Connection, round: u64) -> rusqlite::Result<Duration> {
    let start = Instant::now();
    let mut insert = connection.prepare("INSERT INTO rows (id, body) VALUES (?1, ?2)")?;
    for n in 0..COMMITS {
        insert.execute((round * COMMITS + n, BODY))?;
    }
    Ok(start.elapsed())
}

/// A step of a chain: its item, after a look at the one before.
async fn settles(store: &dyn Store, round: u64) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let start = Instant::now();
    for n in round * COMMITS..(round + 1) * COMMITS {
        let mut session = store.session();
        let key = |n: u64| {
            Key::new(
                format!("local/x/8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b/c{}", n / 64),
                format!("s{n:05}"),
            )
        };
        session.get(&key(n.saturating_sub(1))).await?;
        session.put(&key(n), item(), Guard::Absent).await?;
        session.settle().await?;
    }
    Ok(start.elapsed())
}

async fn clients(embedded: &Embedded) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..CLIENTS {
        let store: Arc<dyn Store> = embedded.store();
        tasks.spawn(async move {
            for n in 0..SESSIONS {
                let mut session = store.session();
                let partition = format!("client{client}/{n}");
                session
                    .put(&Key::new(&partition, "plan"), item(), Guard::Absent)
                    .await?;
                session
                    .put(&Key::new(&partition, "s0"), item(), Guard::Absent)
                    .await?;
                session.settle().await?;
            }
            Ok::<_, slipway_ports::StoreError>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(start.elapsed())
}

async fn through_a_queue(embedded: &Embedded) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let (store, receiver) = (embedded.store(), embedded.receiver());
    let queue = Queue::ExecuteStep;
    let start = Instant::now();
    for n in 0..COMMITS {
        let mut session = store.session();
        let event = Event {
            event_type: "step".to_owned(),
            workflow_id: n.to_string(),
            tenant_id: None,
            payload: serde_json::Value::Null,
        };
        session.send(queue.clone(), Message::Event(event), Duration::ZERO);
        session.settle().await?;
        let long = Duration::from_secs(60);
        for delivery in receiver.receive(&queue, 1, long, long).await? {
            receiver.acknowledge(&queue, &delivery.receipt).await?;
        }
    }
    Ok(start.elapsed())
}

fn each(time: Duration, count: u64) -> String {
    format!("{:.1} µs each", time.as_secs_f64() * 1e6 / count as f64)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let temporary = tempfile::tempdir()?;
    let folder = env::args_os()
        .nth(1)
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let open = || {
        let start = Instant::now();
        Embedded::open(&folder.join("data"), Options::default()).map(|embedded| (embedded, start.elapsed()))
    };
    let (_, new) = open()?;
    let (embedded, again) = open()?;
    println!("opening a new folder: {new:.2?}, again: {again:.2?}");
    let store = embedded.store();
    let connection = bare(&folder.join("bare.db"))?;

    let (mut bare_time, mut settle_time) = (Duration::ZERO, Duration::ZERO);
    let before = embedded.statistics().commits;
    for round in 0..ROUNDS {
        bare_time += bare_commits(&connection, round)?;
        settle_time += settles(store.as_ref(), round).await?;
    }
    let count = ROUNDS * COMMITS;
    println!(
        "{count} bare commits: {bare_time:.2?}, {}",
        each(bare_time, count)
    );
    println!(
        "{count} settles in a row: {settle_time:.2?}, {}, {:.2} times as long, {} commits",
        each(settle_time, count),
        settle_time.as_secs_f64() / bare_time.as_secs_f64(),
        embedded.statistics().commits - before,
    );

    let before = embedded.statistics().commits;
    let time = clients(&embedded).await?;
    println!(
        "{CLIENTS} clients: {:.0} sessions a second, {} commits for {} sessions",
        (CLIENTS * SESSIONS) as f64 / time.as_secs_f64(),
        embedded.statistics().commits - before,
        CLIENTS * SESSIONS,
    );

    let time = through_a_queue(&embedded).await?;
    println!(
        "sent, received and acknowledged {COMMITS} times: {}",
        each(time, COMMITS)
    );

    let start = Instant::now();
    let mut session = store.session();
    for n in 0..count {
        session
            .put(
                &Key::new("operations", format!("{}", n % 1000)),
                item(),
                Guard::Any,
            )
            .await?;
    }
    println!("{count} puts in one session: {}", each(start.elapsed(), count));
    session.settle().await?;
    Ok(())
}
