//! `on_failure: rollback`: what a failed execution changed is undone, and the deployment says what became of it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use slipway_app::{ListQuery, RollbackRequest, UpgradeRequest};
use slipway_model::{
    BUDUSECASES_EVENTS, ComponentStatus, DeploymentStatus, ExecutionStatus, Message, Queue, StepStatus,
    TenantId,
};
use slipway_ports::Receiver;

use crate::world::{World, admin, mixed, problem, steps};

/// A deployment that runs, and undoes what fails.
async fn running() -> (World, String) {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    template["deployment_order"] = json!([["vector_db", "llm"], "runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    (world, id)
}

/// Upgrades both the vector database and the runtime, which fails.
async fn fail(world: &World, id: &str, broken: &[(&str, &str)]) {
    {
        let mut cloud = world.cluster.cloud();
        for (what, why) in broken {
            cloud.broken.insert((*what).to_owned(), (*why).to_owned());
        }
        cloud.log.clear();
    }
    let request = json!({"components": {"vector_db": "milvus"}, "parameters": {"size": 9}});
    let request: UpgradeRequest = serde_json::from_value(request).unwrap();
    world.app.upgrade_deployment(&admin(), id, request).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(id).await, DeploymentStatus::Failed);
}

#[tokio::test]
async fn an_upgrade_that_fails_goes_back_to_what_ran_and_leaves_what_it_kept() {
    let (world, id) = running().await;
    fail(&world, &id, &[("my-agent-runtime", "no such image")]).await;
    let log = world.cluster.cloud().log.clone();
    assert_eq!(
        log,
        [
            "apply my-agent-vector-db",
            "apply my-agent-runtime",
            "rollback my-agent-runtime to 1",
            "rollback my-agent-vector-db to 1",
        ]
    );
    {
        let cloud = world.cluster.cloud();
        assert_eq!(cloud.installed["my-agent-vector-db"]["engine"], "qdrant");
        assert_eq!(cloud.installed["my-agent-runtime"]["size"], 4);
    }
    let deployment = world.deployment(&id).await;
    let told = deployment.error_message.unwrap();
    assert!(
        told.contains("no such image") && told.ends_with("was undone"),
        "{told}"
    );
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Running, "{name}");
    }
    // Looked at again, it says the same.
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.deployment(&id).await.error_message.unwrap(), told);

    // That it could be undone does not make it anything to go back to.
    let request: RollbackRequest = serde_json::from_value(json!({"generation": 2})).unwrap();
    let refused = problem(world.app.rollback_deployment(&admin(), &id, &request).await);
    assert_eq!(refused.status, 409, "{}", refused.detail);
    world.cluster.cloud().broken.clear();
    world
        .app
        .rollback_deployment(&admin(), &id, &RollbackRequest::default())
        .await
        .unwrap();
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(
        (deployment.status, &deployment.parameters["size"]),
        (DeploymentStatus::Running, &json!(4))
    );
}

#[tokio::test]
async fn what_cannot_be_undone_is_named_and_keeps_nothing_else_from_being_undone() {
    let (world, id) = running().await;
    let broken = [
        ("my-agent-runtime", "no such image"),
        ("rollback my-agent-runtime", "the record is gone"),
    ];
    fail(&world, &id, &broken).await;
    let deployment = world.deployment(&id).await;
    let told = deployment.error_message.unwrap();
    assert!(
        told.contains("could be undone: runtime (the record is gone"),
        "{told}"
    );
    assert!(!told.contains("vector_db"), "{told}");
    assert_eq!(
        world.cluster.cloud().installed["my-agent-vector-db"]["engine"],
        "qdrant"
    );
    assert_eq!(
        world.component(&id, "runtime").await.status,
        ComponentStatus::Failed
    );
    assert_eq!(
        world.component(&id, "vector_db").await.status,
        ComponentStatus::Running
    );
    let failed = world
        .app
        .execution(&admin(), &deployment.pipeline_execution_id.unwrap().to_string())
        .await
        .unwrap();
    let undoing = failed.compensated_by.unwrap().to_string();
    let undoing = world.app.execution(&admin(), &undoing).await.unwrap();
    assert_eq!(undoing.status, ExecutionStatus::Failed);
}

async fn undo_steps(world: &World, dag: Value) -> Vec<(String, Vec<String>)> {
    let execution = world.app.create_execution(&admin(), dag).await.unwrap().id;
    world.settle().await;
    let header = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    assert_eq!(header.status, ExecutionStatus::Failed);
    let undoing = header.compensated_by.unwrap().to_string();
    let progress = world
        .app
        .execution_progress(&admin(), &undoing, true)
        .await
        .unwrap();
    assert_eq!(progress.status, ExecutionStatus::Completed);
    let mut steps: Vec<_> = progress
        .steps
        .unwrap()
        .into_iter()
        .map(|step| (step.step_id, step.depends_on))
        .collect();
    steps.sort();
    steps
}

