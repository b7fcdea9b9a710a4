//! How steps and executions end: errors that repeat, blocked clusters, stops, approvals, deadlines, and ends from
//! outside.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::Approval;
use slipway_model::{
    ComponentStatus, DeploymentStatus, ExecutionId, ExecutionProgress, ExecutionStatus, Message, Queue,
    StepProgress, StepStatus,
};
use slipway_ports::Receiver;

use crate::world::{World, admin, problem};

fn deploy(id: &str, max_attempts: u32) -> Value {
    json!({"id": id, "action": "helm_deploy", "retry": {"max_attempts": max_attempts, "backoff_seconds": 1},
        "params": {"cluster_id": "dev", "chart_ref": "charts/x", "release_name": id, "namespace": "n"}})
}

pub(crate) async fn run(world: &World, dag: Value) -> ExecutionId {
    world.app.create_execution(&admin(), dag).await.unwrap().id
}

pub(crate) async fn progress(world: &World, id: ExecutionId) -> ExecutionProgress {
    let id = id.to_string();
    world.app.execution_progress(&admin(), &id, true).await.unwrap()
}

pub(crate) async fn step(world: &World, id: ExecutionId, name: &str) -> StepProgress {
    let steps = progress(world, id).await.steps.unwrap();
    steps.into_iter().find(|step| step.step_id == name).unwrap()
}

#[tokio::test]
async fn an_error_that_would_come_again_uses_up_no_attempts() {
    let world = World::new().await;
    let broken = ("x".to_owned(), "values do not fit the schema".to_owned());
    world.cluster.cloud().broken.insert(broken.0, broken.1);
    // Each job tries four times by itself.
    world.cluster.cloud().flaky.insert("y".to_owned(), 5);
    let id = run(
        &world,
        json!({"name": "x", "settings": {"on_failure": "continue"}, "steps": [deploy("x", 5), deploy("y", 5)]}),
    )
    .await;
    world.settle().await;
    let permanent = step(&world, id, "x").await;
    assert_eq!((permanent.status, permanent.attempt), (StepStatus::Failed, 1));
    let transient = step(&world, id, "y").await;
    assert_eq!(
        (transient.status, transient.attempt),
        (StepStatus::Completed, 2),
        "{transient:?}"
    );
    assert!(transient.attempts[0].error_message.contains("too many requests"));
}

