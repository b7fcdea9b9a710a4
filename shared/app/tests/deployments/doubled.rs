//! Messages of a job that come again while an invocation works for it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use slipway_model::{Job, JobId, JobPhase, JobStatus, Message, Queue, TenantId};

use slipway_testkit::START;
use tokio::sync::Notify;

use crate::world::{World, admin};

/// A DAG that deploys release `a`.
fn dag() -> Value {
    json!({"name": "x", "steps": [{"id": "a", "action": "helm_deploy", "params": {
        "cluster_id": "dev", "chart_ref": "charts/x", "release_name": "a", "namespace": "shared",
        "timeout": 60, "delete_on_failure": false}}]})
}

/// Has an execution of it make its job, which nobody has begun.
pub(crate) async fn job(app: &slipway_app::App) -> JobId {
    job_of(app, dag()).await
}

/// The same for another DAG of one step.
pub(crate) async fn job_of(app: &slipway_app::App, dag: Value) -> JobId {
    let execution = app.create_execution(&admin(), dag).await.unwrap();
    let message = Message::Steps {
        tenant: TenantId::local(),
        execution: execution.id,
        ordinals: vec![0],
    };
    app.handle(&Queue::ExecuteStep, message).await.unwrap();
    JobId::of_step(execution.id, "a", 1)
}

pub(crate) async fn go_on(app: &slipway_app::App, job: JobId) {
    let tenant = TenantId::local();
    app.handle(&Queue::DeployHelm, Message::Job { tenant, job })
        .await
        .unwrap();
}

/// The item of a job with that sort key.
fn body(world: &World, job: JobId, sort: &str) -> String {
    let mut items = world.store.items().into_iter();
    let part = format!("/j/{job}");
    items
        .find(|item| item.key.partition.ends_with(&part) && item.key.sort == sort)
        .unwrap()
        .body
}

pub(crate) fn record(world: &World, job: JobId) -> Job {
    serde_json::from_str(&body(world, job, "j")).unwrap()
}

#[tokio::test]
async fn a_newer_job_ends_none_that_helm_works_for() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let old = job(&world.app).await;
    world.clock.advance(Duration::from_millis(1));
    let (app, store) = (world.app.clone(), world.store.clone());
    world.cluster.meanwhile("apply", async move {
        let newer = job(&app).await;
        go_on(&app, newer).await;
        go_on(&app, old).await;
        let seen = store.items();
        let owner = seen.iter().find(|item| item.key.sort == "owner").unwrap();
        let owner: Value = owner.read().unwrap();
        assert_eq!(owner["busy"], true, "Helm is at work: {owner}");
        assert_eq!(owner["job"], json!(old));
    });
    go_on(&world.app, old).await;
    let ended = record(&world, old);
    assert_eq!(ended.status, JobStatus::Cancelled, "{ended:?}");
    assert!(ended.error_message.unwrap().contains("superseded by job"));
    assert_eq!(
        ended.metadata_["revision"], 1,
        "by the invocation that saw Helm end"
    );
}

#[tokio::test]
async fn a_job_that_stalls_installs_nothing_that_a_newer_one_took_away_meanwhile() {
    let world = World::new().await;
    let old = job(&world.app).await;
    world.clock.advance(Duration::from_millis(1));
    let (app, cluster) = (world.app.clone(), world.cluster.clone());
    // It has said that it wants the release, and waits for the store before it takes the lease.
    world.flaky.before_put("owner", async move {
        let dag = json!({"name": "x", "steps": [{"id": "a", "action": "helm_uninstall", "params": {
            "cluster_id": "dev", "release_name": "a", "namespace": "shared"}}]});
        let newer = job_of(&app, dag).await;
        go_on(&app, newer).await;
        let ended = app.job(&admin(), &newer.to_string()).await.unwrap();
        assert_eq!(ended.status, JobStatus::Succeeded, "{ended:?}");
        assert_eq!(cluster.cloud().log, ["uninstall a"]);
    });
    go_on(&world.app, old).await;
    world.settle().await;
    assert_eq!(world.cluster.cloud().log, ["uninstall a"]);
    let ended = record(&world, old);
    assert_eq!(ended.status, JobStatus::Cancelled, "{ended:?}");
    assert!(ended.error_message.unwrap().contains("superseded by job"));
}

