//! Components are told how they stand before their deployment is, whoever tells it and however late.

use std::time::Duration;

use serde_json::json;
use slipway_model::{
    BUDUSECASES_EVENTS, ComponentStatus, DeploymentStatus, ExecutionId, ExecutionStatus, Message, Queue,
    StepStatus,
};
use slipway_ports::Receiver;

use crate::world::{World, admin, mixed, steps};

/// Handles what can be received, but for the events that deployments hear.
async fn deliver_all_but_events(world: &World) {
    for queue in World::queues() {
        if queue != Queue::Topic(BUDUSECASES_EVENTS.to_owned()) {
            world.deliver(&queue).await;
        }
    }
    world.clock.advance(Duration::from_secs(2));
}

#[tokio::test]
async fn a_deployment_whose_last_event_is_given_up_runs_with_components_that_do() {
    let world = World::new().await;
    let (id, execution) = world.planned("models").await;
    let execution = execution.to_string();
    let ended = async || world.app.execution(&admin(), &execution).await.unwrap().status;
    while ended().await != ExecutionStatus::Completed {
        deliver_all_but_events(&world).await;
    }
    // Nothing else was heard of it.
    let given_up = give_up_ends(&world).await;
    assert_eq!(given_up, 1);
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Running, "{name}");
    }
}

/// Runs a deployment until that step waits for its job.
async fn until_it_waits(world: &World, execution: &str, step: &str) {
    for _ in 0..50 {
        let all = steps(world, execution).await;
        let found = all.iter().find(|one| one.step_id == step).unwrap();
        if found.status == StepStatus::AwaitingEvent {
            return;
        }
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(2));
    }
    panic!("step '{step}' never waits for its job");
}

#[tokio::test]
async fn a_look_that_stalled_leads_no_component_back_that_has_come_up_since() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-models-llm".to_owned());
    let (id, execution) = world.planned("models").await;
    until_it_waits(&world, &execution.to_string(), "llm").await;
    world.cluster.cloud().stuck.clear();
    let others = world.clone();
    world.flaky.before_session_get("component/llm", async move {
        others.settle().await;
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
}

#[tokio::test]
async fn a_look_that_stalled_brings_nothing_up_that_was_undone_since() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    let (id, execution) = world.planned("agent").await;
    until_it_waits(&world, &execution.to_string(), "runtime").await;
    let others = world.clone();
    world.flaky.before_session_get("component/vector_db", async move {
        // Until the release that never becomes ready has had its time, and what came up before it was undone.
        for _ in 0..40 {
            others.settle().await;
            others.clock.advance(Duration::from_secs(60));
            others.app.sync_deployments().await.unwrap();
        }
        assert!(others.cluster.cloud().installed.is_empty());
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    assert_eq!(
        world.component(&id, "vector_db").await.status,
        ComponentStatus::Stopped
    );
}

/// Has nobody hear what deployments are told, and gives up the events of executions that ended; how many there were.
async fn give_up_ends(world: &World) -> u32 {
    let queue = Queue::Topic(BUDUSECASES_EVENTS.to_owned());
    let ends = ["workflow_completed", "workflow_failed"];
    let mut given_up = 0;
    loop {
        let hidden = Duration::from_secs(60);
        let got = world
            .store
            .receive(&queue, 10, Duration::ZERO, hidden)
            .await
            .unwrap();
        if got.is_empty() {
            return given_up;
        }
        for delivery in got {
            world.store.acknowledge(&queue, &delivery.receipt).await.unwrap();
            let message = Message::from_body(&queue, &delivery.body).unwrap();
            if matches!(&message, Message::Event(event) if ends.contains(&event.event_type.as_str())) {
                world.app.give_up(&queue, &message, "it broke").await.unwrap();
                given_up += 1;
            }
        }
    }
}

#[tokio::test]
async fn what_was_undone_is_told_although_all_that_was_said_of_it_was_given_up() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.extend([broken]);
    let (id, execution) = world.planned("agent").await;
    let look = async |id: ExecutionId| world.app.execution(&admin(), &id.to_string()).await.unwrap();
    loop {
        if let Some(undoing) = look(execution).await.compensated_by
            && look(undoing).await.status.is_terminal()
        {
            break;
        }
        deliver_all_but_events(&world).await;
    }
    assert_eq!(give_up_ends(&world).await, 2);
    let told = world.deployment(&id).await.error_message.unwrap();
    assert!(told.ends_with("what it had changed was undone"), "{told}");
    for (name, status) in world.components(&id).await {
        assert_ne!(status, ComponentStatus::Running, "{name}");
    }
}

/// A world whose use case `agent` fails in the end and undoes what it changed, all of it but that release, which lingers.
pub(crate) async fn undoing_but_for(lingering: &str) -> World {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    {
        let mut cloud = world.cluster.cloud();
        let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
        cloud.broken.extend([broken]);
        cloud.lingering.insert(lingering.to_owned());
    }
    world
}

/// When what a failed execution changed is undone: before a retry is asked for, which is stopped before anybody plans it, or
/// after that; and whether what is said of it is heard.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Undone {
    Before,
    BeforeAndGivenUp,
    After,
}

