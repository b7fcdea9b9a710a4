//! The engine on its embedded store, beside bare SQLite commits in the same run. `cargo xtask bench engine` runs it.
//!
//! What is measured is what `slipway serve` runs: the real use cases, store and queues, with the consumers in this
//! process. What a step does is `pass`, so that nothing but the engine is timed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement prints its figures"
)]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use slipway_app::{App, Caller, Role, Services, Settings};
use slipway_embedded::{Consumer, Embedded, Options};
use slipway_model::{BUDUSECASES_EVENTS, Catalog, EventType, Message, Queue, TenantId};
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
    ended: broadcast::Sender<(String, bool)>,
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
                        // Progress is told under the same prefix.
                        Message::Event(event)
                            if matches!(
                                event.event_type.parse(),
                                Ok(EventType::WorkflowCompleted | EventType::WorkflowFailed)
                            ) =>
                        {
                            Some((
                                event.workflow_id.clone(),
                                event.event_type == "workflow_completed",
                            ))
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
                Ok((done, completed)) if done == id => {
                    let time = begin.elapsed();
                    assert!(completed, "execution {id} did not complete");
                    return time;
                }
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

/// What the process has used.
#[derive(Clone, Copy)]
struct Usage {
    processor: f64,
    statements: f64,
    bytes: f64,
    commits: f64,
}

impl Usage {
    fn now(embedded: &Embedded) -> Self {
        let statistics = embedded.statistics();
        Self {
            processor: processor_seconds(),
            statements: (statistics.rows_written + statistics.reads) as f64,
            bytes: bytes_written(),
            commits: statistics.commits as f64,
        }
    }

    /// Divided among so many.
    fn by(self, number: f64) -> Self {
        Self {
            processor: self.processor / number,
            statements: self.statements / number,
            bytes: self.bytes / number,
            commits: self.commits / number,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            processor: self.processor - before.processor,
            statements: self.statements - before.statements,
            bytes: self.bytes - before.bytes,
            commits: self.commits - before.commits,
        }
    }
}

/// A line of a file of `/proc/self` that begins with `name`, as a number.
fn of_this_process(file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(f64::NAN)
}

fn resident_mebibytes() -> f64 {
    of_this_process("status", "VmRSS:") / 1024.0
}

/// Handed to the kernel, log and checkpoints included.
fn bytes_written() -> f64 {
    of_this_process("io", "wchar:")
}

/// With a finer clock than that of `/proc/self/stat`, whose ticks are longer than a small run.
fn processor_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("this is Linux");
    let nanoseconds: f64 = threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        })
        .sum();
    nanoseconds / 1e9
}

/// The table, and whether every target was met.
struct Report {
    missed: Vec<String>,
}

impl Report {
    fn begin() -> Self {
        println!("| what | measured | beside | target | met |\n| --- | --- | --- | --- | --- |");
        Self { missed: Vec::new() }
    }

    /// A row without a target.
    fn tell(&self, what: &str, figure: &str, beside: &str) {
        println!("| {what} | {figure} | {beside} | | |");
    }

