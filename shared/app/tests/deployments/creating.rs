//! Creating deployments.

use std::time::Duration;

use serde_json::json;
use slipway_app::{ListQuery, NewDeployment, Role};
use slipway_model::{ComponentStatus, DeploymentStatus};
use slipway_ports::{ExposeSecret, Secrets};

use crate::world::{World, admin, caller, new_deployment, problem};

#[tokio::test]
async fn a_mixed_deployment_is_created_pending_with_its_components() {
    let world = World::new().await;
    let view = world.created("agent").await;
    let deployment = &view.deployment;
    assert_eq!(deployment.status, DeploymentStatus::Pending);
    assert_eq!(
        deployment.namespace,
        format!("uc-{}", &deployment.id.to_string()[..8])
    );
    assert_eq!(deployment.pipeline_execution_id, None);
    assert_eq!(deployment.parameters["size"], 4);
    assert_eq!(deployment.callback_topics, ["budusecasesEvents"]);
    assert_eq!(deployment.template.version.to_string(), "1.0.0");
    let components: Vec<_> = view
        .components
        .iter()
        .map(|one| {
            (
                one.component_name.as_str(),
                one.selected_component.as_deref(),
                one.release_name.as_str(),
            )
        })
        .collect();
    assert_eq!(
        components,
        [
            ("vector_db", Some("qdrant"), "my-agent-vector-db"),
            ("llm", Some("llama-3-8b"), "my-agent-llm"),
            ("runtime", None, "my-agent-runtime"),
        ]
    );
    assert!(
        view.components
            .iter()
            .all(|one| one.status == ComponentStatus::Pending)
    );
    assert_eq!(world.view("my-agent").await, view);
    assert_eq!(world.view(&deployment.id.to_string()).await, view);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new().await;
    let new: NewDeployment = serde_json::from_value(json!({
        "name": "My Agent", "template": "agent", "cluster": "nowhere", "callback_topics": ["other"],
        "components": {"llm": "qdrant", "runtime": "x", "unknown": "y"}, "parameters": {"size": 99, "color": "red"},
    }))
    .unwrap();
    let refused = problem(world.app.create_deployment(&admin(), new).await);
    assert_eq!(refused.status, 422);
    let mut places: Vec<&str> = refused.errors.iter().map(|error| error.path.as_str()).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "callback_topics[0]",
            "cluster",
            "components.llm",
            "components.runtime",
            "components.unknown",
            "name",
            "parameters.color",
            "parameters.size",
        ]
    );
}

#[tokio::test]
async fn blocked_values_are_refused_with_their_path_before_anything_exists() {
    let world = World::new().await;
    let before = world.store.items().len();
    let mut new = new_deployment("agent", "x");
    new.values = serde_json::from_value(json!({
        "runtime": {"hostNetwork": true}, "llm": {"containers": [{"securityContext": {"privileged": "yes"}}]},
    }))
    .unwrap();
    let refused = problem(world.app.create_deployment(&admin(), new).await);
    assert_eq!(refused.status, 422);
    let places: Vec<&str> = refused.errors.iter().map(|error| error.path.as_str()).collect();
    assert!(places.contains(&"values.runtime.hostNetwork"), "{places:?}");
    assert!(
        places.contains(&"values.llm.containers[0].securityContext.privileged"),
        "{places:?}"
    );
    // Only the reservation of the short id, which costs nothing.
    assert!(world.store.items().len() <= before + 1);
}