#[tokio::test]
async fn a_cluster_out_of_reach_blocks_and_does_not_fail() {
    let world = World::new().await;
    world.cluster.cloud().away = true;
    let id = run(&world, json!({"name": "x", "steps": [deploy("x", 1)]})).await;
    // Five minutes, in which jobs come back many more than four times.
    for _ in 0..300 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    let blocked = step(&world, id, "x").await;
    assert_eq!(blocked.status, StepStatus::AwaitingEvent, "{blocked:?}");
    let waiting = blocked.waiting_for.unwrap();
    assert!(
        waiting.contains("out of reach") && waiting.contains("no route to host"),
        "{waiting}"
    );
    world.cluster.cloud().away = false;
    world.settle().await;
    assert_eq!(step(&world, id, "x").await.status, StepStatus::Completed);

    world.cluster.cloud().away = true;
    let id = run(&world, json!({"name": "x", "steps": [deploy("x", 1)]})).await;
    world.settle().await;
    let ended = step(&world, id, "x").await;
    assert_eq!(ended.status, StepStatus::Failed, "ten minutes are enough");
    assert!(ended.error_message.unwrap().contains("no route to host"));
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_with_helm_says_so_and_loses_no_tries() {
    for while_applying in [false, true] {
        let world = World::new().await;
        let id = run(&world, json!({"name": "x", "steps": [deploy("x", 1)]})).await;
        if while_applying {
            let crowd = world.cluster.clone();
            world
                .cluster
                .meanwhile("apply", async move { crowd.cloud().crowded = true });
        } else {
            world.cluster.cloud().crowded = true;
        }
        // Two minutes, in which it comes back many more than four times.
        for _ in 0..120 {
            for queue in World::queues() {
                world.deliver(&queue).await;
            }
            world.clock.advance(Duration::from_secs(1));
        }
        let queued = step(&world, id, "x").await;
        assert_eq!(queued.status, StepStatus::AwaitingEvent, "{queued:?}");
        assert_eq!(
            queued.waiting_for.unwrap(),
            "helm: queued (all 8 places for Helm are taken)"
        );
        world.cluster.cloud().crowded = false;
        world.settle().await;
        assert_eq!(step(&world, id, "x").await.status, StepStatus::Completed);
        let job = queued.job_id.unwrap().to_string();
        let job = world.app.job(&admin(), &job).await.unwrap();
        assert_eq!((job.retry_count, job.waiting_for.len()), (0, 0), "{job:?}");
    }
}

#[tokio::test]
async fn what_is_to_be_taken_away_waits_for_its_turn_as_long_as_that_takes() {
    let world = World::new().await;
    world
        .cluster
        .cloud()
        .broken
        .insert("collect x".to_owned(), "it is not there".to_owned());
    {
        let mut cloud = world.cluster.cloud();
        cloud.lingering.insert("x".to_owned());
        cloud
            .hooks
            .insert("x post-delete".to_owned(), vec!["sweep".to_owned()]);
    }
    let crowd = world.cluster.clone();
    world
        .cluster
        .meanwhile("uninstall", async move { crowd.cloud().crowded = true });
    let id = run(&world, json!({"name": "x", "steps": [deploy("x", 1)]})).await;
    // Ten minutes, which is more than taking away has once Helm can be asked.
    for _ in 0..600 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    let waits = step(&world, id, "x").await;
    assert_eq!(waits.status, StepStatus::AwaitingEvent, "{waits:?}");
    assert!(
        waits
            .waiting_for
            .unwrap()
            .contains("all 8 places for Helm are taken")
    );
    world.cluster.cloud().crowded = false;
    // Its pods take a minute to go.
    for _ in 0..60 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    world.cluster.cloud().lingering.clear();
    world.settle().await;
    let failed = step(&world, id, "x").await;
    assert_eq!(failed.status, StepStatus::Failed);
    assert_eq!(failed.error_message.unwrap(), "it is not there");
    let cloud = world.cluster.cloud();
    assert!(cloud.installed.is_empty());
    assert!(cloud.log.contains(&"hook sweep".to_owned()), "{:?}", cloud.log);
}

#[tokio::test]
async fn a_job_whose_turn_never_comes_ends_at_its_deadline_and_a_cancelled_one_at_once() {
    let world = World::new().await;
    world.cluster.cloud().crowded = true;
    let mut short = deploy("x", 1);
    short["timeout_seconds"] = json!(60);
    let id = run(&world, json!({"name": "x", "steps": [short]})).await;
    let cancelled = run(&world, json!({"name": "y", "steps": [deploy("y", 1)]})).await;
    for _ in 0..30 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    let why = "nobody wants it";
    let text = cancelled.to_string();
    world.app.cancel_execution(&admin(), &text, why).await.unwrap();
    for _ in 0..5 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(step(&world, cancelled, "y").await.status, StepStatus::Cancelled);
    world.settle().await;
    let late = step(&world, id, "x").await;
    assert_eq!(late.status, StepStatus::TimedOut);
    let said = late.error_message.unwrap();
    assert!(
        said.contains("deadline of 60 seconds; waiting for helm: queued (all 8 places"),
        "{said}"
    );
    assert_eq!(world.cluster.cloud().log, Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_after_a_cancellation_still_uninstalls_what_is_in_flight() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
    let (id, execution) = world.planned("agent").await;
    for _ in 0..5 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    assert!(world.cluster.cloud().installed.contains_key("my-agent-llm"));
    let execution = execution.to_string();
    world
        .app
        .cancel_execution(&admin(), &execution, "first")
        .await
        .unwrap();
    // Before anything has come of that.
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    let cloud = world.cluster.cloud();
    assert!(
        !cloud.installed.contains_key("my-agent-llm"),
        "it was in flight: {:?}",
        cloud.log
    );
    assert!(
        cloud.installed.contains_key("my-agent-vector-db"),
        "it had completed"
    );
}

#[tokio::test]
async fn what_was_stopped_is_started_again_by_a_retry() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("my-agent-llm".to_owned());
    let (id, _) = world.planned("agent").await;
    for _ in 0..5 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
    assert_eq!(world.component(&id, "llm").await.status, ComponentStatus::Stopped);
    world.cluster.cloud().stuck.clear();
    world.cluster.cloud().log.clear();
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    assert_eq!(
        world.cluster.cloud().log,
        ["apply my-agent-llm", "apply my-agent-runtime"]
    );
}

#[tokio::test]
async fn a_refusal_says_who_and_why_and_is_not_asked_again() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "ask", "action": "approval", "params": {"message": "now?"}, "retry": {"max_attempts": 3},
         "timeout_seconds": 600}]});
    let id = run(&world, dag.clone()).await;
    world.deliver(&Queue::ExecuteStep).await;
    let waits = step(&world, id, "ask").await;
    assert_eq!(waits.status, StepStatus::AwaitingEvent);
    let waiting = waits.waiting_for.unwrap();
    assert!(
        waiting.starts_with("the approval of a person, until ") && waiting.ends_with("Z: now?"),
        "{waiting}"
    );
    let refusal = Approval {
        approved: false,
        comment: Some("not on a Friday".to_owned()),
    };
    world
        .app
        .approve_step(&admin(), &id.to_string(), "ask", refusal)
        .await
        .unwrap();
    world.settle().await;
    let refused = step(&world, id, "ask").await;
    assert_eq!((refused.status, refused.attempt), (StepStatus::Failed, 1));
    assert_eq!(
        refused.error_message.unwrap(),
        "the approval was refused by user-789: not on a Friday"
    );
    assert!(refused.outputs["decided_at"].is_string(), "{:?}", refused.outputs);

    let id = run(&world, dag).await;
    world.settle().await;
    world.clock.advance(Duration::from_secs(601));
    let late = Approval {
        approved: true,
        comment: None,
    };
    let refused = problem(
        world
            .app
            .approve_step(&admin(), &id.to_string(), "ask", late)
            .await,
    );
    assert!(
        refused.detail.contains("has passed its deadline"),
        "{}",
        refused.detail
    );
    world.settle().await;
    assert_eq!(step(&world, id, "ask").await.status, StepStatus::TimedOut);
    assert_eq!(progress(&world, id).await.status, ExecutionStatus::Failed);
}

