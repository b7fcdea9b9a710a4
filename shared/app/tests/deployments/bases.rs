//! What a job takes for the revision to go back to: one whose job succeeded, whatever Helm's record says.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::NewJob;
use slipway_model::{ExecutionStatus, Job, JobPhase, JobStatus, Message, Queue};

use crate::world::{World, admin};

/// A job that deploys `app` with a size, and was executed.
async fn deploy(world: &World, size: u32, config: Value) -> Job {
    let mut all = json!({"chart_ref": "charts/app", "release_name": "app", "namespace": "ns",
                         "values": {"size": size}});
    for (key, value) in config.as_object().unwrap() {
        all[key] = value.clone();
    }
    let new: NewJob = serde_json::from_value(json!({
        "name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": all,
    }))
    .unwrap();
    world.clock.advance(Duration::from_secs(1));
    let job = world.app.create_job(&admin(), new).await.unwrap();
    let id = job.id.to_string();
    world.app.execute_job(&admin(), &id).await.unwrap()
}

async fn look(world: &World, job: &Job) -> Job {
    world.app.job(&admin(), &job.id.to_string()).await.unwrap()
}

/// The same, and it has ended.
async fn deployed(world: &World, size: u32, config: Value) -> Job {
    let job = deploy(world, size, config).await;
    world.settle().await;
    look(world, &job).await
}

/// Revision 1 of the release works; its values say size 1.
async fn working() -> World {
    let world = World::new().await;
    let good = deployed(&world, 1, json!({})).await;
    assert_eq!(good.status, JobStatus::Succeeded, "{good:#?}");
    world
}

/// Has the API server be away whenever a revision of the release is to be marked failed, or not any more.
fn take_marks(world: &World, takes: bool) {
    let what = "mark_failed app".to_owned();
    let mut cloud = world.cluster.cloud();
    match takes {
        true => cloud.broken.remove(&what),
        false => cloud.broken.insert(what, "no route to host".to_owned()),
    };
}

/// A job that does not become ready, and whose revision nobody can mark failed.
async fn unmarked(world: &World, config: Value) -> Job {
    take_marks(world, false);
    world.cluster.cloud().stuck.insert("app".to_owned());
    let broken = deployed(world, 2, config).await;
    assert_eq!(broken.status, JobStatus::TimedOut, "{broken:#?}");
    world.cluster.cloud().stuck.clear();
    take_marks(world, true);
    assert!(world.cluster.cloud().marked.is_empty());
    broken
}

/// Deploys the release in an execution that fails afterwards and is undone.
async fn fail_and_undo(world: &World) {
    world.clock.advance(Duration::from_secs(1));
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"}, "steps": [
        {"id": "app", "action": "helm_deploy", "params": {
            "cluster_id": "dev", "chart_ref": "charts/app", "release_name": "app", "namespace": "ns",
            "values": {"size": 3}}},
        {"id": "late", "action": "approval", "depends_on": ["app"], "timeout_seconds": 5},
    ]});
    let execution = world.app.create_execution(&admin(), dag).await.unwrap().id;
    world.settle().await;
    let ended = world
        .app
        .execution(&admin(), &execution.to_string())
        .await
        .unwrap();
    let undoing = ended.compensated_by.unwrap().to_string();
    let undoing = world.app.execution(&admin(), &undoing).await.unwrap();
    assert_eq!(undoing.status, ExecutionStatus::Completed, "{undoing:#?}");
}

