//! What the functions of an installation on AWS do on their own, as tasks of one process.

use std::{sync::Arc, time::Duration};

use slipway_app::App;
use slipway_embedded::{Consumer, Embedded};
use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Queue};
use slipway_ports::{Receiver, chain};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Messages of a queue that are worked on at the same time. Jobs that look at readiness do so for seconds; how many
/// Helms run at once is bounded where they are started.
const AT_ONCE: usize = 64;

/// How often the schedule looks for what is due or was lost.
const SCHEDULE: Duration = Duration::from_secs(60);

/// Starts a consumer per queue and the schedule. They end when `stop` becomes true.
pub(super) fn start(
    app: &App,
    embedded: &Embedded,
    receiver: &Arc<dyn Receiver>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let queues = [
        (Queue::PlanDag, AT_ONCE),
        (Queue::ExecuteStep, AT_ONCE),
        (Queue::DeployHelm, AT_ONCE),
        (Queue::Topic(BUDPIPELINE_EVENTS.to_owned()), AT_ONCE),
        (Queue::Topic(BUDUSECASES_EVENTS.to_owned()), AT_ONCE),
    ];
    for (queue, concurrency) in queues {
        let consumer = Consumer {
            max_receives: embedded.max_receives(&queue),
            queue,
            concurrency,
            visibility: app.settings.invocation + Duration::from_secs(60),
        };
        let (handles, gives_up) = (app.clone(), app.clone());
        tasks.spawn(consumer.run(
            Arc::clone(receiver),
            stop.clone(),
            move |queue, message| {
                let app = handles.clone();
                async move { app.handle(&queue, message).await }
            },
            move |queue, message, reason| {
                let app = gives_up.clone();
                async move { app.give_up(&queue, &message, &reason).await }
            },
        ));
    }
    tasks.spawn(schedule(app.clone(), embedded.clone(), stop.clone()));
    tasks
}

/// Looks at once, because a message may have been lost with the process before, and then every minute.
async fn schedule(app: App, embedded: Embedded, mut stop: watch::Receiver<bool>) {
    let mut minute = interval(SCHEDULE);
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = minute.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = app.sync_deployments().await {
            tracing::error!(
                error = chain(&error),
                "the schedule could not look at everything; it looks again in a minute"
            );
        }
        // What a handler's claim kept from being given up at once, and what was never acknowledged.
        if let Err(error) = app.look_at_dead_letters().await {
            tracing::error!(
                error = chain(&error),
                "the schedule could not look at every dead letter; it looks again in a minute"
            );
        }
        if let Err(error) = embedded.sweep().await {
            tracing::error!(
                error = chain(&error),
                "expired records could not be dropped; it is tried again in a minute"
            );
        }
    }
}
