//! Hooks that go on when their job ends: its message names each of them.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{Job, JobStatus, Message, Queue, TenantId};
use slipway_ports::TargetError;

use crate::{
    hooks::{ended, hooks, job, log, look},
    world::{World, admin},
};

/// A release that is deployed, and a job that changes it and has a hook run that does not end.
async fn upgrading(world: &World) -> Job {
    hooks(world, &[("pre-upgrade", &["long"])]);
    assert_eq!(ended(world, json!({})).await.status, JobStatus::Succeeded);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let upgrade = job(world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(log(world), ["apply app", "hook long"]);
    upgrade
}

async fn cancel(world: &World, job: &Job) {
    let id = job.id.to_string();
    world.app.cancel_job(&admin(), &id).await.unwrap();
}

fn break_down(world: &World, what: &str, why: &str) {
    let mut cloud = world.cluster.cloud();
    cloud.broken.insert(what.to_owned(), why.to_owned());
}

/// Why a job ended.
async fn said(world: &World, job: &Job) -> (JobStatus, String) {
    let ended = look(world, job).await;
    assert!(ended.status.is_terminal(), "{ended:#?}");
    (ended.status, ended.error_message.unwrap_or_default())
}

#[tokio::test]
async fn a_hook_that_is_late_and_is_left_is_said_to_go_on() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    world.settle().await;
    let (status, said) = said(&world, &upgrade).await;
    assert_eq!(status, JobStatus::TimedOut);
    assert!(
        said.contains("seconds; waiting for Job/long: running")
            && said.contains("; the pre-upgrade hook Job/long goes on"),
        "{said}"
    );
}

#[tokio::test]
async fn a_hook_that_cannot_be_looked_at_any_more_is_named() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    break_down(&world, "observe long", "forbidden");
    world.settle().await;
    assert_eq!(
        said(&world, &upgrade).await,
        (
            JobStatus::Failed,
            "forbidden; the pre-upgrade hook Job/long goes on".to_owned()
        )
    );
    // One that is to go when it fails does.
    let world = World::new().await;
    world.cluster.cloud().deletes_failed = true;
    let upgrade = upgrading(&world).await;
    break_down(&world, "observe long", "forbidden");
    world.settle().await;
    assert_eq!(
        said(&world, &upgrade).await,
        (JobStatus::Failed, "forbidden".to_owned())
    );
    assert!(world.cluster.cloud().made.is_empty());
}

