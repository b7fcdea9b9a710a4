//! Deployments that are deleted although nothing of them can be uninstalled.

use std::sync::Arc;

use slipway_app::Role;
use slipway_model::{ComponentStatus, DeploymentStatus};

use crate::world::{World, admin, caller, new_deployment, problem};

#[tokio::test]
async fn a_deployment_whose_cluster_is_gone_is_let_go_and_says_what_stayed() {
    let world = World::new().await;
    let id = world.running("agent").await;
    world.cluster.cloud().log.clear();
    world.cluster.cloud().away = true;
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(
        world.status(&id).await,
        DeploymentStatus::Failed,
        "nothing can be uninstalled"
    );
    let refused = problem(world.app.delete_cluster(&admin(), "dev").await);
    assert_eq!(refused.status, 409, "{}", refused.detail);

    let deleted = world.app.let_go_of_deployment(&admin(), &id).await.unwrap();
    assert_eq!(deleted.status, DeploymentStatus::Deleted);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    assert!(world.cluster.cloud().log.is_empty(), "nothing was uninstalled");
    let history = world
        .app
        .deployment_events(&admin(), &id, None, 1000)
        .await
        .unwrap();
    let told = history
        .iter()
        .find(|line| line.message.contains("without uninstalling"))
        .unwrap_or_else(|| panic!("{history:?}"));
    for release in ["my-agent-llm", "my-agent-vector-db", "my-agent-runtime"] {
        assert!(told.message.contains(release), "{}", told.message);
    }
    world.app.delete_cluster(&admin(), "dev").await.unwrap();
    let refused = problem(world.app.let_go_of_deployment(&admin(), &id).await);
    assert_eq!((refused.status, refused.detail.contains("DELETED")), (409, true));
}

#[tokio::test]
async fn what_stayed_says_so_and_the_name_is_free() {
    let world = World::new().await;
    let id = world.running("models").await;
    world.app.let_go_of_deployment(&admin(), &id).await.unwrap();
    assert!(
        !world.cluster.cloud().installed.is_empty(),
        "nothing was uninstalled"
    );
    let llm = world.component(&id, "llm").await;
    assert_eq!(llm.status, ComponentStatus::Running);
    let job = llm.job_id.unwrap().to_string();
    assert!(
        llm.error_message
            .is_some_and(|message| message.contains("stayed"))
    );
    // Its secrets are gone, and with them what its pods print could be masked with.
    let refused = problem(world.app.job_logs(&admin(), &job).await);
    assert_eq!(
        (refused.status, refused.detail.contains("was deleted")),
        (409, true),
        "{}",
        refused.detail
    );
    world
        .app
        .create_deployment(&admin(), new_deployment("models", "my-models"))
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_is_let_go_that_something_works_on_and_only_an_admin_may() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    let refused = problem(world.app.let_go_of_deployment(&admin(), &id).await);
    assert_eq!(refused.status, 409);
    assert!(
        refused.detail.contains(&execution.to_string()) && refused.detail.contains("DEPLOYING"),
        "{}",
        refused.detail
    );
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.settle().await;
    let refused = problem(world.app.let_go_of_deployment(&caller(Role::Deployer), &id).await);
    assert_eq!(refused.status, 403);
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn whoever_stalled_while_it_was_let_go_tells_its_components_nothing() {
    let world = Arc::new(World::new().await);
    let id = world.running("models").await;
    let (others, name) = (Arc::clone(&world), id.clone());
    world.flaky.before_query("s", async move {
        others.app.let_go_of_deployment(&admin(), &name).await.unwrap();
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    let llm = world.component(&id, "llm").await;
    assert!(
        llm.error_message
            .is_some_and(|message| message.contains("stayed"))
    );
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
}
