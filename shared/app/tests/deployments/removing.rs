//! Components that an upgrade takes away or installs under another name, where it or what follows is cut short.

use serde_json::json;
use slipway_app::RollbackRequest;
use slipway_model::{ComponentDeployment, ComponentStatus, DeploymentStatus, Message, Queue};
use slipway_ports::{Guard, Key, Store as _};

use crate::{
    upgrading::{upgrade, without_vector_db},
    world::{World, admin, mixed, problem},
};

#[tokio::test]
async fn what_a_failed_upgrade_was_to_install_under_another_name_is_not_there() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let before = world.component(&id, "runtime").await;
    let mut template = mixed("2.0.0");
    template["components"][2]["chart"]["release_name"] = json!("other");
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-vector-db".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let request = upgrade(json!({"template_version": "2.0.0", "components": {"vector_db": "milvus"}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    let shown = |one: ComponentDeployment| (one.release_name, one.status, one.job_id, one.endpoint_url);
    assert_eq!(
        shown(world.component(&id, "runtime").await),
        ("other".to_owned(), ComponentStatus::Stopped, None, None)
    );
    // What runs is what was there before.
    let left = world.component(&id, "runtime-2").await;
    assert!(left.removed);
    assert_eq!(shown(left), shown(before));
}

#[tokio::test]
async fn what_was_removed_and_is_wanted_again_is_deleted_although_that_was_never_planned() {
    for stops in [false, true] {
        let world = World::new().await;
        let id = world.running("agent").await;
        let mut template = without_vector_db();
        template["deployment_order"] = json!(["llm", "runtime"]);
        world.app.publish_template(&admin(), template).await.unwrap();
        let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
        world.cluster.cloud().broken.insert(broken.0, broken.1);
        let smaller = upgrade(json!({"template_version": "2.0.0", "parameters": {"size": 8}}));
        world
            .app
            .upgrade_deployment(&admin(), &id, smaller)
            .await
            .unwrap();
        world.settle().await;
        assert!(world.component(&id, "vector_db").await.removed);
        let back = RollbackRequest::default();
        world.app.rollback_deployment(&admin(), &id, &back).await.unwrap();
        if stops {
            world.app.stop_deployment(&admin(), &id).await.unwrap();
            world.settle().await;
            assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
        }
        world.cluster.cloud().log.clear();
        world.app.delete_deployment(&admin(), &id).await.unwrap();
        world.settle().await;
        let deleted = world.deployment(&id).await;
        assert_eq!(
            deleted.status,
            DeploymentStatus::Deleted,
            "{:?}",
            deleted.error_message
        );
        assert_eq!(
            world.cluster.cloud().log,
            ["runtime", "llm", "vector-db"].map(|name| format!("uninstall my-agent-{name}"))
        );
    }
}

#[tokio::test]
async fn a_planner_that_stalls_adds_no_component_to_a_later_generation() {
    let world = World::new().await;
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
    world
        .app
        .upgrade_deployment(&admin(), &id, to("2.0.0"))
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    world
        .app
        .upgrade_deployment(&admin(), &id, to("3.0.0"))
        .await
        .unwrap();
    let over = world.deployment(&id).await.pipeline_execution_id.unwrap();
    let (app, asked, back) = (world.app.clone(), id.clone(), to("2.0.0"));
    world.flaky.before_put("component/vector_db", async move {
        app.stop_deployment(&admin(), &asked).await.unwrap();
        let first = app.deployment(&admin(), &asked).await.unwrap().deployment;
        let plan = |generation| Message::Plan {
            tenant: first.tenant.clone(),
            deployment: first.id,
            generation,
            request: None,
        };
        app.handle(&Queue::PlanDag, plan(first.generation)).await.unwrap();
        app.upgrade_deployment(&admin(), &asked, back).await.unwrap();
        app.handle(&Queue::PlanDag, plan(first.generation + 1))
            .await
            .unwrap();
    });
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    let names: Vec<String> = world
        .view(&id)
        .await
        .components
        .into_iter()
        .map(|component| component.component_name)
        .collect();
    assert_eq!(names, ["llm", "runtime"]);
    let over = problem(world.app.execution(&admin(), &over.to_string()).await);
    assert_eq!(over.status, 404, "what it planned is not begun");
}

#[tokio::test]
async fn a_component_whose_record_is_taken_back_while_it_is_planned_has_one_all_the_same() {
    let world = World::new().await;
    let deployment = world.created("models").await.deployment;
    let id = deployment.id.to_string();
    let (store, partition) = (world.store.clone(), format!("local/d/{id}"));
    world.flaky.before_session_get("component/llm", async move {
        let mut session = store.session();
        let key = Key::new(partition, "component/llm");
        assert!(session.get(&key).await.unwrap().is_some());
        session.delete(&key, Guard::Any).await.unwrap();
        session.settle().await.unwrap();
    });
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert!(world.cluster.cloud().installed.is_empty());
}
