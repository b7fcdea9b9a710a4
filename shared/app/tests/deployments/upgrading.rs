//! Upgrades and rollbacks.

use serde_json::json;
use slipway_app::{App, RollbackRequest, UpgradeRequest};
use slipway_model::{
    Capacity, ComponentDeployment, ComponentStatus, DeploymentStatus, Message, Queue, TenantId,
};

use crate::world::{World, admin, mixed, new_deployment, problem};

pub(crate) fn upgrade(request: serde_json::Value) -> UpgradeRequest {
    serde_json::from_value(request).unwrap()
}

/// A version of the template that has a component less.
pub(crate) fn without_vector_db() -> serde_json::Value {
    let mut template = mixed("2.0.0");
    let components = template["components"].as_array_mut().unwrap();
    components[2]["chart"]["values"] = json!({"llm": "{{ steps.llm.outputs.endpoint_url }}"});
    components.remove(0);
    template
}

#[tokio::test]
async fn an_upgrade_changes_parameters_selections_and_values_and_keeps_the_rest() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let request = upgrade(json!({
        "parameters": {"size": 8}, "components": {"vector_db": "milvus"}, "values": {"runtime": {"extra": true}},
    }));
    let started = world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    assert_eq!(started.status, DeploymentStatus::Upgrading);
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Running);
    assert_eq!(deployment.selections["vector_db"], "milvus");
    assert_eq!(deployment.selections["llm"], "llama-3-8b");
    let cloud = world.cluster.cloud();
    let runtime = &cloud.installed["my-agent-runtime"];
    assert_eq!((&runtime["size"], &runtime["extra"]), (&json!(8), &json!(true)));
    assert_eq!(cloud.installed["my-agent-vector-db"]["engine"], "milvus");
}

