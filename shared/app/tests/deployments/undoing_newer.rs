//! What undoes an execution and finds that others have changed the same releases since: that is theirs, and stays.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::{ListQuery, NewJob, UpgradeRequest};
use slipway_model::{
    ComponentStatus, DeploymentStatus, Execution, ExecutionStatus, Job, JobPhase, JobStatus, Queue,
};
use slipway_ports::Receiver;

use crate::world::{World, admin, mixed, steps};

fn deploy(id: &str, size: u32, after: &Value) -> Value {
    json!({"id": id, "action": "helm_deploy", "depends_on": after, "params": {
        "cluster_id": "dev", "chart_ref": "charts/app", "release_name": "app", "namespace": "n",
        "values": {"size": size}}})
}

/// Begins an execution of these steps, which is undone should one of them fail.
async fn begin(world: &World, steps: &Value) -> String {
    world.clock.advance(Duration::from_secs(1));
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"}, "steps": steps});
    let execution = world.app.create_execution(&admin(), dag).await.unwrap();
    execution.id.to_string()
}

/// Deploys `app` with a size, and waits for more than a settled world does before it fails.
async fn deploy_and_wait(world: &World, size: u32) -> String {
    let late = json!({"id": "late", "action": "approval", "depends_on": ["app"], "timeout_seconds": 600});
    let first = begin(world, &json!([deploy("app", size, &json!([])), late])).await;
    world.settle().await;
    assert_eq!(world.cluster.cloud().installed["app"]["size"], size);
    first
}

async fn look(world: &World, execution: &str) -> Execution {
    world.app.execution(&admin(), execution).await.unwrap()
}

/// Lets the approval's time pass; the execution that undoes the other, as it ended.
async fn undone(world: &World, first: &str) -> (Execution, Vec<String>) {
    world.clock.advance(Duration::from_secs(600));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    let ended = look(world, first).await;
    assert_eq!(ended.status, ExecutionStatus::Failed, "{ended:#?}");
    let id = ended.compensated_by.unwrap().to_string();
    let told = steps(world, &id).await;
    let told = told.into_iter().filter_map(|step| step.error_message).collect();
    (look(world, &id).await, told)
}

async fn jobs(world: &World) -> Vec<Job> {
    let list = ListQuery::default();
    world.app.jobs(&admin(), &list).await.unwrap().items
}

/// The job that an execution made.
async fn job_of(world: &World, execution: &str) -> Job {
    let mut all = jobs(world).await.into_iter();
    all.find(|job| job.source_id.as_deref() == Some(execution))
        .unwrap()
}

fn log(world: &World) -> Vec<String> {
    world.cluster.cloud().log.clone()
}

#[tokio::test]
async fn what_a_later_execution_made_of_a_release_is_not_uninstalled() {
    let world = World::new().await;
    let first = deploy_and_wait(&world, 1).await;
    let second = begin(&world, &json!([deploy("app", 2, &json!([]))])).await;
    world.settle().await;
    let by = job_of(&world, &second).await.id;
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(log(&world), ["apply app", "apply app"]);
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 2);
    assert_eq!(undoing.status, ExecutionStatus::Failed);
    let why = format!("release n/app was changed since by job {by}; it is left as that one made it");
    assert!(told[0].contains(&why), "{told:?}");
    // That does not change, and is not tried again.
    assert_eq!(jobs(&world).await.iter().filter(|job| job.undoes).count(), 1);
}

#[tokio::test]
async fn what_a_later_execution_made_of_a_release_is_not_rolled_back() {
    let world = World::new().await;
    begin(&world, &json!([deploy("app", 1, &json!([]))])).await;
    world.settle().await;
    let first = deploy_and_wait(&world, 2).await;
    begin(&world, &json!([deploy("app", 3, &json!([]))])).await;
    world.settle().await;
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(log(&world), ["apply app", "apply app", "apply app"], "{told:?}");
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 3);
    assert_eq!(undoing.status, ExecutionStatus::Failed);
}

