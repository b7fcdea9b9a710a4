//! One run: what is there, what happens, and how it ends.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    task::Context,
    time::Duration,
};

use slipway_app::{App, Services, Settings};
use slipway_model::{Catalog, Message, Queue};
use slipway_ports::chain;

use crate::{
    callers::{Call, call, furnish},
    check::{Invariant, Violation},
    choice::Choices,
    cluster::SimConnector,
    coverage::{Coverage, Fault},
    mutants::Mutant,
    outside::SimOutside,
    queue::{Received, SimReceiver},
    services::{SimBlobs, SimCharts, SimSecrets},
    store::SimStore,
    tasks::{Role, TaskId, Until, Work},
    world::{Happening, Rates, START, Shape, Sim, World, waker},
};

/// The longest that a run may take after the last caller, in simulated milliseconds.
const LONGEST: i64 = 12 * 3600 * 1000;

/// Most polls of a run.
const MOST_POLLS: u64 = 400_000;

/// What is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A bug that is planted.
    pub mutant: Option<Mutant>,
    /// Whether everything that happens is written down.
    pub traced: bool,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// What the run went through.
    pub coverage: Coverage,
    /// The decisions that it made.
    pub choices: Vec<u32>,
    /// Sums up everything that happened.
    pub digest: u64,
    /// Everything that happened, if that was asked for.
    pub trace: String,
}

/// Plays what a seed decides.
pub fn play_seed(seed: u64, options: &Options) -> Outcome {
    play(Choices::of_seed(seed), options)
}

/// Plays decisions that were made before.
pub fn play_choices(choices: &[u32], options: &Options) -> Outcome {
    play(Choices::of_sequence(choices.to_vec()), options)
}

fn play(choices: Choices, options: &Options) -> Outcome {
    let mut run = Run::new(choices, options);
    run.go();
    let mut world = run.sim.world();
    world.dying = true;
    let outcome = Outcome {
        violation: world.violation.take(),
        coverage: world.coverage.clone(),
        choices: world.choices.made().to_vec(),
        digest: world.digest,
        trace: world.trace.take().unwrap_or_default(),
    };
    drop(world);
    run.futures.clear();
    outcome
}

fn catalog() -> Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG
        .get_or_init(|| {
            let text = include_str!("../../../templates/catalog.yaml");
            slipway_dag::parse(text, slipway_dag::MAX_TEMPLATE_BYTES)
                .ok()
                .and_then(|value| slipway_dag::template::check_catalog(value).ok())
                .expect("the catalog that is shipped is right")
        })
        .clone()
}

struct Run {
    sim: Sim,
    /// What handles messages: on AWS one for Helm, whose function may take longer, and one for the rest.
    app: App,
    helm_app: App,
    futures: BTreeMap<TaskId, Work>,
    calls_left: u32,
    sweeps: bool,
    last_call: i64,
}

impl Run {
    fn new(mut choices: Choices, options: &Options) -> Self {
        let shape = choices.one_of(&[Shape::Aws, Shape::Embedded]);
        let mut world = World::new(shape, choices, options.mutant, options.traced);
        world.coverage.seeds = 1;
        world.queues.max_receives = world.choices.one_of(&[10, 10, 5, 3]);
        let sim = Sim::new(world);
        let (app, helm_app) = apps(&sim);
        Self {
            sim,
            app,
            helm_app,
            futures: BTreeMap::new(),
            calls_left: 0,
            sweeps: options.mutant != Some(Mutant::SkipSweep),
            last_call: 0,
        }
    }

