//! Without pipeline orchestration: jobs straight from the deployment, status by sync.

use std::time::Duration;

use serde_json::json;
use slipway_app::ListQuery;
use slipway_model::{ComponentStatus, DeploymentStatus, JobType, Queue};

use slipway_ports::{Guard, Item, Key, Store as _};

use crate::world::{World, admin, problem};

async fn legacy() -> World {
    World::with(|settings| settings.use_pipeline_orchestration = false).await
}

#[tokio::test]
async fn start_makes_a_job_for_each_component_in_order_and_sync_reads_them() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    let started = world.app.start_deployment(&admin(), &id).await.unwrap();
    assert_eq!(started.status, DeploymentStatus::Deploying);
    assert_eq!(started.pipeline_execution_id, None);
    let mut jobs = world
        .app
        .jobs(&admin(), &ListQuery::default())
        .await
        .unwrap()
        .items;
    jobs.sort_by(|a, b| b.name.cmp(&a.name));
    let found: Vec<_> = jobs
        .iter()
        .map(|job| {
            (
                job.name.as_str(),
                job.job_type,
                job.source.as_str(),
                job.source_id.as_deref(),
            )
        })
        .collect();
    let source = Some(id.as_str());
    assert_eq!(
        found,
        [
            (
                "helm-my-models-vector-db",
                JobType::VectorDbDeployment,
                "budusecases",
                source
            ),
            (
                "helm-my-models-llm",
                JobType::ModelDeployment,
                "budusecases",
                source
            ),
        ]
    );
    assert!(
        world
            .app
            .executions(&admin(), &ListQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    world.settle().await;
    assert_eq!(
        world.cluster.cloud().log,
        ["apply my-models-vector-db", "apply my-models-llm"]
    );
    // Nothing but sync and the sweep looks at the jobs.
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    assert!(
        view.components
            .iter()
            .all(|one| one.status == ComponentStatus::Running && one.endpoint_url.is_some())
    );
}

#[tokio::test]
async fn sync_before_the_end_says_deploying_and_before_the_start_pending() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Pending);
    world.app.start_deployment(&admin(), &id).await.unwrap();
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Deploying);
    assert!(
        view.components
            .iter()
            .all(|one| one.status == ComponentStatus::Deploying)
    );
}

#[tokio::test]
async fn a_failed_job_fails_the_deployment_and_a_retry_makes_a_new_one_for_it() {
    let world = legacy().await;
    world
        .cluster
        .cloud()
        .broken
        .insert("my-models-llm".to_owned(), "no such image".to_owned());
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Failed);
    assert!(view.deployment.error_message.unwrap().contains("no such image"));
    let before = world.component(&id, "vector_db").await;
    world.cluster.cloud().broken.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    assert_eq!(world.component(&id, "vector_db").await.job_id, before.job_id);
}

#[tokio::test]
async fn helm_components_are_refused() {
    let world = legacy().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let refused = problem(world.app.start_deployment(&admin(), &id).await);
    assert_eq!(
        (refused.status, refused.errors[0].path.as_str()),
        (422, "components[2].type")
    );
    assert_eq!(world.status(&id).await, DeploymentStatus::Pending);
}

#[tokio::test]
async fn the_sweep_brings_up_to_date_what_nobody_asks_about() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
}

#[tokio::test]
async fn a_failure_is_told_when_the_last_job_has_ended() {
    let world = legacy().await;
    world
        .cluster
        .cloud()
        .broken
        .insert("my-models-vector-db".to_owned(), "no such image".to_owned());
    world.cluster.cloud().stuck.insert("my-models-llm".to_owned());
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.deliver(&Queue::DeployHelm).await;
    sweep(&world).await;
    assert_eq!(
        world.component(&id, "vector_db").await.status,
        ComponentStatus::Failed
    );
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
}

/// The sweep that comes a minute later.
async fn sweep(world: &World) {
    world.clock.advance(Duration::from_secs(60));
    world.app.sync_deployments().await.unwrap();
}

/// A deployment of which one component does not get ready until its job is cancelled.
async fn stuck(world: &World) -> String {
    world.cluster.cloud().stuck.insert("my-models-llm".to_owned());
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.deliver(&Queue::DeployHelm).await;
    id
}

#[tokio::test]
async fn a_stop_cancels_the_jobs_and_is_over_when_they_are() {
    let world = legacy().await;
    let id = stuck(&world).await;
    for _ in 0..2 {
        let stopped = world.app.stop_deployment(&admin(), &id).await.unwrap();
        assert_eq!(stopped.status, DeploymentStatus::Deploying);
        assert!(world.deployment(&id).await.stop_requested);
    }
    let refused = problem(world.app.retry_deployment(&admin(), &id).await);
    assert_eq!(refused.status, 409);
    world.settle().await;
    assert!(!world.cluster.cloud().installed.contains_key("my-models-llm"));
    sweep(&world).await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Stopped);
    let deployment = world.deployment(&id).await;
    assert_eq!(
        (deployment.status, deployment.stop_requested),
        (DeploymentStatus::Stopped, false)
    );
    world.cluster.cloud().stuck.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn a_job_that_is_waited_for_gets_no_more_messages_with_each_sweep() {
    let world = legacy().await;
    stuck(&world).await;
    world.flaky.calls();
    for _ in 0..5 {
        sweep(&world).await;
    }
    // Those of jobs whose own message is late by now: one each.
    let sends = world.flaky.calls().sends;
    assert!(sends <= 2, "{sends} messages");
}

