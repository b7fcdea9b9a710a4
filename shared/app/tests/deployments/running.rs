//! Whole deployments, through executions and jobs: coming up, failing, being stopped and tried again.

use serde_json::json;
use slipway_app::{DeploymentView, ListQuery};
use slipway_model::{
    ComponentStatus, DeploymentStatus, ExecutionLook, ExecutionStatus, JobType, Message, Queue, StepStatus,
};

use crate::world::{World, admin, mixed, problem};

async fn statuses(world: &World, id: &str) -> Vec<ComponentStatus> {
    let DeploymentView { components, .. } = world.view(id).await;
    components.into_iter().map(|one| one.status).collect()
}

#[tokio::test]
async fn a_mixed_deployment_comes_up_in_order() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let view = world.view(&id).await;
    for component in &view.components {
        assert_eq!(component.status, ComponentStatus::Running);
        let name = &component.release_name;
        let namespace = &view.deployment.namespace;
        assert_eq!(
            component.endpoint_url,
            Some(format!("http://{name}.{namespace}.svc:80"))
        );
        let job = world
            .app
            .job(&admin(), &component.job_id.unwrap().to_string())
            .await
            .unwrap();
        let expected = match component.component_name.as_str() {
            "vector_db" => JobType::VectorDbDeployment,
            "llm" => JobType::ModelDeployment,
            _ => JobType::HelmDeploy,
        };
        assert_eq!(job.job_type, expected);
        assert_eq!(job.source, "budpipeline");
    }
    let lines = world
        .app
        .deployment_events(&admin(), &id, None, 1000)
        .await
        .unwrap();
    let said = "Use case 'my-agent' deployed successfully";
    assert!(lines.iter().any(|line| line.message == said), "{lines:?}");
    let progress = world.app.deployment_progress(&admin(), &id).await.unwrap();
    assert_eq!(
        (progress.percent, progress.status),
        (100.0, DeploymentStatus::Running)
    );
    let execution = progress.execution.unwrap();
    assert_eq!(execution.status, ExecutionStatus::Completed);
    let steps: Vec<String> = execution
        .steps
        .unwrap()
        .into_iter()
        .map(|step| step.step_id)
        .collect();
    assert_eq!(
        steps,
        ["cluster_health", "vector_db", "llm", "runtime", "notify_complete"]
    );
}

#[tokio::test]
async fn progress_says_what_a_component_waits_for() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
    let (id, _) = world.planned("agent").await;
    for _ in 0..4 {
        for queue in ["budpipelineEvents", "budusecasesEvents"] {
            world.deliver(&Queue::ExecuteStep).await;
            world.deliver(&Queue::DeployHelm).await;
            world.deliver(&Queue::Topic(queue.to_owned())).await;
            world.clock.advance(std::time::Duration::from_secs(2));
        }
    }
    let progress = world.app.deployment_progress(&admin(), &id).await.unwrap();
    assert!(
        progress.percent > 0.0 && progress.percent < 100.0,
        "{}",
        progress.percent
    );
    let llm = progress
        .components
        .iter()
        .find(|one| one.component.component_name == "llm")
        .unwrap();
    assert_eq!(llm.component.status, ComponentStatus::Deploying);
    assert!(llm.waiting_for.is_some());
}

#[tokio::test]
async fn one_failure_fails_the_deployment_and_stops_what_came_after() {
    let world = World::new().await;
    world
        .cluster
        .cloud()
        .broken
        .insert("my-agent-llm".to_owned(), "no such image".to_owned());
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Failed);
    assert!(deployment.error_message.unwrap().contains("no such image"));
    use ComponentStatus::{Failed, Running, Stopped};
    assert_eq!(statuses(&world, &id).await, [Running, Failed, Stopped]);
    let llm = world.component(&id, "llm").await;
    assert!(llm.error_message.unwrap().contains("no such image"));
}

