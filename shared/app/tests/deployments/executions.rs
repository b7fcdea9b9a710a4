//! Executions of DAGs that callers post, where something unusual happens.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use slipway_app::NewJob;
use slipway_model::{
    ExecutionProgress, ExecutionStatus, JobStatus, Message, Queue, StepProgress, StepStatus,
};
use slipway_ports::{Receiver, Secrets};
use slipway_testkit::memory::SimpleStore;

use crate::world::{World, admin};

pub(crate) async fn run(world: &World, dag: Value) -> String {
    let execution = world.app.create_execution(&admin(), dag).await.unwrap();
    execution.id.to_string()
}

pub(crate) async fn progress(world: &World, execution: &str) -> ExecutionProgress {
    let (app, caller) = (&world.app, admin());
    app.execution_progress(&caller, execution, true).await.unwrap()
}

pub(crate) async fn step(world: &World, execution: &str, id: &str) -> StepProgress {
    let steps = progress(world, execution).await.steps.unwrap();
    steps.into_iter().find(|step| step.step_id == id).unwrap()
}

/// Takes away what is on the queue of steps, as a crash between writing and sending does.
async fn lose(store: &SimpleStore) -> Vec<Message> {
    let (queue, mut lost) = (Queue::ExecuteStep, Vec::new());
    loop {
        let got = store
            .receive(&queue, 10, Duration::ZERO, Duration::from_secs(60))
            .await
            .unwrap();
        if got.is_empty() {
            return lost;
        }
        for delivery in got {
            lost.push(Message::from_body(&queue, &delivery.body).unwrap());
            store.acknowledge(&queue, &delivery.receipt).await.unwrap();
        }
    }
}

pub(crate) fn chart(id: &str, more: &Value) -> Value {
    let mut params = json!({"cluster_id": "dev", "chart_ref": "charts/x", "release_name": id});
    params
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"id": id, "action": "helm_deploy", "params": params})
}

#[tokio::test]
async fn a_false_condition_skips_what_runs_on_failures_too() {
    let world = World::new().await;
    let dag = json!({"name": "x", "parameters": {"tell": false}, "steps": [
        {"id": "fails", "action": "http_request", "params": {"url": "http://nobody"}},
        {"id": "untold", "action": "pass", "depends_on": ["fails"], "run": "failure", "when": "parameters.tell"},
        {"id": "never", "action": "pass", "depends_on": ["fails"], "run": "always", "when": "parameters.tell"},
        {"id": "told", "action": "pass", "depends_on": ["fails"], "run": "failure", "when": "not parameters.tell"},
    ]});
    let id = run(&world, dag).await;
    world.settle().await;
    for (name, status) in [
        ("fails", StepStatus::Failed),
        ("untold", StepStatus::Skipped),
        ("never", StepStatus::Skipped),
        ("told", StepStatus::Completed),
    ] {
        assert_eq!(step(&world, &id, name).await.status, status, "{name}");
    }
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Failed);
}

#[tokio::test]
async fn what_a_notification_says_is_kept_without_its_secrets() {
    let world = World::new().await;
    let (tenant, secret) = (admin().tenant, "hunter22".to_owned());
    world
        .secrets
        .put(&tenant, "expressions/token", secret.into())
        .await
        .unwrap();
    let dag = json!({"name": "x", "steps": [{"id": "tell", "action": "notification",
        "params": {"message": "log in with {{ secrets.token }} or {{ secrets.token | upper }} now"}}]});
    let id = run(&world, dag).await;
    world.settle().await;
    let told = step(&world, &id, "tell").await;
    assert_eq!(told.status, StepStatus::Completed);
    let message = told.outputs["message"].as_str().unwrap();
    assert!(
        message.starts_with("log in with ") && message.ends_with(" now"),
        "{message}"
    );
    for secret in ["hunter22", "HUNTER22"] {
        assert!(!message.contains(secret), "{message}");
        for item in world.store.items() {
            assert!(!item.body.contains(secret), "{item:?}");
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_absent_gives_way_to_its_default() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "tell", "action": "notification", "params": {"message": "as {{ secrets.user | default('nobody') }}"}},
        {"id": "ask", "action": "notification", "depends_on": ["tell"],
         "params": {"message": "{{ secrets.user | default('nobody') }}, not {{ secrets.user }}"}},
    ]});
    let id = run(&world, dag).await;
    world.settle().await;
    let told = step(&world, &id, "tell").await;
    assert_eq!(told.outputs["message"], "as nobody", "{:?}", told.error_message);
    // Wherever it is read without one, it must be there.
    let why = step(&world, &id, "ask").await.error_message.unwrap();
    assert!(why.contains("secret 'user' does not exist"), "{why}");
}

