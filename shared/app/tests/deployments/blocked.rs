//! Clusters that are away when their health is looked at: what waits for them, and for how long.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{Capacity, DeploymentStatus, ExecutionStatus, Message, Queue, StepStatus, TenantId};
use slipway_ports::TargetError;

use crate::{
    ending::{progress, run, step},
    world::{World, admin},
};

/// Two minutes, a second at a time.
async fn two_minutes(world: &World) {
    for _ in 0..120 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
}

fn asking(more: &Value) -> Value {
    let mut step = json!({"id": "ask", "action": "cluster_health", "params": {"cluster_id": "dev", "minimum": {"cpu": 4}}});
    step.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"name": "x", "steps": [step]})
}

#[tokio::test]
async fn a_deployment_waits_for_a_cluster_that_is_away_and_goes_on_when_it_is_back() {
    let world = World::new().await;
    let refused = "the cluster at https://x does not answer: connection refused";
    world.cluster.cloud().out_of_reach = Some(TargetError::transient(refused));
    let (id, execution) = world.planned("agent").await;
    two_minutes(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    let blocked = step(&world, execution, "cluster_health").await;
    assert_eq!((blocked.status, blocked.attempt), (StepStatus::AwaitingEvent, 1));
    let waiting = blocked.waiting_for.unwrap();
    assert!(
        waiting.contains(refused) && waiting.contains("; tried again at 2"),
        "{waiting}"
    );
    // Those that come first say so, too; the others wait for those.
    let view = world.app.deployment_progress(&admin(), &id).await.unwrap();
    let waits = view
        .components
        .iter()
        .map(|one| one.waiting_for.as_deref().is_some_and(|wait| wait == waiting));
    assert_eq!(waits.collect::<Vec<_>>(), [true, false, false], "{view:?}");
    // Again and again, but not all the time.
    let looks = world.cluster.cloud().health_looks;
    assert!(
        (6..=10).contains(&looks),
        "it was asked {looks} times in two minutes"
    );
    world.cluster.cloud().out_of_reach = None;
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert!(
        step(&world, execution, "cluster_health")
            .await
            .waiting_for
            .is_none()
    );
}

#[tokio::test]
async fn that_an_attempt_began_is_told_once_however_often_it_is_made_again() {
    let world = World::with(|settings| {
        settings.topics.insert("probe".to_owned());
    })
    .await;
    world.cluster.cloud().out_of_reach = Some(TargetError::transient("no route to host"));
    let mut dag = asking(&json!({}));
    dag["callback_topics"] = json!(["probe"]);
    let _ = run(&world, dag).await;
    two_minutes(&world).await;
    assert!(world.cluster.cloud().health_looks > 3);
    assert_eq!(world.store.queue_length(&Queue::Topic("probe".to_owned())), 1);
}

#[tokio::test]
async fn a_cluster_that_stays_away_ends_the_step_with_what_it_waited_for() {
    let world = World::new().await;
    world.cluster.cloud().out_of_reach = Some(TargetError::transient("no route to host"));
    let id = run(&world, asking(&json!({}))).await;
    let short = run(&world, asking(&json!({"timeout_seconds": 20}))).await;
    two_minutes(&world).await;
    let ended = step(&world, short, "ask").await;
    assert_eq!(ended.status, StepStatus::TimedOut);
    assert_eq!(
        ended.error_message.unwrap(),
        "the step passed its deadline of 20 seconds: cluster 'dev' is not healthy: no route to host"
    );
    assert_eq!(step(&world, id, "ask").await.status, StepStatus::AwaitingEvent);
    world.settle().await;
    let ended = progress(&world, id).await;
    assert_eq!(ended.status, ExecutionStatus::Failed);
    let said = ended.error_message.unwrap();
    assert!(
        said.contains("deadline of 600 seconds") && said.contains("no route to host"),
        "{said}"
    );
}

#[tokio::test]
async fn what_will_not_pass_by_waiting_ends_the_step_at_once() {
    let world = World::new().await;
    let patient = json!({"retry": {"max_attempts": 5, "backoff_seconds": 1}});
    let refused = "its credentials are not accepted (any more): register the cluster with a new kubeconfig";
    world.cluster.cloud().out_of_reach = Some(TargetError::permanent(refused));
    let id = run(&world, asking(&patient)).await;
    world.deliver(&Queue::ExecuteStep).await;
    let failed = step(&world, id, "ask").await;
    assert_eq!((failed.status, failed.attempt), (StepStatus::Failed, 1));
    assert_eq!(
        failed.error_message.unwrap(),
        format!("cluster 'dev' is not healthy: {refused}")
    );
    let mut unknown = asking(&patient);
    unknown["steps"][0]["params"]["cluster_id"] = json!("nowhere");
    let id = run(&world, unknown).await;
    world.deliver(&Queue::ExecuteStep).await;
    let failed = step(&world, id, "ask").await;
    assert_eq!(
        failed.error_message.unwrap(),
        "there is no cluster 'nowhere'; register it first"
    );
}

#[tokio::test]
async fn a_cluster_that_has_too_little_free_is_asked_again_only_where_the_step_says_so() {
    let world = World::new().await;
    world.cluster.cloud().free = Some(Capacity {
        cpu_millicores: 3000,
        ..Capacity::default()
    });
    let id = run(&world, asking(&json!({}))).await;
    let patient = run(
        &world,
        asking(&json!({"retry": {"max_attempts": 2, "backoff_seconds": 5}})),
    )
    .await;
    world.deliver(&Queue::ExecuteStep).await;
    let failed = step(&world, id, "ask").await;
    assert_eq!((failed.status, failed.attempt), (StepStatus::Failed, 1));
    let said = failed.error_message.unwrap();
    assert!(said.contains("cpu: 4 needed, 3000m free"), "{said}");
    assert_eq!(step(&world, patient, "ask").await.status, StepStatus::Retrying);
    world.cluster.cloud().free = None;
    world.settle().await;
    let done = step(&world, patient, "ask").await;
    assert_eq!((done.status, done.attempt), (StepStatus::Completed, 2));
}

#[tokio::test]
async fn an_execution_that_waits_for_a_cluster_is_cancelled_at_once() {
    let world = World::new().await;
    world.cluster.cloud().out_of_reach = Some(TargetError::transient("no route to host"));
    let (id, execution) = world.planned("agent").await;
    two_minutes(&world).await;
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    for _ in 0..5 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    let ended = step(&world, execution, "cluster_health").await;
    assert_eq!((ended.status, ended.waiting_for), (StepStatus::Cancelled, None));
}

#[tokio::test]
async fn a_message_that_died_ends_a_blocked_step_only_if_it_was_to_be_asked_again_by_then() {
    let world = World::new().await;
    world.cluster.cloud().out_of_reach = Some(TargetError::transient("no route to host"));
    let id = run(&world, asking(&json!({}))).await;
    world.deliver(&Queue::ExecuteStep).await;
    let message = Message::Steps {
        tenant: TenantId::local(),
        execution: id,
        ordinals: vec![0],
    };
    let give_up = || world.app.give_up(&Queue::ExecuteStep, &message, "it broke");
    give_up().await.unwrap();
    let waits = step(&world, id, "ask").await;
    assert_eq!(
        waits.status,
        StepStatus::AwaitingEvent,
        "it has a message of its own"
    );
    world.clock.advance(Duration::from_secs(10));
    give_up().await.unwrap();
    let ended = step(&world, id, "ask").await;
    assert_eq!(ended.status, StepStatus::Failed);
    assert!(ended.error_message.unwrap().contains("it broke"));
}