#[tokio::test]
async fn of_jobs_made_by_hand_that_counts_which_was_executed_last_whatever_the_clock_says() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let config = json!({"chart_ref": "charts/x", "release_name": "a", "namespace": "shared"});
        let new =
            json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": config});
        let new = serde_json::from_value(new).unwrap();
        made.push(world.app.create_job(&admin(), new).await.unwrap().id);
        world.clock.advance(Duration::from_secs(60));
    }
    let [first, second, third] = made[..] else {
        panic!()
    };
    // The clock is set back by hours before the last of them.
    for (job, hours) in [(second, 10), (first, 11), (third, 1)] {
        world.clock.set(START.plus(Duration::from_secs(hours * 3600)));
        world.app.execute_job(&admin(), &job.to_string()).await.unwrap();
        go_on(&world.app, job).await;
        let ended = record(&world, job);
        assert_eq!(ended.status, JobStatus::Succeeded, "{ended:?}");
    }
}

#[tokio::test]
async fn what_landed_while_its_record_was_recovered_is_not_applied_again() {
    let world = World::new().await;
    let id = job(&world.app).await;
    world.cluster.cloud().dying.insert("a".to_owned());
    go_on(&world.app, id).await;
    assert_eq!(record(&world, id).status, JobStatus::Running, "it tries again");
    world.settle().await;
    let ended = record(&world, id);
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:?}");
    assert_eq!(world.cluster.cloud().log, ["apply a", "complete a"]);
    assert_eq!(
        ended.metadata_["recovered"],
        json!(["nothing"]),
        "it was pending when the job looked"
    );
}

#[tokio::test]
async fn a_second_message_that_cannot_reach_the_cluster_fails_no_job_that_helm_works_for() {
    let world = World::new().await;
    let id = job(&world.app).await;
    let (app, cluster, clock) = (world.app.clone(), world.cluster.clone(), world.clock.clone());
    world.cluster.meanwhile("apply", async move {
        // Later than the job waits for a cluster that was never reached, and sooner than the lease expires.
        clock.advance(Duration::from_secs(61));
        cluster.cloud().away = true;
        go_on(&app, id).await;
        cluster.cloud().away = false;
    });
    go_on(&world.app, id).await;
    let ended = record(&world, id);
    assert_eq!(ended.status, JobStatus::Succeeded, "{:?}", ended.error_message);
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
}

#[tokio::test]
async fn a_late_second_message_writes_no_older_working_record_back() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let id = job(&world.app).await;
    // The second has read the job, and takes the lease when the first has applied and waits for readiness.
    let app = world.app.clone();
    world
        .flaky
        .before_put("owner", async move { go_on(&app, id).await });
    go_on(&world.app, id).await;
    let work: Value = serde_json::from_str(&body(&world, id, "work")).unwrap();
    assert_eq!(work["revision"], 1, "what the first found out stays: {work}");
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    let ended = record(&world, id);
    assert_eq!(ended.status, JobStatus::Succeeded, "{:?}", ended.error_message);
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
}

#[tokio::test]
async fn an_invocation_that_met_no_cluster_writes_no_older_working_record_back() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    world.cluster.cloud().away = true;
    let id = job(&world.app).await;
    // It stalls when it has written that it waits; then the cluster is there, and another one goes on.
    let (app, cluster) = (world.app.clone(), world.cluster.clone());
    world.flaky.before_put("work", async move {
        cluster.cloud().away = false;
        go_on(&app, id).await;
    });
    go_on(&world.app, id).await;
    let work: Value = serde_json::from_str(&body(&world, id, "work")).unwrap();
    assert_eq!(work["revision"], 1, "what the other found out stays: {work}");
    let waits = record(&world, id);
    assert_eq!(waits.status, JobStatus::Running, "nothing is ready: {waits:?}");
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    assert_eq!(record(&world, id).status, JobStatus::Succeeded);
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
}