#[tokio::test]
async fn a_retry_keeps_what_completed() {
    let world = World::new().await;
    world
        .cluster
        .cloud()
        .broken
        .insert("my-agent-llm".to_owned(), "no such image".to_owned());
    let id = world.created("agent").await.deployment.id.to_string();
    let first = world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.broken.clear();
        cloud.log.clear();
    }
    let second = world.app.retry_deployment(&admin(), &id).await.unwrap();
    assert_eq!(second.status, DeploymentStatus::Deploying);
    assert_ne!(second.pipeline_execution_id, first.pipeline_execution_id);
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(
        (deployment.status, deployment.error_message),
        (DeploymentStatus::Running, None)
    );
    assert_eq!(
        deployment.earlier_execution_ids,
        [first.pipeline_execution_id.unwrap()]
    );
    assert_eq!(deployment.generation, 2);
    assert_eq!(
        world.cluster.cloud().log,
        ["apply my-agent-llm", "apply my-agent-runtime"]
    );
    let installed = world.cluster.cloud().installed["my-agent-runtime"].clone();
    assert!(installed["db"].as_str().unwrap().contains("my-agent-vector-db"));
    assert_eq!(statuses(&world, &id).await, [ComponentStatus::Running; 3]);
    let refused = problem(world.app.retry_deployment(&admin(), &id).await);
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains("RUNNING"), "{}", refused.detail);
}

#[tokio::test]
async fn stopping_in_flight_cancels_the_execution_and_keeps_what_completed() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
    let (id, execution) = world.planned("agent").await;
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
    assert_eq!(
        world.component(&id, "llm").await.status,
        ComponentStatus::Deploying
    );
    let stopped = world.app.stop_deployment(&admin(), &id).await.unwrap();
    // The execution still has to end: until then the deployment is not stopped.
    assert_eq!(stopped.status, DeploymentStatus::Deploying);
    assert!(world.deployment(&id).await.stop_requested);
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Stopped);
    assert!(!deployment.stop_requested);
    use ComponentStatus::{Running, Stopped};
    assert_eq!(statuses(&world, &id).await, [Running, Stopped, Stopped]);
    let execution = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    assert_eq!(execution.status, ExecutionStatus::Cancelled);
    assert!(
        !world.cluster.cloud().installed.contains_key("my-agent-llm"),
        "it was a first install"
    );
    assert!(world.cluster.cloud().installed.contains_key("my-agent-vector-db"));

    world.cluster.cloud().stuck.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn stopping_before_the_start_is_immediate() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let stopped = world.app.stop_deployment(&admin(), &id).await.unwrap();
    assert_eq!(stopped.status, DeploymentStatus::Stopped);
    assert_eq!(statuses(&world, &id).await, [ComponentStatus::Stopped; 3]);
    let refused = problem(world.app.stop_deployment(&admin(), &id).await);
    assert_eq!(
        refused.detail,
        format!("Deployment {id} cannot be stopped: it is STOPPED")
    );
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn stopping_before_planning_never_starts_anything() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert_eq!(statuses(&world, &id).await, [ComponentStatus::Stopped; 3]);
    assert!(world.cluster.cloud().log.is_empty());
}

#[tokio::test]
async fn sync_repairs_what_lost_events_left_behind() {
    let world = World::new().await;
    let (id, _) = world.planned("agent").await;
    let topic = Queue::Topic("budusecasesEvents".to_owned());
    for _ in 0..20 {
        world.deliver(&Queue::ExecuteStep).await;
        world.deliver(&Queue::DeployHelm).await;
        world.deliver(&Queue::Topic("budpipelineEvents".to_owned())).await;
        world.clock.advance(std::time::Duration::from_secs(2));
    }
    assert!(
        world.store.queue_length(&topic) > 0,
        "the events are there and nobody hears them"
    );
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    let view = world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(view.deployment.status, DeploymentStatus::Running);
    for component in &view.components {
        assert_eq!(component.status, ComponentStatus::Running);
        assert!(component.endpoint_url.is_some() && component.job_id.is_some());
    }
    // The events come after all.
    world.settle().await;
    let after = world.view(&id).await;
    assert_eq!(after.deployment.status, DeploymentStatus::Running);
    assert_eq!(statuses(&world, &id).await, [ComponentStatus::Running; 3]);
}

