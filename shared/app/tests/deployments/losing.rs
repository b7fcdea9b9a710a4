//! Processes that end between writing and sending: whatever is redelivered makes up for it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use slipway_app::{App, AppError, DeploymentView, IdempotentRequest, ListQuery, Services};
use slipway_model::{DeploymentId, ExecutionId, ExecutionStatus, JobId, Message, Queue};
use slipway_ports::Receiver;

use crate::world::{World, admin, new_deployment};

const TOPIC: &str = "probe";

pub(crate) async fn world() -> World {
    World::with(|settings| {
        settings.topics.insert(TOPIC.to_owned());
    })
    .await
}

/// Five steps after each other, two of them large, and two side by side at the end.
fn dag() -> Value {
    let large = "x".repeat(9000);
    json!({"name": "x", "callback_topics": [TOPIC], "parameters": {"large": large}, "steps": [
        {"id": "a", "action": "pass", "params": {"n": 1}},
        {"id": "b", "action": "pass", "params": {"n": "{{ steps.a.outputs.n }}", "text": "{{ parameters.large }}"}},
        {"id": "c", "action": "pass", "params": {"text": "{{ steps.b.outputs.text }}"}},
        {"id": "d", "action": "pass", "depends_on": ["c"]},
        {"id": "e", "action": "pass", "depends_on": ["d"]},
        {"id": "f", "action": "pass", "depends_on": ["e"], "when": "false"},
        {"id": "g", "action": "pass", "depends_on": ["e"]},
    ], "outputs": {"n": "{{ steps.b.outputs.n }}"}})
}

/// The events on the topic: type and step, or the execution's end.
async fn told(world: &World) -> BTreeSet<String> {
    let (queue, mut told) = (Queue::Topic(TOPIC.to_owned()), BTreeSet::new());
    loop {
        let got = world
            .store
            .receive(&queue, 10, Duration::ZERO, Duration::from_secs(60))
            .await
            .unwrap();
        if got.is_empty() {
            return told;
        }
        for delivery in got {
            let Message::Event(event) = Message::from_body(&queue, &delivery.body).unwrap() else {
                panic!("{}", delivery.body);
            };
            let step = event.payload["step_id"].as_str().unwrap_or("-").to_owned();
            if step == "c" && event.event_type == "step_completed" {
                assert_eq!(event.payload["outputs"]["text"].as_str().unwrap().len(), 9000);
            }
            told.insert(format!("{} {step}", event.event_type));
            world.store.acknowledge(&queue, &delivery.receipt).await.unwrap();
        }
    }
}

/// Handles the first message and leaves it on its queue if that fails. Whether it failed.
async fn first_fails(world: &World) -> bool {
    let queue = Queue::ExecuteStep;
    let hidden = Duration::ZERO;
    let got = world
        .store
        .receive(&queue, 1, Duration::ZERO, hidden)
        .await
        .unwrap();
    let message = Message::from_body(&queue, &got[0].body).unwrap();
    let handled = world.app.handle(&queue, message).await;
    if handled.is_ok() {
        world.store.acknowledge(&queue, &got[0].receipt).await.unwrap();
    }
    handled.is_err()
}

/// Everything that steps wait for; nobody listens to the topic meanwhile.
async fn run(world: &World) {
    while world.deliver(&Queue::ExecuteStep).await > 0 {}
}

async fn check(world: &World, execution: &str, case: &str) {
    run(world).await;
    let progress = world
        .app
        .execution_progress(&admin(), execution, true)
        .await
        .unwrap();
    assert_eq!(progress.status, ExecutionStatus::Completed, "{case}");
    let mut expected: BTreeSet<String> = ["a", "b", "c", "d", "e", "f", "g"]
        .map(|step| format!("step_completed {step}"))
        .into();
    expected.insert("workflow_completed -".to_owned());
    assert_eq!(told(world).await, expected, "{case}");
}

