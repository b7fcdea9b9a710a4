//! What is kept: releases that are as they are wanted, and steps that an earlier execution completed.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::{ListQuery, UpgradeRequest};
use slipway_model::{ComponentStatus, DeploymentStatus, Queue, StepStatus};
use slipway_ports::Receiver;

use crate::world::{World, admin, mixed};

async fn upgrade(world: &World, id: &str, request: Value) -> Vec<String> {
    world.cluster.cloud().log.clear();
    let request: UpgradeRequest = serde_json::from_value(request).unwrap();
    world.app.upgrade_deployment(&admin(), id, request).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(id).await, DeploymentStatus::Running);
    std::mem::take(&mut world.cluster.cloud().log)
}

async fn kept(world: &World, id: &str) -> Vec<String> {
    let components = world.view(id).await.components;
    assert!(
        components
            .iter()
            .all(|one| one.status == ComponentStatus::Running)
    );
    let kept = components.into_iter().filter(|one| one.kept);
    kept.map(|one| one.component_name).collect()
}

#[tokio::test]
async fn an_upgrade_changes_only_what_comes_out_otherwise() {
    let world = World::new().await;
    let id = world.running("agent").await;
    assert!(kept(&world, &id).await.is_empty(), "the first time all is new");

    let log = upgrade(&world, &id, json!({"parameters": {"size": 8}})).await;
    assert_eq!(log, ["apply my-agent-runtime"]);
    assert_eq!(kept(&world, &id).await, ["vector_db", "llm"]);
    let execution = world.deployment(&id).await.pipeline_execution_id.unwrap();
    let progress = world
        .app
        .execution_progress(&admin(), &execution.to_string(), true)
        .await
        .unwrap();
    for step in progress.steps.unwrap() {
        let is_kept = ["vector_db", "llm"].contains(&step.step_id.as_str());
        assert_eq!(
            (step.status, step.kept),
            (StepStatus::Completed, is_kept),
            "{}",
            step.step_id
        );
    }

    // Nothing is different: nothing is touched, twice in a row.
    for _ in 0..2 {
        assert!(upgrade(&world, &id, json!({})).await.is_empty());
        assert_eq!(kept(&world, &id).await.len(), 3);
    }

    // What changes and answers where it did leaves alone what reads that.
    let log = upgrade(&world, &id, json!({"components": {"vector_db": "milvus"}})).await;
    assert_eq!(log, ["apply my-agent-vector-db"]);

    // What changes and answers elsewhere does not.
    let elsewhere = ("my-agent-vector-db".to_owned(), "http://elsewhere".to_owned());
    world.cluster.cloud().endpoints.insert(elsewhere.0, elsewhere.1);
    let log = upgrade(&world, &id, json!({"components": {"vector_db": "qdrant"}})).await;
    assert_eq!(log, ["apply my-agent-vector-db", "apply my-agent-runtime"]);
    assert_eq!(
        world.cluster.cloud().installed["my-agent-runtime"]["db"],
        "http://elsewhere"
    );
}

#[tokio::test]
async fn what_is_in_doubt_is_applied() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let llm = "my-agent-llm".to_owned();

    // Somebody used Helm since; labels outlive that.
    world.cluster.cloud().revisions.get_mut(&llm).unwrap().0 += 1;
    assert_eq!(upgrade(&world, &id, json!({})).await, ["apply my-agent-llm"]);
    assert!(upgrade(&world, &id, json!({})).await.is_empty());

    // It is gone.
    world.cluster.cloud().installed.remove(&llm);
    assert_eq!(upgrade(&world, &id, json!({})).await, ["apply my-agent-llm"]);

    // It is not ready.
    let request: UpgradeRequest = serde_json::from_value(json!({})).unwrap();
    world.cluster.cloud().stuck.insert(llm.clone());
    world.cluster.cloud().log.clear();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    assert_eq!(world.cluster.cloud().log, ["apply my-agent-llm"]);

    // Its last job did not succeed.
    world.cluster.cloud().stuck.clear();
    assert_eq!(upgrade(&world, &id, json!({})).await, ["apply my-agent-llm"]);
}

