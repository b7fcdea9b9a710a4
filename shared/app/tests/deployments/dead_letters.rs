//! What becomes of steps, jobs, plans and looks whose messages nobody receives any more.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::NewJob;
use slipway_model::{
    DeploymentStatus, Event, ExecutionId, ExecutionLook, ExecutionProgress, ExecutionStatus, JobStatus,
    Message, Queue, StepProgress, StepRecord, StepStatus, TenantId,
};
use slipway_ports::{Guard, Item, Put, Receiver, Store, Stored};

use crate::world::{World, admin};

const JOB_EVENTS: &str = "budpipelineEvents";

async fn run(world: &World, dag: Value) -> String {
    let execution = world.app.create_execution(&admin(), dag).await.unwrap();
    execution.id.to_string()
}

async fn progress(world: &World, execution: &str) -> ExecutionProgress {
    let (app, caller) = (&world.app, admin());
    app.execution_progress(&caller, execution, true).await.unwrap()
}

async fn step(world: &World, execution: &str, id: &str) -> StepProgress {
    let steps = progress(world, execution).await.steps.unwrap();
    steps.into_iter().find(|step| step.step_id == id).unwrap()
}

/// Takes away what is on a queue.
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

async fn give_up(world: &World, queue: &Queue, messages: &[Message]) {
    for message in messages {
        world.app.give_up(queue, message, "it broke").await.unwrap();
    }
}

fn topic(name: &str) -> Queue {
    Queue::Topic(name.to_owned())
}

/// The stored item whose key has that in it.
fn stored(world: &World, part: &str) -> Stored {
    let mut found = world.store.items().into_iter();
    found.find(|item| item.key.to_string().contains(part)).unwrap()
}

/// The only chunk of an execution's plan.
fn plan_of(world: &World, execution: ExecutionId) -> Stored {
    let mut found = world.store.items().into_iter();
    let is_of = |partition: &str| partition.contains(&execution.to_string());
    found
        .find(|item| item.key.sort == "plan" && is_of(&item.key.partition))
        .unwrap()
}

/// Writes over an item.
async fn overwrite(world: &World, item: &Stored, body: &str) {
    let mut session = world.store.session();
    let new = Item {
        body: body.to_owned(),
        ..Item::default()
    };
    let put = session.put(&item.key, new, Guard::Any).await.unwrap();
    assert!(matches!(put, Put::Won(_)));
    session.settle().await.unwrap();
}

fn chart(id: &str, after: &[&str]) -> Value {
    json!({"id": id, "action": "helm_deploy", "depends_on": after,
           "params": {"cluster_id": "dev", "chart_ref": "charts/x", "release_name": id}})
}

#[tokio::test]
async fn a_step_whose_message_died_fails_with_the_reason_and_what_follows_happens() {
    let world = World::new().await;
    let dag = json!({"name": "x", "callback_topics": ["budusecasesEvents"], "steps": [
        chart("first", &[]), {"id": "skipped", "action": "pass", "depends_on": ["first"]},
        {"id": "tidies", "action": "pass", "depends_on": ["first"], "run": "failure"}]});
    let id = run(&world, dag).await;
    let messages = take(&world, &Queue::ExecuteStep).await;
    let reason = format!("the store is full\n{}", "é".repeat(2000));
    for message in &messages {
        world
            .app
            .give_up(&Queue::ExecuteStep, message, &reason)
            .await
            .unwrap();
    }
    let first = step(&world, &id, "first").await;
    assert_eq!(first.status, StepStatus::Failed);
    let why = first.error_message.unwrap();
    assert!(
        why.starts_with("gave up after the last try: the store is full é"),
        "{why}"
    );
    assert!(why.ends_with('…') && why.len() < 1100, "{} bytes", why.len());
    assert_eq!(take(&world, &topic("budusecasesEvents")).await.len(), 1);
    world.settle().await;
    for (name, status) in [
        ("skipped", StepStatus::Skipped),
        ("tidies", StepStatus::Completed),
    ] {
        assert_eq!(step(&world, &id, name).await.status, status, "{name}");
    }
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Failed);
    assert_eq!(world.cluster.cloud().log, [] as [&str; 0], "nothing may begin");

    let before = world.store.items();
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(world.store.items(), before, "what has ended stays as it is");
    assert_eq!(
        take(&world, &Queue::ExecuteStep).await,
        [],
        "and is only told again"
    );
}