    fn go(&mut self) {
        self.furnish();
        self.arrange();
        loop {
            let next = {
                let mut world = self.sim.world();
                if world.violation.is_some() {
                    return;
                }
                let next = world.heap.pop();
                if let Some(Reverse((time, _, _))) = next {
                    world.now = time;
                    world.steps += 1;
                    if world.steps > MOST_POLLS {
                        world.violated(Invariant::WorkIsBounded, "a run takes more steps than any should");
                        return;
                    }
                    if time > self.last_call + LONGEST {
                        let left = describe_rest(&world);
                        world.violated(Invariant::EverythingEnds, left);
                        return;
                    }
                }
                next
            };
            let Some(Reverse((_, _, what))) = next else {
                break;
            };
            if self.happens(what) {
                break;
            }
            self.tidy();
        }
        let mut world = self.sim.world();
        if world.violation.is_none() {
            world.say(format_args!("everything is at rest"));
            world.check_rest();
        }
    }

    /// A cluster and templates, before anything goes wrong.
    fn furnish(&mut self) {
        let templates = {
            let mut world = self.sim.world();
            let has_templates = world.choices.below(5) >= 3;
            world.known.has_templates = has_templates;
            if has_templates {
                vec![world.template(0), world.template(1)]
            } else {
                Vec::new()
            }
        };
        let work = furnish(self.sim.clone(), self.app.clone(), templates);
        self.sim
            .world()
            .spawn("furnishing".to_owned(), Role::Caller, 0, Box::pin(work));
        self.tidy();
        while !self.futures.is_empty() {
            let next = self.sim.world().heap.pop();
            let Some(Reverse((time, _, what))) = next else {
                return;
            };
            self.sim.world().now = time;
            self.happens(what);
            self.tidy();
        }
    }

    /// When callers come, and when and how often things go wrong.
    fn arrange(&mut self) {
        let mut world = self.sim.world();
        let world = &mut *world;
        self.calls_left = match world.choices.below(8) {
            0..5 => 1 + world.choices.below(4),
            5 | 6 => 3 + world.choices.below(8),
            _ => 8 + world.choices.below(10),
        };
        let storm = world.choices.below(8);
        if storm > 0 {
            let choices = &mut world.choices;
            world.rates = Rates {
                crash: choices.one_of(&[0, 2, 8, 25]),
                fail: choices.one_of(&[0, 4, 15, 50]),
                stall: choices.one_of(&[0, 100, 400]),
                duplicate: choices.one_of(&[0, 30, 150]),
                cluster: choices.one_of(&[0, 20, 80, 200]),
                stale: choices.one_of(&[0, 200]),
            };
            world.faults_left = match storm {
                1..6 => 2 + world.choices.below(12),
                _ => 10 + world.choices.below(60),
            };
            world.stormy = true;
        }
        world.cloud.unready = world.choices.one_of(&[0, 150, 400]);
        world.cloud.refused = world.choices.one_of(&[0, 0, 60, 200]);
        world.cloud.lingering = i64::from(world.choices.one_of(&[0_u32, 0, 2000, 30_000]));
        if world.choices.below(6) == 5 {
            world.cloud.away_until = world.now + i64::from(world.choices.below(200)) * 1000;
        }
        let mut at = 0;
        for _ in 0..self.calls_left {
            at += match world.choices.below(8) {
                0..3 => i64::from(world.choices.below(300)),
                3..6 => i64::from(world.choices.below(15_000)),
                6 => i64::from(world.choices.below(120_000)),
                _ => i64::from(world.choices.below(900_000)),
            };
            world.after(at, Happening::Call);
        }
        let calm = at + 60_000 + i64::from(world.choices.below(240)) * 1000;
        world.after(calm, Happening::Calm);
        self.last_call = world.now + calm;
        let sweep = 1000 + i64::from(world.choices.below(60)) * 1000;
        world.after(sweep, Happening::Sweep);
        if world.shape == Shape::Embedded && world.stormy && world.choices.below(2) == 1 {
            let kill =
                i64::from(world.choices.below(2000)) * i64::from(world.choices.one_of(&[1_u32, 10, 60]));
            world.after(kill, Happening::Kill);
        }
    }

