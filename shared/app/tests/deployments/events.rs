//! What each event does to a deployment, in whatever order and however often it comes.

use serde_json::{Value, json};
use slipway_model::{ComponentStatus, DeploymentStatus, Event, ExecutionId, HistoryEntry};

use crate::world::{World, admin, problem};

async fn history(world: &World, id: &str) -> Vec<HistoryEntry> {
    world
        .app
        .deployment_events(&admin(), id, None, 1000)
        .await
        .unwrap()
}

#[tokio::test]
async fn step_started_makes_a_component_deploying() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    world
        .step_event("step_started", execution, "llm", json!({}))
        .await;
    assert_eq!(
        world.component(&id, "llm").await.status,
        ComponentStatus::Deploying
    );
    assert_eq!(
        world.component(&id, "vector_db").await.status,
        ComponentStatus::Pending
    );
}

#[tokio::test]
async fn step_completed_makes_a_component_running_and_keeps_job_and_endpoint() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    let job = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b";
    let outputs = json!({"job_id": job, "endpoint_url": "http://llm:80"});
    world
        .step_event("step_completed", execution, "llm", outputs)
        .await;
    let component = world.component(&id, "llm").await;
    assert_eq!(component.status, ComponentStatus::Running);
    assert_eq!(component.job_id.unwrap().to_string(), job);
    assert_eq!(component.endpoint_url.as_deref(), Some("http://llm:80"));
    // Neither is needed.
    world
        .step_event("step_completed", execution, "vector_db", json!({}))
        .await;
    let component = world.component(&id, "vector_db").await;
    assert_eq!(
        (component.status, component.job_id),
        (ComponentStatus::Running, None)
    );
}

#[tokio::test]
async fn step_failed_makes_a_component_failed_with_either_message() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    for (step, key) in [("llm", "error_message"), ("vector_db", "error")] {
        let payload =
            json!({"execution_id": execution, "step_id": step, "status": "FAILED", key: "out of memory"});
        world.event("step_failed", payload).await;
        let component = world.component(&id, step).await;
        assert_eq!(component.status, ComponentStatus::Failed);
        assert_eq!(component.error_message.as_deref(), Some("out of memory"), "{key}");
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
}

#[tokio::test]
async fn a_step_failed_event_says_how_the_step_ended() {
    for (status, expected) in [
        ("SKIPPED", ComponentStatus::Stopped),
        ("CANCELLED", ComponentStatus::Stopped),
        ("TIMED_OUT", ComponentStatus::Failed),
    ] {
        let world = World::new().await;
        let (id, execution) = world.planned("agent").await;
        let payload =
            json!({"execution_id": execution, "step_id": "llm", "status": status, "error_message": "x"});
        world.event("step_failed", payload).await;
        assert_eq!(world.component(&id, "llm").await.status, expected, "{status}");
    }
}

#[tokio::test]
async fn a_component_whose_condition_is_false_is_stopped_and_not_failed() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    let payload = json!({"execution_id": execution, "step_id": "llm", "status": "SKIPPED", "outputs": {}});
    world.event("step_completed", payload).await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Stopped);
}

#[tokio::test]
async fn workflow_events_set_the_deployment() {
    for (event_type, status, expected, message) in [
        ("workflow_completed", "COMPLETED", DeploymentStatus::Running, None),
        (
            "workflow_failed",
            "FAILED",
            DeploymentStatus::Failed,
            Some("llm died"),
        ),
        (
            "workflow_failed",
            "TIMED_OUT",
            DeploymentStatus::Failed,
            Some("llm died"),
        ),
        (
            "execution_cancelled",
            "CANCELLED",
            DeploymentStatus::Stopped,
            None,
        ),
        (
            "execution_completed",
            "COMPLETED",
            DeploymentStatus::Running,
            None,
        ),
        (
            "execution_completed",
            "FAILED",
            DeploymentStatus::Failed,
            Some("llm died"),
        ),
        (
            "execution_completed",
            "TIMED_OUT",
            DeploymentStatus::Failed,
            Some("llm died"),
        ),
        (
            "execution_completed",
            "CANCELLED",
            DeploymentStatus::Stopped,
            None,
        ),
        ("execution_completed", "ELSE", DeploymentStatus::Deploying, None),
    ] {
        let world = World::new().await;
        let (id, execution) = world.planned("agent").await;
        let payload = json!({"execution_id": execution, "status": status, "error_message": message});
        world.event(event_type, payload).await;
        let deployment = world.deployment(&id).await;
        assert_eq!(deployment.status, expected, "{event_type} {status}");
        assert_eq!(
            deployment.error_message.as_deref(),
            message,
            "{event_type} {status}"
        );
    }
}