#[tokio::test]
async fn what_a_later_execution_waits_for_is_not_taken_from_it() {
    let world = World::new().await;
    let first = deploy_and_wait(&world, 1).await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let mut slow = deploy("app", 2, &json!([]));
    slow["params"]["timeout"] = json!(3000);
    let second = begin(&world, &json!([slow])).await;
    world.deliver(&Queue::ExecuteStep).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(job_of(&world, &second).await.phase, JobPhase::Watch);
    world.clock.advance(Duration::from_secs(600));
    // What undoes the first one comes to the release while that is not ready.
    world.deliver(&Queue::ExecuteStep).await;
    world.deliver(&Queue::DeployHelm).await;
    let undoes = jobs(&world).await.into_iter().find(|job| job.undoes).unwrap();
    assert!(undoes.started_at.is_some());
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    let job = job_of(&world, &second).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{job:#?}");
    assert_eq!(look(&world, &first).await.status, ExecutionStatus::Failed);
    assert_eq!(log(&world), ["apply app", "apply app"]);
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 2);
}

#[tokio::test]
async fn what_a_later_execution_changed_and_undid_is_undone() {
    let world = World::new().await;
    let first = deploy_and_wait(&world, 1).await;
    world
        .cluster
        .cloud()
        .broken
        .insert("app".to_owned(), "no such image".to_owned());
    begin(&world, &json!([deploy("app", 2, &json!([]))])).await;
    world.settle().await;
    world.cluster.cloud().broken.clear();
    world.cluster.cloud().log.clear();
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(undoing.status, ExecutionStatus::Completed, "{told:?}");
    assert_eq!(log(&world), ["uninstall app"]);
}

#[tokio::test]
async fn what_a_later_execution_never_came_to_change_is_undone() {
    let world = World::new().await;
    let first = deploy_and_wait(&world, 1).await;
    let mut odd = deploy("app", 2, &json!([]));
    odd["params"]["values"]["odd"] = json!("{{ secrets.nowhere }}");
    let second = begin(&world, &json!([odd])).await;
    world.settle().await;
    assert_eq!(job_of(&world, &second).await.status, JobStatus::Failed);
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(undoing.status, ExecutionStatus::Completed, "{told:?}");
    assert_eq!(log(&world), ["apply app", "uninstall app"]);
}

#[tokio::test]
async fn what_several_steps_made_of_one_release_is_undone_one_after_another() {
    let world = World::new().await;
    let again = deploy("again", 2, &json!(["app"]));
    let late = json!({"id": "late", "action": "approval", "depends_on": ["again"], "timeout_seconds": 600});
    let first = begin(&world, &json!([deploy("app", 1, &json!([])), again, late])).await;
    world.settle().await;
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(undoing.status, ExecutionStatus::Completed, "{told:?}");
    assert_eq!(
        log(&world),
        ["apply app", "apply app", "rollback app to 1", "uninstall app"]
    );
}

#[tokio::test]
async fn what_others_made_between_two_steps_is_come_back_to_and_stays() {
    let world = World::new().await;
    let mut pause = json!({"id": "pause", "action": "wait", "depends_on": ["app"]});
    pause["params"] = json!({"seconds": 300});
    let again = deploy("again", 3, &json!(["pause"]));
    let late = json!({"id": "late", "action": "approval", "depends_on": ["again"], "timeout_seconds": 600});
    let first = begin(&world, &json!([deploy("app", 1, &json!([])), pause, again, late])).await;
    world.settle().await;
    begin(&world, &json!([deploy("app", 2, &json!([]))])).await;
    world.settle().await;
    world.clock.advance(Duration::from_secs(300));
    world.settle().await;
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 3);
    let (undoing, told) = undone(&world, &first).await;
    assert_eq!(undoing.status, ExecutionStatus::Failed);
    assert_eq!(log(&world).last().unwrap(), "rollback app to 2", "{told:?}");
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 2);
}

/// Waits until an execution has failed, and loses the messages of what undoes it, which is named.
async fn failed_and_not_undone(world: &World, execution: &str) -> String {
    for _ in 0..100 {
        for queue in World::queues() {
            world.deliver(&queue).await;
            let Some(undoing) = look(world, execution).await.compensated_by else {
                continue;
            };
            let (wait, hidden) = (Duration::ZERO, Duration::from_secs(60));
            for queue in [Queue::ExecuteStep, Queue::DeployHelm] {
                for lost in world.store.receive(&queue, 10, wait, hidden).await.unwrap() {
                    world.store.acknowledge(&queue, &lost.receipt).await.unwrap();
                }
            }
            return undoing.to_string();
        }
        world.clock.advance(Duration::from_secs(1));
    }
    panic!("execution {execution} is not undone");
}