    /// A row with one.
    fn judge(&mut self, what: &str, figure: &str, beside: &str, target: &str, met: bool) {
        println!(
            "| {what} | {figure} | {beside} | {target} | {} |",
            if met { "yes" } else { "**no**" }
        );
        if !met {
            self.missed.push(what.to_owned());
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::process::ExitCode {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let plane = Plane::start();
    // Files, memory and caches grow to what they will be.
    for steps in [10_000, 1_000, 1_000, 40] {
        plane.run(&chain(steps)).await;
    }
    let mut report = Report::begin();

    let commit = short_chain(&plane, scratch.path(), &mut report).await;
    long_chains(&plane, scratch.path(), &mut report).await;
    fan_out(&plane, commit, &mut report).await;
    let plane = Arc::new(plane);
    many_clients(&plane, commit, &mut report).await;
    let _ = plane.stop.send(true);
    if report.missed.is_empty() {
        return std::process::ExitCode::SUCCESS;
    }
    eprintln!("missed: {}", report.missed.join(", "));
    std::process::ExitCode::FAILURE
}

/// Returns what one bare commit took meanwhile, in seconds.
async fn short_chain(plane: &Plane, scratch: &Path, report: &mut Report) -> f64 {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        bare.push(bare_commits(scratch, 40));
        ours.push(plane.run(&chain(40)).await);
    }
    let (ours, bare) = (median(ours), median(bare));
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    let commit = bare.as_secs_f64() / 40.0;
    report.tell("one bare commit", &format!("{:.3} ms", commit * 1000.0), "");
    report.judge(
        "40 sequential `pass` steps",
        &format!("{:.2} ms", milliseconds(ours)),
        &format!("40 bare commits {:.2} ms: × {ratio:.2}", milliseconds(bare)),
        "× 1.6",
        ratio <= 1.6,
    );
    commit
}

/// Runs of one length.
struct Runs {
    steps: u32,
    dag: Value,
    ours: Vec<Duration>,
    bare: Vec<Duration>,
    used: Vec<Usage>,
}

impl Runs {
    fn of(steps: u32) -> Self {
        Self {
            steps,
            dag: chain(steps as usize),
            ours: Vec::new(),
            bare: Vec::new(),
            used: Vec::new(),
        }
    }

    async fn once(&mut self, plane: &Plane, scratch: &Path) {
        self.bare.push(bare_commits(scratch, self.steps));
        let before = Usage::now(&plane.embedded);
        self.ours.push(plane.run(&self.dag).await);
        self.used.push(Usage::now(&plane.embedded).since(before));
    }

    fn mean(&self, what: impl Fn(&Usage) -> f64) -> f64 {
        self.used.iter().map(what).sum::<f64>() / self.used.len() as f64
    }

    /// The median of something that was used.
    fn median(&self, what: impl Fn(&Usage) -> f64) -> f64 {
        let mut all: Vec<f64> = self.used.iter().map(what).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

async fn long_chains(plane: &Plane, scratch: &Path, report: &mut Report) {
    let (mut small, mut large) = (Runs::of(1_000), Runs::of(10_000));
    let resident = resident_mebibytes();
    // By turns, so that whatever else the machine does meets both.
    for _ in 0..5 {
        for _ in 0..3 {
            small.once(plane, scratch).await;
        }
        large.once(plane, scratch).await;
    }
    let growth = resident_mebibytes() - resident;
    for runs in [&small, &large] {
        let (steps, times) = (runs.steps, runs.used.len());
        let (time, bare) = (median(runs.ours.clone()), median(runs.bare.clone()));
        let ratio = time.as_secs_f64() / bare.as_secs_f64();
        let commits = runs.median(|used| used.commits) / f64::from(steps);
        report.judge(
            &format!("{steps}-step chain, median of {times}"),
            &format!(
                "{:.0} ms, {commits:.3} commits a step, {:.2} s of processor",
                milliseconds(time),
                runs.median(|used| used.processor),
            ),
            &format!("{steps} bare commits {:.0} ms: × {ratio:.2}", milliseconds(bare)),
            "× 1.4, 1.02 commits a step",
            ratio <= 1.4 && commits <= 1.02,
        );
    }
    report.judge(
        "growth of memory over these runs",
        &format!("{growth:+.1} MiB resident"),
        "",
        "8 MiB",
        growth <= 8.0,
    );
    // A checkpoint writes what many runs left to it, so bytes are judged by the mean; time by the median, because of
    // what else the machine does.
    for (what, of_small, of_large) in [
        (
            "processor time",
            small.median(|used| used.processor),
            large.median(|used| used.processor),
        ),
        (
            "statements",
            small.mean(|used| used.statements),
            large.mean(|used| used.statements),
        ),
        (
            "bytes written",
            small.mean(|used| used.bytes),
            large.mean(|used| used.bytes),
        ),
    ] {
        let slope = (of_large / of_small).log10();
        report.judge(
            &format!("growth of {what} from 1,000 to 10,000 steps"),
            &format!("log-log slope {slope:.2}"),
            "",
            "1.05",
            slope <= 1.05,
        );
    }
}

async fn fan_out(plane: &Plane, commit: f64, report: &mut Report) {
    let dag = fan(1_000);
    let before = Usage::now(&plane.embedded);
    let mut times = Vec::new();
    for _ in 0..11 {
        times.push(plane.run(&dag).await);
    }
    let commits = Usage::now(&plane.embedded).since(before).commits / 11.0;
    let time = median(times).as_secs_f64();
    report.judge(
        "1,000-step fan-out and fan-in",
        &format!("{:.0} ms", time * 1000.0),
        &format!("{commits:.0} commits each; bare commits: × {:.0}", time / commit),
        "× 240 (60 ms where a commit takes 0.25 ms)",
        time / commit <= 240.0,
    );
}

async fn many_clients(plane: &Arc<Plane>, commit: f64, report: &mut Report) {
    let dag = Arc::new(chain(5));
    let before = Usage::now(&plane.embedded);
    let begin = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (plane, dag) = (Arc::clone(plane), Arc::clone(&dag));
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
    let rate = 4000.0 / begin.elapsed().as_secs_f64();
    let each = Usage::now(&plane.embedded).since(before).by(4000.0);
    // A slower disk may slow it down as much; a faster one leaves the processor's share of 0.4 ms for each.
    let target = 2_500.0 * (0.000_25 / commit).min(1.0);
    report.judge(
        "5-step executions from 20 clients",
        &format!(
            "{rate:.0} a second; each {:.2} commits, {:.0} statements, {:.2} ms of processor",
            each.commits,
            each.statements,
            each.processor * 1000.0
        ),
        &format!("a bare commit {:.3} ms", commit * 1000.0),
        "2,500 a second where a bare commit costs 0.25 ms or less, in proportion where it costs more",
        rate >= target,
    );
}