#[tokio::test]
async fn what_was_undone_is_told_although_a_retry_came_between_that_was_never_planned() {
    for undone in [Undone::Before, Undone::BeforeAndGivenUp, Undone::After] {
        let world = undoing_but_for("my-agent-vector-db").await;
        let (id, execution) = world.planned("agent").await;
        while world.status(&id).await != DeploymentStatus::Failed {
            deliver_all_but_events(&world).await;
            world.deliver(&Queue::Topic(BUDUSECASES_EVENTS.to_owned())).await;
        }
        let look = async |id: ExecutionId| world.app.execution(&admin(), &id.to_string()).await.unwrap();
        let undoing = look(execution).await.compensated_by.unwrap();
        let is_undone = async || look(undoing).await.status.is_terminal();
        if undone != Undone::After {
            world.cluster.cloud().lingering.clear();
            while !is_undone().await {
                deliver_all_but_events(&world).await;
            }
        }
        world.app.retry_deployment(&admin(), &id).await.unwrap();
        world.app.stop_deployment(&admin(), &id).await.unwrap();
        if undone == Undone::BeforeAndGivenUp {
            assert_eq!(give_up_ends(&world).await, 1);
        }
        while world.status(&id).await != DeploymentStatus::Stopped {
            deliver_all_but_events(&world).await;
        }
        world.cluster.cloud().lingering.clear();
        while !is_undone().await {
            deliver_all_but_events(&world).await;
        }
        world.settle().await;
        assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
        assert!(world.cluster.cloud().installed.is_empty());
        for (name, status) in world.components(&id).await {
            assert_ne!(status, ComponentStatus::Running, "{undone:?}: {name}");
        }
    }
}

#[tokio::test]
async fn what_is_undone_is_told_although_a_deletion_was_cancelled_that_waited_for_it() {
    let world = undoing_but_for("my-agent-vector-db").await;
    let (id, _) = world.planned("agent").await;
    let all = async || {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(2));
    };
    while world.status(&id).await != DeploymentStatus::Failed {
        all().await;
    }
    let deleting = world.app.delete_deployment(&admin(), &id).await.unwrap();
    let deleting = deleting.pipeline_execution_id.unwrap().to_string();
    world.deliver(&Queue::PlanDag).await;
    until_it_waits(&world, &deleting, "vector_db").await;
    let reason = "somebody thought again";
    world
        .app
        .cancel_execution(&admin(), &deleting, reason)
        .await
        .unwrap();
    while world.status(&id).await == DeploymentStatus::Deleting {
        all().await;
    }
    let runs = world.component(&id, "vector_db").await;
    assert_eq!(runs.status, ComponentStatus::Running, "{runs:?}");
    world.cluster.cloud().lingering.clear();
    world.settle().await;
    assert!(world.cluster.cloud().installed.is_empty());
    let undone = world.component(&id, "vector_db").await;
    assert_eq!(
        (undone.status, undone.endpoint_url),
        (ComponentStatus::Stopped, None)
    );
}
