//! One run: what is there, what happens, and how it ends.

mod apps;
mod arrange;
mod death;
mod handle;
mod looks;
mod panics;
mod rest;

use std::{cmp::Reverse, collections::BTreeMap, task::Context};

use slipway_app::App;
use slipway_model::Queue;

use self::{apps::apps, handle::handle, panics::caught, rest::describe_rest};
use crate::{
    callers::{Call, call},
    check::{Invariant, Violation},
    choice::Choices,
    coverage::{Coverage, Fault},
    mutants::Mutant,
    tasks::{Role, TaskId, Until, Work},
    world::{Happening, Shape, Sim, World, waker},
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
    let panicked = caught(|| run.go());
    let mut world = run.sim.world();
    if let Some(said) = panicked {
        let at_work = world.current.and_then(|id| world.tasks.get(&id));
        let name = at_work.map_or_else(|| "the simulator".to_owned(), |task| task.name.clone());
        world.violated(Invariant::NothingPanics, format_args!("{name}: {said}"));
    }
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
            if !self.play() || !self.look_around() {
                return;
            }
            self.tidy();
        }
    }

    /// Goes on until everything is at rest. False if something did not hold.
    fn play(&mut self) -> bool {
        loop {
            let next = {
                let mut world = self.sim.world();
                if world.violation.is_some() {
                    return false;
                }
                let next = world.heap.pop();
                if let Some(Reverse((time, _, _))) = next {
                    // What was arranged for while the machine slept comes when it has woken up.
                    world.now = world.now.max(time);
                    world.steps += 1;
                    if world.steps > MOST_POLLS {
                        world.violated(Invariant::WorkIsBounded, "a run takes more steps than any should");
                        return false;
                    }
                    if world.now > self.last_call + LONGEST {
                        let left = describe_rest(&world);
                        world.violated(Invariant::EverythingEnds, left);
                        return false;
                    }
                }
                next
            };
            let Some(Reverse((_, _, what))) = next else {
                return true;
            };
            if self.happens(what) {
                return true;
            }
            self.tidy();
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
            Happening::Ask => self.ask(),
            Happening::Meddle => self.sim.world().change_a_field(),
            Happening::Sweep => return self.sweep(),
            Happening::Kill => self.kill(),
            Happening::Sleep => self.sleep(),
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

    fn ask(&mut self) {
        let mut world = self.sim.world();
        let ask = world.next_ask();
        self.spawn_call(&mut world, Call::Ask(ask));
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
        let must_look = std::mem::take(&mut world.looks.must_sweep);
        let is_due = must_look || world.tables.something_is_due(world.now + 66_000);
        let has_dead = !world.queues.dead.is_empty();
        if !must_look && !world.stormy && world.is_at_rest() {
            return true;
        }
        world.after(60_000, Happening::Sweep);
        if !self.sweeps || !(is_due || has_dead) {
            return false;
        }
        let looks = has_dead && !world.has(Mutant::NeverGiveUp);
        // What is buried from now on is for the next look.
        let buried = world.queues.buried;
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
                if let Some((_, Ok(()))) = done {
                    world.queues.looked_at = buried;
                }
            }),
        );
        false
    }
}