#[tokio::test]
async fn a_cancelled_execution_stops_what_is_open_and_nothing_else() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    world
        .step_event("step_completed", execution, "vector_db", json!({}))
        .await;
    world
        .step_event("step_started", execution, "llm", json!({}))
        .await;
    world
        .event("execution_cancelled", json!({"execution_id": execution}))
        .await;
    let expected = [
        ("vector_db", ComponentStatus::Running),
        ("llm", ComponentStatus::Stopped),
        ("runtime", ComponentStatus::Stopped),
    ];
    for (name, status) in expected {
        assert_eq!(world.component(&id, name).await.status, status, "{name}");
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
}

#[tokio::test]
async fn failed_components_stay_failed_when_the_execution_is_cancelled() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    world.step_event("step_failed", execution, "llm", json!({})).await;
    world
        .event("execution_cancelled", json!({"execution_id": execution}))
        .await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Failed);
}

#[tokio::test]
async fn events_of_steps_that_are_no_components_change_no_component() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    let before = world.components(&id).await;
    for step in ["cluster_health", "notify_complete", "nothing", "../x"] {
        for event_type in ["step_started", "step_completed", "step_failed"] {
            world.step_event(event_type, execution, step, json!({})).await;
        }
    }
    assert_eq!(world.components(&id).await, before);
}

#[tokio::test]
async fn what_cannot_be_understood_is_dropped() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    let before = world.view(&id).await;
    for (event_type, payload) in [
        ("something_new", json!({"execution_id": execution})),
        ("", json!({"execution_id": execution})),
        ("step_completed", json!({})),
        ("step_completed", Value::Null),
        ("step_completed", json!([1, 2])),
        ("step_completed", json!({"execution_id": 7, "step_id": "llm"})),
        (
            "step_completed",
            json!({"execution_id": "not-a-uuid", "step_id": "llm"}),
        ),
        ("step_completed", json!({"execution_id": execution})),
        (
            "step_completed",
            json!({"execution_id": execution, "step_id": ["llm"]}),
        ),
        (
            "workflow_completed",
            json!({"execution_id": "00000000-0000-4000-8000-000000000000"}),
        ),
        ("job_completed", json!({"job_id": "x", "status": "SUCCEEDED"})),
    ] {
        world.event(event_type, payload).await;
    }
    let event = Event {
        event_type: "workflow_completed".to_owned(),
        workflow_id: execution.to_string(),
        tenant_id: Some("NOT A TENANT".to_owned()),
        payload: json!({"execution_id": execution}),
    };
    world.app.track_event(&event).await.unwrap();
    assert_eq!(world.view(&id).await, before);
}

#[tokio::test]
async fn a_job_id_that_is_no_uuid_is_left_out() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    for job in [json!("not-a-uuid"), json!(7), json!(null)] {
        let outputs = json!({"job_id": job, "endpoint_url": "http://llm:80"});
        world
            .step_event("step_completed", execution, "llm", outputs)
            .await;
    }
    let component = world.component(&id, "llm").await;
    assert_eq!(
        (component.status, component.job_id),
        (ComponentStatus::Running, None)
    );
    assert_eq!(component.endpoint_url.as_deref(), Some("http://llm:80"));
}

