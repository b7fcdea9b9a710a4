//! What a consumer does with a message.

use slipway_app::App;
use slipway_model::{Message, Queue};
use slipway_ports::chain;

use crate::{
    check::Invariant,
    coverage::Fault,
    mutants::Mutant,
    queue::Received,
    tasks::Until,
    world::{Shape, Sim},
};

/// Longest pause before a message that failed is received again, in milliseconds.
const LONGEST_PAUSE: i64 = 60_000;

/// Deals with a message as the consumers of both control planes do.
pub(super) async fn handle(sim: Sim, app: App, received: Received) {
    let message = match Message::from_body(&received.queue, &received.body) {
        Ok(message) => message,
        Err(error) => {
            sim.world().bury(received.id, chain(&error));
            return;
        }
    };
    {
        let mut world = sim.world();
        if let Some(id) = world.current
            && let Some(task) = world.tasks.get_mut(&id)
        {
            task.looks = matches!(message, Message::Drift { .. } | Message::Orphans { .. });
        }
    }
    let shape = sim.shape();
    if sim.world().has(Mutant::AcknowledgeBeforeHandling) {
        sim.world().acknowledge(received.id);
    }
    let limit = match (shape, &received.queue) {
        (Shape::Embedded, _) => i64::MAX / 4,
        (Shape::Aws, Queue::DeployHelm) => 290_000,
        (Shape::Aws, _) => 170_000,
    };
    let is_hopeless = {
        let mut world = sim.world();
        let rate = world.rates.give_up;
        world.goes_wrong(rate, Fault::GivenUp)
    };
    if is_hopeless {
        let reason = "what it needs cannot be read".to_owned();
        return give_up(&sim, &app, &received, &message, reason, 1000).await;
    }
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
            let mut world = sim.world();
            if world.is_fine {
                let what = format!("message {}: {}", received.body, chain(&error));
                world.violated(Invariant::NoHandlerFailsByItself, what);
            }
            drop(world);
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
    give_up(&sim, &app, &received, &message, reason, pause).await;
}

/// Ends what a message was about, and the message.
async fn give_up(sim: &Sim, app: &App, received: &Received, message: &Message, reason: String, pause: i64) {
    if !sim.world().has(Mutant::NeverGiveUp) {
        let limit = match sim.shape() {
            Shape::Aws => 2000,
            Shape::Embedded => i64::MAX / 4,
        };
        let told = app.give_up(&received.queue, message, &reason);
        let told = Until::new(sim, limit, told).await;
        sim.world().say(format_args!("  gave up: {told:?}"));
    }
    if sim.call("bury").await == crate::tasks::Fate::Refused {
        sim.world().release(received.id, pause);
        return;
    }
    sim.world().bury(received.id, reason);
}
