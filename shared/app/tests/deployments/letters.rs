//! The schedule's look at dead letters, and what operators see of them.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::{About, Caller, DeadLetterSummary, ListQuery, Role};
use slipway_model::{DeploymentStatus, Event, JobId, Message, Queue, StepStatus, TenantId};
use slipway_ports::{Clock, Receiver, Store};

use crate::{
    flaky::Chance,
    world::{World, admin, caller, problem, steps},
};

/// A dead letter with that message.
async fn bury(world: &World, queue: &Queue, message: Message, reason: &str) {
    let mut session = world.store.session();
    session.send(queue.clone(), message, Duration::ZERO);
    session.settle().await.unwrap();
    bury_all(world, queue, reason).await;
}

/// Makes dead letters of what is on a queue.
async fn bury_all(world: &World, queue: &Queue, reason: &str) {
    loop {
        let wait = Duration::ZERO;
        let got = world
            .store
            .receive(queue, 10, wait, Duration::from_secs(60))
            .await;
        let got = got.unwrap();
        if got.is_empty() {
            return;
        }
        for delivery in got {
            world.store.bury(queue, &delivery.receipt, reason).await.unwrap();
        }
    }
}

fn job_of(tenant: &str) -> Message {
    Message::Job {
        tenant: tenant.parse().unwrap(),
        job: "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse::<JobId>().unwrap(),
    }
}

/// A message that no consumer of an internal queue can read.
fn unreadable() -> Message {
    Message::Event(Event {
        event_type: "stray".to_owned(),
        workflow_id: String::new(),
        tenant_id: None,
        payload: Value::Null,
    })
}

async fn list(world: &World, who: &Caller, queue: Option<&str>) -> Vec<DeadLetterSummary> {
    let page = world.app.dead_letters(who, queue, &ListQuery::default()).await;
    page.unwrap().items
}

fn of_tenant(tenant: &str) -> Caller {
    Caller {
        tenant: tenant.parse().unwrap(),
        ..admin()
    }
}

#[tokio::test]
async fn the_schedule_ends_what_dead_letters_were_about_and_leaves_them_there() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    bury(&world, &Queue::PlanDag, unreadable(), "what is this").await;
    bury_all(&world, &Queue::PlanDag, "it broke").await;
    bury(&world, &Queue::DeployHelm, job_of("local"), "it broke").await;
    world.app.look_at_dead_letters().await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    let before = world.store.items();
    world.app.look_at_dead_letters().await.unwrap();
    assert_eq!(world.store.items(), before);
    assert_eq!(list(&world, &admin(), None).await.len(), 3);
}

#[tokio::test]
async fn however_many_letters_lie_there_the_new_ones_are_looked_at() {
    let world = World::new().await;
    for _ in 0..1001 {
        bury(&world, &Queue::PlanDag, unreadable(), "what is this").await;
    }
    world.clock.advance(Duration::from_secs(1));
    let id = world.created("models").await.deployment.id.to_string();
    world.app.start_deployment(&admin(), &id).await.unwrap();
    bury_all(&world, &Queue::PlanDag, "it broke").await;
    world.app.look_at_dead_letters().await.unwrap();
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
}

#[tokio::test]
async fn one_that_cannot_be_dealt_with_does_not_keep_the_others() {
    let world = World::new().await;
    for template in ["models", "agent"] {
        let id = world.created(template).await.deployment.id.to_string();
        world.app.start_deployment(&admin(), &id).await.unwrap();
    }
    bury_all(&world, &Queue::PlanDag, "it broke").await;
    // Enough fails that no look gets through both, and each look gets a little further.
    let chance = Chance::new(3);
    for _ in 0..1000 {
        world.flaky.fail(chance.below(1 << 40), 200);
        let _ = world.app.look_at_dead_letters().await;
        world.flaky.fail(0, 0);
        let mut failed = 0;
        for name in ["my-models", "my-agent"] {
            let status = world.app.deployment(&admin(), name).await.unwrap();
            failed += usize::from(status.deployment.status == DeploymentStatus::Failed);
        }
        if failed == 2 {
            return;
        }
    }
    panic!("some deployment never failed");
}