#[tokio::test]
async fn a_bad_chart_reference_fails_gracefully() {
    let world = World::new().await;
    let dag = json!({"name": "x", "callback_topics": [], "steps": [{"id": "a", "action": "helm_deploy", "params": {
        "cluster_id": "dev", "chart_ref": "{{ parameters.ref }}"}}], "parameters": {"ref": "ftp://bad-protocol/chart"}});
    let execution = world
        .app
        .create_execution(&admin(), dag)
        .await
        .unwrap()
        .id
        .to_string();
    world.settle().await;
    let progress = world
        .app
        .execution_progress(&admin(), &execution, true)
        .await
        .unwrap();
    assert_eq!(progress.status, ExecutionStatus::Failed);
    let step = &progress.steps.unwrap()[0];
    assert_eq!(step.status, StepStatus::Failed);
    let message = step.error_message.as_deref().unwrap();
    assert!(
        message.contains("does not match any allowed pattern"),
        "{message}"
    );
    assert!(world.cluster.cloud().log.is_empty());
    assert!(
        world
            .app
            .jobs(&admin(), &ListQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn an_execution_that_waits_for_a_person_sends_nothing_meanwhile() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "a", "action": "pass"}, {"id": "b", "action": "approval", "depends_on": ["a"]}]});
    let execution = world.app.create_execution(&admin(), dag).await.unwrap().id;
    for _ in 0..3 {
        let message = Message::Execution {
            tenant: admin().tenant,
            execution,
            look: ExecutionLook::Progress,
        };
        world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.store.next_message_at(), None);
}

#[tokio::test]
async fn what_a_failed_execution_undid_is_stopped_and_done_again_by_a_retry() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["settings"] = json!({"on_failure": "rollback"});
    world.app.publish_template(&admin(), template).await.unwrap();
    let broken = ("my-agent-runtime".to_owned(), "no such image".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    let id = world.created("agent").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    use ComponentStatus::{Failed, Running, Stopped};
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    assert_eq!(statuses(&world, &id).await, [Stopped, Stopped, Failed]);
    assert!(world.cluster.cloud().installed.is_empty());
    // A message that comes late says once more what had come up before it was undone.
    let execution = world.deployment(&id).await.pipeline_execution_id.unwrap();
    let outputs = json!({"endpoint_url": "http://llm", "status": "deployed"});
    world
        .step_event("step_completed", execution, "llm", outputs)
        .await;
    assert_eq!(statuses(&world, &id).await, [Stopped, Stopped, Failed]);
    world.cluster.cloud().broken.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let deployment = world.deployment(&id).await;
    assert_eq!(
        (deployment.status, deployment.error_message),
        (DeploymentStatus::Running, None)
    );
    assert_eq!(statuses(&world, &id).await, [Running; 3]);
    assert_eq!(world.cluster.cloud().installed.len(), 3);
}

#[tokio::test]
async fn the_name_of_an_object_that_outputs_are_read_of_may_be_made_of_others() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    template["components"][2]["outputs"] = json!({
        "url": {"from": "service", "name": "{{ deployment.name }}-llm"},
        "color": {"from": "config_map", "name": "plain", "key": "color"},
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    let job = world.component(&id, "runtime").await.job_id.unwrap();
    let job = world.app.job(&admin(), &job.to_string()).await.unwrap();
    assert_eq!(job.config["outputs"]["url"]["name"], "my-agent-llm");
    assert_eq!(job.config["outputs"]["color"]["name"], "plain");
}
