//! Planners that stall until the generation that they plan is over, and die: what they had made does not stay.

use serde_json::json;
use slipway_model::{ComponentStatus, DeploymentStatus, Message, Queue};

use crate::{
    upgrading::{upgrade, without_vector_db},
    world::{World, admin, mixed},
};

/// A planner's message, and the deployment that it was about.
struct Stalled {
    id: String,
    message: Message,
}

impl Stalled {
    /// The names of the deployment's components.
    async fn components(&self, world: &World) -> Vec<String> {
        let components = world.components(&self.id).await;
        components.into_iter().map(|(name, _)| name).collect()
    }
}

/// How far the newer generation is when the older one's planner makes its last record.
#[derive(Clone, Copy, PartialEq)]
enum Newer {
    Planned,
    Running,
}

/// A deployment without a vector database, one of whose planners, for a version that has one, stalled before it made the
/// record of that. Meanwhile its generation was stopped, and another one took its place. It makes the record, and dies.
async fn stalled(world: &World, newer: Newer) -> Stalled {
    let id = world.running("agent").await;
    let mut without = without_vector_db();
    without["deployment_order"] = json!(["llm", "runtime"]);
    world.app.publish_template(&admin(), without).await.unwrap();
    world
        .app
        .publish_template(&admin(), mixed("3.0.0"))
        .await
        .unwrap();
    let to = |version: &str| upgrade(json!({"template_version": version}));
    let app = &world.app;
    app.upgrade_deployment(&admin(), &id, to("2.0.0")).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    app.upgrade_deployment(&admin(), &id, to("3.0.0")).await.unwrap();
    let deployment = world.deployment(&id).await;
    let plan = move |generation| Message::Plan {
        tenant: deployment.tenant.clone(),
        deployment: deployment.id,
        generation,
        request: None,
    };
    let generation = world.deployment(&id).await.generation;
    let message = plan(generation);
    let (others, asked, back) = (world.clone(), id.clone(), to("2.0.0"));
    world.flaky.before_put("component/vector_db", async move {
        let app = &others.app;
        app.stop_deployment(&admin(), &asked).await.unwrap();
        app.handle(&Queue::PlanDag, plan(generation)).await.unwrap();
        assert_eq!(others.status(&asked).await, DeploymentStatus::Stopped);
        app.upgrade_deployment(&admin(), &asked, back).await.unwrap();
        app.handle(&Queue::PlanDag, plan(generation + 1)).await.unwrap();
        if newer == Newer::Running {
            others.settle().await;
            assert_eq!(others.status(&asked).await, DeploymentStatus::Running);
        }
        others.flaky.die_after_calls(Some(0));
    });
    let planned = app.handle(&Queue::PlanDag, message.clone()).await;
    assert!(planned.is_err(), "its process has ended");
    world.flaky.die_after_calls(None);
    let stalled = Stalled { id, message };
    let made = stalled.components(world).await;
    assert!(made.contains(&"vector_db".to_owned()), "{made:?}");
    stalled
}

#[tokio::test]
async fn what_a_planner_made_that_died_is_taken_back_when_its_message_comes_again() {
    for newer in [Newer::Planned, Newer::Running] {
        let world = World::new().await;
        let stalled = stalled(&world, newer).await;
        world
            .app
            .handle(&Queue::PlanDag, stalled.message.clone())
            .await
            .unwrap();
        assert_eq!(stalled.components(&world).await, ["llm", "runtime"]);
    }
}

#[tokio::test]
async fn what_a_planner_made_that_died_is_taken_back_when_its_message_is_given_up() {
    let world = World::new().await;
    let stalled = stalled(&world, Newer::Running).await;
    world
        .app
        .give_up(&Queue::PlanDag, &stalled.message, "received too often")
        .await
        .unwrap();
    assert_eq!(stalled.components(&world).await, ["llm", "runtime"]);
}

#[tokio::test]
async fn what_a_planner_made_that_died_is_taken_back_by_whoever_looks_at_the_deployment() {
    let world = World::new().await;
    let stalled = stalled(&world, Newer::Running).await;
    world.app.sync_deployment(&admin(), &stalled.id).await.unwrap();
    assert_eq!(stalled.components(&world).await, ["llm", "runtime"]);
}

#[tokio::test]
async fn a_deployment_runs_without_what_a_planner_made_that_died_meanwhile() {
    let world = World::new().await;
    let stalled = stalled(&world, Newer::Planned).await;
    for _ in 0..200 {
        for queue in [
            Queue::ExecuteStep,
            Queue::DeployHelm,
            Queue::Topic("budpipelineEvents".to_owned()),
            Queue::Topic("budusecasesEvents".to_owned()),
        ] {
            // The planner's message does not come again.
            world.deliver(&queue).await;
        }
        if world.status(&stalled.id).await == DeploymentStatus::Running {
            break;
        }
        world.clock.advance(std::time::Duration::from_secs(2));
    }
    assert_eq!(world.status(&stalled.id).await, DeploymentStatus::Running);
    assert_eq!(stalled.components(&world).await, ["llm", "runtime"]);
}

#[tokio::test]
async fn what_a_planner_made_open_that_died_after_the_stop_is_stopped_when_its_message_comes_again() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    let deployment = world.deployment(&id).await;
    let message = Message::Plan {
        tenant: deployment.tenant,
        deployment: deployment.id,
        generation: deployment.generation,
        request: None,
    };
    let (others, asked, again) = (world.clone(), id.clone(), message.clone());
    world.flaky.before_session_get("component/llm", async move {
        others.app.stop_deployment(&admin(), &asked).await.unwrap();
        others.app.handle(&Queue::PlanDag, again).await.unwrap();
        // Nobody looks at it any more.
        others.settle().await;
        assert_eq!(others.status(&asked).await, DeploymentStatus::Stopped);
        // What it reads, what it writes, and no execution.
        others.flaky.die_after_calls(Some(1));
    });
    let planned = world.app.handle(&Queue::PlanDag, message.clone()).await;
    assert!(planned.is_err(), "its process has ended");
    world.flaky.die_after_calls(None);
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Pending);
    world.app.handle(&Queue::PlanDag, message).await.unwrap();
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Stopped, "{name}");
    }
}