#[tokio::test]
async fn a_cancellation_reaches_a_step_that_is_just_being_written() {
    let world = World::new().await;
    let id = run(&world, json!({"name": "x", "steps": [chart("late", &json!({}))]})).await;
    let (app, store, execution) = (world.app.clone(), Arc::clone(&world.store), id.clone());
    world.flaky.before_put("s00000", async move {
        app.cancel_execution(&admin(), &execution, "enough")
            .await
            .unwrap();
        // The look at everything that runs comes before there is anything to see.
        for message in lose(&store).await {
            app.handle(&Queue::ExecuteStep, message).await.unwrap();
        }
    });
    let queue = Queue::ExecuteStep;
    world.deliver(&queue).await;
    lose(&world.store).await;
    world.settle().await;
    assert_eq!(step(&world, &id, "late").await.status, StepStatus::Cancelled);
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Cancelled);
    assert_eq!(world.cluster.cloud().log, [] as [&str; 0]);
}

#[tokio::test]
async fn an_execution_whose_messages_are_all_lost_ends_when_it_is_cancelled() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "a", "action": "approval"}, {"id": "b", "action": "approval"},
        {"id": "c", "action": "pass", "depends_on": ["b"]}]});
    let id = run(&world, dag).await;
    lose(&world.store).await;
    world.app.cancel_execution(&admin(), &id, "enough").await.unwrap();
    lose(&world.store).await;
    world.clock.advance(Duration::from_secs(60));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Cancelled);
    for name in ["a", "b", "c"] {
        assert_eq!(
            step(&world, &id, name).await.status,
            StepStatus::Cancelled,
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_execution_whose_messages_are_all_lost_ends_at_its_deadline() {
    let world = World::new().await;
    let dag = json!({"name": "x", "steps": [
        {"id": "a", "action": "pass"}, {"id": "b", "action": "pass"}]});
    let id = run(&world, dag).await;
    lose(&world.store).await;
    world.clock.advance(Duration::from_secs(7200));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::TimedOut);
    assert_eq!(step(&world, &id, "b").await.status, StepStatus::Skipped);
}

#[tokio::test]
async fn what_is_not_to_be_deleted_stays_when_its_time_is_over() {
    let world = World::new().await;
    for name in ["kept", "gone"] {
        world.cluster.cloud().stuck.insert(name.to_owned());
    }
    let dag = json!({"name": "x", "parameters": {"tidy": false}, "settings": {"timeout_seconds": 60}, "steps": [
        chart("kept", &json!({"delete_on_failure": "{{ parameters.tidy }}"})), chart("gone", &json!({}))]});
    let id = run(&world, dag).await;
    world.settle().await;
    world.clock.advance(Duration::from_secs(61));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::TimedOut);
    let cloud = world.cluster.cloud();
    assert!(cloud.installed.contains_key("kept"), "{:?}", cloud.log);
    assert!(!cloud.installed.contains_key("gone"), "{:?}", cloud.log);
}

