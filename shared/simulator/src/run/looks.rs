//! What happens once all is at rest: others change things on the cluster, and an hour later, or when a caller asks,
//! somebody looks.

use slipway_model::DeploymentStatus;

use super::Run;
use crate::{
    callers::{ask_for_looks, tell_looks},
    tasks::Role,
    world::Happening,
};

/// Times that others change something.
const ROUNDS: u32 = 2;

/// From one sweep to the next, in milliseconds.
const A_MINUTE: i64 = 60_000;

/// An hour and a sweep, in milliseconds.
const AN_HOUR: i64 = 3_660_000;

impl Run {
    /// Goes on from where everything is at rest. False if nothing more comes.
    pub(super) fn look_around(&mut self) -> bool {
        let mut guard = self.sim.world();
        let world = &mut *guard;
        if world.looks.rounds == 0 {
            world.say(format_args!("everything is at rest"));
            world.check_rest();
        }
        if world.violation.is_some() {
            return false;
        }
        if world.looks.was_asked {
            world.looks.was_asked = false;
            world.check_looks();
            if world.violation.is_some() {
                return false;
            }
        } else if world.looks.rounds > 0 {
            world.looks.was_asked = true;
            let work = tell_looks(self.sim.clone(), self.app.clone());
            world.spawn("review".to_owned(), Role::Caller, 1, Box::pin(work));
            world.after(A_MINUTE, Happening::Sweep);
            return true;
        }
        let is_seen = world.cloud.is_registered
            || world
                .deployments()
                .iter()
                .any(|deployment| deployment.status == DeploymentStatus::Running);
        let must_look = world.looks.rounds == 0 && world.looks.must_look;
        let is_enough = world.choices.below(3) == 0 && !must_look;
        if world.looks.rounds >= ROUNDS || !is_seen || is_enough {
            return false;
        }
        if world.looks.rounds == 0 {
            // What was changed while there was work may have been applied again since.
            world.looks.touched.clear();
            world.looks.saved = Some(world.cloud.clone());
        }
        world.looks.rounds += 1;
        match world.choices.below(4) {
            3 => world.put_right(),
            more => (0..=more).for_each(|_| world.meddle()),
        }
        world.looks.answers.clear();
        world.looks.before = world.snapshot();
        let wait = if world.choices.below(4) == 3 {
            let work = ask_for_looks(self.sim.clone(), self.app.clone());
            world.spawn("request".to_owned(), Role::Caller, 1, Box::pin(work));
            A_MINUTE
        } else {
            world.looks.must_sweep = true;
            AN_HOUR
        };
        world.after(wait, Happening::Sweep);
        self.last_call = world.now + wait;
        true
    }
}
