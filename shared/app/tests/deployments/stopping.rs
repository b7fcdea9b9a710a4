//! Deployments that are stopped in the middle of an upgrade: their components say what was left of them.

use std::time::Duration;

use serde_json::json;
use slipway_app::UpgradeRequest;
use slipway_model::{
    BUDUSECASES_EVENTS, ComponentDeployment, ComponentStatus, DeploymentStatus, Queue, StepStatus,
};
use slipway_ports::Receiver;

use crate::{
    telling::undoing_but_for,
    upgrading::upgrade,
    world::{World, admin, mixed, problem, steps},
};

/// What becomes of the events of a deployment that is being stopped.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Events {
    Heard,
    Lost,
}

/// Has the messages of some time handled.
async fn go_on(world: &World, times: u32) {
    for _ in 0..times {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
}

/// Stops a deployment, and has it end: by its events, or by whoever looks at it without them.
async fn stop(world: &World, id: &str, events: Events) {
    world.app.stop_deployment(&admin(), id).await.unwrap();
    if events == Events::Lost {
        let topic = Queue::Topic(BUDUSECASES_EVENTS.to_owned());
        for _ in 0..50 {
            for queue in World::queues() {
                if queue != topic {
                    world.deliver(&queue).await;
                }
            }
            world.clock.advance(Duration::from_secs(1));
        }
        loop {
            let hidden = Duration::from_secs(60);
            let got = world
                .store
                .receive(&topic, 10, Duration::ZERO, hidden)
                .await
                .unwrap();
            if got.is_empty() {
                break;
            }
            for delivery in got {
                world.store.acknowledge(&topic, &delivery.receipt).await.unwrap();
            }
        }
        world.app.sync_deployment(&admin(), id).await.unwrap();
    } else {
        world.settle().await;
    }
    assert_eq!(world.status(id).await, DeploymentStatus::Stopped);
}

/// What is said of a component.
fn said(component: ComponentDeployment) -> (ComponentStatus, Option<String>, Option<String>) {
    (component.status, component.endpoint_url, component.error_message)
}

/// Where an upgrade is stopped that has touched nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Untouched {
    /// Its first job has no place with Helm to check what it is to apply.
    Unchecked,
    /// It has none to find the hooks that run before what it has checked is applied.
    Unhooked,
    /// It has none to apply what it has checked.
    Unapplied,
}

#[tokio::test]
async fn an_upgrade_that_is_stopped_before_it_touched_anything_leaves_everything_running() {
    for (events, queued) in [
        (Events::Heard, Untouched::Unchecked),
        (Events::Lost, Untouched::Unchecked),
        (Events::Heard, Untouched::Unhooked),
        (Events::Lost, Untouched::Unhooked),
        (Events::Heard, Untouched::Unapplied),
        (Events::Lost, Untouched::Unapplied),
    ] {
        let world = World::new().await;
        let id = world.running("agent").await;
        let before = world.view(&id).await.components;
        // The first job waits for a place with Helm, and never gets one.
        let crowd = world.cluster.clone();
        match queued {
            Untouched::Unchecked => crowd.cloud().crowded = true,
            Untouched::Unhooked => {
                let hooks = vec!["migrate".to_owned()];
                let event = "my-agent-vector-db pre-upgrade".to_owned();
                crowd.cloud().hooks.insert(event, hooks);
                world
                    .cluster
                    .meanwhile("hooks", async move { crowd.cloud().crowded = true });
            }
            Untouched::Unapplied => world
                .cluster
                .meanwhile("apply", async move { crowd.cloud().crowded = true }),
        }
        let request = upgrade(json!({"components": {"vector_db": "milvus"}}));
        world
            .app
            .upgrade_deployment(&admin(), &id, request)
            .await
            .unwrap();
        go_on(&world, 5).await;
        assert_eq!(
            world.component(&id, "vector_db").await.status,
            ComponentStatus::Deploying
        );
        stop(&world, &id, events).await;
        for was in before {
            let is = world.component(&id, &was.component_name).await;
            assert_eq!(is.job_id, was.job_id, "{events:?}: {is:?}");
            assert_eq!(said(is), said(was), "{events:?}");
        }
        // Whoever looks again sees the same.
        world.app.sync_deployment(&admin(), &id).await.unwrap();
        let vector_db = world.component(&id, "vector_db").await;
        assert_eq!(vector_db.status, ComponentStatus::Running, "{events:?}");
        world.cluster.cloud().crowded = false;
        world.app.retry_deployment(&admin(), &id).await.unwrap();
        world.settle().await;
        assert_eq!(world.status(&id).await, DeploymentStatus::Running);
        assert_eq!(
            world.cluster.cloud().installed["my-agent-vector-db"]["engine"],
            "milvus"
        );
    }
}

#[tokio::test]
async fn a_component_that_is_stopped_in_the_middle_of_an_upgrade_says_what_was_left() {
    for events in [Events::Heard, Events::Lost] {
        let world = World::new().await;
        let id = world.running("agent").await;
        let endpoint = world.component(&id, "vector_db").await.endpoint_url;
        assert!(endpoint.is_some());
        world
            .cluster
            .cloud()
            .stuck
            .insert("my-agent-vector-db".to_owned());
        let request = upgrade(json!({"components": {"vector_db": "milvus"}}));
        world
            .app
            .upgrade_deployment(&admin(), &id, request)
            .await
            .unwrap();
        go_on(&world, 5).await;
        stop(&world, &id, events).await;
        assert_eq!(
            world.cluster.cloud().installed["my-agent-vector-db"]["engine"],
            "milvus"
        );
        let left = "stopped in the middle of an upgrade: release my-agent-vector-db stays as it is";
        let expected = (ComponentStatus::Stopped, endpoint, Some(left.to_owned()));
        assert_eq!(
            said(world.component(&id, "vector_db").await),
            expected,
            "{events:?}"
        );
        world.app.sync_deployment(&admin(), &id).await.unwrap();
        assert_eq!(
            said(world.component(&id, "vector_db").await),
            expected,
            "{events:?}"
        );
        // What was not begun runs as it was.
        assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
    }
}