#[tokio::test]
async fn a_template_is_named_with_or_without_its_version() {
    let world = World::new().await;
    for (template, version) in [("agent", None), ("agent@1.0.0", None), ("agent", Some("1.0.0"))] {
        let mut new = new_deployment(template, "x");
        new.name = None;
        new.template_version = version.map(str::to_owned);
        let view = world.app.create_deployment(&admin(), new).await.unwrap();
        let short = &view.deployment.id.to_string()[..8];
        assert_eq!(view.deployment.name, format!("agent-{short}"));
    }
    for (template, version) in [
        ("agent@2.0.0", None),
        ("agent@1.0.0", Some("2.0.0")),
        ("agent@new", None),
        ("A/b", None),
        ("", None),
    ] {
        let mut new = new_deployment(template, "x");
        new.template_version = version.map(str::to_owned);
        let refused = problem(world.app.create_deployment(&admin(), new).await);
        assert_eq!(
            (refused.status, refused.errors[0].path.as_str()),
            (422, "template"),
            "{template}"
        );
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_the_other_deployment_is_named() {
    let world = World::new().await;
    let first = world.created("agent").await.deployment.id.to_string();
    let refused = problem(
        world
            .app
            .create_deployment(&admin(), new_deployment("models", "my-agent"))
            .await,
    );
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains(&first), "{}", refused.detail);
    // Another tenant may have it.
    let mut other = caller(Role::Admin);
    other.tenant = "other".parse().unwrap();
    let found = world.app.deployment(&other, "my-agent").await;
    assert_eq!(problem(found).status, 404);
    let found = world.app.deployment(&other, &first).await;
    assert_eq!(problem(found).status, 404);
}

#[tokio::test]
async fn secret_parameters_reach_the_secrets_store_only() {
    let world = World::new().await;
    let template = json!({"name": "keyed", "version": "1.0.0",
        "components": [{"name": "app", "type": "helm", "chart": {"ref": "charts/agent-runtime",
            "values": {"key": "{{ parameters.api_key }}"}}}],
        "parameters": {"api_key": {"type": "string", "secret": true, "required": true}}});
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("keyed", "keyed");
    new.parameters = json!({"api_key": "s3cret"}).as_object().unwrap().clone();
    // A creation that is cut short leaves none that nobody knows of.
    world.flaky.refuse_put("d", 0);
    let cut_short = world.app.create_deployment(&admin(), new.clone()).await;
    assert_eq!(problem(cut_short).status, 503);
    assert_eq!(world.secrets.names(), Vec::<String>::new());
    let view = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = view.deployment.id.to_string();
    assert!(!view.deployment.parameters.contains_key("api_key"));
    let reference = &view.deployment.secret_parameters["api_key"];
    assert_eq!(*reference, format!("deployment/{id}/api_key"));
    let kept = world
        .secrets
        .get(&admin().tenant, reference)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.expose_secret(), "s3cret");

    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(world.cluster.cloud().installed["keyed-app"]["key"], "s3cret");
    assert!(
        world
            .store
            .items()
            .iter()
            .all(|item| !item.body.contains("s3cret"))
    );

    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    assert!(
        world
            .secrets
            .get(&admin().tenant, reference)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_viewer_creates_nothing() {
    let world = World::new().await;
    let viewer = caller(Role::Viewer);
    let created = world
        .app
        .create_deployment(&viewer, new_deployment("agent", "x"))
        .await;
    assert_eq!(problem(created).status, 403);
}

#[tokio::test]
async fn a_name_that_looks_like_an_id_is_refused() {
    let world = World::new().await;
    let new = new_deployment("agent", "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b");
    let refused = problem(world.app.create_deployment(&admin(), new).await);
    assert_eq!((refused.status, refused.errors[0].path.as_str()), (422, "name"));
}

#[tokio::test]
async fn a_creation_that_was_cut_short_leaves_nothing_behind() {
    let world = World::new().await;
    for seed in 0..60 {
        world.flaky.fail(seed, 60);
        drop(
            world
                .app
                .create_deployment(&admin(), new_deployment("agent", "again"))
                .await,
        );
    }
    world.flaky.fail(0, 0);
    world.clock.advance(Duration::from_secs(601));
    world.app.sync_deployments().await.unwrap();
    let listed = world
        .app
        .deployments(&admin(), &ListQuery::default())
        .await
        .unwrap();
    let named = world.view("again").await.deployment;
    assert_eq!(
        listed.items,
        std::slice::from_ref(&named),
        "one of them got the name"
    );
    world
        .app
        .delete_deployment(&admin(), &named.id.to_string())
        .await
        .unwrap();
    world.app.delete_template(&admin(), "agent", None).await.unwrap();
    world.app.delete_cluster(&admin(), "dev").await.unwrap();
}

#[tokio::test]
async fn a_repeat_finds_its_deployment_also_where_another_has_the_first_characters_of_its_id() {
    let world = World::new().await;
    let (first, second) = (
        "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap(),
        "8f14e45f-0000-467f-a0e6-2f6f0f1f4a1b".parse().unwrap(),
    );
    let create = |id, name| {
        let new = new_deployment("agent", name);
        let app = world.app.clone();
        async move { app.create_deployment_as(&admin(), id, new).await.unwrap() }
    };
    let other = create(first, "other").await;
    let made = create(second, "my-agent").await;
    assert_eq!(other.deployment.id, first);
    assert_ne!(made.deployment.namespace, other.deployment.namespace);
    assert_eq!(create(second, "my-agent").await, made);
    assert_eq!(create(first, "other").await, other);
}