#[tokio::test]
async fn whatever_of_a_sessions_messages_is_lost_is_said_in_the_end() {
    let mut lost = 0;
    loop {
        let world = world().await;
        let id = world
            .app
            .create_execution(&admin(), dag())
            .await
            .unwrap()
            .id
            .to_string();
        world.flaky.lose_sends_after(lost);
        let failed = first_fails(&world).await;
        check(&world, &id, &format!("after {lost} messages")).await;
        if !failed || world.flaky.is_to_lose_sends() {
            break;
        }
        lost += 1;
        if lost > 8 {
            break;
        }
    }
    assert!(lost >= 8, "the first session sends eight events, and lost {lost}");
}

#[tokio::test]
async fn whichever_call_is_the_last_of_a_process_nothing_is_lost() {
    for calls in 0.. {
        let world = world().await;
        let id = world
            .app
            .create_execution(&admin(), dag())
            .await
            .unwrap()
            .id
            .to_string();
        world.flaky.die_after_calls(Some(calls));
        let failed = first_fails(&world).await;
        world.flaky.die_after_calls(None);
        check(&world, &id, &format!("after {calls} calls")).await;
        if !failed {
            assert!(calls > 20, "one message takes only {calls} calls");
            break;
        }
    }
}

#[tokio::test]
async fn a_message_that_comes_again_after_the_end_multiplies_nothing() {
    let world = world().await;
    let layer = |layer: usize| -> Vec<String> { (0..20).map(|index| format!("s{layer}-{index}")).collect() };
    let mut steps = Vec::new();
    for index in 0..8 {
        let before = if index == 0 { Vec::new() } else { layer(index - 1) };
        steps.extend(
            layer(index)
                .into_iter()
                .map(|id| json!({"id": id, "action": "pass", "depends_on": before})),
        );
    }
    let dag = json!({"name": "x", "callback_topics": [TOPIC], "steps": steps});
    let id = world.app.create_execution(&admin(), dag).await.unwrap().id;
    run(&world).await;
    told(&world).await;
    let again = Message::Steps {
        tenant: admin().tenant,
        execution: id,
        ordinals: vec![0],
    };
    world.app.handle(&Queue::ExecuteStep, again).await.unwrap();
    assert_eq!(world.store.queue_length(&Queue::ExecuteStep), 0);
    // One step of the first layer, all of the others, and the end.
    let messages = world.store.queue_length(&Queue::Topic(TOPIC.to_owned()));
    assert_eq!(messages, 1 + 7 * 20 + 1);
}

#[tokio::test]
async fn a_job_whose_invocation_failed_goes_on_with_its_message() {
    for others in 0.. {
        let world = world().await;
        let chart = json!({"id": "a", "action": "helm_deploy", "params": {
            "cluster_id": "dev", "chart_ref": "charts/x", "release_name": "a"}});
        let dag = json!({"name": "x", "steps": [chart]});
        let id = world
            .app
            .create_execution(&admin(), dag)
            .await
            .unwrap()
            .id
            .to_string();
        run(&world).await;
        world.flaky.refuse_put("j", others);
        let queue = Queue::DeployHelm;
        let mut failures = 0;
        // No sweep and no waiting: the message that comes again is enough.
        for _ in 0..200 {
            let got = world
                .store
                .receive(&queue, 10, Duration::ZERO, Duration::ZERO)
                .await
                .unwrap();
            for delivery in got {
                let message = Message::from_body(&queue, &delivery.body).unwrap();
                match world.app.handle(&queue, message).await {
                    Ok(()) => world.store.acknowledge(&queue, &delivery.receipt).await.unwrap(),
                    Err(_) => failures += 1,
                }
            }
            world.clock.advance(Duration::from_millis(100));
        }
        world.deliver(&Queue::Topic("budpipelineEvents".to_owned())).await;
        let progress = world.app.execution_progress(&admin(), &id, true).await.unwrap();
        assert_eq!(
            progress.status,
            ExecutionStatus::Completed,
            "{others}: {progress:?}"
        );
        assert_eq!(failures, usize::from(!world.flaky.is_to_refuse()));
        if world.flaky.is_to_refuse() {
            assert!(others > 3, "a job is written only {others} times");
            break;
        }
    }
}