    /// Something happens. True if everything is at rest.
    fn happens(&mut self, what: Happening) -> bool {
        match what {
            Happening::Wake(id) => self.poll(id),
            Happening::Deliver(id) => self.deliver(id, false),
            Happening::Duplicate(id) => self.deliver(id, true),
            Happening::BeginCommit => self.sim.world().begin_commit(),
            Happening::EndCommit => self.sim.world().end_commit(),
            Happening::Call => self.call(),
            Happening::Sweep => return self.sweep(),
            Happening::Kill => self.kill(),
            Happening::Land(index) => self.sim.world().land(index),
            Happening::Calm => {
                let mut world = self.sim.world();
                world.stormy = false;
                world.say(format_args!("calm: nothing goes wrong any more"));
                world.cloud.away_until = 0;
            }
        }
        false
    }

    /// Starts and drops what the last step said.
    fn tidy(&mut self) {
        loop {
            let (born, doomed) = {
                let mut world = self.sim.world();
                (std::mem::take(&mut world.born), std::mem::take(&mut world.doomed))
            };
            if born.is_empty() && doomed.is_empty() {
                return;
            }
            for born in born {
                self.futures.insert(born.id, born.work);
            }
            for id in doomed {
                self.drop_task(id);
            }
        }
    }

    fn poll(&mut self, id: TaskId) {
        let Some(mut work) = self.futures.remove(&id) else {
            return;
        };
        {
            let mut world = self.sim.world();
            let (rate, role) = (world.rates.crash, world.tasks.get(&id).map(|task| task.role));
            let rate = match (role, world.shape) {
                (Some(Role::Helm), _) => rate / 2,
                (_, Shape::Aws) => rate,
                // Here everything dies, which happens less often.
                (_, Shape::Embedded) => rate / 8,
            };
            let fault = match (role, world.shape) {
                (Some(Role::Helm), _) => Fault::HelmKilled,
                (_, Shape::Aws) => Fault::Crash,
                (_, Shape::Embedded) => Fault::Kill,
            };
            if world.goes_wrong(rate, fault) {
                drop(world);
                self.futures.insert(id, work);
                match (fault, self.victim(id)) {
                    (Fault::Kill, _) => self.kill(),
                    (_, victim) => self.drop_task(victim),
                }
                return;
            }
            world.current = Some(id);
            world.coverage.polls += 1;
            let sum = u64::from(id.0) ^ (u64::try_from(world.now).unwrap_or(0) << 20);
            world.sum(sum);
        }
        let waker = waker();
        let is_done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if is_done {
            drop(work);
        } else {
            self.futures.insert(id, work);
        }
        let mut world = self.sim.world();
        world.current = None;
        if is_done {
            world.tasks.remove(&id);
        }
    }

    /// Who dies: a process of Helm alone, or whoever waits for it, and Helm with it.
    fn victim(&self, id: TaskId) -> TaskId {
        let mut world = self.sim.world();
        let parent = world.tasks.get(&id).and_then(|task| task.parent);
        match parent.filter(|parent| world.tasks.contains_key(parent)) {
            Some(parent) if world.shape == Shape::Aws && world.choices.below(2) == 1 => parent,
            _ => id,
        }
    }

    /// Drops a task where it is, as its process ends. A request of its that is on its way may still land.
    fn drop_task(&mut self, id: TaskId) {
        let work = self.futures.remove(&id);
        {
            let mut world = self.sim.world();
            if let Some(task) = world.tasks.remove(&id) {
                world.say(format_args!("  task {} ({}) is gone", id.0, task.name));
                if let Some(parent) = task.parent {
                    world.after(0, Happening::Wake(parent));
                }
                if let Some(request) = task.request
                    && world.goes_wrong(300, Fault::LateRequest)
                {
                    let index = world.cloud.late.len();
                    world.cloud.late.push(Some(request));
                    let delay = i64::from(world.choices.below(5000));
                    world.after(delay, Happening::Land(index));
                }
            }
        }
        drop(work);
    }