#[tokio::test]
async fn what_a_job_installed_that_was_given_up_is_named_and_why_it_failed_stays() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let cluster = world.cluster.clone();
    world
        .cluster
        .meanwhile("apply", async move { cluster.cloud().away = true });
    let id = run(&world, json!({"name": "x", "steps": [chart("a", &[])]})).await;
    world.deliver(&Queue::ExecuteStep).await;
    world.deliver(&Queue::DeployHelm).await;
    let job = step(&world, &id, "a").await.job_id.unwrap();
    world.clock.advance(Duration::from_secs(300));
    let tenant = TenantId::local();
    give_up(&world, &Queue::DeployHelm, &[Message::Job { tenant, job }]).await;
    let ended = world.app.job(&admin(), &job.to_string()).await.unwrap();
    assert_eq!(ended.status, JobStatus::Failed);
    let message = ended.error_message.unwrap();
    assert!(
        message.contains("it broke") && message.contains("may have left Deployment/a"),
        "{message}"
    );
}

#[tokio::test]
async fn a_failure_that_was_given_up_undoes_what_came_before() {
    let world = World::new().await;
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"},
        "steps": [chart("done", &[]), chart("dies", &["done"])]});
    let id = run(&world, dag).await;
    for _ in 0..40 {
        world.deliver(&Queue::DeployHelm).await;
        if step(&world, &id, "done").await.status == StepStatus::Completed {
            break;
        }
        world.clock.advance(Duration::from_secs(2));
        let steps = take(&world, &Queue::ExecuteStep).await;
        for message in steps {
            world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
        }
        // Handling the end of the first job begins the second step: what follows is kept off its queue.
        let job = stored(&world, "|j");
        if job.body.contains("SUCCEEDED") {
            break;
        }
    }
    // The first job has ended, and its event tells the step, which readies the second.
    world
        .cluster
        .cloud()
        .broken
        .insert("dies".to_owned(), "never reached".to_owned());
    let events = take(&world, &topic(JOB_EVENTS)).await;
    give_up(&world, &topic(JOB_EVENTS), &events).await;
    assert_eq!(step(&world, &id, "done").await.status, StepStatus::Completed);
    let messages = take(&world, &Queue::ExecuteStep).await;
    assert_eq!(
        step(&world, &id, "dies").await.status,
        StepStatus::Pending,
        "nothing runs where a message is given up"
    );
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(step(&world, &id, "dies").await.status, StepStatus::Failed);
    world.settle().await;
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Failed);
    assert_eq!(world.cluster.cloud().log, ["apply done", "uninstall done"]);
}

#[tokio::test]
async fn how_a_job_ended_that_was_given_up_is_told_again_after_its_step_has_heard_of_it() {
    let world = World::new().await;
    let dag = json!({"name": "x", "callback_topics": ["budusecasesEvents"], "steps": [chart("a", &[])]});
    let id = run(&world, dag).await;
    world.deliver(&Queue::ExecuteStep).await;
    let jobs = take(&world, &Queue::DeployHelm).await;
    give_up(&world, &Queue::DeployHelm, &jobs).await;
    // Whoever ends the step has no message that would come again, and dies before anything of it is out.
    for message in take(&world, &topic(JOB_EVENTS)).await {
        world.app.handle(&topic(JOB_EVENTS), message).await.unwrap();
    }
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::Failed);
    for queue in World::queues() {
        take(&world, &queue).await;
    }
    give_up(&world, &Queue::DeployHelm, &jobs).await;
    world.deliver(&topic(JOB_EVENTS)).await;
    let told = take(&world, &topic("budusecasesEvents")).await;
    assert!(
        told.iter()
            .any(|message| matches!(message, Message::Event(event) if event.event_type == "step_failed")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_live_claim_is_left_alone_and_an_expired_one_is_not() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [chart("a", &[])]});
    let id = run(&world, dag).await;
    let messages = take(&world, &Queue::ExecuteStep).await;
    // As an invocation that claimed the step and has not come back.
    world
        .app
        .handle(&Queue::ExecuteStep, messages[0].clone())
        .await
        .unwrap();
    let written = stored(&world, "|s00000");
    let mut record: StepRecord = written.read().unwrap();
    record.status = StepStatus::Running;
    record.job_id = None;
    record.epoch = world.app.settings.epoch.clone();
    use slipway_ports::Clock;
    record.lease_until = Some(world.clock.now().plus(Duration::from_secs(100)));
    overwrite(&world, &written, &serde_json::to_string(&record).unwrap()).await;

    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::Running);
    world.clock.advance(Duration::from_secs(100));
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    let ended = step(&world, &id, "a").await;
    assert_eq!(ended.status, StepStatus::Failed);
    assert!(ended.error_message.unwrap().contains("it broke"));
    assert!(stored(&world, "|s00000").read::<StepRecord>().unwrap().fence > record.fence);
}

