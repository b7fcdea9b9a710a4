//! Cancelled jobs end as cancelled, whatever else is in the way, and failures keep their kinds.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{ExecutionStatus, FailureKind, Job, JobStatus, Message, Queue, StepStatus, TenantId};
use slipway_ports::{Clock as _, TargetError};

use crate::{
    ending::{progress, run, step},
    hooks::{ended, job, log, look},
    world::{World, admin},
};

async fn cancel(world: &World, job: &Job) {
    let id = job.id.to_string();
    world.app.cancel_job(&admin(), &id).await.unwrap();
}

/// A release that is deployed, and a job that changes it and waits for readiness.
async fn upgrading(world: &World) -> Job {
    assert_eq!(ended(world, json!({})).await.status, JobStatus::Succeeded);
    world.cluster.cloud().stuck.insert("app".to_owned());
    let upgrade = job(world, json!({})).await;
    world.deliver(&Queue::DeployHelm).await;
    assert_eq!(log(world), ["apply app", "apply app"]);
    upgrade
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_its_cluster_is_away_ends_cancelled_and_says_so() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    cancel(&world, &upgrade).await;
    let asked = world.clock.now();
    world.cluster.cloud().away = true;
    world.settle().await;
    let ended = look(&world, &upgrade).await;
    assert_eq!(
        (ended.status, ended.error_message.as_deref(), ended.failure_kind),
        (
            JobStatus::Cancelled,
            Some("cancelled by user-789; its cluster could not be reached: no route to host"),
            None
        )
    );
    let waited = ended.completed_at.unwrap().since(asked);
    assert!(
        (300..340).contains(&waited.as_secs()),
        "as long as cleaning up has: {waited:?}"
    );
}