#[tokio::test]
async fn everybody_sees_the_own_letters_and_the_operator_those_of_nobody() {
    let world = World::new().await;
    bury(&world, &Queue::DeployHelm, job_of("acme"), "one").await;
    world.clock.advance(Duration::from_secs(1));
    bury(&world, &Queue::DeployHelm, job_of("local"), "two").await;
    world.clock.advance(Duration::from_secs(1));
    bury(&world, &Queue::ExecuteStep, unreadable(), "three").await;
    let reasons = |letters: Vec<DeadLetterSummary>| -> Vec<String> {
        letters.into_iter().map(|letter| letter.reason).collect()
    };
    assert_eq!(reasons(list(&world, &of_tenant("acme"), None).await), ["one"]);
    assert_eq!(reasons(list(&world, &admin(), None).await), ["two", "three"]);
    assert_eq!(
        reasons(list(&world, &admin(), Some("execute-step")).await),
        ["three"]
    );
    assert_eq!(list(&world, &admin(), Some("plan-dag")).await, []);
    assert_eq!(list(&world, &of_tenant("other"), None).await, []);

    let mine = list(&world, &of_tenant("acme"), None).await.remove(0);
    assert_eq!(mine.queue, "deploy-helm");
    assert_eq!(world.clock.now().since(mine.at), Duration::from_secs(2));
    assert!(
        matches!(&mine.about, About::Job { tenant, .. } if *tenant == "acme".parse::<TenantId>().unwrap())
    );
    let app = &world.app;
    let seen = app.dead_letter(&of_tenant("acme"), "deploy-helm", &mine.id).await;
    assert_eq!(seen.unwrap().body, job_of("acme").to_body());
    for (who, queue, id) in [
        (admin(), "deploy-helm", mine.id.as_str()),
        (of_tenant("acme"), "plan-dag", &mine.id),
        (of_tenant("acme"), "deploy-helm", "../no\nsuch"),
        (of_tenant("acme"), "no-such-queue", &mine.id),
    ] {
        assert_eq!(
            problem(app.dead_letter(&who, queue, id).await).status,
            404,
            "{queue} {id}"
        );
        assert_eq!(
            problem(app.redrive_dead_letter(&who, queue, id).await).status,
            404
        );
    }
    assert_eq!(world.store.queue_length(&Queue::DeployHelm), 0);
    for role in [Role::Viewer, Role::Deployer] {
        let who = caller(role);
        let query = ListQuery::default();
        assert_eq!(problem(app.dead_letters(&who, None, &query).await).status, 403);
        assert_eq!(problem(app.dead_letter(&who, "plan-dag", "1").await).status, 403);
        assert_eq!(
            problem(app.redrive_dead_letter(&who, "plan-dag", "1").await).status,
            403
        );
    }
}

#[tokio::test]
async fn a_letter_that_is_put_back_is_received_again() {
    let world = World::new().await;
    bury(&world, &Queue::DeployHelm, job_of("local"), "why").await;
    let letter = list(&world, &admin(), None).await.remove(0);
    let back = world
        .app
        .redrive_dead_letter(&admin(), "deploy-helm", &letter.id)
        .await;
    assert_eq!(back.unwrap(), letter);
    assert_eq!(list(&world, &admin(), None).await, []);
    assert_eq!(world.store.queue_length(&Queue::DeployHelm), 1);
    let again = world
        .app
        .redrive_dead_letter(&admin(), "deploy-helm", &letter.id)
        .await;
    assert_eq!(problem(again).status, 404);
}

#[tokio::test]
async fn letters_come_in_pages_oldest_first() {
    let world = World::new().await;
    for queue in [Queue::DeployHelm, Queue::PlanDag, Queue::ExecuteStep] {
        for _ in 0..5 {
            bury(&world, &queue, job_of("local"), "why").await;
            world.clock.advance(Duration::from_secs(1));
        }
    }
    let mut query = ListQuery {
        limit: Some(4),
        ..ListQuery::default()
    };
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let page = world.app.dead_letters(&admin(), None, &query).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [4, 4, 4, 3]);
    assert!(seen.is_sorted_by_key(|letter| letter.at));
    query.cursor = Some("zz".to_owned());
    let refused = world.app.dead_letters(&admin(), None, &query).await;
    assert_eq!(problem(refused).status, 400);
}