#[tokio::test]
async fn a_hook_is_named_whose_cluster_is_out_of_reach_until_its_job_ends() {
    for is_cancelled in [false, true] {
        let world = World::new().await;
        let upgrade = upgrading(&world).await;
        if is_cancelled {
            cancel(&world, &upgrade).await;
        }
        world.cluster.cloud().away = true;
        world.settle().await;
        let (status, said) = said(&world, &upgrade).await;
        let expected = if is_cancelled {
            JobStatus::Cancelled
        } else {
            JobStatus::Failed
        };
        assert_eq!(status, expected, "{said}");
        assert!(
            said.contains("no route to host") && said.ends_with("; the pre-upgrade hook Job/long may go on"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_hook_of_a_job_that_is_given_up_is_named() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    world.clock.advance(Duration::from_secs(600));
    let (tenant, job) = (TenantId::local(), upgrade.id);
    let message = Message::Job { tenant, job };
    let queue = Queue::DeployHelm;
    world.app.give_up(&queue, &message, "it broke").await.unwrap();
    let (status, said) = said(&world, &upgrade).await;
    assert_eq!(status, JobStatus::Failed);
    assert!(
        said.ends_with("it broke; the pre-upgrade hook Job/long may go on"),
        "{said}"
    );
}

#[tokio::test]
async fn a_failed_hook_that_cannot_be_deleted_still_says_why_it_failed() {
    let world = World::new().await;
    world.cluster.cloud().deletes_failed = true;
    let upgrade = upgrading(&world).await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.hanging.clear();
        cloud.failing.insert("long".to_owned());
    }
    break_down(&world, "delete long", "forbidden");
    world.settle().await;
    let (status, said) = said(&world, &upgrade).await;
    assert_eq!(status, JobStatus::Failed);
    assert!(
        said.starts_with(
            "the pre-upgrade hook Job/long failed: the job failed (container main ended with exit code 3); \
             hooks could not be deleted: forbidden\nlong said so"
        ),
        "{said}"
    );
    assert_eq!(look(&world, &upgrade).await.failure_kind, None);
}

/// A first install whose hook does not end, and cannot be deleted, which is cancelled.
async fn cancelled_install(world: &World) -> Job {
    hooks(world, &[("pre-install", &["long"])]);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let install = job(world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    break_down(world, "delete long", "forbidden");
    cancel(world, &install).await;
    install
}

#[tokio::test]
async fn a_hook_is_named_if_it_did_not_go_with_what_was_installed() {
    let world = World::new().await;
    let install = cancelled_install(&world).await;
    world.settle().await;
    assert_eq!(
        said(&world, &install).await,
        (
            JobStatus::Cancelled,
            "cancelled by user-789; waiting for Job/long: running (pre-install hook; 0 of 1 runs are done)"
                .to_owned()
        ),
        "it went with its release"
    );
    let world = World::new().await;
    let install = cancelled_install(&world).await;
    break_down(&world, "uninstall app", "not allowed");
    world.settle().await;
    let (status, said) = said(&world, &install).await;
    assert_eq!(status, JobStatus::Cancelled);
    assert!(
        said.contains("could not be taken away: not allowed")
            && said.contains("; the pre-install hook Job/long may go on: forbidden"),
        "{said}"
    );
}

#[tokio::test]
async fn a_hook_that_was_left_while_cleaning_up_is_named_if_the_rest_stays_too() {
    for (left, what, why) in [
        ("did not end", "", ""),
        ("could not run", "observe drain", "forbidden"),
    ] {
        let world = World::new().await;
        hooks(&world, &[("post-install", &["seed"]), ("pre-delete", &["drain"])]);
        {
            let mut cloud = world.cluster.cloud();
            cloud.failing.insert("seed".to_owned());
            cloud.hanging.insert("drain".to_owned());
        }
        break_down(&world, "uninstall app", "not allowed");
        break_down(&world, what, why);
        let failed = ended(&world, json!({})).await;
        assert_eq!(failed.status, JobStatus::Failed);
        let said = failed.error_message.unwrap();
        assert!(
            said.contains(&format!("the pre-delete hooks {left}"))
                && said.contains("could not be taken away: not allowed")
                && said.contains("; the pre-delete hook Job/drain may go on"),
            "{said}"
        );
    }
}

/// An upgrade whose invocation dies when its hook was created, and before that is recorded.
async fn dies_at_its_hook(world: &World) -> Job {
    hooks(world, &[("pre-upgrade", &["long"])]);
    assert_eq!(ended(world, json!({})).await.status, JobStatus::Succeeded);
    world.cluster.cloud().hanging.insert("long".to_owned());
    let upgrade = job(world, json!({})).await;
    let flaky = world.flaky.clone();
    world
        .cluster
        .meanwhile("made hook", async move { flaky.die_after_calls(Some(0)) });
    let (tenant, job) = (TenantId::local(), upgrade.id);
    let message = Message::Job { tenant, job };
    let died = world.app.handle(&Queue::DeployHelm, message).await;
    assert!(died.is_err());
    world.flaky.die_after_calls(None);
    assert_eq!(world.cluster.cloud().made.len(), 1);
    upgrade
}

#[tokio::test]
async fn a_hook_whose_creation_nobody_recorded_goes_with_its_job_or_is_named() {
    let world = World::new().await;
    let upgrade = dies_at_its_hook(&world).await;
    cancel(&world, &upgrade).await;
    world.settle().await;
    let (status, why) = said(&world, &upgrade).await;
    assert_eq!(status, JobStatus::Cancelled);
    assert!(!why.contains("hook"), "{why}");
    assert!(world.cluster.cloud().made.is_empty(), "it is found and deleted");

    let world = World::new().await;
    let upgrade = dies_at_its_hook(&world).await;
    cancel(&world, &upgrade).await;
    let refused = Err(TargetError::permanent("401 Unauthorized"));
    world
        .cluster
        .cloud()
        .leads_to
        .insert("Render".to_owned(), refused);
    world.settle().await;
    let (status, why) = said(&world, &upgrade).await;
    assert_eq!(status, JobStatus::Cancelled);
    assert!(
        why.ends_with("; the pre-upgrade hook Job/long may go on, if it was created"),
        "{why}"
    );
}

#[tokio::test]
async fn a_hook_that_was_not_created_is_not_named() {
    let world = World::new().await;
    hooks(&world, &[("pre-upgrade", &["long"])]);
    assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
    break_down(&world, "hook long", "exceeded quota");
    let failed: Value = json!(ended(&world, json!({})).await.error_message);
    assert_eq!(failed, json!("exceeded quota"));
}

/// A release that is deployed, and a job that tests it by a hook that does not end.
async fn testing(world: &World) -> Job {
    hooks(world, &[("test", &["check"])]);
    assert_eq!(ended(world, json!({})).await.status, JobStatus::Succeeded);
    world.cluster.cloud().hanging.insert("check".to_owned());
    let test = job(world, json!({"operation": "test"})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(log(world), ["apply app", "hook check"]);
    test
}

#[tokio::test]
async fn a_test_that_is_cancelled_leaves_no_pod_and_the_release_as_it_is() {
    let world = World::new().await;
    let test = testing(&world).await;
    cancel(&world, &test).await;
    world.settle().await;
    let ended = look(&world, &test).await;
    assert_eq!(ended.status, JobStatus::Cancelled, "{ended:#?}");
    let cloud = world.cluster.cloud();
    assert!(cloud.made.is_empty(), "its pod goes on: {:?}", cloud.made);
    assert!(cloud.marked.is_empty() && cloud.log.is_empty(), "{:?}", cloud.log);
    assert_eq!(cloud.revisions["app"].0, 1);
}

#[tokio::test]
async fn a_test_that_is_cancelled_names_the_pod_that_could_not_be_deleted() {
    for is_away in [false, true] {
        let world = World::new().await;
        let test = testing(&world).await;
        cancel(&world, &test).await;
        if is_away {
            world.cluster.cloud().away = true;
        } else {
            let why = ("delete check".to_owned(), "forbidden".to_owned());
            world.cluster.cloud().broken.extend([why]);
        }
        world.settle().await;
        let ended = look(&world, &test).await;
        assert_eq!(ended.status, JobStatus::Cancelled, "{ended:#?}");
        let said = ended.error_message.unwrap();
        assert!(
            said.starts_with("cancelled by user-789") && said.contains("; the test hook Job/check may go on"),
            "{said}"
        );
        assert!(world.cluster.cloud().marked.is_empty());
    }
}

#[tokio::test]
async fn a_test_that_has_succeeded_is_not_run_again_whichever_write_is_lost() {
    for others in 0.. {
        let world = World::new().await;
        hooks(&world, &[("test", &["check"])]);
        assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
        let test = job(&world, json!({"operation": "test"})).await;
        world.flaky.refuse_put("j", others);
        let (tenant, id) = (admin().tenant, test.id);
        let message = Message::Job { tenant, job: id };
        let died = world.app.handle(&Queue::DeployHelm, message).await.is_err();
        world.settle().await;
        assert_eq!(look(&world, &test).await.status, JobStatus::Succeeded, "{others}");
        assert_eq!(log(&world), ["apply app", "hook check"], "{others}");
        if !died {
            assert!(others > 3, "a job is written only {others} times");
            break;
        }
    }
}