#[tokio::test]
async fn a_stop_that_got_no_further_than_the_request_is_carried_out_by_the_sweep() {
    let world = legacy().await;
    let id = stuck(&world).await;
    let job = world.component(&id, "llm").await.job_id.unwrap().to_string();
    world.flaky.refuse_put("j", 0);
    assert!(world.app.stop_deployment(&admin(), &id).await.is_err());
    let cancelled = async || world.app.job(&admin(), &job).await.unwrap().cancel.is_some();
    assert!(!cancelled().await);
    sweep(&world).await;
    assert!(cancelled().await);
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
}

#[tokio::test]
async fn a_stop_while_the_jobs_are_made_lets_none_of_them_run() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_put("component/vector_db", async move {
        let stopped = app.stop_deployment(&admin(), &name).await.unwrap();
        assert_eq!(stopped.status, DeploymentStatus::Stopped);
    });
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert!(world.cluster.cloud().installed.is_empty());
    let jobs = world.app.jobs(&admin(), &ListQuery::default()).await.unwrap();
    assert_eq!(jobs.items.len(), 2);
    assert!(jobs.items.iter().all(|job| job.cancel.is_some()));
}

#[tokio::test]
async fn a_stop_that_lands_late_makes_nothing_run_that_has_no_job() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    // As a stop of before leaves it that went on after the start was written, and the start nothing else.
    let key = Key::new(format!("local/d/{id}"), "component/llm");
    let mut component = world.component(&id, "llm").await;
    let first = component.job_id.take();
    component.status = ComponentStatus::Stopped;
    let mut session = world.store.session();
    session.put(&key, Item::of(&component), Guard::Any).await.unwrap();
    session.settle().await.unwrap();
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    let component = world.component(&id, "llm").await;
    assert_eq!(
        (component.status, component.job_id),
        (ComponentStatus::Deploying, first)
    );
    world.settle().await;
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert!(world.cluster.cloud().installed.contains_key("my-models-llm"));
}

#[tokio::test]
async fn a_started_legacy_deployment_can_be_deleted() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    assert!(world.cluster.cloud().installed.is_empty());
}

#[tokio::test]
async fn values_that_need_an_execution_are_refused() {
    let world = legacy().await;
    let mut new = crate::world::new_deployment("models", "x");
    new.values =
        serde_json::from_value(json!({"llm": {"db": "{{ steps.vector_db.outputs.endpoint_url }}"}})).unwrap();
    let id = world
        .app
        .create_deployment(&admin(), new)
        .await
        .unwrap()
        .deployment
        .id
        .to_string();
    let refused = problem(world.app.start_deployment(&admin(), &id).await);
    assert_eq!(
        (refused.status, refused.errors[0].path.as_str()),
        (422, "values.llm")
    );
}

#[tokio::test]
async fn what_was_said_to_run_is_looked_at_although_whoever_said_so_got_no_further() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world.flaky.refuse_put("drift", 0);
    assert!(world.app.sync_deployment(&admin(), &id).await.is_err());
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    let is_to_be_looked_at = || world.store.items().iter().any(|item| item.key.sort == "drift");
    assert!(!is_to_be_looked_at());
    world.clock.advance(Duration::from_secs(60));
    world.app.sync_deployments().await.unwrap();
    assert!(is_to_be_looked_at());
}

#[tokio::test]
async fn a_look_that_stalled_leads_no_component_back_that_has_come_up_since() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    let (others, name) = (world.clone(), id.clone());
    // It reads a job that waits, and stalls before it says so.
    world.flaky.before_get("j", async move {
        let stalled = others.clone();
        others
            .flaky
            .before_session_get("component/vector_db", async move {
                stalled.settle().await;
                stalled.app.sync_deployment(&admin(), &name).await.unwrap();
                assert_eq!(stalled.status(&name).await, DeploymentStatus::Running);
            });
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Running, "{name}");
    }
}

/// Takes the template away behind the server's back, so that nothing can be planned any more.
async fn take_template_away(world: &World) {
    let mut session = world.store.session();
    let key = Key::new("local/t/models", "v/1.0.0");
    session.delete(&key, Guard::Any).await.unwrap();
    session.settle().await.unwrap();
}

#[tokio::test]
async fn what_has_its_jobs_runs_although_it_cannot_be_planned_any_more() {
    let world = legacy().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    take_template_away(&world).await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.settle().await;
    sweep(&world).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn what_lacks_a_job_that_cannot_be_made_any_more_fails_when_the_others_have_ended() {
    for made in [0, 1] {
        let world = legacy().await;
        let id = world.created("models").await.deployment.id.to_string();
        world.flaky.refuse_put("j", made);
        assert!(world.app.start_deployment(&admin(), &id).await.is_err());
        take_template_away(&world).await;
        sweep(&world).await;
        world.settle().await;
        sweep(&world).await;
        let deployment = world.deployment(&id).await;
        assert_eq!(deployment.status, DeploymentStatus::Failed);
        let why = deployment.error_message.unwrap();
        assert!(
            why.ends_with("failed: its job cannot be made: template 'models' does not exist"),
            "{why}"
        );
        let running = world.components(&id).await;
        let running = running
            .iter()
            .filter(|(_, status)| *status == ComponentStatus::Running);
        assert_eq!(running.count(), made);
    }
}
