//! The engine on its embedded store, beside bare SQLite commits in the same run. `cargo xtask bench engine` runs it.
//!
//! What is measured is what `slipway serve` runs: the real use cases, store and queues, with the consumers in this
//! process. What a step does is `pass`, so that nothing but the engine is timed.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use slipway_app::{App, Caller, Role, Services, Settings};
use slipway_embedded::{Consumer, Embedded, Options};
use slipway_model::{BUDUSECASES_EVENTS, Catalog, Message, Queue, TenantId};
use slipway_ports::{RandomIds, SystemClock};
use slipway_testkit::{
    NoCharts, NoClusters, NoOutside,
    memory::{SimpleBlobs, SimpleSecrets},
};
use tokio::sync::{broadcast, watch};

/// A control plane whose consumers run in this process.
struct Plane {
    app: App,
    embedded: Embedded,
    ended: broadcast::Sender<String>,
    stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Plane {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let embedded = Embedded::open(folder.path(), Options::default()).expect("the folder is new");
        let app = App::new(Services {
            store: embedded.store(),
            receiver: embedded.receiver(),
            secrets: Arc::new(SimpleSecrets::default()),
            blobs: Arc::new(SimpleBlobs::default()),
            charts: Arc::new(NoCharts),
            connector: Arc::new(NoClusters),
            outside: Arc::new(NoOutside),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            catalog: Catalog::default(),
            settings: Settings::new(embedded.epoch().to_string()),
        });
        let (ended, _) = broadcast::channel(100_000);
        let (stop, stopped) = watch::channel(false);
        for (queue, concurrency) in [
            (Queue::ExecuteStep, 64),
            (Queue::Topic(BUDUSECASES_EVENTS.to_owned()), 64),
        ] {
            let (app, ended, gives_up) = (app.clone(), ended.clone(), app.clone());
            let consumer = Consumer {
                max_receives: embedded.max_receives(&queue),
                queue,
                concurrency,
                visibility: Duration::from_secs(300),
            };
            let handle = move |queue, message: Message| {
                let (app, ended) = (app.clone(), ended.clone());
                async move {
                    let done = match &message {
                        Message::Event(event) if event.event_type.starts_with("workflow_") => {
                            Some(event.workflow_id.clone())
                        }
                        _ => None,
                    };
                    let result = app.handle(&queue, message).await;
                    if let Some(id) = done {
                        // Nobody listens between two measurements.
                        let _ = ended.send(id);
                    }
                    result
                }
            };
            let give_up = move |queue, message, reason: String| {
                let app = gives_up.clone();
                async move { app.give_up(&queue, &message, &reason).await }
            };
            tokio::spawn(consumer.run(embedded.receiver(), stopped.clone(), handle, give_up));
        }
        Self {
            app,
            embedded,
            ended,
            stop,
            _folder: folder,
        }
    }

    /// Runs a DAG and waits for its last event; returns how long that took.
    async fn run(&self, dag: &Value) -> Duration {
        let mut ended = self.ended.subscribe();
        let begin = Instant::now();
        let execution = self
            .app
            .create_execution(&caller(), dag.clone())
            .await
            .expect("the DAG is valid");
        let id = execution.id.to_string();
        loop {
            match ended.recv().await {
                Ok(done) if done == id => return begin.elapsed(),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(error) => panic!("the consumers are gone: {error}"),
            }
        }
    }
}

fn caller() -> Caller {
    Caller {
        tenant: TenantId::local(),
        user_id: "bench".to_owned(),
        role: Role::Admin,
    }
}

fn chain(steps: usize) -> Value {
    let steps: Vec<Value> = (0..steps)
        .map(|n| {
            let before: Vec<String> = n
                .checked_sub(1)
                .map(|before| format!("s{before}"))
                .into_iter()
                .collect();
            json!({ "id": format!("s{n}"), "action": "pass", "depends_on": before, "params": { "n": n } })
        })
        .collect();
    json!({ "name": "chain", "steps": steps })
}