/// Handles what is on a queue; what fails dies. How many died.
async fn handle_once(world: &World, queue: &Queue) -> usize {
    let mut died = 0;
    loop {
        let (wait, hidden) = (Duration::ZERO, Duration::from_secs(60));
        let got = world.store.receive(queue, 10, wait, hidden).await.unwrap();
        if got.is_empty() {
            return died;
        }
        for delivery in got {
            let message = Message::from_body(queue, &delivery.body).unwrap();
            match world.app.handle(queue, message).await {
                Ok(()) => world.store.acknowledge(queue, &delivery.receipt).await.unwrap(),
                Err(_) => {
                    died += 1;
                    world
                        .store
                        .bury(queue, &delivery.receipt, "it broke")
                        .await
                        .unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_step_that_cannot_be_looked_at_takes_none_of_those_with_it_that_are_sent_together() {
    for broken in 0..5 {
        let world = World::new().await;
        let step = |id: &str| json!({"id": id, "action": "pass"});
        let dag = json!({"name": "x", "settings": {"on_failure": "continue"},
            "steps": [step("a"), step("b"), step("c"), step("d"), step("e")]});
        let id = world.app.create_execution(&admin(), dag).await.unwrap().id;
        world.flaky.never_put(Some(&format!("s{broken:05}")));
        let died = handle_once(&world, &Queue::ExecuteStep).await;
        assert_eq!(died, 1);
        world.flaky.never_put(None);
        world.app.look_at_dead_letters().await.unwrap();
        world.settle().await;
        let steps = steps(&world, &id.to_string()).await;
        let failed: Vec<usize> = (0..5)
            .filter(|at| steps[*at].status == StepStatus::Failed)
            .collect();
        let completed = steps.iter().filter(|step| step.status == StepStatus::Completed);
        assert_eq!((failed, completed.count()), (vec![broken], 4), "{steps:?}");
    }
}

/// Messages die in large numbers, of the store's failures, and whatever they were about ends.
#[tokio::test]
async fn whatever_dies_everything_ends() {
    let mut died_in_all = 0;
    for seed in 0..40 {
        let world = World::new().await;
        let chance = Chance::new(seed);
        let dag = json!({"name": "x", "settings": {"on_failure": (["fail", "continue", "rollback"][(seed % 3) as usize])},
            "steps": [
                {"id": "a", "action": "helm_deploy", "params": {"cluster_id": "dev", "chart_ref": "charts/x", "release_name": "a"}},
                {"id": "b", "action": "pass"},
                {"id": "c", "action": "pass", "depends_on": ["a", "b"]},
                {"id": "d", "action": "helm_deploy", "depends_on": ["b"], "retry": {"max_attempts": 2, "backoff_seconds": 5},
                 "params": {"cluster_id": "dev", "chart_ref": "charts/x", "release_name": "d"}},
                {"id": "e", "action": "wait", "depends_on": ["d"], "run": "always", "params": {"seconds": 3}}]});
        let execution = world
            .app
            .create_execution(&admin(), dag)
            .await
            .unwrap()
            .id
            .to_string();
        let id = world.created("agent").await.deployment.id.to_string();
        world.app.start_deployment(&admin(), &id).await.unwrap();
        let mut died = 0;
        for round in 0..2000 {
            for queue in World::queues() {
                died += disturbed(&world, &queue, &chance, 150).await;
            }
            world.clock.advance(Duration::from_secs(5));
            if round % 12 == 0 {
                world.app.sync_deployments().await.unwrap();
                world.app.look_at_dead_letters().await.unwrap();
            }
            let ended = world
                .app
                .execution(&admin(), &execution)
                .await
                .unwrap()
                .status
                .is_terminal();
            if ended && !world.status(&id).await.is_in_flight() {
                break;
            }
        }
        let header = world.app.execution(&admin(), &execution).await.unwrap();
        assert!(
            header.status.is_terminal(),
            "seed {seed}, {died} died: {header:?}"
        );
        assert!(
            !world.status(&id).await.is_in_flight(),
            "seed {seed}, {died} died"
        );
        let progress = world
            .app
            .execution_progress(&admin(), &execution, true)
            .await
            .unwrap();
        for step in progress.steps.unwrap() {
            assert!(step.status.is_terminal(), "seed {seed}: {step:?}");
        }
        died_in_all += died;
    }
    assert!(died_in_all > 200, "only {died_in_all} messages died");
}

/// Hands out what is on a queue; a third of the messages whose handler fails die. How many died.
async fn disturbed(world: &World, queue: &Queue, chance: &Chance, per_mille: u64) -> usize {
    let mut died = 0;
    let wait = Duration::ZERO;
    let got = world
        .store
        .receive(queue, 10, wait, Duration::from_secs(30))
        .await
        .unwrap();
    for delivery in got {
        let message = Message::from_body(queue, &delivery.body).unwrap();
        world.flaky.fail(chance.below(1 << 40), per_mille);
        let handled = world.app.handle(queue, message.clone()).await;
        if handled.is_err() && chance.below(3) == 0 {
            died += 1;
            let _ = world.app.give_up(queue, &message, "throttled").await;
            world
                .store
                .bury(queue, &delivery.receipt, "throttled")
                .await
                .unwrap();
        } else if handled.is_ok() {
            world.store.acknowledge(queue, &delivery.receipt).await.unwrap();
        }
        world.flaky.fail(0, 0);
    }
    died
}
