//! Who dies, and what dies with it.

use std::cmp::Reverse;

use super::{Run, apps::apps};
use crate::{
    coverage::Fault,
    tasks::TaskId,
    world::{Happening, Shape, World},
};

/// How long a machine sleeps, in milliseconds: longer than any claim or lease.
const SLEEP: i64 = 3_600_000;

impl Run {
    /// Who dies: a process of Helm alone, or whoever waits for it, and Helm with it.
    pub(super) fn victim(&self, id: TaskId) -> TaskId {
        let mut world = self.sim.world();
        let parent = world.tasks.get(&id).and_then(|task| task.parent);
        match parent.filter(|parent| world.tasks.contains_key(parent)) {
            Some(parent) if world.shape == Shape::Aws && world.choices.below(2) == 1 => parent,
            _ => id,
        }
    }

    /// Drops a task where it is, as its process ends. A request of its that is on its way may still land.
    pub(super) fn drop_task(&mut self, id: TaskId) {
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
                    let fence = world.cloud.fence_of(&request);
                    world.cloud.late.push(Some((request, fence)));
                    let delay = i64::from(world.choices.below(5000));
                    world.after(delay, Happening::Land(index));
                }
            }
        }
        drop(work);
    }

    /// The embedded control plane's process is killed, and starts again.
    pub(super) fn kill(&mut self) {
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
}

impl Run {
    /// The machine sleeps for an hour with everything on it. The clock and the cluster go on.
    pub(super) fn sleep(&mut self) {
        let mut guard = self.sim.world();
        let world = &mut *guard;
        if !world.stormy {
            return;
        }
        world.coverage.fault(Fault::Slept);
        world.say(format_args!(
            "the machine falls asleep, and wakes up an hour later"
        ));
        self.last_call += SLEEP;
        world.now += SLEEP;
        world.slept += SLEEP;
        for task in world.tasks.values_mut() {
            task.overslept = true;
        }
        let arranged = std::mem::take(&mut world.heap);
        world.heap = arranged
            .into_iter()
            .map(|Reverse((time, turn, what))| {
                // What depends on the clock, or happens elsewhere, does not wait.
                let waits = !matches!(
                    what,
                    Happening::Deliver(_) | Happening::Duplicate(_) | Happening::Land(_)
                );
                Reverse((time + if waits { SLEEP } else { 0 }, turn, what))
            })
            .collect();
    }
}

impl World {
    /// A request lands although who sent it is gone.
    pub(super) fn land(&mut self, index: usize) {
        let Some((request, fence)) = self.cloud.late.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.say(format_args!("a late request lands"));
        self.note_late(&request);
        self.cloud.lands_late = true;
        self.cloud.late_fence = fence;
        let _ = self.perform(&request);
        self.cloud.lands_late = false;
    }
}
