//! The scheduled sweep.

use std::{collections::BTreeSet, time::Duration};

use slipway_model::{DeploymentStatus, Message, Queue};
use slipway_ports::DUE_SHARDS;

use crate::world::{World, admin, problem};

#[tokio::test]
async fn a_lost_plan_message_is_sent_again() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    lose(&world, &Queue::PlanDag).await;
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.clock.advance(Duration::from_secs(61));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn lost_events_are_made_up_for() {
    let world = World::new().await;
    let (id, _) = world.planned("models").await;
    let topic = Queue::Topic("budusecasesEvents".to_owned());
    for _ in 0..20 {
        world.deliver(&Queue::ExecuteStep).await;
        world.deliver(&Queue::DeployHelm).await;
        world.deliver(&Queue::Topic("budpipelineEvents".to_owned())).await;
        lose(&world, &topic).await;
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.clock.advance(Duration::from_secs(61));
    world.app.sync_deployments().await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn each_sweep_begins_elsewhere_and_looks_at_every_shard() {
    let world = World::new().await;
    let all: Vec<u8> = (0..DUE_SHARDS).collect();
    let mut begun = Vec::new();
    for _ in 0..DUE_SHARDS {
        world.app.sync_deployments().await.unwrap();
        let mut shards = world.flaky.shards();
        begun.push(shards[0]);
        shards.sort_unstable();
        assert_eq!(shards, all);
        world.clock.advance(Duration::from_secs(60));
    }
    begun.sort_unstable();
    assert_eq!(begun, all);
}

#[tokio::test]
async fn a_shard_that_does_not_answer_keeps_no_other_from_being_looked_at() {
    let world = World::new().await;
    world.app.sync_deployments().await.unwrap();
    let first = world.flaky.shards()[0];
    world.flaky.silence(first);
    let swept = world.app.sync_deployments().await;
    assert_eq!(problem(swept).status, 503);
    assert_eq!(world.flaky.shards().len(), usize::from(DUE_SHARDS));
}

#[tokio::test]
async fn every_message_may_be_lost_once() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        if world.status(&id).await == DeploymentStatus::Running {
            let lost = seen.len();
            assert!(lost > 20, "only {lost} messages were lost");
            return;
        }
        for queue in World::queues() {
            lose_first(&world, &queue, &mut seen).await;
        }
        world.clock.advance(Duration::from_secs(10));
        world.app.sync_deployments().await.unwrap();
    }
    panic!("it never came up: {:?}", world.view(&id).await);
}

#[tokio::test]
async fn an_execution_of_nobody_goes_on_although_its_messages_are_lost() {
    let world = World::new().await;
    let dag = serde_json::json!({"name": "x", "steps": [{"id": "a", "action": "pass"},
        {"id": "b", "action": "wait", "params": {"seconds": 3600}, "depends_on": ["a"]}]});
    let id = world
        .app
        .create_execution(&admin(), dag)
        .await
        .unwrap()
        .id
        .to_string();
    lose(&world, &Queue::ExecuteStep).await;
    for (minutes, finished) in [(1, 0), (2, 1)] {
        world.clock.advance(Duration::from_secs(60 * minutes));
        world.app.sync_deployments().await.unwrap();
        world.deliver(&Queue::ExecuteStep).await;
        let progress = world.app.execution_progress(&admin(), &id, false).await.unwrap();
        assert_eq!(progress.finished_steps, finished, "{minutes} minutes on");
    }
    // It was looked at, and is left alone for a while.
    lose(&world, &Queue::ExecuteStep).await;
    world.clock.advance(Duration::from_secs(60));
    world.app.sync_deployments().await.unwrap();
    assert_eq!(world.deliver(&Queue::ExecuteStep).await, 0);
    for _ in 0..60 {
        lose(&world, &Queue::ExecuteStep).await;
        world.clock.advance(Duration::from_secs(120));
        world.app.sync_deployments().await.unwrap();
        world.deliver(&Queue::ExecuteStep).await;
    }
    let progress = world.app.execution_progress(&admin(), &id, false).await.unwrap();
    assert_eq!(progress.status, slipway_model::ExecutionStatus::Completed);
}

/// Hands on the messages that were seen before, and takes the others away.
async fn lose_first(world: &World, queue: &Queue, seen: &mut BTreeSet<String>) {
    use slipway_ports::Receiver;
    let (store, hidden) = (&world.store, Duration::from_secs(60));
    for delivery in store.receive(queue, 10, Duration::ZERO, hidden).await.unwrap() {
        if !seen.insert(format!("{} {}", queue.name(), delivery.body)) {
            let message = Message::from_body(queue, &delivery.body).unwrap();
            world.app.handle(queue, message).await.unwrap();
        }
        store.acknowledge(queue, &delivery.receipt).await.unwrap();
    }
}

/// Takes what is on a queue away, as a crash between writing and sending does.
async fn lose(world: &World, queue: &Queue) {
    use slipway_ports::Receiver;
    loop {
        let got = world
            .store
            .receive(queue, 10, Duration::ZERO, Duration::from_secs(60))
            .await
            .unwrap();
        if got.is_empty() {
            return;
        }
        for delivery in got {
            world.store.acknowledge(queue, &delivery.receipt).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_sweep_over_nothing_does_nothing() {
    let world = World::new().await;
    world.running("models").await;
    let before = world.store.items().len();
    world.clock.advance(Duration::from_secs(3500));
    world.app.sync_deployments().await.unwrap();
    assert_eq!(world.store.items().len(), before);
    assert_eq!(world.store.next_message_at(), None);
}
