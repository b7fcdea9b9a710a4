//! Which of several jobs for a release is done, where newer ones are cancelled or end before they come to it.

use std::time::Duration;

use serde_json::json;
use slipway_app::App;
use slipway_model::{Job, JobId, JobStatus, Message, Queue, TenantId};

use crate::{
    doubled::{go_on, job, record},
    world::{World, admin},
};

/// A job that applied and waits for readiness, and a newer one that waits for it.
async fn one_after_the_other() -> (World, JobId, JobId) {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("a".to_owned());
    let old = job(&world.app).await;
    go_on(&world.app, old).await;
    world.clock.advance(Duration::from_millis(1));
    let newer = job(&world.app).await;
    go_on(&world.app, newer).await;
    let waits = record(&world, newer);
    assert_eq!(waits.waiting_for[0].reason, "another job", "{waits:#?}");
    (world, old, newer)
}

async fn cancel(app: &App, job: JobId) {
    app.cancel_job(&admin(), &job.to_string()).await.unwrap();
}

/// Has both end, now that the release becomes ready.
async fn settled(world: &World, jobs: [JobId; 2]) -> [Job; 2] {
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    jobs.map(|job| record(world, job))
}

#[tokio::test]
async fn a_newer_job_that_is_cancelled_before_it_came_to_the_release_replaces_no_older_one() {
    for has_ended in [false, true] {
        let (world, old, newer) = one_after_the_other().await;
        cancel(&world.app, newer).await;
        if has_ended {
            go_on(&world.app, newer).await;
            assert_eq!(record(&world, newer).status, JobStatus::Cancelled);
        }
        go_on(&world.app, old).await;
        let [old, newer] = settled(&world, [old, newer]).await;
        assert_eq!(newer.status, JobStatus::Cancelled, "{newer:?}");
        assert_eq!(old.status, JobStatus::Succeeded, "{old:?}");
        assert_eq!(world.cluster.cloud().log, ["apply a"]);
    }
}

#[tokio::test]
async fn a_newer_job_that_failed_before_it_came_to_the_release_replaces_no_older_one() {
    let (world, old, newer) = one_after_the_other().await;
    let (tenant, job) = (TenantId::local(), newer);
    let message = Message::Job { tenant, job };
    world
        .app
        .give_up(&Queue::DeployHelm, &message, "it broke")
        .await
        .unwrap();
    let [old, newer] = settled(&world, [old, newer]).await;
    assert_eq!(newer.status, JobStatus::Failed, "{newer:?}");
    assert_eq!(old.status, JobStatus::Succeeded, "{old:?}");
}

#[tokio::test]
async fn an_older_job_that_waits_has_its_turn_after_a_newer_one_that_was_cancelled_while_it_looked() {
    let world = World::new().await;
    let old = job(&world.app).await;
    world.clock.advance(Duration::from_millis(1));
    let newer = job(&world.app).await;
    let app = world.app.clone();
    world.cluster.meanwhile("check", async move {
        cancel(&app, newer).await;
        go_on(&app, old).await;
        let waits = app.job(&admin(), &old.to_string()).await.unwrap();
        assert_eq!(waits.status, JobStatus::Running, "{waits:#?}");
        assert_eq!(waits.waiting_for[0].reason, "another job", "{waits:#?}");
    });
    go_on(&world.app, newer).await;
    let [old, newer] = settled(&world, [old, newer]).await;
    assert_eq!(newer.status, JobStatus::Cancelled, "{newer:?}");
    assert_eq!(old.status, JobStatus::Succeeded, "{old:?}");
    assert_eq!(world.cluster.cloud().log, ["apply a"]);
}

#[tokio::test]
async fn of_two_jobs_that_a_cancelled_one_left_the_newer_one_is_done() {
    let (world, old, middle) = one_after_the_other().await;
    world.clock.advance(Duration::from_millis(1));
    let newest = job(&world.app).await;
    go_on(&world.app, newest).await;
    cancel(&world.app, newest).await;
    // The oldest one looks first, and takes the cancelled one's place until the middle one looks.
    go_on(&world.app, old).await;
    assert_eq!(record(&world, old).status, JobStatus::Running);
    go_on(&world.app, middle).await;
    let [old, middle] = settled(&world, [old, middle]).await;
    let why = old.error_message.unwrap();
    assert!(
        why.starts_with(&format!("superseded by job {}", middle.id)),
        "{why}"
    );
    assert_eq!(middle.status, JobStatus::Succeeded, "{middle:?}");
    assert_eq!(world.cluster.cloud().log, ["apply a", "apply a"]);
}

#[tokio::test]
async fn a_newer_job_that_changed_the_release_replaces_an_older_one_however_it_ended() {
    for is_cancelled in [false, true] {
        let world = World::new().await;
        let old = job(&world.app).await;
        world.clock.advance(Duration::from_millis(1));
        let newer = job(&world.app).await;
        if is_cancelled {
            world.cluster.cloud().stuck.insert("a".to_owned());
            go_on(&world.app, newer).await;
            cancel(&world.app, newer).await;
        } else {
            let why = ("a".to_owned(), "values do not fit the schema".to_owned());
            world.cluster.cloud().broken.extend([why]);
        }
        go_on(&world.app, newer).await;
        world.cluster.cloud().broken.clear();
        let [old, newer] = settled(&world, [old, newer]).await;
        assert!(newer.status.is_terminal() && newer.status != JobStatus::Succeeded);
        assert_eq!(old.status, JobStatus::Cancelled, "{old:?}");
        let why = json!(old.error_message).to_string();
        assert!(why.contains("superseded by job"), "{why}");
    }
}

/// Has a job looked at until it has ended, with the release ready.
async fn end(world: &World, job: JobId) -> Job {
    for _ in 0..20 {
        go_on(&world.app, job).await;
        world.clock.advance(Duration::from_secs(5));
    }
    record(world, job)
}

/// Begins a job, and cancels it while it only looks.
async fn come_to_nothing(world: &World, job: JobId) {
    let app = world.app.clone();
    world
        .cluster
        .meanwhile("check", async move { cancel(&app, job).await });
    let ended = end(world, job).await;
    assert_eq!(ended.status, JobStatus::Cancelled, "{ended:#?}");
}

#[tokio::test]
async fn what_a_newer_job_made_stays_although_the_newest_came_to_nothing() {
    let (world, old, middle) = one_after_the_other().await;
    // Nobody looks at the old one until its hold is over, and the release becomes ready for the middle one.
    world.clock.advance(Duration::from_secs(120));
    world.cluster.cloud().stuck.clear();
    let done = end(&world, middle).await;
    assert_eq!(done.status, JobStatus::Succeeded, "{done:#?}");
    let newest = job(&world.app).await;
    come_to_nothing(&world, newest).await;
    let old = end(&world, old).await;
    assert_eq!(old.status, JobStatus::Cancelled, "{old:#?}");
    let why = old.error_message.unwrap();
    assert!(why.starts_with(&format!("superseded by job {middle}")), "{why}");
    assert_eq!(world.cluster.cloud().log, ["apply a", "apply a"]);
}

#[tokio::test]
async fn a_job_that_only_looked_leaves_the_revision_of_an_older_one_as_it_is() {
    let (world, old, newer) = one_after_the_other().await;
    world.clock.advance(Duration::from_secs(120));
    come_to_nothing(&world, newer).await;
    world.cluster.cloud().stuck.clear();
    let old = end(&world, old).await;
    assert_eq!(old.status, JobStatus::Succeeded, "{old:#?}");
    let marked = world.cluster.cloud().marked.clone();
    assert!(marked.is_empty(), "{marked:?}");
}
