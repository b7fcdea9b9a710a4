//! Deployments under everything at once: messages twice, late and in any order, calls that fail half-way, charts
//! that break, and callers who change their minds. Whatever happens, what rests in the end is true.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use slipway_app::RollbackRequest;
use slipway_model::{ComponentStatus, DeploymentStatus, Message};
use slipway_ports::Receiver;

use crate::{
    flaky::Chance,
    world::{World, admin, mixed},
};

/// How many seeds are played unless `SLIPWAY_CHAOS_SEEDS` says otherwise.
const SEEDS: u64 = 25;

fn seeds() -> u64 {
    std::env::var("SLIPWAY_CHAOS_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

#[tokio::test]
async fn what_rests_in_the_end_is_true() {
    let mut seen = BTreeSet::new();
    for seed in 0..seeds() {
        let status = play(seed).await;
        seen.insert(status.as_str());
    }
    // All ends are reached by some seed, or the test would say less than it seems to.
    assert_eq!(seen.len(), 4, "{seen:?}");
}

async fn play(seed: u64) -> DeploymentStatus {
    let world = World::new().await;
    let on_failure = ["fail", "continue", "rollback"][usize::try_from(seed % 3).unwrap()];
    let mut template = mixed("1.1.0");
    template["settings"] = json!({"on_failure": on_failure});
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.created("agent").await.deployment.id.to_string();
    let chance = Chance::new(seed);
    world.flaky.fail(seed, chance.below(40));
    for round in 0..400 {
        match chance.below(100) {
            0..80 => receive(&world, &chance).await,
            80..88 => world.clock.advance(Duration::from_secs(chance.below(40))),
            88..92 => drop(world.app.sync_deployments().await),
            92..94 => change_charts(&world, &chance),
            _ if round > 20 => call(&world, &id, &chance).await,
            _ => drop(world.app.start_deployment(&admin(), &id).await),
        }
    }
    world.flaky.fail(seed, 0);
    {
        let mut cloud = world.cluster.cloud();
        cloud.away = false;
        cloud.lingering.clear();
    }
    if world.status(&id).await == DeploymentStatus::Pending {
        world.app.start_deployment(&admin(), &id).await.unwrap();
    }
    for round in 0..30 {
        world.settle().await;
        // What a call left undone is done by the sweep.
        if round > 1 && !world.status(&id).await.is_in_flight() {
            break;
        }
        world.clock.advance(Duration::from_secs(61));
        world.app.sync_deployments().await.unwrap();
    }
    check(&world, &id, seed).await
}

async fn receive(world: &World, chance: &Chance) {
    let queues = World::queues();
    let queue = &queues[usize::try_from(chance.below(queues.len() as u64)).unwrap()];
    let hidden = Duration::from_secs(chance.below(30));
    let got = world
        .store
        .receive(queue, 4, Duration::ZERO, hidden)
        .await
        .unwrap();
    let mut order: Vec<_> = got.iter().collect();
    if chance.below(2) == 0 {
        order.reverse();
    }
    for delivery in order {
        let message = Message::from_body(queue, &delivery.body).unwrap();
        let handled = world.app.handle(queue, message).await;
        // One that failed comes again; so do some that did not.
        if handled.is_ok() && chance.below(10) > 1 {
            world.store.acknowledge(queue, &delivery.receipt).await.unwrap();
        }
    }
}

fn change_charts(world: &World, chance: &Chance) {
    let releases = ["my-agent-vector-db", "my-agent-llm", "my-agent-runtime"];
    let release = releases[usize::try_from(chance.below(3)).unwrap()];
    let mut cloud = world.cluster.cloud();
    match chance.below(4) {
        0 => cloud.away = !cloud.away,
        1 if !cloud.lingering.remove(release) => drop(cloud.lingering.insert(release.to_owned())),
        1 => {}
        _ if cloud.broken.remove(release).is_none() => {
            cloud.broken.insert(release.to_owned(), "broken".to_owned());
        }
        _ => {}
    }
}

/// Callers do what they like; refusals and failures are theirs to bear.
async fn call(world: &World, id: &str, chance: &Chance) {
    let (app, caller) = (&world.app, &admin());
    match chance.below(14) {
        0 => drop(app.stop_deployment(caller, id).await),
        1..4 => drop(app.retry_deployment(caller, id).await),
        4..7 => {
            let request = json!({"parameters": {"size": chance.below(30) + 1}});
            let request = serde_json::from_value(request).unwrap();
            drop(app.upgrade_deployment(caller, id, request).await);
        }
        7..9 => drop(
            app.rollback_deployment(caller, id, &RollbackRequest::default())
                .await,
        ),
        9..12 => drop(app.sync_deployment(caller, id).await),
        12 => drop(app.start_deployment(caller, id).await),
        _ if chance.below(6) == 0 => drop(app.delete_deployment(caller, id).await),
        _ => {}
    }
}

async fn check(world: &World, id: &str, seed: u64) -> DeploymentStatus {
    let view = world.view(id).await;
    let deployment = &view.deployment;
    let told = format!("seed {seed}: {view:#?}");
    assert!(!deployment.status.is_in_flight(), "{told}");
    for component in &view.components {
        assert!(component.status.is_terminal(), "{told}");
        if deployment.status == DeploymentStatus::Running {
            assert_eq!(component.status, ComponentStatus::Running, "{told}");
        }
        if component.status == ComponentStatus::Running {
            let cloud = world.cluster.cloud();
            assert!(cloud.installed.contains_key(&component.release_name), "{told}");
        }
    }
    if deployment.status == DeploymentStatus::Running {
        let size = &deployment.parameters["size"];
        assert_eq!(
            &world.cluster.cloud().installed["my-agent-runtime"]["size"],
            size,
            "{told}"
        );
    }
    if deployment.status == DeploymentStatus::Deleted {
        assert!(world.cluster.cloud().installed.is_empty(), "{told}");
        assert!(
            world.app.deployment(&admin(), "my-agent").await.is_err(),
            "{told}"
        );
        world.app.delete_template(&admin(), "agent", None).await.unwrap();
    }
    for queue in World::queues() {
        assert_eq!(world.store.dead_letters(&queue, 1).await.unwrap(), [], "{told}");
    }
    deployment.status
}