/// An execution that deploys one release, and the message of its job.
pub(crate) async fn deploying(world: &World) -> (String, Message) {
    let chart = json!({"id": "a", "action": "helm_deploy", "params": {
        "cluster_id": "dev", "chart_ref": "charts/x", "release_name": "a"}});
    let dag = json!({"name": "x", "steps": [chart]});
    let execution = world.app.create_execution(&admin(), dag).await.unwrap();
    run(world).await;
    let job = JobId::of_step(execution.id, "a", 1);
    let tenant = admin().tenant;
    (execution.id.to_string(), Message::Job { tenant, job })
}

/// Has the store take nothing from when Helm is at work until the invocation has stopped.
async fn stop_without_a_store(world: &World, message: &Message) {
    let flaky = world.flaky.clone();
    world
        .cluster
        .meanwhile("apply", async move { flaky.die_after_calls(Some(0)) });
    let stopped = world.app.handle(&Queue::DeployHelm, message.clone()).await;
    assert!(stopped.is_err());
    world.flaky.die_after_calls(None);
}

#[tokio::test]
async fn a_job_goes_on_at_once_although_its_lease_could_not_be_given_back() {
    let world = World::new().await;
    let (execution, message) = deploying(&world).await;
    stop_without_a_store(&world, &message).await;
    // No time passes.
    world.app.handle(&Queue::DeployHelm, message).await.unwrap();
    world.deliver(&Queue::Topic("budpipelineEvents".to_owned())).await;
    let progress = world
        .app
        .execution_progress(&admin(), &execution, true)
        .await
        .unwrap();
    assert_eq!(progress.status, ExecutionStatus::Completed, "{progress:?}");
    assert_eq!(world.cluster.cloud().log, ["apply a", "complete a"]);
}

#[tokio::test]
async fn a_lease_that_could_not_be_given_back_is_left_to_whoever_took_it_since() {
    let world = World::new().await;
    let (_, message) = deploying(&world).await;
    world.cluster.cloud().flaky.insert("a".to_owned(), 1);
    stop_without_a_store(&world, &message).await;
    let services = &world.app;
    let other = App::new(Services {
        store: services.store.clone(),
        receiver: services.receiver.clone(),
        secrets: services.secrets.clone(),
        blobs: services.blobs.clone(),
        charts: services.charts.clone(),
        connector: services.connector.clone(),
        outside: services.outside.clone(),
        clock: services.clock.clone(),
        ids: services.ids.clone(),
        catalog: services.catalog.clone(),
        settings: services.settings.clone(),
    });
    // It knows nothing of how the first one stopped.
    let queue = Queue::DeployHelm;
    other.handle(&queue, message.clone()).await.unwrap();
    assert_eq!(world.cluster.cloud().log, ["apply a"], "the lease stands");
    world.clock.advance(Duration::from_secs(301));
    let (app, late, cluster) = (world.app.clone(), message.clone(), world.cluster.clone());
    world.cluster.meanwhile("apply", async move {
        app.handle(&Queue::DeployHelm, late).await.unwrap();
        assert_eq!(cluster.cloud().log, ["apply a"], "one writer at a time");
    });
    other.handle(&queue, message).await.unwrap();
    assert_eq!(world.cluster.cloud().log, ["apply a", "apply a"]);
}

#[tokio::test]
async fn what_can_be_repeated_is_repeated_wherever_its_process_ended() {
    for calls in 0.. {
        let world = world().await;
        let dag = json!({"name": "x", "steps": [
            {"id": "a", "action": "cluster_health", "params": {"cluster_id": "dev"}, "timeout_seconds": 5}]});
        let id = world
            .app
            .create_execution(&admin(), dag)
            .await
            .unwrap()
            .id
            .to_string();
        world.flaky.die_after_calls(Some(calls));
        let failed = first_fails(&world).await;
        world.flaky.die_after_calls(None);
        for _ in 0..6 {
            world.clock.advance(Duration::from_secs(60));
            world.app.sync_deployments().await.unwrap();
            world.settle().await;
        }
        let progress = world.app.execution_progress(&admin(), &id, true).await.unwrap();
        assert_eq!(
            progress.status,
            ExecutionStatus::Completed,
            "after {calls} calls: {progress:?}"
        );
        if !failed {
            assert!(calls > 4, "one message takes only {calls} calls");
            break;
        }
    }
}