    /// The embedded control plane's process is killed, and starts again.
    fn kill(&mut self) {
        {
            let mut world = self.sim.world();
            world.say(format_args!("the process is killed"));
            world.dying = true;
        }
        let all: Vec<TaskId> = self.futures.keys().copied().collect();
        for id in all {
            self.drop_task(id);
        }
        {
            let mut world = self.sim.world();
            world.doomed.clear();
            world.born.clear();
            world.tasks.clear();
            world.dying = false;
            let undone = world.lose_uncommitted();
            world.epoch += 1;
            world.restart_queues(undone);
        }
        (self.app, self.helm_app) = apps(&self.sim);
    }

    fn deliver(&mut self, id: u64, twice: bool) {
        let mut world = self.sim.world();
        let Some(received) = world.receive(id, twice) else {
            return;
        };
        let app = if received.queue == Queue::DeployHelm {
            &self.helm_app
        } else {
            &self.app
        };
        let name = format!("{} {} ({})", received.queue.name(), id, received.receive_count);
        let work = handle(self.sim.clone(), app.clone(), received);
        world.spawn(name, Role::Handler, 1, Box::pin(work));
    }

    fn call(&mut self) {
        let mut world = self.sim.world();
        let next = world.next_call();
        self.spawn_call(&mut world, next);
    }

    fn spawn_call(&self, world: &mut World, next: Call) {
        let name = format!("caller {next:?}");
        let name = name.chars().take(60).collect();
        let work = call(self.sim.clone(), self.app.clone(), next);
        let limit = if world.shape == Shape::Aws {
            29_000
        } else {
            600_000
        };
        let sim = self.sim.clone();
        world.spawn(
            name,
            Role::Caller,
            1,
            Box::pin(async move {
                let _ = Until::new(&sim, limit, work).await;
            }),
        );
    }

    /// The schedule's turn, unless there is nothing for it to find. True if everything is at rest.
    fn sweep(&mut self) -> bool {
        let mut world = self.sim.world();
        let is_due = world.tables.next_due().is_some_and(|at| at <= world.now + 66_000);
        let has_dead = !world.queues.dead.is_empty();
        if !world.stormy && world.is_at_rest() {
            return true;
        }
        world.after(60_000, Happening::Sweep);
        if !self.sweeps || !(is_due || has_dead) {
            return false;
        }
        let looks = has_dead;
        let (sim, app, shape) = (self.sim.clone(), self.app.clone(), world.shape);
        let limit = if shape == Shape::Aws { 110_000 } else { 600_000 };
        world.spawn(
            "sweep".to_owned(),
            Role::Schedule,
            1,
            Box::pin(async move {
                let work = async {
                    let swept = app.sync_deployments().await;
                    let looked = if looks {
                        app.look_at_dead_letters().await
                    } else {
                        Ok(())
                    };
                    (swept, looked)
                };
                let done = Until::new(&sim, limit, work).await;
                let mut world = sim.world();
                world.say(format_args!("  swept: {done:?}"));
            }),
        );
        false
    }
}

fn apps(sim: &Sim) -> (App, App) {
    let (shape, epoch) = {
        let world = sim.world();
        (world.shape, world.epoch)
    };
    let app = |seconds: u64| {
        let mut settings = Settings::new(epoch.to_string());
        settings.invocation = Duration::from_secs(seconds);
        App::new(Services {
            store: Arc::new(SimStore(sim.clone())),
            receiver: Arc::new(SimReceiver(sim.clone())),
            secrets: Arc::new(SimSecrets(sim.clone())),
            blobs: Arc::new(SimBlobs(sim.clone())),
            charts: Arc::new(SimCharts(sim.clone())),
            connector: Arc::new(SimConnector(sim.clone())),
            outside: Arc::new(SimOutside(sim.clone())),
            clock: Arc::new(sim.clone()),
            ids: Arc::new(sim.clone()),
            catalog: catalog(),
            settings,
        })
    };
    match shape {
        Shape::Aws => (app(180), app(300)),
        Shape::Embedded => {
            let one = app(240);
            (one.clone(), one)
        }
    }
}