#[tokio::test]
async fn a_job_that_is_cancelled_ends_cancelled_at_once_where_waiting_for_its_cluster_changes_nothing() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    cancel(&world, &upgrade).await;
    let refused = Err(TargetError::permanent("401 Unauthorized"));
    world
        .cluster
        .cloud()
        .leads_to
        .insert("Render".to_owned(), refused);
    world.deliver(&Queue::DeployHelm).await;
    let ended = look(&world, &upgrade).await;
    assert_eq!(
        (ended.status, ended.error_message.as_deref(), ended.failure_kind),
        (
            JobStatus::Cancelled,
            Some("cancelled by user-789; its cluster could not be reached: 401 Unauthorized"),
            None
        )
    );
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_looks_at_its_release_has_changed_nothing_and_says_so() {
    for (is_first, changes) in [(true, &[] as &[&str]), (false, &["apply app"])] {
        let world = World::new().await;
        if !is_first {
            assert_eq!(ended(&world, json!({})).await.status, JobStatus::Succeeded);
        }
        let change = job(&world, json!({})).await;
        let (cluster, app, id) = (world.cluster.clone(), world.app.clone(), change.id.to_string());
        world.cluster.meanwhile("check", async move {
            cluster.meanwhile("record", async move {
                app.cancel_job(&admin(), &id).await.unwrap();
            });
        });
        world.settle().await;
        let ended = look(&world, &change).await;
        assert_eq!(
            (
                ended.status,
                ended.error_message.as_deref(),
                ended.replaces_revision
            ),
            (JobStatus::Cancelled, Some("cancelled by user-789"), None)
        );
        assert_eq!(log(&world), changes, "nothing is to be taken away");
        assert!(!ended.metadata_.contains_key("first_install"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_cancelled_job_whose_message_died_ends_cancelled() {
    let world = World::new().await;
    let upgrade = upgrading(&world).await;
    cancel(&world, &upgrade).await;
    world.clock.advance(Duration::from_secs(600));
    let (tenant, job) = (TenantId::local(), upgrade.id);
    let message = Message::Job { tenant, job };
    let queue = Queue::DeployHelm;
    world.app.give_up(&queue, &message, "it broke").await.unwrap();
    let ended = look(&world, &upgrade).await;
    assert_eq!(ended.status, JobStatus::Cancelled, "{:?}", ended.error_message);
    assert_eq!(
        ended.error_message.unwrap(),
        "cancelled by user-789; gave up after the last try: it broke"
    );
}

#[tokio::test]
async fn no_revision_of_others_is_marked_failed() {
    // What was taken away has none any more.
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let failed = ended(&world, json!({"timeout": 60})).await;
    assert_eq!(failed.status, JobStatus::TimedOut, "{failed:?}");
    assert_eq!(log(&world), ["apply app", "uninstall app"]);
    assert_eq!(world.cluster.cloud().marked, [""; 0]);
    // What stays is, unless somebody has put something else in its place.
    let stays = json!({"timeout": 60, "delete_on_failure": false});
    let mut marked = 0;
    for is_anothers in [false, true] {
        let change = job(&world, stays.clone()).await;
        if is_anothers {
            let cluster = world.cluster.clone();
            world.cluster.meanwhile("observe", async move {
                let mut cloud = cluster.cloud();
                let of_another = [("slipway-job".to_owned(), "another".to_owned())].into();
                cloud.revisions.get_mut("app").unwrap().1 = of_another;
            });
        }
        world.settle().await;
        assert_eq!(look(&world, &change).await.status, JobStatus::TimedOut);
        marked += usize::from(!is_anothers);
        let told = world.cluster.cloud().marked.clone();
        assert_eq!(told.len(), marked, "{told:?}");
    }
}

/// An execution of one step that may be tried twice.
fn twice() -> Value {
    json!({"name": "x", "steps": [{"id": "x", "action": "helm_deploy",
        "retry": {"max_attempts": 2, "backoff_seconds": 1},
        "params": {"cluster_id": "dev", "chart_ref": "charts/x", "release_name": "x", "namespace": "n"}}]})
}

#[tokio::test]
async fn what_kept_a_failure_from_being_cleaned_up_says_nothing_of_whether_it_would_come_again() {
    let world = World::new().await;
    // It tries four times by itself.
    world.cluster.cloud().flaky.insert("x".to_owned(), 4);
    let cluster = world.cluster.clone();
    world.cluster.meanwhile("uninstall", async move {
        let mut cloud = cluster.cloud();
        cloud.crowded = true;
        let refused = Err(TargetError::permanent("401 Unauthorized"));
        cloud.leads_to.insert("Render".to_owned(), refused);
    });
    let id = run(&world, twice()).await;
    for _ in 0..60 {
        for queue in World::queues() {
            world.deliver(&queue).await;
        }
        if step(&world, id, "x").await.status == StepStatus::Retrying {
            break;
        }
        world.clock.advance(Duration::from_secs(1));
    }
    let retrying = step(&world, id, "x").await;
    assert_eq!(retrying.status, StepStatus::Retrying, "{retrying:?}");
    let jobs = world
        .app
        .jobs(&admin(), &slipway_app::ListQuery::default())
        .await
        .unwrap();
    let failed = &jobs.items[0];
    let said = failed.error_message.as_deref().unwrap();
    assert!(
        said.starts_with("too many requests") && said.contains("could not be taken away: 401 Unauthorized"),
        "{said}"
    );
    assert_ne!(failed.failure_kind, Some(FailureKind::Permanent));
    {
        let mut cloud = world.cluster.cloud();
        cloud.leads_to.clear();
        cloud.crowded = false;
    }
    world.settle().await;
    assert_eq!(progress(&world, id).await.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn what_a_cancelled_job_could_not_take_away_is_undone_with_its_execution() {
    let world = World::new().await;
    let mut dag = twice();
    dag["settings"] = json!({"on_failure": "rollback"});
    world.cluster.cloud().stuck.insert("x".to_owned());
    let id = run(&world, dag).await;
    world.deliver(&Queue::ExecuteStep).await;
    world.deliver(&Queue::DeployHelm).await;
    let job = step(&world, id, "x").await.job_id.unwrap();
    world.app.cancel_job(&admin(), &job.to_string()).await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    let message = Message::Job {
        tenant: TenantId::local(),
        job,
    };
    let queue = Queue::DeployHelm;
    world.app.give_up(&queue, &message, "it broke").await.unwrap();
    let ended = world.app.job(&admin(), &job.to_string()).await.unwrap();
    assert_eq!(ended.status, JobStatus::Cancelled);
    let said = ended.error_message.unwrap();
    assert!(said.contains("may have left Deployment/x"), "{said}");
    world.settle().await;
    assert_eq!(log(&world), ["apply x", "uninstall x"]);
}

#[tokio::test]
async fn an_install_that_was_to_stay_goes_if_somebody_wants_that_before_its_job_has_ended() {
    for comes_to_a_revision in [true, false] {
        let world = World::new().await;
        world.cluster.cloud().stuck.insert("x".to_owned());
        let id = run(&world, twice()).await;
        world.deliver(&Queue::ExecuteStep).await;
        if !comes_to_a_revision {
            world.cluster.cloud().crowded = true;
        }
        world.deliver(&Queue::DeployHelm).await;
        let job = step(&world, id, "x").await.job_id.unwrap();
        let execution = id.to_string();
        world
            .app
            .cancel_execution(&admin(), &execution, "not now")
            .await
            .unwrap();
        world.deliver(&Queue::ExecuteStep).await;
        let app = world.app.clone();
        let take_away = async move {
            app.cancel_job(&admin(), &job.to_string()).await.unwrap();
        };
        // It has decided to leave what it installed, and is about to say so.
        if comes_to_a_revision {
            world.cluster.meanwhile("mark_failed", take_away);
        } else {
            world.flaky.before_put("j", take_away);
        }
        world.settle().await;
        let ended = world.app.job(&admin(), &job.to_string()).await.unwrap();
        assert_eq!(
            (ended.status, ended.error_message.as_deref()),
            (JobStatus::Cancelled, Some("not now")),
            "{ended:?}"
        );
        assert_eq!(progress(&world, id).await.status, ExecutionStatus::Cancelled);
        let cloud = world.cluster.cloud();
        assert!(!cloud.installed.contains_key("x"), "{:?}", cloud.log);
    }
}

#[tokio::test]
async fn a_cancelled_install_that_may_have_taken_something_over_ends_and_stays() {
    let world = World::new().await;
    world.cluster.cloud().stuck.insert("app".to_owned());
    let install = job(&world, json!({"adopt": true})).await;
    world.deliver(&Queue::DeployHelm).await;
    cancel(&world, &install).await;
    world.settle().await;
    let ended = look(&world, &install).await;
    let why = ended.error_message.unwrap_or_default();
    assert!(
        ended.status == JobStatus::Cancelled && why.contains("what was installed stays"),
        "{why}"
    );
    assert_eq!(log(&world), ["apply app"]);
}