#[tokio::test]
async fn an_action_that_must_not_be_repeated_runs_although_its_beginning_could_not_be_told() {
    let world = world().await;
    let dag = json!({"name": "x", "callback_topics": [TOPIC], "steps": [
        {"id": "call", "action": "http_request", "params": {"url": "http://nobody", "method": "POST"}}]});
    let created = world.app.create_execution(&admin(), dag).await.unwrap();
    world.flaky.lose_sends_after(0);
    assert!(first_fails(&world).await);
    run(&world).await;
    let id = created.id.to_string();
    let progress = world.app.execution_progress(&admin(), &id, true).await.unwrap();
    let step = &progress.steps.unwrap()[0];
    let said = step.error_message.as_deref().unwrap_or_default();
    assert!(said.contains("no network"), "it was tried: {said}");
}

#[tokio::test]
async fn a_call_whose_method_is_an_expression_is_not_repeated_after_a_crash() {
    let world = World::new().await;
    let dag = json!({"name": "x", "parameters": {"m": "POST"}, "steps": [
        {"id": "call", "action": "http_request", "params": {"url": "http://nobody", "method": "{{ parameters.m }}"}}]});
    let created = world.app.create_execution(&admin(), dag).await.unwrap();
    // Nothing is written any more once it was claimed and its beginning was told.
    world.flaky.refuse_put("s00000", 1);
    assert!(first_fails(&world).await);
    world.clock.advance(Duration::from_secs(3600));
    run(&world).await;
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    let id = created.id.to_string();
    let progress = world.app.execution_progress(&admin(), &id, true).await.unwrap();
    let step = &progress.steps.unwrap()[0];
    let said = step.error_message.as_deref().unwrap_or_default();
    assert!(said.contains("outcome unknown"), "{said}");
    assert_eq!(step.attempt, 1);
}

/// What an execution of that DAG tells when nothing is lost.
fn all_told() -> BTreeSet<String> {
    [
        "step_started a",
        "step_completed a",
        "step_completed b",
        "workflow_completed -",
    ]
    .map(str::to_owned)
    .into()
}

/// A step that asks a cluster, and one after it.
fn asking() -> Value {
    json!({"name": "x", "callback_topics": [TOPIC], "steps": [
        {"id": "a", "action": "cluster_health", "params": {"cluster_id": "dev"}},
        {"id": "b", "action": "pass", "depends_on": ["a"]},
    ]})
}

/// The first message of a new execution; nobody else receives it any more.
async fn first_message(world: &World, dag: Value) -> Message {
    world.app.create_execution(&admin(), dag).await.unwrap();
    let (queue, hidden) = (Queue::ExecuteStep, Duration::from_secs(60));
    let got = world
        .store
        .receive(&queue, 1, Duration::ZERO, hidden)
        .await
        .unwrap();
    world.store.acknowledge(&queue, &got[0].receipt).await.unwrap();
    Message::from_body(&queue, &got[0].body).unwrap()
}

#[tokio::test]
async fn what_the_first_of_two_equal_messages_ended_is_told_although_the_second_was_acknowledged() {
    let world = world().await;
    let message = first_message(&world, asking()).await;
    let (app, flaky, again) = (world.app.clone(), world.flaky.clone(), message.clone());
    world.cluster.meanwhile("health", async move {
        // The second is handled, and acknowledged with the first, while the first asks.
        app.handle(&Queue::ExecuteStep, again).await.unwrap();
        flaky.lose_sends_after(0);
    });
    let first = world.app.handle(&Queue::ExecuteStep, message).await;
    assert!(first.is_err(), "it died before it told anything");
    let mut told = told(&world).await;
    assert_eq!(told, BTreeSet::from(["step_started a".to_owned()]));
    // Until the claim is over.
    world.clock.advance(Duration::from_secs(300));
    run(&world).await;
    told.extend(self::told(&world).await);
    assert_eq!(told, all_told());
}

#[tokio::test]
async fn what_a_dead_letter_ended_is_told_although_its_execution_has_ended() {
    let world = world().await;
    let message = first_message(&world, asking()).await;
    let flaky = world.flaky.clone();
    world
        .cluster
        .meanwhile("health", async move { flaky.lose_sends_after(0) });
    let last = world.app.handle(&Queue::ExecuteStep, message.clone()).await;
    assert!(last.is_err(), "it died before it told anything");
    let mut told = told(&world).await;
    world
        .app
        .give_up(&Queue::ExecuteStep, &message, "received too often")
        .await
        .unwrap();
    told.extend(self::told(&world).await);
    assert_eq!(told, all_told());
}