#[tokio::test]
async fn what_was_superseded_before_it_was_ready_is_nothing_to_go_back_to() {
    let world = working().await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let waiting = deploy(&world, 2, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(look(&world, &waiting).await.phase, JobPhase::Watch);
    // The one that waits hears of it between two of its looks.
    let newer = deploy(&world, 3, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    let waiting = look(&world, &waiting).await;
    assert_eq!(waiting.status, JobStatus::Cancelled, "{waiting:#?}");
    assert!(waiting.error_message.unwrap().starts_with("superseded by "));
    assert_eq!(look(&world, &newer).await.replaces_revision, Some(1));
}

#[tokio::test]
async fn a_revision_that_nobody_could_mark_failed_is_marked_by_the_next_job() {
    let world = working().await;
    unmarked(&world, json!({})).await;
    fail_and_undo(&world).await;
    let cloud = world.cluster.cloud();
    assert_eq!(cloud.log.last().unwrap(), "rollback app to 1");
    assert_eq!(cloud.installed["app"]["size"], 1);
    let marked = cloud.marked.first().unwrap();
    assert!(
        marked.starts_with("app 2: not ready after 600 seconds"),
        "{marked}"
    );
}

#[tokio::test]
async fn a_job_waits_until_it_can_mark_what_failed_before_it() {
    let world = working().await;
    unmarked(&world, json!({})).await;
    take_marks(&world, false);
    let next = deploy(&world, 3, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(look(&world, &next).await.status, JobStatus::Running);
    assert_eq!(world.cluster.cloud().installed["app"]["size"], 2);
    take_marks(&world, true);
    world.settle().await;
    let next = look(&world, &next).await;
    assert_eq!(
        (next.status, next.replaces_revision),
        (JobStatus::Succeeded, Some(1))
    );
}

#[tokio::test]
async fn a_revision_whose_job_was_cancelled_before_it_heard_of_it_is_nothing_to_go_back_to() {
    let world = working().await;
    let unheard = deploy(&world, 2, json!({})).await;
    world.cluster.cloud().unheard.insert("app".to_owned());
    let (app, id) = (world.app.clone(), unheard.id.to_string());
    world.cluster.meanwhile("apply", async move {
        app.cancel_job(&admin(), &id).await.unwrap();
    });
    world.settle().await;
    assert_eq!(look(&world, &unheard).await.status, JobStatus::Cancelled);
    fail_and_undo(&world).await;
    let cloud = world.cluster.cloud();
    assert_eq!(cloud.log.last().unwrap(), "rollback app to 1");
    assert_eq!(cloud.installed["app"]["size"], 1);
}

#[tokio::test]
async fn a_first_install_that_failed_and_stays_is_a_first_install_again() {
    let world = World::new().await;
    unmarked(&world, json!({"delete_on_failure": false})).await;
    let next = deployed(&world, 3, json!({})).await;
    assert_eq!(next.status, JobStatus::Succeeded, "{next:#?}");
    assert_eq!(next.metadata_["first_install"], true);
    assert_eq!(next.replaces_revision, None);
}

#[tokio::test]
async fn what_somebody_deployed_past_slipway_over_a_failed_revision_is_left_as_it_is() {
    let world = working().await;
    unmarked(&world, json!({})).await;
    // Helm keeps the labels of the revision before.
    world.cluster.cloud().revisions.get_mut("app").unwrap().0 = 3;
    let next = deployed(&world, 4, json!({})).await;
    assert_eq!(next.replaces_revision, Some(3));
    assert!(world.cluster.cloud().marked.is_empty());
}

#[tokio::test]
async fn what_worked_before_is_asked_for_again_where_the_cluster_did_not_say() {
    let world = working().await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let broken = deployed(&world, 2, json!({})).await;
    assert_eq!(broken.status, JobStatus::TimedOut);
    {
        let mut cloud = world.cluster.cloud();
        cloud.stuck.clear();
        cloud.forgetful.insert("app".to_owned());
    }
    let next = deployed(&world, 3, json!({})).await;
    assert_eq!(
        (next.status, next.retry_count, next.replaces_revision),
        (JobStatus::Succeeded, 1, Some(1))
    );
}

#[tokio::test]
async fn what_a_job_replaces_is_known_whichever_of_its_writes_is_lost() {
    for others in 0.. {
        let world = working().await;
        let job = deploy(&world, 2, json!({})).await;
        let (tenant, id) = (admin().tenant, job.id);
        let message = Message::Job { tenant, job: id };
        world.flaky.refuse_put("j", others);
        let died = world
            .app
            .handle(&Queue::DeployHelm, message.clone())
            .await
            .is_err();
        world.settle().await;
        let done = look(&world, &job).await;
        assert_eq!(
            (done.status, done.replaces_revision),
            (JobStatus::Succeeded, Some(1)),
            "{others}"
        );
        if !died {
            assert!(others > 3, "a job is written only {others} times");
            break;
        }
    }
}