fn deploy(id: &str, after: &Value) -> Value {
    json!({"id": id, "action": "helm_deploy", "depends_on": after, "params": {
        "cluster_id": "dev", "chart_ref": "charts/x", "release_name": id, "namespace": "n"}})
}

#[tokio::test]
async fn a_first_install_that_its_own_job_could_not_take_away_is_undone_with_the_rest() {
    let world = World::new().await;
    let mut slow = deploy("slow", &json!(["a"]));
    slow["params"]["timeout"] = json!(60);
    world.cluster.cloud().stuck.insert("slow".to_owned());
    let broken = ("uninstall slow".to_owned(), "the webhook says no".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"},
                     "steps": [deploy("a", &json!([])), slow]});
    let execution = world
        .app
        .create_execution(&admin(), dag)
        .await
        .unwrap()
        .id
        .to_string();
    let ended = async || world.app.execution(&admin(), &execution).await.unwrap();
    while ended().await.compensated_by.is_none() {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    world.cluster.cloud().broken.clear();
    world.cluster.cloud().log.clear();
    world.settle().await;
    assert_eq!(world.cluster.cloud().log, ["uninstall slow", "uninstall a"]);
}

#[tokio::test]
async fn what_does_not_depend_on_each_other_is_undone_side_by_side() {
    let world = World::new().await;
    let pass = |id: &str, after: Value| json!({"id": id, "action": "pass", "depends_on": after});
    // What is in between does nothing that could be undone, and still says what comes before what.
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"}, "steps": [
        deploy("a", &json!([])), deploy("b", &json!([])),
        pass("m", json!(["a", "b"])),
        deploy("c", &json!(["m"])), deploy("d", &json!(["m"])),
        {"id": "late", "action": "approval", "depends_on": ["c", "d"], "timeout_seconds": 5},
    ]});
    let steps = undo_steps(&world, dag).await;
    let after = ["undo-c".to_owned(), "undo-d".to_owned()];
    assert_eq!(
        steps,
        [
            ("undo-a".to_owned(), after.to_vec()),
            ("undo-b".to_owned(), after.to_vec()),
            ("undo-c".to_owned(), vec![]),
            ("undo-d".to_owned(), vec![]),
        ]
    );
    let log = world.cluster.cloud().log.clone();
    let place = |what: &str| log.iter().position(|line| line == what).unwrap();
    for later in ["uninstall a", "uninstall b"] {
        assert!(
            place("uninstall c").max(place("uninstall d")) < place(later),
            "{log:?}"
        );
    }
}

#[tokio::test]
async fn what_takes_an_hour_to_come_up_has_an_hour_to_come_back() {
    let world = World::new().await;
    let checks =
        json!([{"api_version": "example.dev/v1", "kind": "Model", "current": "status.url != '{{host}}'"}]);
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback", "timeout_seconds": 20_000});
    template["components"][0]["timeout_seconds"] = json!(3600);
    template["components"][0]["health_checks"] = checks.clone();
    template["components"][0]["immutable"] = json!("recreate");
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    fail(&world, &id, &[("my-agent-runtime", "no such image")]).await;
    let jobs = world
        .app
        .jobs(&admin(), &ListQuery::default())
        .await
        .unwrap()
        .items;
    let undone = jobs
        .iter()
        .find(|job| job.undoes && job.config["release_name"] == "my-agent-vector-db");
    let undone = undone.unwrap();
    assert_eq!(
        (&undone.config["timeout"], undone.timeout_seconds),
        (&json!(3600), 3600)
    );
    assert_eq!(undone.config["health_checks"], checks);
    assert_eq!(undone.config["immutable"], "recreate");
    let (execution, _) = undone.step.unwrap();
    let execution = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    assert_eq!(execution.settings.timeout_seconds, 20_000);
}

#[tokio::test]
async fn what_cannot_be_written_to_undo_an_execution_does_not_keep_it_from_ending() {
    let world = World::new().await;
    let late = json!({"id": "late", "action": "approval", "depends_on": ["a"], "timeout_seconds": 5});
    // Nothing more goes into the header of an execution of that name.
    let mut length = 150 * 1024;
    let execution = loop {
        let dag = json!({"name": "x".repeat(length), "settings": {"on_failure": "rollback"},
                         "steps": [deploy("a", &json!([])), late]});
        if let Ok(execution) = world.app.create_execution(&admin(), dag).await {
            break execution.id.to_string();
        }
        length -= 32;
    };
    world.settle().await;
    let ended = world.app.execution(&admin(), &execution).await.unwrap();
    assert_eq!(ended.status, ExecutionStatus::Failed);
    assert_eq!(ended.failure.unwrap().step_id, "late");
    assert!(ended.not_undone.unwrap().contains("larger than 150 KiB"));
}

