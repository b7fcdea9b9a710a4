//! Plan previews.

use serde_json::json;
use slipway_app::{ComponentChange, DeploymentPlan};
use slipway_model::Queue;

use crate::world::{World, admin, problem};

async fn preview(world: &World, id: &str) -> DeploymentPlan {
    world.app.request_plan(&admin(), id).await.unwrap();
    world.settle().await;
    world.app.plan(&admin(), id).await.unwrap()
}

fn changes(plan: &DeploymentPlan) -> Vec<(&str, ComponentChange)> {
    plan.components
        .iter()
        .map(|one| (one.component.as_str(), one.change))
        .collect()
}

#[tokio::test]
async fn a_preview_renders_what_can_be_known_and_changes_nothing() {
    use ComponentChange::{Create, Deferred};

    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    assert_eq!(problem(world.app.plan(&admin(), &id).await).status, 404);
    let before = world.view(&id).await;
    world.app.request_plan(&admin(), &id).await.unwrap();
    assert_eq!(
        problem(world.app.plan(&admin(), &id).await).status,
        404,
        "it is not there yet"
    );
    assert_eq!(
        world.store.queue_length(&Queue::DeployHelm),
        1,
        "it is made where Helm is"
    );
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(
        changes(&plan),
        [("vector_db", Create), ("llm", Create), ("runtime", Deferred)]
    );
    assert!(plan.components[0].manifest.as_ref().unwrap().contains("qdrant"));
    let reason = plan.components[2].reason.as_ref().unwrap();
    assert!(
        reason.contains("values.") && reason.contains("'vector_db'") || reason.contains("'llm'"),
        "{reason}"
    );
    assert_eq!(plan.dag.steps.len(), 5);
    assert_eq!(world.view(&id).await, before);
    assert!(world.cluster.cloud().installed.is_empty());
}

#[tokio::test]
async fn what_runs_is_unchanged_until_its_values_change() {
    use ComponentChange::{Change, Unchanged};

    let world = World::new().await;
    let id = world.running("models").await;
    let plan = preview(&world, &id).await;
    assert_eq!(changes(&plan), [("vector_db", Unchanged), ("llm", Unchanged)]);
    world
        .cluster
        .cloud()
        .broken
        .insert("my-models-llm".to_owned(), "no".to_owned());
    let request = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    let plan = preview(&world, &id).await;
    let llm = plan.components.iter().find(|one| one.component == "llm").unwrap();
    assert!(matches!(llm.change, Change | Unchanged), "{:?}", llm.change);
}
