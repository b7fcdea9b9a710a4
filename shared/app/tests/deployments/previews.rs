//! Plan previews.

use serde_json::json;
use slipway_app::{ComponentChange, DeploymentPlan};
use slipway_model::Queue;

use crate::world::{World, admin, problem};

async fn preview(world: &World, id: &str) -> DeploymentPlan {
    world.app.request_plan(&admin(), id, None).await.unwrap();
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
    world.app.request_plan(&admin(), &id, None).await.unwrap();
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

#[tokio::test]
async fn the_plan_of_an_upgrade_knows_the_outputs_of_what_stays() {
    use ComponentChange::{Change, Deferred, Unchanged};

    let world = World::new().await;
    let id = world.running("agent").await;
    let plan = preview(&world, &id).await;
    assert_eq!(
        changes(&plan),
        [
            ("vector_db", Unchanged),
            ("llm", Unchanged),
            ("runtime", Unchanged)
        ]
    );
    let of = async |upgrade: serde_json::Value| {
        let upgrade = serde_json::from_value(upgrade).unwrap();
        world
            .app
            .request_plan(&admin(), &id, Some(upgrade))
            .await
            .unwrap();
        world.settle().await;
        world.app.plan(&admin(), &id).await.unwrap()
    };
    let plan = of(json!({"parameters": {"size": 8}})).await;
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Unchanged), ("runtime", Change)]
    );
    assert_eq!((plan.summary.change, plan.summary.unchanged), (1, 2));
    // What changes may find something else.
    let plan = of(json!({"values": {"llm": {"extra": 1}}})).await;
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Change), ("runtime", Deferred)]
    );
    let reason = plan.components[2].reason.as_ref().unwrap();
    assert!(reason.contains("'endpoint_url' of step 'llm'"), "{reason}");
    assert_eq!(plan.summary.deferred, 1);
    // The next one is of the deployment as it is, which nothing of this has changed.
    let plan = preview(&world, &id).await;
    assert_eq!(plan.summary.unchanged, 3);
    assert_eq!(plan.outdated, None);
    world
        .app
        .upgrade_deployment(
            &admin(),
            &id,
            serde_json::from_value(json!({"parameters": {"size": 2}})).unwrap(),
        )
        .await
        .unwrap();
    let outdated = world.app.plan(&admin(), &id).await.unwrap().outdated.unwrap();
    assert!(
        outdated.contains("generation 1") && outdated.contains("generation 2"),
        "{outdated}"
    );
}

#[tokio::test]
async fn what_the_template_does_not_have_any_more_is_called_out() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut next = crate::world::mixed("1.1.0");
    next["components"].as_array_mut().unwrap().remove(2);
    next["deployment_order"] = json!(["vector_db", "llm"]);
    world.app.publish_template(&admin(), next).await.unwrap();
    let upgrade = serde_json::from_value(json!({"template_version": "1.1.0"})).unwrap();
    world
        .app
        .request_plan(&admin(), &id, Some(upgrade))
        .await
        .unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    let gone = &plan.components[2];
    assert_eq!(
        (gone.component.as_str(), gone.change),
        ("runtime", ComponentChange::Delete)
    );
    assert_eq!(gone.dangers[0].kind, slipway_model::DangerKind::ComponentRemoved);
    assert_eq!((plan.summary.delete, plan.summary.dangers), (1, 1));
    assert_eq!(plan.template.version.to_string(), "1.1.0");
    assert_eq!(world.deployment(&id).await.template.version.to_string(), "1.0.0");
}

#[tokio::test]
async fn a_plan_renders_with_secrets_and_keeps_none_of_them() {
    let world = World::new().await;
    let template = json!({
        "name": "guarded", "version": "1.0.0",
        "parameters": {"token": {"type": "string", "secret": true, "required": true}},
        "components": [{"name": "web", "type": "helm", "chart": {
            "ref": "charts/web", "values": {"token": "{{ parameters.token }}"}}}],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = crate::world::new_deployment("guarded", "guarded");
    new.parameters.insert("token".to_owned(), json!("first-token"));
    let id = world
        .app
        .create_deployment(&admin(), new)
        .await
        .unwrap()
        .deployment
        .id
        .to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(
        changes(&preview(&world, &id).await),
        [("web", ComponentChange::Unchanged)]
    );
    let before = world.secrets.names();
    let upgrade = serde_json::from_value(json!({"parameters": {"token": "second-token"}})).unwrap();
    world
        .app
        .request_plan(&admin(), &id, Some(upgrade))
        .await
        .unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(changes(&plan), [("web", ComponentChange::Change)]);
    assert_eq!(world.secrets.names(), before, "nothing of the plan stays");
}