#[tokio::test]
async fn what_undoes_an_upgrade_leaves_the_next_one_whoever_wanted_the_release_since() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    let upgrade = async |size: u32| {
        let request: UpgradeRequest = serde_json::from_value(json!({"parameters": {"size": size}})).unwrap();
        let started = world
            .app
            .upgrade_deployment(&admin(), &id, request)
            .await
            .unwrap();
        started.pipeline_execution_id.unwrap().to_string()
    };
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    let second = upgrade(5).await;
    let undoing = failed_and_not_undone(&world, &second).await;
    world.settle().await;
    assert_eq!(look(&world, &undoing).await.status, ExecutionStatus::Running);
    world.cluster.cloud().stuck.clear();
    upgrade(6).await;
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    // Somebody else would have the release, and is refused.
    let runtime = jobs(&world)
        .await
        .into_iter()
        .find(|job| job.config["release_name"] == "my-agent-runtime");
    let job: NewJob = serde_json::from_value(json!({
        "name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": {
            "chart_ref": "charts/app", "release_name": "my-agent-runtime",
            "namespace": runtime.unwrap().config["namespace"]}}))
    .unwrap();
    let job = world.app.create_job(&admin(), job).await.unwrap().id.to_string();
    world.app.execute_job(&admin(), &job).await.unwrap();
    world.settle().await;
    assert_eq!(
        world.app.job(&admin(), &job).await.unwrap().status,
        JobStatus::Failed
    );
    world.clock.advance(Duration::from_secs(600));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    assert_eq!(look(&world, &undoing).await.status, ExecutionStatus::Failed);
    assert_eq!(world.cluster.cloud().installed["my-agent-runtime"]["size"], 6);
}

/// A version that has a memory besides, whose release has that name.
fn with_memory(version: &str, release: &str) -> Value {
    let mut template = mixed(version);
    let chart = json!({"ref": "charts/memory", "version": "1.0.0", "release_name": release});
    let memory = json!({"name": "memory", "type": "helm", "chart": chart});
    template["components"].as_array_mut().unwrap().push(memory);
    template["deployment_order"] = json!([["vector_db", "llm", "memory"], "runtime"]);
    template["settings"] = json!({"on_failure": "rollback"});
    template
}

#[tokio::test]
async fn what_is_undone_is_told_although_an_upgrade_was_planned_over_it_that_was_stopped() {
    // What is undone is taken away, or left behind under another name.
    let next = [
        (mixed("3.0.0"), "memory"),
        (with_memory("3.0.0", "other"), "memory-3"),
    ];
    for (template, memory) in next {
        let world = World::new().await;
        let id = world.running("agent").await;
        for template in [with_memory("2.0.0", "memory"), template] {
            world.app.publish_template(&admin(), template).await.unwrap();
        }
        let upgrade = async |request: Value| {
            let request: UpgradeRequest = serde_json::from_value(request).unwrap();
            let upgraded = world.app.upgrade_deployment(&admin(), &id, request).await;
            upgraded.unwrap().pipeline_execution_id.unwrap().to_string()
        };
        let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
        world.cluster.cloud().broken.extend([broken]);
        let changes = json!({"template_version": "2.0.0", "components": {"vector_db": "milvus"}, "parameters": {"size": 9}});
        let second = upgrade(changes).await;
        let undoing = failed_and_not_undone(&world, &second).await;
        world.settle().await;
        assert_eq!(world.status(&id).await, DeploymentStatus::Failed);

        upgrade(json!({"template_version": "3.0.0"})).await;
        world.deliver(&Queue::PlanDag).await;
        world.app.stop_deployment(&admin(), &id).await.unwrap();
        world.settle().await;
        assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
        assert_eq!(look(&world, &undoing).await.status, ExecutionStatus::Running);
        let is_there = world.component(&id, memory).await;
        assert_eq!(is_there.status, ComponentStatus::Running);
        world.cluster.cloud().broken.clear();
        world.clock.advance(Duration::from_secs(600));
        world.app.sync_deployments().await.unwrap();
        world.settle().await;
        assert_eq!(look(&world, &undoing).await.status, ExecutionStatus::Completed);
        assert_eq!(world.cluster.cloud().installed.len(), 3);
        let gone = world.component(&id, memory).await;
        assert_eq!((gone.status, gone.endpoint_url), (ComponentStatus::Stopped, None));
        for name in ["vector_db", "llm", "runtime"] {
            let back = world.component(&id, name).await;
            assert_eq!(back.status, ComponentStatus::Running, "{back:?}");
            assert!(name == "runtime" || back.endpoint_url.is_some(), "{back:?}");
        }
    }
}
