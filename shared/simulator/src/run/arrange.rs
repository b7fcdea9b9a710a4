//! What there is before a run, when callers come, and when and how often things go wrong.

use std::cmp::Reverse;

use serde_json::json;

use super::{Run, apps::apps};
use crate::{
    callers::{KUBECONFIG, furnish},
    services::SECRET,
    tasks::Role,
    world::{Happening, Rates, Shape},
};

impl Run {
    /// A cluster and templates, before anything goes wrong.
    pub(super) fn furnish(&mut self) {
        let (cluster, templates) = {
            let mut world = self.sim.world();
            let has_templates = world.choices.below(5) >= 3;
            world.known.has_templates = has_templates;
            world.legacy = has_templates && world.choices.below(6) == 5;
            let is_real = world.choices.below(2) == 1;
            world.cloud.is_registered = is_real;
            let templates = if has_templates {
                vec![world.template(0), world.template(1)]
            } else {
                Vec::new()
            };
            // One that is looked at for what nobody owns, or one that is not; it is simulated either way.
            let cluster = match is_real {
                false => json!({"name": "dev", "type": "render"}),
                true => json!({"name": "dev", "type": "kubeconfig", "kubeconfig": KUBECONFIG}),
            };
            let path = "local/expressions/path".to_owned();
            world.vault.0.insert(path, SECRET.to_owned());
            (cluster, templates)
        };
        (self.app, self.helm_app) = apps(&self.sim);
        let work = furnish(self.sim.clone(), self.app.clone(), cluster, templates);
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
                give_up: choices.one_of(&[0, 0, 0, 4]),
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
        world.is_fine = !world.stormy && world.cloud.away_until == 0;
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
        for _ in 0..world.choices.below(6) {
            let when =
                i64::from(world.choices.below(300)) * i64::from(world.choices.one_of(&[100_u32, 1000, 4000]));
            world.after(when, Happening::Ask);
            at = at.max(when);
        }
        if world.choices.below(8) == 7 {
            let when = i64::from(world.choices.below(600)) * 1000;
            world.after(when, Happening::Meddle);
            at = at.max(when);
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
        if world.shape == Shape::Embedded && world.stormy && world.choices.below(4) == 3 {
            let sleep =
                i64::from(world.choices.below(2000)) * i64::from(world.choices.one_of(&[10_u32, 1, 60]));
            world.after(sleep, Happening::Sleep);
        }
    }
}