#[tokio::test]
async fn a_creation_that_was_cut_short_anywhere_is_not_made_twice_under_its_key() {
    for calls in 0.. {
        let world = World::new().await;
        let caller = admin();
        let request = Some(IdempotentRequest {
            key: "key",
            operation: "POST /executions",
            body: b"x",
        });
        let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
        let create = || {
            let (app, caller, dag) = (&world.app, &caller, dag.clone());
            app.create_once(caller, request, move |id| {
                app.create_execution_as(caller, ExecutionId(id), dag)
            })
        };
        world.flaky.die_after_calls(Some(calls));
        let first = create().await;
        world.flaky.die_after_calls(None);
        // The claim of a process that died is void after that.
        world.clock.advance(Duration::from_secs(3600));
        let made = create().await.unwrap();
        let query = ListQuery::default();
        let all = world.app.executions(&caller, &query).await.unwrap().items;
        let ids: Vec<_> = all.iter().map(|one| one.id).collect();
        assert_eq!(ids, [made.id], "the process ended after {calls} calls");
        if first.is_ok() {
            assert!(calls > 4, "hardly anything was cut short");
            break;
        }
    }
}

/// Creates a deployment under a key, as the API does.
async fn created_once(world: &World, name: Option<&str>) -> Result<DeploymentView, AppError> {
    let (app, caller) = (&world.app, &admin());
    let request = Some(IdempotentRequest {
        key: "key",
        operation: "POST /deployments",
        body: b"x",
    });
    let mut new = new_deployment("agent", "");
    new.name = name.map(str::to_owned);
    app.create_once(caller, request, move |id| {
        app.create_deployment_as(caller, DeploymentId(id), new)
    })
    .await
}

/// Whether that deployment is the only one, has its name, and says once that it was created.
async fn assert_only(world: &World, made: &DeploymentView, after: &str) {
    let query = ListQuery::default();
    let all = world.app.deployments(&admin(), &query).await.unwrap().items;
    assert_eq!(all, std::slice::from_ref(&made.deployment), "{after}");
    assert_eq!(world.view(&made.deployment.name).await, *made, "{after}");
    let id = made.deployment.id.to_string();
    let history = world
        .app
        .deployment_events(&admin(), &id, None, 100)
        .await
        .unwrap();
    let types: Vec<&str> = history.iter().map(|line| line.entry_type.as_str()).collect();
    assert_eq!(types, ["created"], "{after}");
}

#[tokio::test]
async fn a_deployment_whose_creation_was_cut_short_anywhere_is_not_made_twice_under_its_key() {
    for name in [Some("my-agent"), None] {
        for calls in 0.. {
            let world = World::new().await;
            world.flaky.die_after_calls(Some(calls));
            let first = created_once(&world, name).await;
            world.flaky.die_after_calls(None);
            // The claim of a process that died is void after that.
            world.clock.advance(world.app.settings.invocation);
            let made = created_once(&world, name).await.unwrap();
            assert_only(
                &world,
                &made,
                &format!("{name:?}: the process ended after {calls} calls"),
            )
            .await;
            if first.is_ok() {
                assert!(calls > 10, "hardly anything was cut short");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_deployment_whose_creation_is_repeated_until_it_is_answered_is_made_once() {
    for seed in 0..200 {
        let world = World::new().await;
        let name = (seed % 2 == 0).then_some("my-agent");
        world.flaky.fail(seed, 60);
        let made = loop {
            match created_once(&world, name).await {
                Ok(made) => break made,
                Err(error) => assert_eq!(error.to_problem().status, 503, "seed {seed}: {error}"),
            }
            world.clock.advance(world.app.settings.invocation);
        };
        world.flaky.fail(0, 0);
        // Whatever was cut short and could not be taken away at once is taken away by the sweeper.
        world.clock.advance(Duration::from_secs(601));
        world.app.sync_deployments().await.unwrap();
        assert_only(&world, &made, &format!("seed {seed}")).await;
    }
}
