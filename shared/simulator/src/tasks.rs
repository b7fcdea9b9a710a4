//! Tasks: invocations of handlers, calls of callers, Helm's processes. Each is a future that pauses at every port.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use slipway_ports::Key;

use crate::{
    coverage::Fault,
    world::{Happening, Shape, Sim, World},
};

/// Names a task; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u32);

/// What is dropped together when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An invocation that handles a message.
    Handler,
    /// The schedule's invocation.
    Schedule,
    /// A call of the API.
    Caller,
    /// A process of Helm, which ends with its parent.
    Helm,
}

/// What is known of a task beside its future.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) parent: Option<TaskId>,
    /// The release lease that it took last: the owner's key, the job, the fence.
    pub(crate) lease: Option<(Key, String, u64)>,
    /// Claims of steps that it wrote: the step's key and the fence.
    pub(crate) claims: Vec<(Key, u64)>,
    /// Whether it is there to look at a cluster, and may change nothing.
    pub(crate) looks: bool,
    /// Whether the machine slept while it worked, so that it may go on under what is over by the clock.
    pub(crate) overslept: bool,
    /// A request to a cluster that is on its way.
    pub(crate) request: Option<crate::cluster::Request>,
}

pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that is about to start.
pub(crate) struct Born {
    pub(crate) id: TaskId,
    pub(crate) work: Work,
}

impl World {
    /// Starts a task after `delay` milliseconds.
    pub(crate) fn spawn(&mut self, name: String, role: Role, delay: i64, work: Work) -> TaskId {
        let id = TaskId(self.checks.tasks_started);
        self.checks.tasks_started += 1;
        self.checks.calls += u32::from(matches!(role, Role::Caller | Role::Schedule));
        self.say(format_args!("{name} is task {}", id.0));
        let task = Task {
            name,
            role,
            parent: self.current.filter(|_| role == Role::Helm),
            lease: None,
            claims: Vec::new(),
            looks: false,
            overslept: self
                .current
                .and_then(|current| self.tasks.get(&current))
                .is_some_and(|task| task.overslept),
            request: None,
        };
        self.tasks.insert(id, task);
        self.born.push_back(Born { id, work });
        self.after(delay, Happening::Wake(id));
        id
    }

    /// How long a call takes, in milliseconds.
    pub(crate) fn latency(&mut self) -> i64 {
        let drawn = i64::from(self.choices.below(64));
        if drawn < 56 {
            return drawn % 8;
        }
        if drawn < 63 || !self.stormy {
            return (drawn - 55) * 40;
        }
        if self.rates.stall > 0 && self.goes_wrong(self.rates.stall, Fault::Stall) {
            let seconds = self.choices.one_of(&[5, 20, 40, 70, 130, 320, 900]);
            return seconds * 1000;
        }
        1000 + i64::from(self.choices.below(3000))
    }

    /// The task that runs, or the handler for which the process runs that does.
    pub(crate) fn actor(&self) -> Option<TaskId> {
        let current = self.current?;
        match self.tasks.get(&current)?.parent {
            Some(parent) => Some(parent),
            None => Some(current),
        }
    }
}

/// A pause of the task that runs: others go on meanwhile, and it may never go on itself.
#[must_use]
pub(crate) struct Pause {
    sim: Sim,
    until: i64,
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.sim.world().awake() >= self.until {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// How a call fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does what it should.
    Well,
    /// It fails and does nothing.
    Refused,
    /// It does what it should, and the answer is lost.
    Unanswered,
}

impl Sim {
    /// A pause of that many milliseconds.
    pub(crate) fn pause(&self, milliseconds: i64) -> Pause {
        let mut world = self.world();
        // Every pause takes time, so that a task that waits in a loop never stops the clock.
        let milliseconds = milliseconds.max(1);
        if let Some(current) = world.current {
            world.after(milliseconds, Happening::Wake(current));
        }
        Pause {
            sim: self.clone(),
            until: world.awake() + milliseconds,
        }
    }

    /// The way of a call to its port: a pause, and how it will fare.
    pub(crate) async fn call(&self, name: &'static str) -> Fate {
        let (latency, mut fate) = {
            let mut world = self.world();
            let latency = world.latency();
            // What is on the same machine never takes minutes.
            let most = if world.shape == Shape::Embedded {
                5000
            } else {
                i64::MAX
            };
            (latency.min(most), Fate::Well)
        };
        self.pause(latency).await;
        let mut world = self.world();
        let rate = world.rates.fail;
        if world.goes_wrong(rate, Fault::CallFails) {
            fate = match world.choices.below(2) {
                0 => Fate::Refused,
                _ => Fate::Unanswered,
            };
        }
        if world.trace.is_some() {
            let id = world.current.map_or(0, |task| task.0);
            if fate == Fate::Well {
                world.say(format_args!("  [{id}] {name}"));
            } else {
                world.say(format_args!("  [{id}] {name}: {fate:?}"));
            }
        }
        fate
    }

    /// The way back of a call's answer; mostly it takes no time of its own.
    pub(crate) async fn answer(&self) {
        let latency = {
            let mut world = self.world();
            match world.choices.below(4) {
                3 => Some(world.latency()),
                _ => None,
            }
        };
        if let Some(latency) = latency {
            self.pause(latency).await;
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.world().shape
    }
}

/// Runs a future until a time, then drops it.
pub(crate) struct Until<F> {
    pub(crate) sim: Sim,
    pub(crate) end: i64,
    pub(crate) work: Option<Pin<Box<F>>>,
}

impl<F: Future> Until<F> {
    pub(crate) fn new(sim: &Sim, limit: i64, work: F) -> Self {
        let mut world = sim.world();
        let end = world.awake().saturating_add(limit);
        if let Some(current) = world.current {
            world.after(limit, Happening::Wake(current));
        }
        drop(world);
        Self {
            sim: sim.clone(),
            end,
            work: Some(Box::pin(work)),
        }
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(work) = &mut self.work
            && let Poll::Ready(output) = work.as_mut().poll(context)
        {
            return Poll::Ready(Some(output));
        }
        if self.sim.world().awake() >= self.end {
            self.work = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}
