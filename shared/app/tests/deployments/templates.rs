//! Publishing, reading and deleting templates.

use serde_json::json;
use slipway_app::{ListQuery, Role};

use crate::world::{World, admin, caller, mixed, new_deployment, problem};

#[tokio::test]
async fn a_helm_component_is_published_and_listed_with_its_chart() {
    let world = World::new().await;
    let listed = world
        .app
        .templates(&admin(), &ListQuery::default())
        .await
        .unwrap();
    let agent = listed
        .items
        .iter()
        .find(|template| template.name == "agent")
        .unwrap();
    let chart = agent.component("runtime").unwrap().chart.as_ref().unwrap();
    assert_eq!(chart.reference, "charts/agent-runtime");
    assert_eq!(chart.version.as_deref(), Some("1.2.0"));
    assert_eq!(chart.values["llm"], "{{ steps.llm.outputs.endpoint_url }}");
    assert_eq!(chart.release_name, None);
}

#[tokio::test]
async fn a_helm_component_without_a_chart_reference_is_refused_at_its_place() {
    let world = World::new().await;
    let template = json!({"name": "x", "version": "1.0.0", "components": [
        {"name": "a", "type": "helm", "chart": {"version": "1.0.0"}}, {"name": "b", "type": "helm"},
        {"name": "c", "type": "chart"},
    ]});
    let refused = problem(world.app.publish_template(&admin(), template.clone()).await);
    assert_eq!(refused.status, 422);
    let places: Vec<&str> = refused.errors.iter().map(|error| error.path.as_str()).collect();
    assert!(places.contains(&"components[0].chart.ref"), "{places:?}");
    assert!(
        places.iter().any(|place| place.starts_with("components[1]")),
        "{places:?}"
    );
    assert!(places.contains(&"components[2].type"), "{places:?}");
    assert_eq!(
        problem(world.app.validate_template(&admin(), template)).status,
        422
    );
}

#[tokio::test]
async fn a_version_never_changes() {
    let world = World::new().await;
    world
        .app
        .publish_template(&admin(), mixed("1.0.0"))
        .await
        .unwrap();
    let mut other = mixed("1.0.0");
    other["description"] = json!("other");
    let refused = problem(world.app.publish_template(&admin(), other).await);
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains("1.0.0"), "{}", refused.detail);
}

#[tokio::test]
async fn the_newest_version_is_the_greatest_stable_one_whatever_the_order() {
    let world = World::new().await;
    for version in ["1.10.0", "1.9.0", "2.0.0-rc.1"] {
        world
            .app
            .publish_template(&admin(), mixed(version))
            .await
            .unwrap();
    }
    let found = world.app.template(&admin(), "agent").await.unwrap();
    assert_eq!(found.newest.version.to_string(), "1.10.0");
    assert_eq!(found.versions, ["2.0.0-rc.1", "1.10.0", "1.9.0", "1.0.0"]);
    let listed = world
        .app
        .templates(&admin(), &ListQuery::default())
        .await
        .unwrap();
    let versions: Vec<String> = listed
        .items
        .iter()
        .filter(|template| template.name == "agent")
        .map(|template| template.version.to_string())
        .collect();
    assert_eq!(versions, ["1.10.0"]);
    let one = world
        .app
        .template_version(&admin(), "agent", "1.9.0")
        .await
        .unwrap();
    assert_eq!(one.version.to_string(), "1.9.0");
}

#[tokio::test]
async fn names_and_versions_of_any_shape_get_a_404() {
    let world = World::new().await;
    for name in ["", "nothing", "../x", "a\u{0}b", "Ä", &"x".repeat(3000)] {
        assert_eq!(
            problem(world.app.template(&admin(), name).await).status,
            404,
            "{name}"
        );
        let found = world.app.template_version(&admin(), name, "1.0.0").await;
        assert_eq!(problem(found).status, 404, "{name}");
    }
    for version in ["", "1", "latest", "1.0.1", &format!("1.0.0-{}", "x".repeat(3000))] {
        let found = world.app.template_version(&admin(), "agent", version).await;
        assert_eq!(problem(found).status, 404, "{version}");
    }
}

#[tokio::test]
async fn a_template_in_use_stays_until_its_deployment_is_deleted() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let refused = problem(world.app.delete_template(&admin(), "agent", None).await);
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains(&id), "{}", refused.detail);
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world
        .app
        .delete_template(&admin(), "agent", Some("1.0.0"))
        .await
        .unwrap();
    assert_eq!(problem(world.app.template(&admin(), "agent").await).status, 404);
    let gone = world
        .app
        .create_deployment(&admin(), new_deployment("agent", "x"))
        .await;
    assert_eq!(problem(gone).errors[0].path, "template");
    let listed = world
        .app
        .templates(&admin(), &ListQuery::default())
        .await
        .unwrap();
    assert!(listed.items.iter().all(|template| template.name != "agent"));
}

#[tokio::test]
async fn publishing_and_deleting_need_an_admin() {
    let world = World::new().await;
    let deployer = caller(Role::Deployer);
    let published = world.app.publish_template(&deployer, mixed("3.0.0")).await;
    assert_eq!(problem(published).status, 403);
    let deleted = world.app.delete_template(&deployer, "agent", None).await;
    assert_eq!(problem(deleted).status, 403);
}