/// Messages on a queue that can be received now, which are taken away.
async fn take(world: &World, queue: &Queue) -> Vec<Message> {
    let mut taken = Vec::new();
    loop {
        let got = world
            .store
            .receive(queue, 10, Duration::ZERO, Duration::from_secs(60))
            .await
            .unwrap();
        if got.is_empty() {
            return taken;
        }
        for delivery in got {
            taken.push(Message::from_body(queue, &delivery.body).unwrap());
            world.store.acknowledge(queue, &delivery.receipt).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_that_posts_many_steps_with_effects_sends_few_messages() {
    let world = World::new().await;
    let steps: Vec<Value> = (0..1_000)
        .map(|index| json!({"id": format!("n{index}"), "action": "http_request", "params": {"url": "http://nobody"}}))
        .collect();
    let id = run(
        &world,
        json!({"name": "x", "settings": {"on_failure": "continue"}, "steps": steps}),
    )
    .await;
    let sent = take(&world, &Queue::ExecuteStep).await;
    assert!(sent.len() <= 1_000 / 64 + 2, "{} messages", sent.len());
    for message in sent {
        world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
    }
    let mut own = 0;
    loop {
        let sent = take(&world, &Queue::ExecuteStep).await;
        if sent.is_empty() {
            break;
        }
        for message in sent {
            own += usize::from(matches!(&message, Message::Steps { ordinals, .. } if ordinals.len() == 1));
            world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
        }
    }
    assert!(own >= 1_000, "each effect has a message of its own: {own}");
    let ended = progress(&world, id).await;
    assert_eq!(
        (ended.status, ended.finished_steps),
        (ExecutionStatus::Failed, 1_000)
    );
}

#[tokio::test]
async fn what_a_step_keeps_while_it_waits_is_no_larger_than_outputs_may_be() {
    let world = World::new().await;
    let large = "x".repeat(300 * 1024);
    let id = run(
        &world,
        json!({"name": "x", "settings": {"on_failure": "continue"}, "steps": [
            {"id": "ask", "action": "approval", "params": {"message": large}},
            {"id": "b", "action": "pass"}]}),
    )
    .await;
    world.settle().await;
    let ask = step(&world, id, "ask").await;
    assert_eq!(ask.status, StepStatus::Failed);
    let why = "its outputs are larger than 256 KiB";
    assert_eq!(ask.error_message.as_deref(), Some(why));
    assert_eq!(step(&world, id, "b").await.status, StepStatus::Completed);
}

#[tokio::test]
async fn a_list_of_steps_is_answered_however_large_their_outputs_are_and_each_is_told_by_itself() {
    let world = World::new().await;
    let large = "x".repeat(200 * 1024);
    let steps: Vec<_> = (0..15)
        .map(|number| json!({"id": format!("s{number}"), "action": "pass", "params": {"text": large}}))
        .collect();
    let id = run(&world, json!({"name": "x", "steps": steps})).await;
    world.settle().await;
    let progress = world
        .app
        .execution_progress(&admin(), &id.to_string(), true)
        .await
        .unwrap();
    let size = serde_json::to_string(&progress).unwrap().len();
    assert!(size < 3 << 20, "{size} bytes");
    let last = progress.steps.unwrap().pop().unwrap();
    assert_eq!(
        (last.step_id.as_str(), last.status),
        ("s14", StepStatus::Completed)
    );
    let note = last.outputs["outputs_left_out"].as_str().unwrap();
    let place = format!("/api/v1/executions/{id}/steps/s14");
    assert!(note.ends_with(&place), "{note}");
    let id = id.to_string();
    let whole = world.app.execution_step(&admin(), &id, "s14").await.unwrap();
    assert_eq!(whole.outputs["text"], large);
    let none = world.app.execution_step(&admin(), &id, "s15").await;
    assert_eq!(crate::world::problem(none).status, 404);
}