#[tokio::test]
async fn a_step_outlives_its_poke_while_its_job_works_and_takes_its_end_from_it() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let id = run(&world, json!({"name": "x", "steps": [chart("a", &[])]})).await;
    let messages = take(&world, &Queue::ExecuteStep).await;
    for message in &messages {
        world
            .app
            .handle(&Queue::ExecuteStep, message.clone())
            .await
            .unwrap();
    }
    world.deliver(&Queue::DeployHelm).await;
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::AwaitingEvent);

    world.cluster.cloud().stuck.clear();
    while take(&world, &topic(JOB_EVENTS)).await.is_empty() {
        world.clock.advance(Duration::from_secs(2));
        world.deliver(&Queue::DeployHelm).await;
    }
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    world.settle().await;
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::Completed);
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn a_message_that_came_too_early_fails_nothing() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "a", "action": "approval"}, {"id": "b", "action": "pass", "depends_on": ["a"]}]});
    let id = run(&world, dag).await;
    let first = take(&world, &Queue::ExecuteStep).await;
    let Message::Steps {
        tenant, execution, ..
    } = first[0].clone()
    else {
        panic!("{first:?}")
    };
    for ordinals in [vec![1], vec![2], vec![999]] {
        let message = Message::Steps {
            tenant: tenant.clone(),
            execution,
            ordinals,
        };
        give_up(&world, &Queue::ExecuteStep, &[message]).await;
    }
    assert_eq!(step(&world, &id, "b").await.status, StepStatus::Pending);
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Running);
    for message in first {
        world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
    }
    // It waits for a person, whom no message replaces.
    let message = Message::Steps {
        tenant,
        execution,
        ordinals: vec![0],
    };
    give_up(&world, &Queue::ExecuteStep, &[message]).await;
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::AwaitingEvent);
}

#[tokio::test]
async fn an_execution_whose_plan_cannot_be_read_ends_and_so_does_its_deployment() {
    let world = World::new().await;
    let (id, execution) = world.planned("models").await;
    let messages = take(&world, &Queue::ExecuteStep).await;
    let chunk = plan_of(&world, execution);
    overwrite(&world, &chunk, "{}").await;
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    let header = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    assert_eq!(header.status, ExecutionStatus::Failed);
    let why = header.failure.unwrap().message;
    assert!(
        why.contains("it broke") && why.contains("cannot be read"),
        "{why}"
    );
    let deployment = world.deployment(&id).await;
    assert_eq!(deployment.status, DeploymentStatus::Failed);
    assert!(deployment.error_message.unwrap().contains("it broke"));
    let before = world.store.items();
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(world.store.items(), before);
}

#[tokio::test]
async fn what_cannot_be_reached_is_left_for_later() {
    let world = World::new().await;
    let id = run(
        &world,
        json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]}),
    )
    .await;
    let messages = take(&world, &Queue::ExecuteStep).await;
    world.flaky.fail(7, 1000);
    let refused = world
        .app
        .give_up(&Queue::ExecuteStep, &messages[0], "it broke")
        .await;
    assert!(refused.is_err());
    world.flaky.fail(0, 0);
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::Pending);
    give_up(&world, &Queue::ExecuteStep, &messages).await;
    assert_eq!(step(&world, &id, "a").await.status, StepStatus::Failed);
}

#[tokio::test]
async fn a_look_that_died_has_what_was_lost_sent_again() {
    let world = World::new().await;
    let id = run(
        &world,
        json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]}),
    )
    .await;
    take(&world, &Queue::ExecuteStep).await;
    for look in [
        ExecutionLook::Progress,
        ExecutionLook::Control,
        ExecutionLook::Repair,
    ] {
        let message = Message::Execution {
            tenant: TenantId::local(),
            execution: id.parse().unwrap(),
            look,
        };
        give_up(&world, &Queue::ExecuteStep, &[message]).await;
        let sent = take(&world, &Queue::ExecuteStep).await.len();
        assert_eq!(sent > 0, look != ExecutionLook::Progress, "{look:?}");
    }
    let id = run(
        &world,
        json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]}),
    )
    .await;
    let message = Message::Execution {
        tenant: TenantId::local(),
        execution: id.parse().unwrap(),
        look: ExecutionLook::Repair,
    };
    overwrite(&world, &plan_of(&world, id.parse().unwrap()), "[]").await;
    give_up(&world, &Queue::ExecuteStep, &[message]).await;
    assert_eq!(
        world.app.execution(&admin(), &id).await.unwrap().status,
        ExecutionStatus::Failed
    );
}

#[tokio::test]
async fn a_deployment_whose_planning_died_fails_and_can_be_retried() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    let messages = take(&world, &Queue::PlanDag).await;
    give_up(&world, &Queue::PlanDag, &messages).await;
    let failed = world.deployment(&id).await;
    assert_eq!(failed.status, DeploymentStatus::Failed);
    assert_eq!(
        failed.error_message.unwrap(),
        "the deployment cannot be planned: gave up after the last try: it broke"
    );
    world.app.retry_deployment(&admin(), &id).await.unwrap();
    // It is about the generation before.
    give_up(&world, &Queue::PlanDag, &messages).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
    give_up(&world, &Queue::PlanDag, &messages).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn a_deployment_that_is_stopped_before_its_planning_dies_is_stopped() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    let messages = take(&world, &Queue::PlanDag).await;
    world.app.stop_deployment(&admin(), &id).await.unwrap();
    give_up(&world, &Queue::PlanDag, &messages).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Stopped);
}

