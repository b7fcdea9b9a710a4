//! Deleting deployments.

use std::sync::{Arc, Mutex};

use serde_json::json;
use slipway_app::UpgradeRequest;
use slipway_model::{ComponentStatus, DeploymentStatus, Message, Queue};
use slipway_ports::{Guard, Store as _};

use crate::world::{World, admin, models, new_deployment, problem, steps};

#[tokio::test]
async fn what_runs_is_uninstalled_dependants_first_and_the_name_is_free_again() {
    let world = World::new().await;
    let id = world.running("agent").await;
    world.cluster.cloud().log.clear();
    let deleting = world.app.delete_deployment(&admin(), &id).await.unwrap();
    assert_eq!(deleting.status, DeploymentStatus::Deleting);
    assert_eq!(
        world.app.delete_deployment(&admin(), &id).await.unwrap(),
        deleting
    );
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    {
        let cloud = world.cluster.cloud();
        assert!(cloud.installed.is_empty());
        assert_eq!(
            cloud.log,
            [
                "uninstall my-agent-runtime",
                "uninstall my-agent-llm",
                "uninstall my-agent-vector-db"
            ]
        );
    }
    let components = world.components(&id).await;
    assert!(
        components
            .iter()
            .all(|(_, status)| *status == ComponentStatus::Stopped),
        "{components:?}"
    );
    let refused = problem(world.app.delete_deployment(&admin(), &id).await);
    assert_eq!((refused.status, refused.detail.contains("DELETED")), (409, true));
    assert_eq!(
        problem(world.app.deployment(&admin(), "my-agent").await).status,
        404
    );
    world
        .app
        .create_deployment(&admin(), new_deployment("agent", "my-agent"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_never_started_is_deleted_at_once() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let deleted = world.app.delete_deployment(&admin(), &id).await.unwrap();
    assert_eq!(deleted.status, DeploymentStatus::Deleted);
    let stopped = world
        .app
        .create_deployment(&admin(), new_deployment("agent", "my-agent"))
        .await
        .unwrap();
    let stopped = stopped.deployment.id.to_string();
    world.app.stop_deployment(&admin(), &stopped).await.unwrap();
    let deleted = world.app.delete_deployment(&admin(), &stopped).await.unwrap();
    assert_eq!(deleted.status, DeploymentStatus::Deleted);
    for change in ["start", "stop", "retry"] {
        let refused = match change {
            "start" => world.app.start_deployment(&admin(), &id).await,
            "stop" => world.app.stop_deployment(&admin(), &id).await,
            _ => world.app.retry_deployment(&admin(), &id).await,
        };
        assert_eq!(problem(refused).status, 409, "{change}");
    }
}

#[tokio::test]
async fn what_is_in_flight_is_stopped_first() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
    let (id, first) = world.planned("agent").await;
    for _ in 0..10 {
        for queue in [
            Queue::ExecuteStep,
            Queue::DeployHelm,
            Queue::Topic("budpipelineEvents".to_owned()),
            Queue::Topic("budusecasesEvents".to_owned()),
        ] {
            world.deliver(&queue).await;
        }
        world.clock.advance(std::time::Duration::from_secs(2));
    }
    let deleting = world.app.delete_deployment(&admin(), &id).await.unwrap();
    assert_eq!(deleting.status, DeploymentStatus::Deleting);
    assert_eq!(
        deleting.pipeline_execution_id,
        Some(first),
        "it has not ended yet"
    );
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Deleted);
    assert_ne!(deployment.pipeline_execution_id, Some(first));
    assert!(world.cluster.cloud().installed.is_empty());
}

#[tokio::test]
async fn deleting_before_planning_starts_nothing() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    let cloud = world.cluster.cloud();
    assert!(
        cloud.log.iter().all(|line| line.starts_with("uninstall")),
        "{:?}",
        cloud.log
    );
}

#[tokio::test]
async fn a_deletion_that_fails_can_be_tried_again() {
    let world = World::new().await;
    let id = world.running("models").await;
    let broken = "uninstall my-models-llm".to_owned();
    world
        .cluster
        .cloud()
        .broken
        .insert(broken.clone(), "finalizer".to_owned());
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Failed);
    assert!(deployment.error_message.unwrap().contains("finalizer"));
    assert_eq!(
        world.view("my-models").await.deployment.id.to_string(),
        id,
        "the name is still taken"
    );
    world.cluster.cloud().broken.clear();
    let again = world.app.retry_deployment(&admin(), &id).await.unwrap();
    assert_eq!(again.status, DeploymentStatus::Deleting);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
}

