//! Hooks of releases: their order, those that fail or hang, and invocations that end in the middle.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use slipway_app::NewJob;
use slipway_model::{Job, JobPhase, JobStatus, JsonMap, Message, Queue};
use slipway_ports::{Clock, Receiver};

use crate::world::{World, admin};

/// A job that was executed, and not worked at.
pub(crate) async fn job(world: &World, config: Value) -> Job {
    let mut all = json!({"chart_ref": "charts/app", "release_name": "app", "namespace": "ns"});
    for (key, value) in config.as_object().unwrap() {
        all[key] = value.clone();
    }
    let new: NewJob = serde_json::from_value(json!({
        "name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": all,
    }))
    .unwrap();
    let job = world.app.create_job(&admin(), new).await.unwrap();
    world
        .app
        .execute_job(&admin(), &job.id.to_string())
        .await
        .unwrap();
    job
}

pub(crate) async fn look(world: &World, job: &Job) -> Job {
    world.app.job(&admin(), &job.id.to_string()).await.unwrap()
}

pub(crate) async fn ended(world: &World, config: Value) -> Job {
    let job = job(world, config).await;
    world.settle().await;
    look(world, &job).await
}

/// Events with the names of their hooks.
pub(crate) fn hooks(world: &World, of: &[(&str, &[&str])]) {
    world.cluster.cloud().hooks = of
        .iter()
        .map(|(event, names)| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            (format!("app {event}"), names)
        })
        .collect();
}

pub(crate) fn log(world: &World) -> Vec<String> {
    std::mem::take(&mut world.cluster.cloud().log)
}

#[tokio::test]
async fn hooks_run_before_and_after_each_change_one_after_another() {
    let world = World::new().await;
    hooks(
        &world,
        &[
            ("pre-install", &["first", "second"]),
            ("post-install", &["seed"]),
            ("pre-upgrade", &["migrate"]),
            ("post-upgrade", &["reindex"]),
            ("pre-delete", &["drain"]),
            ("post-delete", &["sweep"]),
            ("test", &["check"]),
        ],
    );
    let installed = ended(&world, json!({})).await;
    assert_eq!(installed.status, JobStatus::Succeeded, "{installed:#?}");
    assert_eq!(
        log(&world),
        ["hook first", "hook second", "apply app", "hook seed"]
    );
    assert!(world.cluster.cloud().made.is_empty(), "what succeeded is deleted");
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    assert_eq!(log(&world), ["hook migrate", "apply app", "hook reindex"]);
    let tested = ended(&world, json!({"operation": "test"})).await;
    assert_eq!(tested.result["log"], "Job/check: Succeeded\ncheck said so");
    assert_eq!(log(&world), ["hook check"]);
    let gone = ended(&world, json!({"operation": "uninstall"})).await;
    assert_eq!(gone.status, JobStatus::Succeeded, "{gone:#?}");
    assert_eq!(
        log(&world),
        [
            "hook drain",
            "uninstall objects of app",
            "hook sweep",
            "uninstall app"
        ]
    );
    assert!(world.cluster.cloud().marked.is_empty());
}

#[tokio::test]
async fn what_somebody_installed_while_the_last_hooks_of_an_uninstall_ran_stays() {
    let world = World::new().await;
    hooks(&world, &[("post-delete", &["sweep"])]);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    let cluster = world.cluster.clone();
    world.cluster.meanwhile("made hook", async move {
        let mut cloud = cluster.cloud();
        cloud.uninstalled.clear();
        cloud.revisions.insert("app".to_owned(), (2, BTreeMap::new()));
    });
    let stopped = ended(&world, json!({"operation": "uninstall"})).await;
    let message = stopped.error_message.unwrap();
    assert!(message.contains("was not made by Slipway"), "{message}");
    assert_eq!(stopped.status, JobStatus::Failed);
    assert_eq!(
        log(&world),
        ["apply app", "uninstall objects of app", "hook sweep"]
    );
}