async fn job(world: &World, release: &str) -> String {
    let new: NewJob = serde_json::from_value(json!({
        "name": "j", "job_type": "helm_deploy", "cluster_id": "dev",
        "config": {"chart_ref": "charts/x", "release_name": release, "namespace": "n"},
    }))
    .unwrap();
    let job = world.app.create_job(&admin(), new).await.unwrap();
    let id = job.id.to_string();
    world.app.execute_job(&admin(), &id).await.unwrap();
    id
}

async fn job_status(world: &World, id: &str) -> JobStatus {
    world.app.job(&admin(), id).await.unwrap().status
}

#[tokio::test]
async fn a_job_whose_message_died_fails_says_so_once_and_frees_its_release() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("r".to_owned());
    let id = job(&world, "r").await;
    world.deliver(&Queue::DeployHelm).await;
    world.clock.advance(Duration::from_secs(30));
    let messages = take(&world, &Queue::DeployHelm).await;
    // The invocation before went on as it should until the message was lost.
    world.clock.advance(Duration::from_secs(120));
    give_up(&world, &Queue::DeployHelm, &messages).await;
    let ended = world.app.job(&admin(), &id).await.unwrap();
    assert_eq!(ended.status, JobStatus::Failed);
    assert!(ended.error_message.unwrap().contains("it broke"));
    assert_eq!(take(&world, &topic(JOB_EVENTS)).await.len(), 1);
    give_up(&world, &Queue::DeployHelm, &messages).await;
    assert_eq!(take(&world, &topic(JOB_EVENTS)).await.len(), 0);
    world.cluster.cloud().stuck.clear();
    let next = job(&world, "r").await;
    world.settle().await;
    assert_eq!(job_status(&world, &next).await, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_job_that_somebody_works_on_is_left_alone() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("r".to_owned());
    let id = job(&world, "r").await;
    let messages = take(&world, &Queue::DeployHelm).await;
    for message in &messages {
        world
            .app
            .handle(&Queue::DeployHelm, message.clone())
            .await
            .unwrap();
    }
    // Its last invocation went well a moment ago, after the message died.
    world.clock.advance(Duration::from_secs(1));
    let later = take(&world, &Queue::DeployHelm).await;
    let owner = stored(&world, "/r|owner");
    let mut held: Value = serde_json::from_str(&owner.body).unwrap();
    assert_eq!(held["busy"], false);
    held["busy"] = json!(true);
    overwrite(&world, &owner, &held.to_string()).await;
    give_up(&world, &Queue::DeployHelm, &messages).await;
    assert_eq!(job_status(&world, &id).await, JobStatus::Running);
    // Nobody has come back from that.
    world.clock.advance(Duration::from_secs(600));
    give_up(&world, &Queue::DeployHelm, &later).await;
    give_up(&world, &Queue::DeployHelm, &messages).await;
    assert_eq!(job_status(&world, &id).await, JobStatus::Failed);
}

#[tokio::test]
async fn the_event_of_an_execution_that_died_ends_its_deployment() {
    let world = World::new().await;
    let (id, _) = world.planned("models").await;
    let mut events = Vec::new();
    for _ in 0..20 {
        world.deliver(&Queue::ExecuteStep).await;
        world.deliver(&Queue::DeployHelm).await;
        world.deliver(&topic(JOB_EVENTS)).await;
        events.extend(take(&world, &topic("budusecasesEvents")).await);
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(world.status(&id).await, DeploymentStatus::Deploying);
    give_up(&world, &topic("budusecasesEvents"), &events).await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Running);
}

#[tokio::test]
async fn events_of_any_shape_are_given_up_in_peace() {
    let world = World::new().await;
    for (event_type, workflow_id, payload) in [
        ("job_failed", "nobody", json!({"job_id": 7})),
        (
            "job_completed",
            "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b",
            json!(null),
        ),
        ("workflow_failed", "", json!({"execution_id": "x"})),
        ("", "", json!([])),
    ] {
        let event = Event {
            event_type: event_type.to_owned(),
            workflow_id: workflow_id.to_owned(),
            tenant_id: Some("NOT A TENANT/".to_owned()),
            payload,
        };
        for name in [JOB_EVENTS, "budusecasesEvents", "others"] {
            give_up(&world, &topic(name), &[Message::Event(event.clone())]).await;
        }
    }
}
