//! Starting, and what is planned.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::Role;
use slipway_model::{
    BUDUSECASES_EVENTS, DeploymentId, DeploymentStatus, ExecutionLook, Message, Queue, StepStatus, TenantId,
};

use crate::world::{World, admin, caller, problem, steps};

#[tokio::test]
async fn start_answers_at_once_with_the_execution_that_planning_then_writes() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let started = world.app.start_deployment(&admin(), "my-agent").await.unwrap();
    assert_eq!(started.status, DeploymentStatus::Deploying);
    let execution = started.pipeline_execution_id.unwrap();
    assert_eq!(world.deployment(&id).await.pipeline_execution_id, Some(execution));
    let name = execution.to_string();
    assert_eq!(problem(world.app.execution(&admin(), &name).await).status, 404);

    assert_eq!(world.deliver(&Queue::PlanDag).await, 1);
    let written = world.app.execution(&admin(), &name).await.unwrap();
    assert_eq!(written.deployment_id.unwrap().to_string(), id);
    assert_eq!(written.name, "deploy-usecase-my-agent");
    assert_eq!(written.callback_topics, [BUDUSECASES_EVENTS]);
}

#[tokio::test]
async fn each_kind_of_component_gets_its_action_and_the_chain_holds() {
    let world = World::new().await;
    let (_, execution) = world.planned("agent").await;
    let steps = steps(&world, &execution.to_string()).await;
    let found: Vec<(&str, &str, Vec<&str>)> = steps
        .iter()
        .map(|step| {
            let before = step.depends_on.iter().map(String::as_str).collect();
            (step.step_id.as_str(), step.action.as_str(), before)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("cluster_health", "cluster_health", vec![]),
            ("vector_db", "deployment_create", vec!["cluster_health"]),
            ("llm", "deployment_create", vec!["vector_db"]),
            ("runtime", "helm_deploy", vec!["llm", "vector_db"]),
            ("notify_complete", "notification", vec!["runtime"]),
        ]
    );
}

#[tokio::test]
async fn only_a_pending_deployment_starts() {
    let world = World::new().await;
    let (id, _) = world.planned("models").await;
    let refused = problem(world.app.start_deployment(&admin(), &id).await);
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.detail,
        format!("Deployment {id} is not in PENDING status: it is DEPLOYING")
    );
    let viewer = world.app.start_deployment(&caller(Role::Viewer), &id).await;
    assert_eq!(problem(viewer).status, 403);
    for wrong in ["nothing", "../x", "", "00000000-0000-4000-8000-000000000000"] {
        let missing = world.app.start_deployment(&admin(), wrong).await;
        assert_eq!(problem(missing).status, 404, "{wrong}");
    }
}

#[tokio::test]
async fn plan_messages_that_repeat_or_are_old_change_nothing() {
    let world = World::new().await;
    let (id, execution) = world.planned("models").await;
    let deployment: DeploymentId = id.parse().unwrap();
    let before = steps(&world, &execution.to_string()).await;
    for generation in [1, 1, 0, 7] {
        world
            .app
            .plan_dag(&TenantId::local(), deployment, generation)
            .await
            .unwrap();
    }
    assert_eq!(steps(&world, &execution.to_string()).await, before);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    // Long after: the execution has ended, and is not written again.
    world
        .app
        .plan_dag(&TenantId::local(), deployment, 1)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    let applied = world.cluster.cloud().log.len();
    assert_eq!(applied, 2);
}

#[tokio::test]
async fn an_unknown_deployment_is_dropped() {
    let world = World::new().await;
    let unknown = DeploymentId("00000000-0000-4000-8000-000000000000".parse().unwrap());
    world.app.plan_dag(&TenantId::local(), unknown, 1).await.unwrap();
}

/// Takes a version of the template `models` away behind the server's back.
async fn take_template_away(world: &World, version: &str) {
    let key = slipway_ports::Key::new("local/t/models", format!("v/{version}"));
    use slipway_ports::Store;
    let mut session = world.store.session();
    session.delete(&key, slipway_ports::Guard::Any).await.unwrap();
    session.settle().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_planned_any_more_fails_the_deployment_and_says_why() {
    let world = World::new().await;
    let other = world.add_cluster("other").await;
    let mut template = crate::world::models("3.0.0");
    template["components"][1]["cluster"] = json!("other");
    world.app.publish_template(&admin(), template).await.unwrap();
    let view = world.created("models").await;
    assert_eq!(view.components[1].cluster_id, other.id);
    let id = view.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    take_template_away(&world, "3.0.0").await;
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Failed);
    let message = deployment.error_message.unwrap();
    assert!(
        message.contains("template 'models' version 3.0.0 does not exist any more"),
        "{message}"
    );
}

#[tokio::test]
async fn what_cannot_be_planned_any_more_runs_if_it_was_planned_before() {
    for dies in [false, true] {
        let world = World::new().await;
        let id = world.created("models").await.deployment.id;
        let name = id.to_string();
        world.app.start_deployment(&admin(), &name).await.unwrap();
        if dies {
            world.flaky.lose_sends_after(0);
        }
        let tenant = TenantId::local();
        let plan = || world.app.plan_dag(&tenant, id, 1);
        assert_eq!(plan().await.is_err(), dies);
        take_template_away(&world, "1.0.0").await;
        plan().await.unwrap();
        assert_eq!(world.status(&name).await, DeploymentStatus::Deploying);
        world.settle().await;
        assert_eq!(world.status(&name).await, DeploymentStatus::Running);
    }
}

