//! What is dropped when nobody needs it any more, and what is not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, admin};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn world(days: Option<u32>) -> World {
    World::with(|settings| settings.retention = days.map(|days| DAY * days)).await
}

fn dag(action: &str) -> Value {
    let large = "x".repeat(9000);
    json!({"name": "x", "settings": {"timeout_seconds": 3600}, "steps": [
        {"id": "a", "action": "pass", "params": {"large": large}}, {"id": "b", "action": "pass"},
        {"id": "c", "action": action, "depends_on": ["a", "b"]}]})
}

fn parts(world: &World, id: &str) -> usize {
    let is_part = |partition: &str| partition.contains(&format!("/x/{id}"));
    let items = world.store.items();
    let items = items.iter().filter(|item| is_part(&item.key.partition)).count();
    items
        + world
            .store
            .joins()
            .iter()
            .filter(|key| is_part(&key.partition))
            .count()
}

#[tokio::test]
async fn an_execution_is_dropped_some_time_after_its_end() {
    for (days, kept) in [(Some(3), false), (None, true)] {
        let world = world(days).await;
        let id = world
            .app
            .create_execution(&admin(), dag("pass"))
            .await
            .unwrap()
            .id
            .to_string();
        world.settle().await;
        assert!(parts(&world, &id) >= 6);
        world.clock.advance(DAY * 2);
        world.store.sweep();
        assert!(world.app.execution(&admin(), &id).await.is_ok());
        world.clock.advance(DAY * 2);
        world.store.sweep();
        assert_eq!(world.app.execution(&admin(), &id).await.is_ok(), kept);
        world.clock.advance(DAY * 30);
        world.store.sweep();
        assert_eq!(parts(&world, &id) > 0, kept);
    }
}

#[tokio::test]
async fn an_execution_that_nobody_ends_is_dropped_not_before_it_is_ended() {
    let world = world(Some(3)).await;
    let id = world
        .app
        .create_execution(&admin(), dag("approval"))
        .await
        .unwrap()
        .id
        .to_string();
    world.settle().await;
    // The control plane was away for ten days, and the deadline passed in between.
    world.clock.advance(DAY * 10);
    world.store.sweep();
    for _ in 0..3 {
        world.app.sync_deployments().await.unwrap();
        world.settle().await;
    }
    let ended = world.app.execution(&admin(), &id).await.unwrap();
    assert!(ended.status.is_terminal(), "{:?}", ended.status);
    world.clock.advance(DAY * 4);
    world.store.sweep();
    assert!(world.app.execution(&admin(), &id).await.is_err());
}

#[tokio::test]
async fn a_deployment_stays_and_its_jobs_and_history_go() {
    let world = world(Some(3)).await;
    let id = world.running("models").await;
    let job = world.component(&id, "llm").await.job_id.unwrap().to_string();
    let lines = world
        .app
        .deployment_events(&admin(), &id, None, 1000)
        .await
        .unwrap();
    assert!(!lines.is_empty());
    assert!(world.app.job(&admin(), &job).await.is_ok());
    world.clock.advance(DAY * 4);
    world.store.sweep();
    assert!(world.app.job(&admin(), &job).await.is_err());
    let lines = world
        .app
        .deployment_events(&admin(), &id, None, 1000)
        .await
        .unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    world.app.deployment_progress(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await.as_str(), "RUNNING");
    assert_eq!(
        world.component(&id, "llm").await.status,
        slipway_model::ComponentStatus::Running
    );
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.cluster.cloud().installed.len(), 0);
}

#[tokio::test]
async fn the_job_of_a_release_that_runs_is_kept_as_long_as_it_runs() {
    let world = world(Some(4)).await;
    let id = world.running("models").await;
    let first = world.component(&id, "llm").await.job_id.unwrap().to_string();
    let days = async |days: u32| {
        for _ in 0..days {
            world.clock.advance(DAY);
            world.app.sync_deployments().await.unwrap();
            world.settle().await;
            world.store.sweep();
        }
    };
    days(30).await;
    assert!(world.app.job(&admin(), &first).await.is_ok());

    let upgrade = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, upgrade)
        .await
        .unwrap();
    world.settle().await;
    let second = world.component(&id, "llm").await.job_id.unwrap().to_string();
    assert_ne!(first, second);
    days(30).await;
    assert!(world.app.job(&admin(), &first).await.is_err());
    assert!(world.app.job(&admin(), &second).await.is_ok());

    // What an upgrade does not change is kept by its job, and was made by the one before.
    for _ in 0..2 {
        let nothing = serde_json::from_value(json!({})).unwrap();
        world
            .app
            .upgrade_deployment(&admin(), &id, nothing)
            .await
            .unwrap();
        world.settle().await;
        assert!(world.component(&id, "llm").await.kept, "it is applied again");
        days(30).await;
    }
    assert!(world.app.job(&admin(), &second).await.is_ok());
}