/// Everything that happens in so many seconds, beside what looking at a release takes.
pub(crate) async fn seconds(world: &World, count: u64) {
    for _ in 0..count / 2 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        world.clock.advance(Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_rollout_outlives_a_minute_without_its_cluster() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("slow".to_owned());
    let id = run(
        &world,
        json!({"name": "x", "steps": [chart("slow", &json!({"timeout": "1h"}))]}),
    )
    .await;
    seconds(&world, 4).await;
    world.cluster.cloud().away = true;
    seconds(&world, 60).await;
    let waiting = step(&world, &id, "slow").await.waiting_for.unwrap();
    assert!(waiting.contains("no route to host"), "{waiting}");
    {
        let mut cloud = world.cluster.cloud();
        cloud.away = false;
        cloud.stuck.clear();
    }
    world.settle().await;
    assert_eq!(progress(&world, &id).await.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn an_output_that_comes_later_is_waited_for_and_named_if_it_never_comes() {
    let world = World::new().await;
    let awaited = "output 'url' of release usecase/late: there is no ConfigMap/made (v1)";
    for name in ["late", "never"] {
        let entry = (name.to_owned(), awaited.replace("late", name));
        world.cluster.cloud().awaited.extend([entry]);
    }
    let steps = ["late", "never"].map(|name| chart(name, &json!({"timeout": "5m"})));
    let id = run(&world, json!({"name": "x", "steps": steps})).await;
    seconds(&world, 100).await;
    let waiting = step(&world, &id, "late").await.waiting_for.unwrap();
    assert!(waiting.contains(awaited), "{waiting}");
    assert!(world.cluster.cloud().installed.contains_key("late"));
    world.cluster.cloud().awaited.remove("late");
    seconds(&world, 100).await;
    assert_eq!(step(&world, &id, "late").await.status, StepStatus::Completed);
    seconds(&world, 200).await;
    let never = step(&world, &id, "never").await;
    assert_eq!(never.status, StepStatus::Failed);
    let message = never.error_message.unwrap();
    assert!(
        message.contains("output 'url' of release usecase/never"),
        "{message}"
    );
    assert!(!world.cluster.cloud().installed.contains_key("never"));
}

#[tokio::test]
async fn sweeps_add_no_messages_to_those_of_a_job_that_waits_for_its_release() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("slow".to_owned());
    let test = json!({"id": "test", "action": "helm_test", "params": {
        "cluster_id": "dev", "release_name": "slow", "namespace": "usecase"}});
    let slow = chart("slow", &json!({"namespace": "usecase", "timeout": "1h"}));
    let id = run(&world, json!({"name": "x", "steps": [slow, test]})).await;
    for _ in 0..10 {
        seconds(&world, 2).await;
        world.app.sync_deployments().await.unwrap();
    }
    let waiting = step(&world, &id, "test").await.waiting_for.unwrap();
    assert!(waiting.contains("another job"), "{waiting}");
    let messages = world.store.queue_length(&Queue::DeployHelm);
    assert!(messages < 6, "{messages} messages for two jobs");
}

#[tokio::test]
async fn an_invocation_that_outlived_its_lease_does_nothing_more() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("slow".to_owned());
    let id = run(
        &world,
        json!({"name": "x", "steps": [chart("slow", &json!({"timeout": "1h"}))]}),
    )
    .await;
    seconds(&world, 2).await;
    let job = step(&world, &id, "slow").await.job_id.unwrap();
    world.cluster.cloud().lingering.insert("slow".to_owned());
    let look = move || Message::Job {
        tenant: admin().tenant,
        job,
    };
    let (app, clock) = (world.app.clone(), Arc::clone(&world.clock));
    // It has just taken the lease when the machine falls asleep.
    world.flaky.before_put("work", async move {
        clock.advance(Duration::from_secs(400));
        app.cancel_job(&admin(), &job.to_string()).await.unwrap();
        app.handle(&Queue::DeployHelm, look()).await.unwrap();
    });
    world.app.handle(&Queue::DeployHelm, look()).await.unwrap();
    let done = world.cluster.cloud().log.clone();
    assert_eq!(done, ["apply slow", "uninstall slow"], "each by one invocation");
    world.cluster.cloud().lingering.clear();
    world.settle().await;
    let job = world.app.job(&admin(), &job.to_string()).await.unwrap();
    assert_eq!(job.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn what_failed_is_said_even_if_it_cannot_be_taken_away() {
    let world = World::new().await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.broken.insert("bad".to_owned(), "no such image".to_owned());
        cloud.lingering.insert("bad".to_owned());
    }
    let id = run(&world, json!({"name": "x", "steps": [chart("bad", &json!({}))]})).await;
    seconds(&world, 30).await;
    world.cluster.cloud().away = true;
    world.settle().await;
    let message = step(&world, &id, "bad").await.error_message.unwrap();
    assert!(message.starts_with("no such image"), "{message}");
    assert!(
        message.contains("could not be taken away: no route to host"),
        "{message}"
    );
}

#[tokio::test]
async fn of_many_objects_that_stay_some_are_named_and_the_others_counted() {
    let world = World::new().await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.broken.insert("bad".to_owned(), "no such image".to_owned());
        cloud.lingering.insert("bad".to_owned());
        cloud.crowd = 24;
    }
    let id = run(&world, json!({"name": "x", "steps": [chart("bad", &json!({}))]})).await;
    seconds(&world, 30).await;
    let job = step(&world, &id, "bad").await.job_id.unwrap().to_string();
    let waits = world.app.job(&admin(), &job).await.unwrap().waiting_for;
    assert_eq!(waits[0].object, "Pod/bad");
    let named = waits
        .iter()
        .filter(|wait| wait.object.starts_with("Pod/"))
        .count();
    let last = waits.last().unwrap().to_string();
    assert_eq!(last, format!("{} more: not named here", 25 - named));
    world.settle().await;
    let message = step(&world, &id, "bad").await.error_message.unwrap();
    assert!(
        message.contains("after cleaning up: Pod/bad: terminating; "),
        "{message}"
    );
    assert!(message.ends_with(&last), "{message}");
}

#[tokio::test]
async fn a_job_that_nothing_here_runs_can_be_cancelled() {
    let world = World::new().await;
    let new: NewJob = serde_json::from_value(json!({
        "name": "train", "job_type": "fine_tuning", "cluster_id": "dev", "config": {"epochs": 3}}))
    .unwrap();
    let job = world.app.create_job(&admin(), new).await.unwrap().id.to_string();
    world.app.cancel_job(&admin(), &job).await.unwrap();
    world.settle().await;
    let job = world.app.job(&admin(), &job).await.unwrap();
    assert_eq!(job.status, JobStatus::Cancelled, "{:?}", job.error_message);
}

#[tokio::test]
async fn large_outputs_stand_in_blobs_and_are_read_like_others() {
    let world = World::new().await;
    let dag = json!({"name": "x", "parameters": {"large": "x".repeat(9000)}, "steps": [
        {"id": "a", "action": "pass", "params": {"text": "{{ parameters.large }}"}},
        {"id": "b", "action": "pass", "params": {"same": "{{ steps.a.outputs.text }}"}},
        {"id": "c", "action": "pass", "params": {"length": "{{ steps.b.outputs.same | length }}"}}],
        "outputs": {"text": "{{ steps.b.outputs.same }}"}});
    let id = run(&world, dag).await;
    world.settle().await;
    assert_eq!(step(&world, &id, "b").await.outputs["same"], "x".repeat(9000));
    assert_eq!(step(&world, &id, "c").await.outputs["length"], 9000);
    let execution = world.app.execution(&admin(), &id).await.unwrap();
    assert_eq!(execution.outputs["text"], "x".repeat(9000));
    let records = world
        .store
        .items()
        .into_iter()
        .filter(|item| item.key.sort.starts_with('s'));
    for record in records {
        assert!(record.body.len() < 1000, "{}", record.body);
    }
}

#[tokio::test]
async fn what_its_header_cannot_hold_is_refused_when_it_is_posted() {
    let world = World::new().await;
    let large = "x".repeat(160 * 1024);
    for (what, dag) in [
        (
            "parameters",
            json!({"name": "x", "parameters": {"large": large}, "steps": [{"id": "a", "action": "pass"}]}),
        ),
        (
            "outputs",
            json!({"name": "x", "outputs": {"large": large}, "steps": [{"id": "a", "action": "pass"}]}),
        ),
        (
            "description",
            json!({"name": "x", "description": large, "steps": [{"id": "a", "action": "pass"}]}),
        ),
    ] {
        let refused = crate::world::problem(world.app.create_execution(&admin(), dag).await);
        assert_eq!(refused.status, 422, "{what}: {refused:?}");
    }
    // Steps may be larger: they stand in the plan.
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass", "params": {"large": "x".repeat(400 * 1024)}}]});
    let id = run(&world, dag).await;
    world.settle().await;
    let error = step(&world, &id, "a").await.error_message.unwrap();
    assert!(error.contains("larger than 256 KiB"), "{error}");
}

#[tokio::test]
async fn outputs_that_no_store_can_hold_fail_the_execution() {
    let world = World::new().await;
    let large = "x".repeat(90 * 1024);
    let dag = json!({"name": "x", "parameters": {"large": large}, "steps": [
        {"id": "a", "action": "pass", "params": {"one": "{{ parameters.large }}", "two": "{{ parameters.large }}"}}],
        "outputs": {"one": "{{ steps.a.outputs.one }}", "two": "{{ steps.a.outputs.two }}"}});
    let dag_of_values = json!({"name": "y", "parameters": {"large": dag["parameters"]["large"]}, "steps": [
        {"id": "a", "action": "pass", "params": {"one": "{{ parameters.large }}", "two": "{{ parameters.large }}"}},
        chart("b", &json!({"values": {"all": "{{ steps.a.outputs.one }}", "two": "{{ steps.a.outputs.two }}"}}))]});
    for (dag, said) in [
        (dag, "outputs are larger than"),
        (dag_of_values, "more than the 200 KiB"),
    ] {
        let id = run(&world, dag).await;
        world.settle().await;
        let progress = progress(&world, &id).await;
        assert_eq!(progress.status, ExecutionStatus::Failed);
        let message = progress.error_message.unwrap();
        assert!(message.contains(said), "{message}");
    }
}