#[tokio::test]
async fn post_hooks_wait_until_everything_is_ready() {
    let world = World::new().await;
    hooks(&world, &[("post-install", &["seed"])]);
    world.cluster.cloud().stuck.insert("app".to_owned());
    let job = job(&world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(look(&world, &job).await.phase, JobPhase::Watch);
    assert_eq!(log(&world), ["apply app"]);
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    assert_eq!(look(&world, &job).await.status, JobStatus::Succeeded);
    assert_eq!(log(&world), ["hook seed"]);
}

#[tokio::test]
async fn what_a_ready_release_has_to_tell_is_waited_for_however_long_its_hooks_took() {
    // The second is as long as the job may take, almost.
    for taken in [700, 3_590] {
        let world = World::new().await;
        hooks(&world, &[("post-install", &["seed"])]);
        world.cluster.cloud().hanging.insert("seed".to_owned());
        let made_later = ("app".to_owned(), "there is no ConfigMap/made (v1)".to_owned());
        world.cluster.cloud().awaited.extend([made_later]);
        let job = job(&world, json!({})).await;
        world.deliver(&Queue::DeployHelm).await;
        let begun = look(&world, &job).await.started_at.unwrap();
        world.clock.set(begun.plus(Duration::from_secs(taken)));
        world.cluster.cloud().hanging.clear();
        for _ in 0..8 {
            world.deliver(&Queue::DeployHelm).await;
            world.clock.advance(Duration::from_secs(5));
        }
        let waits = look(&world, &job).await;
        assert_eq!(
            (waits.phase, waits.status),
            (JobPhase::Collect, JobStatus::Running),
            "{waits:#?}"
        );
        world.cluster.cloud().awaited.clear();
        world.settle().await;
        let ended = look(&world, &job).await;
        assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
        assert!(world.cluster.cloud().installed.contains_key("app"));
    }
}

#[tokio::test]
async fn a_hook_that_fails_fails_the_job_with_its_exit_code_and_log() {
    let world = World::new().await;
    hooks(&world, &[("pre-install", &["good"]), ("post-install", &["seed"])]);
    world.cluster.cloud().failing.insert("seed".to_owned());
    let kept = ended(&world, json!({"delete_on_failure": false})).await;
    assert_eq!(kept.status, JobStatus::Failed);
    let said =
        "the post-install hook Job/seed failed: the job failed (container main ended with exit code 3)";
    assert_eq!(kept.error_message, Some(format!("{said}\nseed said so")));
    assert_eq!(
        world.cluster.cloud().marked,
        [format!("app 1: {said}")],
        "Helm's record does not say that it is deployed"
    );
    // What comes before the change keeps it from being made, and what was made for it goes.
    let fresh = World::new().await;
    hooks(
        &fresh,
        &[("pre-install", &["good", "bad"]), ("pre-delete", &["drain"])],
    );
    fresh.cluster.cloud().failing.insert("bad".to_owned());
    let job = ended(&fresh, json!({})).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(
        job.error_message
            .unwrap()
            .contains("pre-install hook Job/bad failed")
    );
    assert_eq!(log(&fresh), ["hook good", "hook bad", "uninstall app"]);
    assert_eq!(
        fresh.cluster.cloud().made.values().collect::<Vec<_>>(),
        ["bad"],
        "its policy does not say that it is deleted when it fails"
    );
}

#[tokio::test]
async fn what_is_cleaned_up_goes_with_its_hooks_and_one_that_fails_keeps_nothing() {
    let world = World::new().await;
    hooks(
        &world,
        &[
            ("post-install", &["seed"]),
            ("pre-delete", &["drain"]),
            ("post-delete", &["sweep"]),
        ],
    );
    for name in ["seed", "drain"] {
        world.cluster.cloud().failing.insert(name.to_owned());
    }
    let failed = ended(&world, json!({})).await;
    assert_eq!(failed.status, JobStatus::Failed);
    let message = failed.error_message.unwrap();
    assert!(
        message.contains("post-install hook Job/seed failed")
            && message.contains("while cleaning up, the pre-delete hook Job/drain failed"),
        "{message}"
    );
    let done = [
        "apply app",
        "hook seed",
        "hook drain",
        "uninstall objects of app",
        "hook sweep",
        "uninstall app",
    ];
    assert_eq!(log(&world), done);
    // One that may not be created keeps nothing from going either.
    let quota = ("hook drain".to_owned(), "exceeded quota".to_owned());
    world.cluster.cloud().broken.insert(quota.0, quota.1);
    let failed = ended(&world, json!({})).await;
    let message = failed.error_message.unwrap();
    assert!(
        message.contains("while cleaning up, the pre-delete hooks could not run: exceeded quota"),
        "{message}"
    );
    let without_it: Vec<&str> = done
        .iter()
        .copied()
        .filter(|done| *done != "hook drain")
        .collect();
    assert_eq!(log(&world), without_it);
    world.cluster.cloud().broken.clear();
    // One that hangs is waited for as long as there is time for the rest.
    world.cluster.cloud().failing.remove("drain");
    world.cluster.cloud().hanging.insert("drain".to_owned());
    let failed = ended(&world, json!({})).await;
    let message = failed.error_message.unwrap();
    assert!(
        message.contains("the pre-delete hooks did not end: Job/drain: running"),
        "{message}"
    );
    assert_eq!(log(&world), done);
}

#[tokio::test]
async fn a_hook_may_outlast_any_number_of_invocations_and_is_named_when_time_is_up() {
    let world = World::new().await;
    hooks(&world, &[("pre-install", &["long"])]);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let job = job(&world, json!({})).await;
    for _ in 0..5 {
        world.deliver(&Queue::DeployHelm).await;
        let seen = look(&world, &job).await;
        assert_eq!(
            (seen.phase, seen.status),
            (JobPhase::PreHooks, JobStatus::Running)
        );
        let waits: Vec<String> = seen.waiting_for.iter().map(ToString::to_string).collect();
        assert_eq!(
            waits,
            ["Job/long: running (pre-install hook; 0 of 1 runs are done)"]
        );
    }
    let begun = look(&world, &job).await.started_at.unwrap();
    world.settle().await;
    let late = look(&world, &job).await;
    assert_eq!(late.status, JobStatus::TimedOut);
    let message = late.error_message.unwrap();
    assert!(
        message.contains("deadline of 3600 seconds") && message.contains("Job/long"),
        "{message}"
    );
    let taken = late.completed_at.unwrap().since(begun);
    assert!(taken < Duration::from_secs(3_700), "{taken:?}");
    let once = log(&world);
    assert_eq!(once, ["hook long", "uninstall app"], "it was created once");
}

#[tokio::test]
async fn what_hooks_took_of_a_jobs_time_is_not_said_to_have_been_watched() {
    let world = World::new().await;
    hooks(&world, &[("pre-install", &["long"])]);
    world.cluster.cloud().hanging.insert("long".to_owned());
    world.cluster.cloud().stuck.insert("app".to_owned());
    let job = job(&world, json!({"timeout": 3500})).await;
    world.deliver(&Queue::DeployHelm).await;
    world.clock.advance(Duration::from_secs(1000));
    world.cluster.cloud().hanging.clear();
    let begun = look(&world, &job).await.started_at.unwrap();
    let watched = 3600 - world.clock.now().since(begun).as_secs();
    world.settle().await;
    let late = look(&world, &job).await;
    assert_eq!(late.status, JobStatus::TimedOut);
    let message = late.error_message.unwrap();
    let told = format!("not ready after {watched} seconds, when the job passed its deadline of 3600 seconds");
    assert!(watched < 2600 && message.starts_with(&told), "{message}");
}

#[tokio::test]
async fn a_hook_ends_with_the_job_that_is_cancelled_or_late() {
    let world = World::new().await;
    hooks(&world, &[("pre-upgrade", &["done", "long"])]);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let cancelled = job(&world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(world.cluster.cloud().made.len(), 2);
    let id = cancelled.id.to_string();
    world.app.cancel_job(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(look(&world, &cancelled).await.status, JobStatus::Cancelled);
    assert!(world.cluster.cloud().made.is_empty(), "it does not go on");
    // What is late is kept for people to look at, unless it is to go when it fails.
    for (goes, left) in [(false, vec!["long"]), (true, vec![])] {
        world.cluster.cloud().deletes_failed = goes;
        world.cluster.cloud().made.clear();
        assert_eq!(ended(&world, json!({})).await.status, JobStatus::TimedOut);
        assert_eq!(world.cluster.cloud().made.values().collect::<Vec<_>>(), left);
    }
}

#[tokio::test]
async fn a_newer_job_waits_for_the_hook_of_an_older_one() {
    let world = World::new().await;
    hooks(&world, &[("pre-upgrade", &["migrate", "check"])]);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    log(&world);
    world.cluster.cloud().hanging.insert("migrate".to_owned());
    let older = job(&world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    world.clock.advance(Duration::from_secs(1));
    let newer = job(&world, json!({})).await;
    for _ in 0..3 {
        world.deliver(&Queue::DeployHelm).await;
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(look(&world, &older).await.status, JobStatus::Running);
    assert_eq!(log(&world), ["hook migrate"]);
    world.cluster.cloud().hanging.clear();
    world.settle().await;
    let older = look(&world, &older).await;
    assert_eq!(older.status, JobStatus::Cancelled);
    assert!(older.error_message.unwrap().starts_with("superseded by job"));
    assert_eq!(look(&world, &newer).await.status, JobStatus::Succeeded);
    assert_eq!(log(&world), ["hook migrate", "hook check", "apply app"]);
}

#[tokio::test]
async fn a_hook_that_hung_long_enough_goes_on_when_it_has_ended() {
    let world = World::new().await;
    hooks(&world, &[("pre-install", &["long", "short"])]);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let job = job(&world, json!({})).await;
    for _ in 0..10 {
        world.deliver(&Queue::DeployHelm).await;
    }
    world.cluster.cloud().hanging.clear();
    world.settle().await;
    assert_eq!(look(&world, &job).await.status, JobStatus::Succeeded);
    assert_eq!(log(&world), ["hook long", "hook short", "apply app"]);
}

#[tokio::test]
async fn helm_gets_what_is_left_of_the_invocation_and_another_one_goes_on_when_that_is_too_little() {
    let world = World::with(|settings| settings.invocation = Duration::from_secs(300)).await;
    world.cluster.cloud().checking = Duration::from_secs(50);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    let limits = std::mem::take(&mut world.cluster.cloud().limits);
    assert_eq!(
        limits,
        [
            ("check", Duration::from_secs(255)),
            ("apply", Duration::from_secs(205))
        ]
    );
    // Begun 230 s into the invocation, an apply would have 25 s.
    world.cluster.cloud().checking = Duration::from_secs(230);
    let job = job(&world, json!({})).await;
    assert!(!deliver_once(&world).await);
    let seen = look(&world, &job).await;
    assert_eq!((seen.phase, seen.status), (JobPhase::Apply, JobStatus::Running));
    world.settle().await;
    assert_eq!(look(&world, &job).await.status, JobStatus::Succeeded);
    let limits = std::mem::take(&mut world.cluster.cloud().limits);
    assert_eq!(
        limits[1],
        ("apply", Duration::from_secs(255)),
        "a fresh invocation"
    );
}

#[tokio::test]
async fn wherever_an_invocation_ends_each_hook_runs_once_and_in_order() {
    let names: &[(&str, &[&str])] = &[("pre-install", &["first", "second"]), ("post-install", &["seed"])];
    for calls in 0..200 {
        let world = World::new().await;
        hooks(&world, names);
        let job = job(&world, json!({})).await;
        world.flaky.die_after_calls(Some(calls));
        let died = deliver_once(&world).await;
        world.flaky.die_after_calls(None);
        for _ in 0..20 {
            world.settle().await;
            if look(&world, &job).await.status.is_terminal() {
                break;
            }
            // Longer than a lease.
            world.clock.advance(Duration::from_secs(400));
            world.app.sync_deployments().await.unwrap();
        }
        let end = look(&world, &job).await;
        assert_eq!(end.status, JobStatus::Succeeded, "after {calls} calls: {end:#?}");
        let mut log = log(&world);
        // Where it died between Helm's end and the word of it.
        log.retain(|line| line != "complete app");
        assert_eq!(
            log,
            ["hook first", "hook second", "apply app", "hook seed"],
            "after {calls} calls"
        );
        assert!(world.cluster.cloud().made.is_empty(), "after {calls} calls");
        if !died {
            assert!(calls > 20, "it makes {calls} calls only");
            return;
        }
    }
    panic!("it makes more than 200 calls");
}

/// Hands out one message of the job; whether that failed. It comes again then.
async fn deliver_once(world: &World) -> bool {
    let queue = Queue::DeployHelm;
    let got = Receiver::receive(&*world.store, &queue, 1, Duration::ZERO, Duration::ZERO)
        .await
        .unwrap();
    let message = Message::from_body(&queue, &got[0].body).unwrap();
    let handled = world.app.handle(&queue, message).await;
    if handled.is_ok() {
        world.store.acknowledge(&queue, &got[0].receipt).await.unwrap();
    }
    handled.is_err()
}

#[tokio::test]
async fn what_somebody_else_installed_meanwhile_is_not_taken_away() {
    let world = World::new().await;
    hooks(&world, &[("pre-install", &["slow"])]);
    world.cluster.cloud().hanging.insert("slow".to_owned());
    let job = job(&world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.installed.insert("app".to_owned(), JsonMap::new());
        cloud.revisions.insert("app".to_owned(), (1, BTreeMap::new()));
        cloud.hanging.clear();
    }
    world.settle().await;
    let ended = look(&world, &job).await;
    assert_eq!(ended.status, JobStatus::Failed);
    let said = ended.error_message.unwrap();
    assert!(
        said.contains("was not made by Slipway") && said.contains("nothing was taken away"),
        "{said}"
    );
    let cloud = world.cluster.cloud();
    assert!(cloud.installed.contains_key("app"), "{:?}", cloud.log);
    assert!(cloud.marked.is_empty(), "{:?}", cloud.marked);
}

#[tokio::test]
async fn an_install_that_may_have_adopted_something_is_not_taken_away_when_it_fails() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let ended = ended(&world, json!({"adopt": true, "timeout": 30})).await;
    assert_eq!(ended.status, JobStatus::TimedOut);
    let said = ended.error_message.unwrap();
    assert!(said.contains("what was installed stays"), "{said}");
    assert_eq!(log(&world), ["apply app"]);
    assert_eq!(
        world.cluster.cloud().marked.len(),
        1,
        "Helm does not say that it works"
    );
}

#[tokio::test]
async fn the_time_of_a_hook_is_not_taken_from_what_has_to_go() {
    let world = World::new().await;
    hooks(&world, &[("pre-delete", &["drain"])]);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    {
        let mut cloud = world.cluster.cloud();
        cloud.hanging.insert("drain".to_owned());
        cloud.lingering.insert("app".to_owned());
    }
    let job = job(&world, json!({"operation": "uninstall", "timeout": 60})).await;
    world.deliver(&Queue::DeployHelm).await;
    world.clock.advance(Duration::from_secs(120));
    world.cluster.cloud().hanging.clear();
    for _ in 0..4 {
        world.deliver(&Queue::DeployHelm).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let waits = look(&world, &job).await;
    assert_eq!(waits.status, JobStatus::Running, "{waits:#?}");
    world.clock.advance(Duration::from_secs(60));
    world.settle().await;
    let said = look(&world, &job).await.error_message.unwrap();
    assert!(said.contains("is not gone after 60 seconds"), "{said}");
}