#[tokio::test]
async fn outputs_and_parameters_reach_the_charts() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let namespace = world.deployment(&id).await.namespace;
    let cloud = world.cluster.cloud();
    let values = Value::Object(cloud.installed["my-agent-runtime"].clone());
    let endpoint = |name: &str| format!("http://my-agent-{name}.{namespace}.svc:80");
    assert_eq!(values["size"], 4);
    assert_eq!(values["llm"], endpoint("llm"));
    assert_eq!(values["db"], endpoint("vector-db"));
    assert_eq!(
        cloud.log,
        [
            "apply my-agent-vector-db",
            "apply my-agent-llm",
            "apply my-agent-runtime"
        ]
    );
}

/// Has a deployment stopped right before the header of its first execution is written, and whoever writes that die then,
/// if it `dies`. The deployment's id, and the execution's.
async fn stopped_while_it_is_planned(world: &World, dies: bool) -> (String, String) {
    let id = world.created("agent").await.deployment.id.to_string();
    let started = world.app.start_deployment(&admin(), &id).await.unwrap();
    let (app, flaky, clock, name) = (
        world.app.clone(),
        world.flaky.clone(),
        world.clock.clone(),
        id.clone(),
    );
    world.flaky.before_put("x", async move {
        app.stop_deployment(&admin(), &name).await.unwrap();
        let deployment = app.deployment(&admin(), &name).await.unwrap().deployment;
        let message = Message::Plan {
            tenant: TenantId::local(),
            deployment: deployment.id,
            generation: deployment.generation,
            request: None,
        };
        app.handle(&Queue::PlanDag, message).await.unwrap();
        let stopped = app.deployment(&admin(), &name).await.unwrap().deployment;
        assert_eq!(
            stopped.status,
            DeploymentStatus::Stopped,
            "there is nothing to cancel yet"
        );
        clock.advance(Duration::from_secs(60));
        app.sync_deployments().await.unwrap();
        if dies {
            flaky.lose_sends_after(9);
        }
    });
    let message = Message::Plan {
        tenant: TenantId::local(),
        deployment: id.parse().unwrap(),
        generation: 1,
        request: None,
    };
    let planned = world.app.handle(&Queue::PlanDag, message).await;
    assert_eq!(planned.is_err(), dies, "{planned:?}");
    (id, started.pipeline_execution_id.unwrap().to_string())
}

async fn is_cancelled(world: &World, execution: &str) -> bool {
    let execution = world.app.execution(&admin(), execution).await.unwrap();
    execution.cancel.is_some()
}

#[tokio::test]
async fn what_was_stopped_before_it_was_planned_is_cancelled_by_its_planner() {
    let world = World::new().await;
    let (id, execution) = stopped_while_it_is_planned(&world, false).await;
    assert!(is_cancelled(&world, &execution).await);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert!(world.cluster.cloud().log.is_empty(), "nothing was installed");
}

#[tokio::test]
async fn what_was_stopped_before_it_was_planned_is_cancelled_when_the_message_comes_again() {
    let world = World::new().await;
    let (id, execution) = stopped_while_it_is_planned(&world, true).await;
    assert!(!is_cancelled(&world, &execution).await);
    world.deliver(&Queue::PlanDag).await;
    assert!(is_cancelled(&world, &execution).await);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert!(world.cluster.cloud().log.is_empty(), "nothing was installed");
}

#[tokio::test]
async fn the_sweep_cancels_what_no_deployment_follows() {
    let world = World::new().await;
    let (_, execution) = stopped_while_it_is_planned(&world, true).await;
    world.clock.advance(Duration::from_secs(240));
    world.app.sync_deployments().await.unwrap();
    assert!(is_cancelled(&world, &execution).await);
}

#[tokio::test]
async fn a_retry_keeps_nothing_of_what_has_not_ended_and_may_still_be_undone() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-runtime".to_owned());
    let (id, execution) = stopped_while_it_is_planned(&world, true).await;
    let repair = Message::Execution {
        tenant: TenantId::local(),
        execution: execution.parse().unwrap(),
        look: ExecutionLook::Repair,
    };
    world.app.handle(&Queue::ExecuteStep, repair).await.unwrap();
    let jobs = Queue::Topic("budpipelineEvents".to_owned());
    for queue in [Queue::ExecuteStep, Queue::DeployHelm, jobs]
        .iter()
        .cycle()
        .take(12)
    {
        world.deliver(queue).await;
    }
    let before = steps(&world, &execution).await;
    assert!(
        before
            .iter()
            .any(|step| step.step_id == "llm" && step.status == StepStatus::Completed),
        "{before:?}"
    );
    let retried = world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.deliver(&Queue::PlanDag).await;
    let after = steps(&world, &retried.pipeline_execution_id.unwrap().to_string()).await;
    assert!(after.iter().all(|step| !step.kept), "{after:?}");
}