#[tokio::test]
async fn a_cancellation_is_left_to_the_invocation_that_works_for_the_job() {
    let world = World::new().await;
    let id = job(&world.app).await;
    let (app, store) = (world.app.clone(), world.store.clone());
    world.cluster.meanwhile("check", async move {
        app.cancel_job(&admin(), &id.to_string()).await.unwrap();
        go_on(&app, id).await;
        let seen = store.items();
        let owner = seen.iter().find(|item| item.key.sort == "owner").unwrap();
        let owner: Value = owner.read().unwrap();
        assert_eq!(owner["busy"], true, "it is at work: {owner}");
    });
    go_on(&world.app, id).await;
    assert_eq!(record(&world, id).status, JobStatus::Cancelled);
    assert_eq!(world.cluster.cloud().log, [] as [&str; 0], "nothing was applied");
}

#[tokio::test]
async fn a_job_that_a_newer_one_replaces_names_what_was_left_without_a_record() {
    let world = World::new().await;
    let old = job(&world.app).await;
    world.clock.advance(Duration::from_millis(1));
    let left = ("a".to_owned(), "a".to_owned());
    world.cluster.cloud().half_made.extend([left]);
    world.cluster.cloud().flaky.insert("a".to_owned(), 1);
    go_on(&world.app, old).await;
    assert_eq!(record(&world, old).status, JobStatus::Running, "it tries again");
    let newer = job(&world.app).await;
    go_on(&world.app, newer).await;
    go_on(&world.app, old).await;
    let ended = record(&world, old);
    assert_eq!(ended.status, JobStatus::Cancelled);
    let told = ended.error_message.unwrap();
    assert!(told.contains("may have left Deployment/a"), "{told}");
}

#[tokio::test]
async fn what_comes_after_helm_is_done_although_nobody_heard_its_end() {
    let world = World::new().await;
    let id = job(&world.app).await;
    let left = |name: &str| ("a".to_owned(), name.to_owned());
    world.cluster.cloud().half_made.extend([left("older")]);
    world.cluster.cloud().flaky.insert("a".to_owned(), 1);
    go_on(&world.app, id).await;
    world.cluster.cloud().half_made.extend([left("newer")]);
    world.cluster.cloud().unheard.insert("a".to_owned());
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(10));
        go_on(&world.app, id).await;
    }
    assert_eq!(world.cluster.cloud().log, ["apply a", "apply a", "complete a"]);
    let job = record(&world, id);
    assert_eq!(job.status, JobStatus::Succeeded);
    assert_eq!(
        job.metadata_["orphans_removed"],
        json!(["Deployment/older", "Deployment/newer"])
    );
}

#[tokio::test]
async fn a_job_whose_failure_helm_was_told_of_does_not_succeed_after_a_crash() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let id = job(&world.app).await;
    let flaky = world.flaky.clone();
    world
        .cluster
        .meanwhile("mark_failed", async move { flaky.die_after_calls(Some(0)) });
    let (tenant, job) = (TenantId::local(), id);
    let message = Message::Job { tenant, job };
    while world
        .app
        .handle(&Queue::DeployHelm, message.clone())
        .await
        .is_ok()
    {
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.cluster.cloud().marked.len(), 1, "Helm was told");
    assert!(!record(&world, id).status.is_terminal(), "and nobody else");
    // It becomes ready meanwhile.
    world.flaky.die_after_calls(None);
    world.cluster.cloud().stuck.clear();
    world.clock.advance(Duration::from_secs(400));
    go_on(&world.app, id).await;
    while !record(&world, id).status.is_terminal() {
        go_on(&world.app, id).await;
    }
    assert_eq!(record(&world, id).status, JobStatus::TimedOut);
}

/// What is done on a cluster when the machine sleeps while Helm works for a job, and the job's message comes again, and
/// a newer job wants the release.
async fn after_a_sleep(alone: bool) -> Vec<String> {
    let world = World::with(|settings| settings.alone = alone).await;
    let old = job(&world.app).await;
    world.clock.advance(Duration::from_millis(1));
    let (app, clock, cluster) = (world.app.clone(), world.clock.clone(), world.cluster.clone());
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = log.clone();
    world.cluster.meanwhile("apply", async move {
        clock.advance(Duration::from_secs(24 * 60 * 60));
        go_on(&app, old).await;
        let newer = job(&app).await;
        go_on(&app, newer).await;
        seen.lock().unwrap().clone_from(&cluster.cloud().log);
    });
    go_on(&world.app, old).await;
    let log = log.lock().unwrap();
    log.clone()
}