#[tokio::test]
async fn a_planner_that_stalls_changes_no_plan_that_is_followed() {
    let world = World::new().await;
    let id = world.running("agent").await;
    world.cluster.cloud().log.clear();
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    // When it has read what there is to uninstall, a component goes, and another one plans with what is left.
    let (app, store, cluster) = (world.app.clone(), world.store.clone(), world.cluster.clone());
    let deployment = world.deployment(&id).await;
    world.flaky.before_put("plan", async move {
        cluster.cloud().installed.remove("my-agent-runtime");
        let items = store.items();
        let gone = items.iter().find(|item| item.key.sort == "component/runtime");
        let mut session = store.session();
        session.delete(&gone.unwrap().key, Guard::Any).await.unwrap();
        session.settle().await.unwrap();
        let message = Message::Plan {
            tenant: deployment.tenant,
            deployment: deployment.id,
            generation: deployment.generation,
            request: None,
        };
        app.handle(&Queue::PlanDag, message).await.unwrap();
    });
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    assert_eq!(
        world.cluster.cloud().log,
        ["uninstall my-agent-llm", "uninstall my-agent-vector-db"]
    );
    let execution = world.deployment(&id).await.pipeline_execution_id.unwrap();
    let steps = steps(&world, &execution.to_string()).await;
    let names: Vec<&str> = steps.iter().map(|step| step.step_id.as_str()).collect();
    assert_eq!(names, ["llm", "vector_db"]);
}

/// A deployment that runs and has a secret.
async fn with_password() -> (World, String) {
    let world = World::new().await;
    let mut template = models("2.0.0");
    template["parameters"] = json!({"password": {"type": "string", "secret": true, "required": true}});
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("models", "my-models");
    new.parameters.insert("password".to_owned(), json!("first"));
    let id = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = id.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    (world, id)
}

fn password(value: &str) -> UpgradeRequest {
    serde_json::from_value(json!({"parameters": {"password": value}})).unwrap()
}

/// The secrets besides the key that all deployments of a tenant share.
fn own_secrets(world: &World) -> Vec<String> {
    let mut names = world.secrets.names();
    names.retain(|name| name != "deployment/intent-key");
    names
}

#[tokio::test]
async fn no_secret_outlives_a_deployment_however_the_upgrade_ended_that_brought_it() {
    let (world, id) = with_password().await;
    // One is stopped before it is planned, one is cut short before the deployment follows it.
    world
        .app
        .upgrade_deployment(&admin(), &id, password("second"))
        .await
        .unwrap();
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world.flaky.refuse_put("d", 0);
    let cut_short = world
        .app
        .upgrade_deployment(&admin(), &id, password("third"))
        .await;
    assert_eq!(problem(cut_short).status, 503);
    assert!(!world.flaky.is_to_refuse());
    world
        .app
        .upgrade_deployment(&admin(), &id, password("fourth"))
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(own_secrets(&world).len(), 4, "{:?}", own_secrets(&world));
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    assert_eq!(own_secrets(&world), Vec::<String>::new());
}

#[tokio::test]
async fn an_upgrade_that_comes_second_leaves_no_secret() {
    let (world, id) = with_password().await;
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_put("d", async move {
        app.upgrade_deployment(&admin(), &name, password("theirs"))
            .await
            .unwrap();
    });
    let second = world
        .app
        .upgrade_deployment(&admin(), &id, password("mine"))
        .await;
    assert_eq!(problem(second).status, 409);
    let deployment = world.deployment(&id).await;
    let mut left = own_secrets(&world);
    left.retain(|name| *name != deployment.secret_parameters["password"]);
    assert_eq!(
        left,
        [format!("deployment/{id}/password")],
        "the first is still one to go back to"
    );
}

#[tokio::test]
async fn while_helm_uninstalls_nothing_is_said_to_be_applied() {
    let world = World::new().await;
    let id = world.running("models").await;
    let (app, asked) = (world.app.clone(), id.clone());
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    world.cluster.meanwhile("uninstall", async move {
        let progress = app.deployment_progress(&admin(), &asked).await.unwrap();
        let waits = progress.components.into_iter().filter_map(|one| one.waiting_for);
        heard.lock().unwrap().extend(waits);
    });
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(*said.lock().unwrap(), ["Helm to uninstall it"]);
}