#[tokio::test]
async fn what_was_undone_by_hand_can_be_deployed_again_by_hand() {
    let world = World::new().await;
    let deploy = json!({"id": "a", "action": "helm_deploy", "params": {
        "cluster_id": "dev", "chart_ref": "charts/x", "release_name": "a", "namespace": "n"}});
    let late = json!({"id": "late", "action": "approval", "depends_on": ["a"], "timeout_seconds": 5});
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"}, "steps": [deploy.clone(), late]});
    undo_steps(&world, dag).await;
    world.clock.advance(Duration::from_secs(1));
    let again = json!({"name": "x", "steps": [deploy]});
    let again = world.app.create_execution(&admin(), again).await.unwrap();
    world.settle().await;
    let ended = world
        .app
        .execution(&admin(), &again.id.to_string())
        .await
        .unwrap();
    assert_eq!(ended.status, ExecutionStatus::Completed, "{ended:?}");
    let log = world.cluster.cloud().log.clone();
    assert_eq!(log, ["apply a", "uninstall a", "apply a"]);
}

#[tokio::test]
async fn an_upgrade_that_failed_again_and_again_goes_back_to_what_worked() {
    let (world, id) = running().await;
    let mut template = mixed("3.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    template["components"][2]["retry"] = json!({"max_attempts": 2, "backoff_seconds": 1});
    world.app.publish_template(&admin(), template).await.unwrap();
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    world.cluster.cloud().log.clear();
    let request = json!({"template_version": "3.0.0", "parameters": {"size": 9}});
    let request: UpgradeRequest = serde_json::from_value(request).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    // What is ready again is what went back.
    let cluster = world.cluster.clone();
    world
        .cluster
        .meanwhile("rollback", async move { cluster.cloud().stuck.clear() });
    world.settle().await;
    let told = world.deployment(&id).await.error_message.unwrap();
    let log = world.cluster.cloud().log.clone();
    let applied = log
        .iter()
        .filter(|done| *done == "apply my-agent-runtime")
        .count();
    assert_eq!(applied, 2, "{log:?}");
    assert!(
        log.contains(&"rollback my-agent-runtime to 1".to_owned()),
        "{log:?}"
    );
    assert!(told.ends_with("what it had changed was undone"), "{told}");
    assert_eq!(world.cluster.cloud().installed["my-agent-runtime"]["size"], 4);
}

#[tokio::test]
async fn what_an_earlier_attempt_broke_is_undone_although_the_next_never_began() {
    let (world, id) = running().await;
    let mut template = mixed("3.0.0");
    template["settings"] = json!({"on_failure": "rollback", "timeout_seconds": 1800});
    template["components"][2]["retry"] = json!({"max_attempts": 2, "backoff_seconds": 3600});
    world.app.publish_template(&admin(), template).await.unwrap();
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    let request = json!({"template_version": "3.0.0", "parameters": {"size": 9}});
    let request: UpgradeRequest = serde_json::from_value(request).unwrap();
    let started = world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    let execution = started.pipeline_execution_id.unwrap().to_string();
    let statuses: Vec<StepStatus> = steps(&world, &execution)
        .await
        .into_iter()
        .map(|step| step.status)
        .collect();
    assert!(statuses.contains(&StepStatus::Retrying), "{statuses:?}");
    world.cluster.cloud().stuck.clear();
    world.cluster.cloud().log.clear();
    world.clock.advance(Duration::from_secs(1800));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    let told = world.deployment(&id).await.error_message.unwrap();
    assert!(told.ends_with("what it had changed was undone"), "{told}");
    assert_eq!(
        world.cluster.cloud().log,
        ["rollback my-agent-runtime to 1"],
        "{told}"
    );
    assert_eq!(world.cluster.cloud().installed["my-agent-runtime"]["size"], 4);
}

#[tokio::test]
async fn what_stays_uninstalled_is_named() {
    let (world, id) = running().await;
    let mut template = mixed("3.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    template["components"].as_array_mut().unwrap().drain(..2);
    template["components"][0]["chart"]["values"] = json!({"size": "{{ parameters.size }}"});
    template["deployment_order"] = json!(["runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("uninstall my-agent-llm".to_owned(), "finalizer".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    world.cluster.cloud().log.clear();
    let request: UpgradeRequest = serde_json::from_value(json!({"template_version": "3.0.0"})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    let told = world.deployment(&id).await.error_message.unwrap();
    let log = world.cluster.cloud().log.clone();
    assert!(
        log.contains(&"rollback my-agent-runtime to 1".to_owned()),
        "{log:?}"
    );
    assert!(
        told.ends_with("was undone, but for my-agent-vector-db, which stays uninstalled"),
        "{told}"
    );
}

#[tokio::test]
async fn what_adopted_something_is_not_uninstalled_with_the_rest_and_is_named() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    template["components"].as_array_mut().unwrap().push(json!({
        "name": "web", "type": "helm", "chart": {"ref": "charts/web"}, "adopt": true,
    }));
    template["deployment_order"] = json!(["vector_db", "llm", "web", "runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let (id, _) = world.planned("agent").await;
    world.settle().await;
    let told = world.deployment(&id).await.error_message.unwrap();
    assert!(
        told.ends_with("was undone, but for web, which adopted what was there"),
        "{told}"
    );
    let left: Vec<String> = world.cluster.cloud().installed.keys().cloned().collect();
    assert_eq!(left, ["my-agent-web"]);
}

#[tokio::test]
async fn a_stop_that_comes_while_the_undoing_is_written_keeps_nothing_that_it_takes_away() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let (id, execution) = world.planned("agent").await;
    // The next plan that is written is that of what undoes it.
    let (app, name) = (world.app.clone(), id.clone());
    world.flaky.before_put("plan", async move {
        app.stop_deployment(&admin(), &name).await.unwrap();
    });
    world.settle().await;
    let ended = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    assert_eq!(ended.status, ExecutionStatus::Cancelled);
    assert!(ended.compensated_by.is_some(), "it was undone all the same");
    assert!(world.cluster.cloud().installed.is_empty());
    world.cluster.cloud().broken.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(world.cluster.cloud().installed.len(), 3);
}

#[tokio::test]
async fn what_ended_otherwise_is_not_undone_by_whoever_stalled() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let (id, execution) = world.planned("agent").await;
    // It has written what undoes the execution but for its header when that is cancelled, and ends.
    let (app, flaky, name) = (world.app.clone(), world.flaky.clone(), id.clone());
    world.flaky.before_put("plan", async move {
        flaky.before_put("x", async move {
            app.stop_deployment(&admin(), &name).await.unwrap();
            let running = app.execution(&admin(), &execution.to_string()).await.unwrap();
            let message = Message::Steps {
                tenant: TenantId::local(),
                execution,
                ordinals: vec![running.node_count - 1],
            };
            app.handle(&Queue::ExecuteStep, message).await.unwrap();
            let ended = app.execution(&admin(), &execution.to_string()).await.unwrap();
            assert_eq!(ended.status, ExecutionStatus::Cancelled);
        });
    });
    world.settle().await;
    let all = world
        .app
        .executions(&admin(), &ListQuery::default())
        .await
        .unwrap()
        .items;
    let undoing = all.iter().find(|one| one.compensates == Some(execution)).unwrap();
    assert_eq!(undoing.status, ExecutionStatus::Cancelled, "{undoing:?}");
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert_eq!(world.cluster.cloud().installed.len(), 2, "what completed stays");
}

/// Everything that happens in some seconds, without whoever listens to what deployments are told.
async fn happen_untold(world: &World) {
    let topic = Queue::Topic(BUDUSECASES_EVENTS.to_owned());
    for _ in 0..30 {
        for queue in World::queues().iter().filter(|queue| **queue != topic) {
            world.deliver(queue).await;
        }
        world.clock.advance(Duration::from_secs(2));
    }
    let (wait, hidden) = (Duration::ZERO, Duration::from_secs(60));
    loop {
        let lost = world.store.receive(&topic, 10, wait, hidden).await.unwrap();
        if lost.is_empty() {
            return;
        }
        for event in lost {
            world.store.acknowledge(&topic, &event.receipt).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_undone_is_seen_deleted_although_nobody_was_told() {
    let (world, id) = running().await;
    fail(&world, &id, &[("my-agent-runtime", "no such image")]).await;
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    happen_untold(&world).await;
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Stopped, "{name}");
    }
}

#[tokio::test]
async fn whoever_stalled_while_all_was_deleted_brings_nothing_back() {
    let (world, id) = running().await;
    let world = Arc::new(world);
    let (others, name) = (Arc::clone(&world), id.clone());
    // The steps of the execution that brought it up are just being read.
    world.flaky.before_query("s", async move {
        others.app.delete_deployment(&admin(), &name).await.unwrap();
        others.settle().await;
        assert_eq!(others.status(&name).await, DeploymentStatus::Deleted);
    });
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    for (name, status) in world.components(&id).await {
        assert_eq!(status, ComponentStatus::Stopped, "{name}");
    }
}