#[tokio::test]
async fn late_and_repeated_events_do_not_lead_back() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    for event_type in ["step_completed", "step_started", "step_failed", "step_completed"] {
        world.step_event(event_type, execution, "llm", json!({})).await;
    }
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
    world
        .event(
            "workflow_failed",
            json!({"execution_id": execution, "error": "first"}),
        )
        .await;
    world
        .event("workflow_completed", json!({"execution_id": execution}))
        .await;
    world
        .event("execution_cancelled", json!({"execution_id": execution}))
        .await;
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Failed);
    assert_eq!(deployment.error_message.as_deref(), Some("first"));
}

#[tokio::test]
async fn the_end_of_a_step_that_arrives_after_the_cancellation_still_counts() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    world
        .step_event("step_started", execution, "llm", json!({}))
        .await;
    world
        .event("execution_cancelled", json!({"execution_id": execution}))
        .await;
    world
        .step_event("step_started", execution, "llm", json!({}))
        .await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Stopped);
    world
        .step_event("step_completed", execution, "llm", json!({}))
        .await;
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Running);
}

#[tokio::test]
async fn events_of_an_earlier_execution_change_nothing() {
    let world = World::new().await;
    let (id, first) = world.planned("agent").await;
    world
        .event("execution_cancelled", json!({"execution_id": first}))
        .await;
    let second = world.app.retry_deployment(&admin(), &id).await.unwrap();
    assert_ne!(second.pipeline_execution_id, Some(first));
    world.deliver(&slipway_model::Queue::PlanDag).await;
    world.step_event("step_failed", first, "llm", json!({})).await;
    world
        .event("workflow_failed", json!({"execution_id": first}))
        .await;
    world
        .event("execution_cancelled", json!({"execution_id": first}))
        .await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    let components = world.components(&id).await;
    assert!(
        components
            .iter()
            .all(|(_, status)| *status == ComponentStatus::Pending),
        "{components:?}"
    );
}

#[tokio::test]
async fn every_event_stands_once_in_the_history_in_the_order_in_which_it_arrived() {
    let world = World::new().await;
    let (id, execution) = world.planned("agent").await;
    world.clock.advance(std::time::Duration::from_secs(1));
    let step = |event_type: &'static str| world.step_event(event_type, execution, "llm", json!({}));
    step("step_started").await;
    world.clock.advance(std::time::Duration::from_secs(1));
    step("step_completed").await;
    step("step_started").await;
    world.clock.advance(std::time::Duration::from_secs(1));
    world
        .event(
            "workflow_failed",
            json!({"execution_id": execution, "error_message": "why"}),
        )
        .await;
    let lines = history(&world, &id).await;
    let types: Vec<&str> = lines.iter().map(|line| line.entry_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "created",
            "start_requested",
            "step_started",
            "step_completed",
            "workflow_failed"
        ]
    );
    assert_eq!(lines[4].message, "the execution failed: why");
    assert_eq!(lines[3].step_id.as_deref(), Some("llm"));
    let after = world
        .app
        .deployment_events(&admin(), &id, Some(&lines[2].id), 10)
        .await
        .unwrap();
    assert_eq!(after, lines[3..]);
    let first = world.app.deployment_events(&admin(), &id, None, 2).await.unwrap();
    assert_eq!(first, lines[..2]);
    for bad in ["a b", "\u{0}", &"x".repeat(100)] {
        let refused = world.app.deployment_events(&admin(), &id, Some(bad), 10).await;
        assert_eq!(problem(refused).status, 400);
    }
}

#[tokio::test]
async fn an_execution_that_was_posted_by_hand_has_no_deployment_to_change() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    let execution: ExecutionId = world.app.create_execution(&admin(), dag).await.unwrap().id;
    world.settle().await;
    world
        .event("workflow_completed", json!({"execution_id": execution}))
        .await;
}