fn fan(width: usize) -> Value {
    let mut steps = vec![json!({ "id": "first", "action": "pass" })];
    steps.extend(
        (0..width).map(|n| json!({ "id": format!("s{n}"), "action": "pass", "depends_on": ["first"] })),
    );
    let all: Vec<String> = (0..width).map(|n| format!("s{n}")).collect();
    steps.push(json!({ "id": "last", "action": "pass", "depends_on": all }));
    json!({ "name": "fan", "steps": steps })
}

/// The median time of one bare commit: an insert of a short row in a transaction of its own.
fn bare_commits(folder: &Path, commits: u32) -> Duration {
    let file = folder.join("bare.db");
    let connection = rusqlite::Connection::open(&file).expect("the folder is writable");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT);",
        )
        .expect("SQLite takes these");
    let begin = Instant::now();
    for n in 0..commits {
        connection
            .execute("INSERT INTO t (body) VALUES (?1)", [format!("row {n}")])
            .expect("an insert works");
    }
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn resident_mebibytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    let kibibytes: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(f64::NAN);
    kibibytes / 1024.0
}

fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: f64 = [11, 12]
        .iter()
        .filter_map(|n| fields.get(*n)?.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

/// One row: what, how it went, and beside what.
fn row(what: &str, figure: &str, beside: &str) {
    println!("| {what} | {figure} | {beside} |");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let plane = Plane::start();
    plane.run(&chain(40)).await;
    println!("| what | measured | beside |\n| --- | --- | --- |");

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        bare.push(bare_commits(scratch.path(), 40));
        ours.push(plane.run(&chain(40)).await);
    }
    let (ours, bare) = (median(ours), median(bare));
    row(
        "40 sequential `pass` steps",
        &format!("{:.2} ms", milliseconds(ours)),
        &format!(
            "40 bare commits {:.2} ms: × {:.2}",
            milliseconds(bare),
            ours.as_secs_f64() / bare.as_secs_f64()
        ),
    );
    let commit = bare / 40;
    row("one bare commit", &format!("{:.3} ms", milliseconds(commit)), "");

    let mut points = Vec::new();
    for steps in [1_000, 10_000] {
        let dag = chain(steps);
        let (commits, processor) = (plane.embedded.commits(), processor_seconds());
        let bare = bare_commits(scratch.path(), u32::try_from(steps).expect("small"));
        let memory = resident_mebibytes();
        let processor_bare = processor_seconds() - processor;
        let time = plane.run(&dag).await;
        let used = processor_seconds() - processor - processor_bare;
        let commits = plane.embedded.commits() - commits;
        points.push((steps as f64, used));
        row(
            &format!("{steps}-step chain"),
            &format!(
                "{:.0} ms, {:.3} commits a step, {used:.2} s of processor, {:+.1} MiB resident",
                milliseconds(time),
                commits as f64 / steps as f64,
                resident_mebibytes() - memory
            ),
            &format!(
                "{steps} bare commits {:.0} ms: × {:.2}",
                milliseconds(bare),
                time.as_secs_f64() / bare.as_secs_f64()
            ),
        );
    }
    let slope = (points[1].1 / points[0].1).ln() / (points[1].0 / points[0].0).ln();
    row(
        "growth of processor time, 1,000 to 10,000 steps, log-log slope",
        &format!("{slope:.2}"),
        "",
    );

    let dag = fan(1_000);
    let before = plane.embedded.commits();
    let mut times = Vec::new();
    for _ in 0..11 {
        times.push(plane.run(&dag).await);
    }
    row(
        "1,000-step fan-out and fan-in",
        &format!("{:.0} ms", milliseconds(median(times))),
        &format!(
            "{:.0} commits each",
            (plane.embedded.commits() - before) as f64 / 11.0
        ),
    );

    let plane = Arc::new(plane);
    let dag = Arc::new(chain(5));
    let begin = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (plane, dag) = (Arc::clone(&plane), Arc::clone(&dag));
            tokio::spawn(async move {
                for _ in 0..200 {
                    plane.run(&dag).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client does not panic");
    }
    row(
        "5-step executions from 20 clients",
        &format!("{:.0} a second", 4000.0 / begin.elapsed().as_secs_f64()),
        "",
    );
    let _ = plane.stop.send(true);
}