#[tokio::test]
async fn a_new_version_brings_new_components_and_uninstalls_old_ones() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = without_vector_db();
    let components = template["components"].as_array_mut().unwrap();
    components.push(json!({"name": "memory", "type": "memory_store", "default_component": "valkey"}));
    template["deployment_order"] = json!(["llm", "runtime", "memory"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let request = upgrade(json!({"template_version": "2.0.0"}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    let view = world.view(&id).await;
    assert_eq!(
        view.deployment.status,
        DeploymentStatus::Running,
        "{:?}",
        view.deployment.error_message
    );
    assert_eq!(view.deployment.template.version.to_string(), "2.0.0");
    let names: Vec<&str> = view
        .components
        .iter()
        .map(|one| one.component_name.as_str())
        .collect();
    assert_eq!(names, ["llm", "runtime", "memory"]);
    let installed: Vec<String> = world.cluster.cloud().installed.keys().cloned().collect();
    assert_eq!(installed, ["my-agent-llm", "my-agent-memory", "my-agent-runtime"]);

    world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await
        .unwrap();
    world.settle().await;
    let view = world.view(&id).await;
    assert_eq!(view.deployment.template.version.to_string(), "1.0.0");
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    let installed: Vec<String> = world.cluster.cloud().installed.keys().cloned().collect();
    assert_eq!(
        installed,
        ["my-agent-llm", "my-agent-runtime", "my-agent-vector-db"]
    );
}

/// Has the deployment's newest generation planned.
async fn plan(app: &App, id: &str) {
    let deployment = app.deployment(&admin(), id).await.unwrap().deployment;
    let message = Message::Plan {
        tenant: TenantId::local(),
        deployment: deployment.id,
        generation: deployment.generation,
        request: None,
    };
    app.handle(&Queue::PlanDag, message).await.unwrap();
}

#[tokio::test]
async fn a_planner_that_stalls_brings_nothing_back_that_a_newer_one_removed() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = without_vector_db();
    template["deployment_order"] = json!(["llm", "runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let larger = upgrade(json!({"parameters": {"size": 8}}));
    world.app.upgrade_deployment(&admin(), &id, larger).await.unwrap();
    // Meanwhile that is stopped, and an upgrade planned that has a component less.
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_put("component/vector_db", async move {
        app.stop_deployment(&admin(), &name).await.unwrap();
        plan(&app, &name).await;
        let smaller = upgrade(json!({"template_version": "2.0.0"}));
        app.upgrade_deployment(&admin(), &name, smaller).await.unwrap();
        plan(&app, &name).await;
    });
    world.settle().await;
    let view = world.view(&id).await;
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    assert_eq!(view.deployment.template.version.to_string(), "2.0.0");
    let names = view.components.iter().map(|one| one.component_name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["llm", "runtime"]);
    let installed: Vec<String> = world.cluster.cloud().installed.keys().cloned().collect();
    assert_eq!(installed, ["my-agent-llm", "my-agent-runtime"]);
}

#[tokio::test]
async fn whoever_stalls_at_the_end_of_an_older_generation_forgets_nothing_that_a_newer_one_removes() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = without_vector_db();
    template["deployment_order"] = json!(["llm", "runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    // Meanwhile an upgrade is planned that has a component less.
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_query("component/", async move {
        let smaller = upgrade(json!({"template_version": "2.0.0"}));
        app.upgrade_deployment(&admin(), &name, smaller).await.unwrap();
        plan(&app, &name).await;
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Upgrading);
    assert!(
        world.component(&id, "vector_db").await.removed,
        "it is still there"
    );
    world.settle().await;
    let names = world.components(&id).await;
    assert_eq!(
        names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["llm", "runtime"]
    );
}

/// A version whose vector database is there for larger sizes only.
async fn conditional() -> (World, String) {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["components"][0]["when"] = json!("parameters.size > 2");
    template["components"][2]["chart"]["values"]["db"] =
        json!("{{ steps.vector_db.outputs.endpoint_url | default('none') }}");
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    world.cluster.cloud().log.clear();
    (world, id)
}

async fn resize(world: &World, id: &str, size: u32) -> DeploymentStatus {
    let request = upgrade(json!({"parameters": {"size": size}}));
    world.app.upgrade_deployment(&admin(), id, request).await.unwrap();
    world.settle().await;
    world.status(id).await
}

#[tokio::test]
async fn what_a_condition_excludes_is_uninstalled_last_and_comes_back_with_it() {
    let (world, id) = conditional().await;
    assert_eq!(resize(&world, &id, 1).await, DeploymentStatus::Running);
    assert_eq!(
        world.cluster.cloud().log,
        ["apply my-agent-runtime", "uninstall my-agent-vector-db"]
    );
    let view = world.view(&id).await;
    let names = view.components.iter().map(|one| one.component_name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["vector_db", "llm", "runtime"]);
    // It is as it is where it never was.
    let mut new = new_deployment("agent", "another");
    new.parameters.insert("size".to_owned(), json!(1));
    let other = world.app.create_deployment(&admin(), new).await.unwrap();
    let other = other.deployment.id.to_string();
    world.app.start_deployment(&admin(), &other).await.unwrap();
    world.settle().await;
    let (is, never) = (
        world.component(&id, "vector_db").await,
        world.component(&other, "vector_db").await,
    );
    let shown = |one: &ComponentDeployment| {
        (
            one.status,
            one.disabled,
            one.job_id,
            one.endpoint_url.clone(),
            one.error_message.clone(),
        )
    };
    assert_eq!(shown(&is), shown(&never));
    assert_eq!(shown(&is), (ComponentStatus::Stopped, true, None, None, None));

    // There is nothing to uninstall any more.
    world.cluster.cloud().log.clear();
    assert_eq!(resize(&world, &id, 2).await, DeploymentStatus::Running);
    assert_eq!(world.cluster.cloud().log, ["apply my-agent-runtime"]);
    assert_eq!(resize(&world, &id, 3).await, DeploymentStatus::Running);
    let back = world.component(&id, "vector_db").await;
    assert_eq!((back.status, back.disabled), (ComponentStatus::Running, false));
    assert!(world.cluster.cloud().installed.contains_key("my-agent-vector-db"));
}

#[tokio::test]
async fn what_could_not_be_uninstalled_is_told_and_taken_up_again_or_deleted_once() {
    let (world, id) = conditional().await;
    let (what, why) = ("uninstall my-agent-vector-db".to_owned(), "finalizer".to_owned());
    world.cluster.cloud().broken.insert(what.clone(), why.clone());
    assert_eq!(resize(&world, &id, 1).await, DeploymentStatus::Failed);
    let left = world.component(&id, "vector_db-2").await;
    assert_eq!((left.status, left.removed), (ComponentStatus::Failed, true));
    assert!(left.error_message.unwrap().contains("finalizer"));

    // It is wanted again.
    world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await
        .unwrap();
    world.settle().await;
    let view = world.view(&id).await;
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    let statuses = view.components.iter().map(|one| one.status);
    assert_eq!(statuses.collect::<Vec<_>>(), [ComponentStatus::Running; 3]);

    // Again and again, and of all that is left of it one step uninstalls it.
    assert_eq!(resize(&world, &id, 1).await, DeploymentStatus::Failed);
    world
        .cluster
        .cloud()
        .broken
        .insert("my-agent-runtime".to_owned(), why);
    assert_eq!(resize(&world, &id, 8).await, DeploymentStatus::Failed);
    world.cluster.cloud().broken.remove("my-agent-runtime");
    assert_eq!(resize(&world, &id, 2).await, DeploymentStatus::Failed);
    world.cluster.cloud().broken.clear();
    world.cluster.cloud().log.clear();
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let view = world.view(&id).await;
    assert_eq!(view.deployment.status, DeploymentStatus::Deleted);
    let stopped = |one: &ComponentDeployment| one.status == ComponentStatus::Stopped;
    assert!(view.components.iter().all(stopped), "{:?}", view.components);
    let log = world.cluster.cloud().log.clone();
    let mut sorted = log.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((log.len(), sorted.len()), (3, 3), "{log:?}");
}

#[tokio::test]
async fn whoever_stalls_at_the_end_of_an_older_generation_forgets_no_release_that_a_newer_one_leaves() {
    let (world, id) = conditional().await;
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_query("component/", async move {
        let smaller = upgrade(json!({"parameters": {"size": 1}}));
        app.upgrade_deployment(&admin(), &name, smaller).await.unwrap();
        plan(&app, &name).await;
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Upgrading);
    assert!(
        world.component(&id, "vector_db-2").await.removed,
        "it is still there"
    );
}

#[tokio::test]
async fn defaults_of_a_new_version_count_where_nothing_was_set() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = mixed("2.0.0");
    template["parameters"]["size"]["default"] = json!(16);
    world.app.publish_template(&admin(), template).await.unwrap();
    let request = upgrade(json!({"template_version": "2.0.0"}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    assert_eq!(world.deployment(&id).await.parameters["size"], 16);
}

#[tokio::test]
async fn a_failed_upgrade_rolls_back_to_what_ran() {
    let world = World::new().await;
    let id = world.running("agent").await;
    world
        .cluster
        .cloud()
        .broken
        .insert("my-agent-runtime".to_owned(), "bad value".to_owned());
    let request = upgrade(json!({"parameters": {"size": 9}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    assert_eq!(
        world.component(&id, "runtime").await.status,
        ComponentStatus::Failed
    );
    world.cluster.cloud().broken.clear();
    let started = world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await
        .unwrap();
    assert_eq!(started.status, DeploymentStatus::RollingBack);
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(
        (deployment.status, &deployment.parameters["size"]),
        (DeploymentStatus::Running, &json!(4))
    );
    assert_eq!(world.cluster.cloud().installed["my-agent-runtime"]["size"], 4);
    assert_eq!(deployment.generation, 3);
}

#[tokio::test]
async fn a_rollback_goes_only_to_what_completed() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let rollback = |request| {
        let request: RollbackRequest = serde_json::from_value(request).unwrap();
        let (world, id) = (&world, &id);
        async move { world.app.rollback_deployment(&admin(), id, &request).await }
    };
    let refused = problem(rollback(json!({})).await);
    assert_eq!(refused.status, 409, "there is nothing before it");
    for unknown in [
        json!({"generation": 7}),
        json!({"execution_id": "x"}),
        json!({"execution_id": "00000000-0000-4000-8000-000000000000"}),
        json!({"execution_id": "x", "generation": 1}),
    ] {
        assert_eq!(problem(rollback(unknown.clone()).await).status, 422, "{unknown}");
    }
    world
        .cluster
        .cloud()
        .broken
        .insert("my-agent-runtime".to_owned(), "bad".to_owned());
    world
        .app
        .upgrade_deployment(&admin(), &id, upgrade(json!({"parameters": {"size": 9}})))
        .await
        .unwrap();
    world.settle().await;
    let refused = problem(rollback(json!({"generation": 2})).await);
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains("did not complete"), "{}", refused.detail);
    let first = world.deployment(&id).await.earlier_execution_ids[0];
    world.cluster.cloud().broken.clear();
    rollback(json!({"execution_id": first})).await.unwrap();
    world.settle().await;
    assert_eq!(world.deployment(&id).await.parameters["size"], 4);
}

#[tokio::test]
async fn an_upgrade_that_does_not_fit_changes_nothing() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let before = world.view(&id).await;
    for (request, place) in [
        (json!({"template_version": "9.0.0"}), "template_version"),
        (json!({"parameters": {"size": 99}}), "parameters.size"),
        (json!({"components": {"llm": "qdrant"}}), "components.llm"),
        (
            json!({"values": {"runtime": {"hostPID": true}}}),
            "values.runtime.hostPID",
        ),
    ] {
        let refused = problem(
            world
                .app
                .upgrade_deployment(&admin(), &id, upgrade(request))
                .await,
        );
        assert_eq!((refused.status, refused.errors[0].path.as_str()), (422, place));
    }
    assert_eq!(world.view(&id).await, before);
}

#[tokio::test]
async fn only_what_is_at_rest_is_upgraded_or_rolled_back() {
    let world = World::new().await;
    let (id, _) = world.planned("agent").await;
    let upgraded = world
        .app
        .upgrade_deployment(&admin(), &id, UpgradeRequest::default())
        .await;
    let refused = problem(upgraded);
    assert_eq!(
        (refused.status, refused.detail.contains("DEPLOYING")),
        (409, true)
    );
    let rolled_back = world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await;
    assert_eq!(problem(rolled_back).status, 409);
}

/// The releases that are there.
fn installed(world: &World) -> Vec<String> {
    world.cluster.cloud().installed.keys().cloned().collect()
}

#[tokio::test]
async fn an_upgrade_that_is_not_planned_yet_has_done_nothing() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let request = upgrade(json!({"parameters": {"size": 8}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    let progress = world.app.deployment_progress(&admin(), &id).await.unwrap();
    assert_eq!(
        (progress.status, progress.percent),
        (DeploymentStatus::Upgrading, 0.0)
    );
    world.settle().await;
    let progress = world.app.deployment_progress(&admin(), &id).await.unwrap();
    assert_eq!(
        (progress.status, progress.percent),
        (DeploymentStatus::Running, 100.0)
    );
}

#[tokio::test]
async fn a_component_that_takes_over_the_release_of_another_keeps_it() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = mixed("2.0.0");
    template["components"][2]["name"] = json!("engine");
    template["components"][2]["chart"]["release_name"] = json!("my-agent-runtime");
    template["deployment_order"] = json!(["vector_db", "llm", "engine"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let request = upgrade(json!({"template_version": "2.0.0", "parameters": {"size": 8}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(
        installed(&world),
        ["my-agent-llm", "my-agent-runtime", "my-agent-vector-db"]
    );
    assert_eq!(world.cluster.cloud().installed["my-agent-runtime"]["size"], 8);
    let names = world.components(&id).await;
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["vector_db", "llm", "engine"]);
}

#[tokio::test]
async fn going_back_to_a_release_that_an_upgrade_left_keeps_it() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = mixed("2.0.0");
    template["components"][2]["chart"]["release_name"] = json!("other");
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("other".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let request = upgrade(json!({"template_version": "2.0.0"}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(
        installed(&world),
        ["my-agent-llm", "my-agent-runtime", "my-agent-vector-db"]
    );
}

#[tokio::test]
async fn what_a_failed_upgrade_did_not_get_to_runs_on() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let before = world.component(&id, "runtime").await;
    let broken = ("my-agent-vector-db".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let request = upgrade(json!({"components": {"vector_db": "milvus"}, "parameters": {"size": 8}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    let after = world.component(&id, "runtime").await;
    assert_eq!(
        (after.status, &after.endpoint_url),
        (ComponentStatus::Running, &before.endpoint_url)
    );
    assert_eq!(
        world.component(&id, "vector_db").await.status,
        ComponentStatus::Failed
    );
}

#[tokio::test]
async fn what_a_deployment_has_taken_itself_keeps_no_upgrade_from_it() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["resources"] = json!({"minimum": {"gpu": 1}});
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    world.cluster.cloud().free = Some(Capacity::default());
    world.app.request_plan(&admin(), &id, None).await.unwrap();
    world.settle().await;
    let planned = world.app.plan(&admin(), &id).await.unwrap().dag.unwrap();
    assert!(
        planned.steps[0].params.get("minimum").is_none(),
        "{:?}",
        planned.steps[0]
    );
    let larger = upgrade(json!({"parameters": {"size": 8}}));
    world.app.upgrade_deployment(&admin(), &id, larger).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    let back = RollbackRequest::default();
    world.app.rollback_deployment(&admin(), &id, &back).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    // A first one asks.
    let other = world
        .app
        .create_deployment(&admin(), new_deployment("agent", "second"))
        .await
        .unwrap();
    let other = other.deployment.id.to_string();
    world.app.start_deployment(&admin(), &other).await.unwrap();
    world.settle().await;
    let why = world.deployment(&other).await.error_message.unwrap();
    assert!(why.contains("gpu: 1 needed, 0 free"), "{why}");
}