#[tokio::test]
async fn what_an_earlier_attempt_left_is_said_although_the_next_was_stopped_before_it_began() {
    for events in [Events::Heard, Events::Lost] {
        let world = World::new().await;
        let mut template = mixed("2.0.0");
        template["components"][2]["retry"] = json!({"max_attempts": 2, "backoff_seconds": 600});
        template["components"][2]["timeout_seconds"] = json!(5);
        world.app.publish_template(&admin(), template).await.unwrap();
        let id = world.running("agent").await;
        let endpoint = world.component(&id, "runtime").await.endpoint_url;
        world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
        let request = upgrade(json!({"parameters": {"size": 8}}));
        let upgraded = world
            .app
            .upgrade_deployment(&admin(), &id, request)
            .await
            .unwrap();
        go_on(&world, 60).await;
        let execution = upgraded.pipeline_execution_id.unwrap().to_string();
        let all = steps(&world, &execution).await;
        let step = all.iter().find(|step| step.step_id == "runtime").unwrap();
        assert_eq!(step.status, StepStatus::Retrying, "{step:?}");
        stop(&world, &id, events).await;
        let left = "stopped in the middle of an upgrade: release my-agent-runtime stays as it is";
        assert_eq!(
            said(world.component(&id, "runtime").await),
            (ComponentStatus::Stopped, endpoint, Some(left.to_owned())),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn a_first_install_that_a_stop_could_not_take_away_is_told_of() {
    for events in [Events::Heard, Events::Lost] {
        let world = World::new().await;
        world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
        let broken = (
            "uninstall my-agent-llm".to_owned(),
            "the webhook says no".to_owned(),
        );
        world.cluster.cloud().broken.extend([broken]);
        let (id, _) = world.planned("agent").await;
        go_on(&world, 10).await;
        stop(&world, &id, events).await;
        let (status, endpoint, message) = said(world.component(&id, "llm").await);
        assert_eq!((status, endpoint), (ComponentStatus::Stopped, None));
        let message = message.unwrap_or_default();
        assert!(
            message.contains("what it had installed could not be taken away: the webhook says no"),
            "{events:?}: {message}"
        );
    }
}

#[tokio::test]
async fn a_deletion_that_is_cancelled_says_of_each_component_whether_it_was_touched() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let before = world.view(&id).await.components;
    // Uninstalling comes to the one and does not end, and not to the others.
    world
        .cluster
        .cloud()
        .lingering
        .insert("my-agent-runtime".to_owned());
    let deleting = world.app.delete_deployment(&admin(), &id).await.unwrap();
    go_on(&world, 5).await;
    let execution = deleting.pipeline_execution_id.unwrap().to_string();
    world
        .app
        .cancel_execution(&admin(), &execution, "not today")
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    for was in before {
        let is = world.component(&id, &was.component_name).await;
        if was.component_name == "runtime" {
            let left =
                "stopped in the middle of an uninstall: what is left of release my-agent-runtime stays";
            let expected = (ComponentStatus::Stopped, None, Some(left.to_owned()));
            assert_eq!(said(is), expected);
        } else {
            assert_eq!(said(is), said(was));
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_cancelled_before_it_touched_anything_leaves_everything_running() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let before = world.component(&id, "runtime").await;
    // It waits for its cluster.
    world.cluster.cloud().away = true;
    let deleting = world.app.delete_deployment(&admin(), &id).await.unwrap();
    go_on(&world, 5).await;
    let execution = deleting.pipeline_execution_id.unwrap().to_string();
    world
        .app
        .cancel_execution(&admin(), &execution, "not today")
        .await
        .unwrap();
    world.cluster.cloud().away = false;
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    let is = world.component(&id, "runtime").await;
    assert_eq!(is.job_id, before.job_id);
    assert_eq!(said(is), said(before));
}

#[tokio::test]
async fn what_is_still_being_undone_is_not_said_to_run_on() {
    let world = undoing_but_for("my-agent-llm").await;
    let (id, _) = world.planned("agent").await;
    go_on(&world, 20).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    let begun = "uninstall my-agent-llm".to_owned();
    assert!(world.cluster.cloud().log.contains(&begun), "it is being undone");
    world
        .app
        .upgrade_deployment(&admin(), &id, UpgradeRequest::default())
        .await
        .unwrap();
    world.deliver(&Queue::PlanDag).await;
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    go_on(&world, 5).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    // It promises that the releases stay.
    let refused = problem(world.app.let_go_of_deployment(&admin(), &id).await);
    assert!(
        refused.status == 409 && refused.detail.contains("works on it"),
        "{}",
        refused.detail
    );
    world.cluster.cloud().lingering.clear();
    world.settle().await;
    assert!(!world.cluster.cloud().installed.contains_key("my-agent-llm"));
    let llm = world.component(&id, "llm").await;
    assert_eq!(
        (llm.status, llm.endpoint_url),
        (ComponentStatus::Stopped, None),
        "{:?}",
        llm.error_message
    );
}