#[tokio::test]
async fn another_secret_value_is_a_change_and_stands_nowhere() {
    let world = World::new().await;
    let mut template = mixed("3.0.0");
    template["parameters"]["password"] = json!({"type": "string", "secret": true, "required": true});
    template["components"][2]["chart"]["values"]["password"] = json!("{{ parameters.password }}");
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = crate::world::new_deployment("agent", "my-agent");
    new.parameters = serde_json::from_value(json!({"password": "hunter22"})).unwrap();
    let id = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = id.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert!(upgrade(&world, &id, json!({})).await.is_empty());
    let log = upgrade(&world, &id, json!({"parameters": {"password": "hunter23"}})).await;
    assert_eq!(log, ["apply my-agent-runtime"]);
    assert_eq!(
        world.cluster.cloud().installed["my-agent-runtime"]["password"],
        "hunter23"
    );
}

#[tokio::test]
async fn a_retry_keeps_what_completed_and_goes_on_from_what_failed() {
    let world = World::new().await;
    let broken = ("my-agent-llm".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let id = world.created("agent").await.deployment.id.to_string();
    let first = world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    world.cluster.cloud().broken.clear();
    world.cluster.cloud().log.clear();
    let second = world.app.retry_deployment(&admin(), &id).await.unwrap();
    assert_ne!(first.pipeline_execution_id, second.pipeline_execution_id);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(
        world.cluster.cloud().log,
        ["apply my-agent-llm", "apply my-agent-runtime"]
    );
    assert_eq!(kept(&world, &id).await, ["vector_db"]);
    let execution = second.pipeline_execution_id.unwrap().to_string();
    let progress = world
        .app
        .execution_progress(&admin(), &execution, true)
        .await
        .unwrap();
    let steps = progress.steps.unwrap();
    let database = steps.iter().find(|step| step.step_id == "vector_db").unwrap();
    assert_eq!(
        (database.status, database.attempt, database.kept),
        (StepStatus::Completed, 0, true)
    );
    assert!(
        database.outputs["endpoint_url"]
            .as_str()
            .unwrap()
            .contains("vector-db")
    );
}

#[tokio::test]
async fn steps_that_a_retry_keeps_make_no_jobs() {
    let world = World::new().await;
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world.cluster.cloud().broken.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(kept(&world, &id).await, ["vector_db", "llm"]);
    let jobs = world.app.jobs(&admin(), &ListQuery::default()).await.unwrap();
    let mut names: Vec<String> = jobs.items.into_iter().map(|job| job.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "helm-my-agent-llm",
            "helm-my-agent-runtime",
            "helm-my-agent-runtime",
            "helm-my-agent-vector-db",
        ]
    );
}

#[tokio::test]
async fn what_is_kept_is_told_although_the_first_messages_were_lost() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    world.cluster.cloud().stuck.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    // Who planned it died before sending anything, and the message comes again when all is over.
    world.deliver(&Queue::PlanDag).await;
    let (wait, visible) = (Duration::ZERO, Duration::from_secs(60));
    let got = world
        .store
        .receive(&Queue::ExecuteStep, 10, wait, visible)
        .await
        .unwrap();
    assert!(!got.is_empty());
    for delivery in got {
        world
            .store
            .acknowledge(&Queue::ExecuteStep, &delivery.receipt)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(120));
        world.app.sync_deployments().await.unwrap();
        world.settle().await;
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    let execution = world.deployment(&id).await.pipeline_execution_id.unwrap();
    let progress = world
        .app
        .execution_progress(&admin(), &execution.to_string(), true)
        .await
        .unwrap();
    let steps = progress.steps.unwrap();
    let kept: Vec<&str> = steps
        .iter()
        .filter(|step| step.kept)
        .map(|step| step.step_id.as_str())
        .collect();
    assert!(kept.len() > 2, "{kept:?}");
    let lines = world
        .app
        .deployment_events(&admin(), &id, None, 1000)
        .await
        .unwrap();
    for step in kept {
        let is_told = lines
            .iter()
            .any(|line| line.execution_id == Some(execution) && line.step_id.as_deref() == Some(step));
        assert!(is_told, "nobody was told of {step}");
    }
}

#[tokio::test]
async fn a_release_that_was_kept_is_not_marked_failed_when_its_outputs_cannot_be_had() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let broken = (
        "collect my-agent-runtime".to_owned(),
        "there is no key 'color'".to_owned(),
    );
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let request: UpgradeRequest = serde_json::from_value(json!({})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    let cloud = world.cluster.cloud();
    assert!(cloud.marked.is_empty(), "it works: {:?}", cloud.marked);
    assert_eq!(cloud.installed.len(), 3);
}
