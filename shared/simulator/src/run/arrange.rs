//! What there is before a run, when callers come, and when and how often things go wrong.

use std::cmp::Reverse;

use super::Run;
use crate::{
    callers::furnish,
    tasks::Role,
    world::{Happening, Rates, Shape},
};

impl Run {
    /// A cluster and templates, before anything goes wrong.
    pub(super) fn furnish(&mut self) {
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
    pub(super) fn arrange(&mut self) {
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
}