/// Longest pause before a message that failed is received again, in milliseconds.
const LONGEST_PAUSE: i64 = 60_000;

/// Deals with a message as the consumers of both control planes do.
async fn handle(sim: Sim, app: App, received: Received) {
    let message = match Message::from_body(&received.queue, &received.body) {
        Ok(message) => message,
        Err(error) => {
            sim.world().bury(received.id, chain(&error));
            return;
        }
    };
    let shape = sim.shape();
    if sim.world().has(Mutant::AcknowledgeBeforeHandling) {
        sim.world().acknowledge(received.id);
    }
    let limit = match (shape, &received.queue) {
        (Shape::Embedded, _) => i64::MAX / 4,
        (Shape::Aws, Queue::DeployHelm) => 290_000,
        (Shape::Aws, _) => 170_000,
    };
    let work = app.handle(&received.queue, message.clone());
    let (reason, pause) = match Until::new(&sim, limit, work).await {
        Some(Ok(())) => {
            if shape == Shape::Aws && sim.call("acknowledge").await == crate::tasks::Fate::Refused {
                return;
            }
            sim.world().acknowledge(received.id);
            return;
        }
        Some(Err(error)) => {
            let pause = (1000 << received.receive_count.min(6)).min(LONGEST_PAUSE);
            (chain(&error), pause)
        }
        None => {
            sim.world().coverage.fault(Fault::TimeUp);
            let reason = "it was not finished before the function's end".to_owned();
            (reason, 1000)
        }
    };
    sim.world()
        .say(format_args!("  message {} failed: {reason}", received.id));
    if !received.is_last {
        if sim.call("release").await == crate::tasks::Fate::Well {
            sim.world().release(received.id, pause);
        }
        return;
    }
    let reason = format!(
        "received {} times; the last time: {reason}",
        received.receive_count
    );
    let limit = if shape == Shape::Aws { 2000 } else { i64::MAX / 4 };
    let told = app.give_up(&received.queue, &message, &reason);
    let told = Until::new(&sim, limit, told).await;
    sim.world().say(format_args!("  gave up: {told:?}"));
    if sim.call("bury").await == crate::tasks::Fate::Refused {
        sim.world().release(received.id, pause);
        return;
    }
    sim.world().bury(received.id, reason);
}

fn describe_rest(world: &World) -> String {
    let letters: Vec<String> = world
        .queues
        .letters
        .values()
        .take(3)
        .map(|letter| format!("{}: {}", letter.queue.name(), letter.body))
        .collect();
    let due: Vec<String> = world
        .tables
        .rows()
        .filter(|(_, row)| row.item.due.is_some())
        .take(3)
        .map(|(key, row)| format!("{key} {}", row.item.body))
        .collect();
    let tasks: Vec<&str> = world.tasks.values().map(|task| task.name.as_str()).collect();
    format!(
        "hours after the last fault there are still messages {letters:?}, due items {due:?}, tasks {tasks:?}"
    )
}

impl World {
    fn is_at_rest(&self) -> bool {
        let hour = self.now + 3_600_000;
        self.tasks.is_empty()
            && self.queues.letters.is_empty()
            && self.tables.next_due().is_none()
            && self.tables.is_clean()
            && !self.heap.iter().any(|Reverse((time, _, what))| {
                matches!(what, Happening::Call | Happening::Calm) && *time < hour
            })
            && self.now > START
    }

    /// A request lands although who sent it is gone.
    fn land(&mut self, index: usize) {
        let Some(request) = self.cloud.late.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.say(format_args!("a late request lands"));
        if let Some(release) = request.release() {
            self.checks.tainted.insert(release.to_owned());
        }
        let _ = self.perform(&request);
    }
}