#[tokio::test]
async fn a_message_that_is_late_leaves_the_release_to_its_job() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let waits = job(&world.app).await;
    go_on(&world.app, waits).await;
    assert_eq!(record(&world, waits).phase, JobPhase::Watch);
    // It comes once more, and looks away while the job goes on.
    let app = world.app.clone();
    world
        .cluster
        .meanwhile("identity", async move { go_on(&app, waits).await });
    go_on(&world.app, waits).await;
    let test = json!({"name": "x", "steps": [{"id": "a", "action": "helm_test", "params": {
        "cluster_id": "dev", "release_name": "a", "namespace": "shared"}}]});
    let test = job_of(&world.app, test).await;
    go_on(&world.app, test).await;
    let held = record(&world, test);
    let waits: Vec<&str> = held.waiting_for.iter().map(|wait| &*wait.reason).collect();
    assert_eq!(waits, ["another job"], "{held:?}");
}

#[tokio::test]
async fn a_machine_that_slept_while_helm_worked_starts_no_second_one() {
    assert_eq!(after_a_sleep(true).await, [""; 0]);
    assert!(
        !after_a_sleep(false).await.is_empty(),
        "elsewhere its process may be gone"
    );
}

#[tokio::test]
async fn a_process_that_stood_still_while_it_looked_leaves_helm_to_the_next_invocation() {
    let world = World::new().await;
    let job = job(&world.app).await;
    let (cluster, clock) = (world.cluster.clone(), world.clock.clone());
    world.cluster.meanwhile("check", async move {
        cluster.meanwhile("record", async move {
            clock.advance(Duration::from_secs(900));
        });
    });
    go_on(&world.app, job).await;
    assert_eq!(record(&world, job).status, JobStatus::Running);
    assert_eq!(
        world.cluster.cloud().log,
        [] as [&str; 0],
        "its lease was over when it could have begun"
    );
    world.settle().await;
    assert_eq!(record(&world, job).status, JobStatus::Succeeded);
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
}

#[tokio::test]
async fn a_process_that_stood_still_while_it_cleaned_up_leaves_that_to_the_next_invocation() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let job = job(&world.app).await;
    go_on(&world.app, job).await;
    world.app.cancel_job(&admin(), &job.to_string()).await.unwrap();
    let (cluster, clock) = (world.cluster.clone(), world.clock.clone());
    // The second look is the last one before the release is taken away.
    world.cluster.meanwhile("record", async move {
        cluster.meanwhile("record", async move {
            clock.advance(Duration::from_secs(900));
        });
    });
    go_on(&world.app, job).await;
    assert_eq!(record(&world, job).status, JobStatus::Running);
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
    world.settle().await;
    assert_eq!(record(&world, job).status, JobStatus::Cancelled);
    assert_eq!(world.cluster.cloud().log, ["apply a", "uninstall a"]);
}

#[tokio::test]
async fn nothing_begins_for_a_job_while_it_is_given_up() {
    let world = World::new().await;
    world.cluster.cloud().flaky.insert("a".to_owned(), 1);
    let job = job(&world.app).await;
    go_on(&world.app, job).await;
    assert_eq!(record(&world, job).phase, JobPhase::Apply);
    world.cluster.cloud().log.clear();
    world.clock.advance(Duration::from_secs(600));

    let (begins, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, go) = (begins.clone(), goes_on.clone());
    world.cluster.meanwhile("apply", async move {
        begun.notify_one();
        go.notified().await;
    });
    let app = world.app.clone();
    // A message that comes again, right before the job is ended.
    world.flaky.before_put("j", async move {
        let other = tokio::spawn(async move { go_on(&app, job).await });
        tokio::select! {
            () = begins.notified() => {}
            done = other => done.unwrap(),
        }
    });
    let (tenant, queue) = (TenantId::local(), Queue::DeployHelm);
    let message = Message::Job { tenant, job };
    world.app.give_up(&queue, &message, "it broke").await.unwrap();
    goes_on.notify_one();
    world.settle().await;
    assert_eq!(record(&world, job).status, JobStatus::Failed);
    assert_eq!(world.cluster.cloud().log, [] as [&str; 0]);
}
