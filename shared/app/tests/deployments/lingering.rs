//! Releases that are not taken away when they were to be: what comes after them waits, or says so.

use std::time::Duration;

use serde_json::json;
use slipway_model::{ExecutionStatus, JobStatus, StepStatus};

use crate::{
    executions::{chart, progress, run, seconds, step},
    world::{World, admin},
};

#[tokio::test]
async fn what_was_installed_is_taken_away_although_its_time_is_over_while_its_cluster_is_away() {
    for comes_back in [true, false] {
        let world = World::new().await;
        world.cluster.cloud().stuck.insert("slow".to_owned());
        // It goes when Helm has just ended.
        let cluster = world.cluster.clone();
        world
            .cluster
            .meanwhile("apply", async move { cluster.cloud().away = true });
        let slow = chart("slow", &json!({"timeout": 60}));
        let id = run(&world, json!({"name": "x", "steps": [slow]})).await;
        seconds(&world, 90).await;
        world.cluster.cloud().away = !comes_back;
        world.settle().await;
        let slow = step(&world, &id, "slow").await;
        assert_eq!(slow.status, StepStatus::Failed);
        let message = slow.error_message.unwrap();
        assert!(message.starts_with("no route to host"), "{message}");
        let log = world.cluster.cloud().log.clone();
        if comes_back {
            assert_eq!(log, ["apply slow", "uninstall slow"]);
        } else {
            assert!(
                message.contains("could not be taken away: no route to host")
                    && message.contains("may have left Deployment/slow"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_wanted_again_waits_until_it_is_gone() {
    let world = World::new().await;
    let deploy = || json!({"name": "x", "steps": [chart("a", &json!({"namespace": "n"}))]});
    run(&world, deploy()).await;
    world.settle().await;
    world.clock.advance(Duration::from_secs(1));
    world.cluster.cloud().lingering.insert("a".to_owned());
    let uninstall = json!({"id": "a", "action": "helm_uninstall", "params": {
        "cluster_id": "dev", "release_name": "a", "namespace": "n"}});
    let away = run(&world, json!({"name": "x", "steps": [uninstall]})).await;
    seconds(&world, 4).await;
    let job = step(&world, &away, "a").await.job_id.unwrap().to_string();
    world.app.cancel_job(&admin(), &job).await.unwrap();
    seconds(&world, 4).await;
    let job = world.app.job(&admin(), &job).await.unwrap();
    assert_eq!(job.status, JobStatus::Cancelled, "{job:#?}");
    world.clock.advance(Duration::from_secs(1));
    let again = run(&world, deploy()).await;
    seconds(&world, 4).await;
    let waiting = step(&world, &again, "a").await.waiting_for.unwrap_or_default();
    assert!(waiting.contains("Pod/a: terminating"), "{waiting}");
    world.cluster.cloud().lingering.clear();
    world.settle().await;
    assert_eq!(progress(&world, &again).await.status, ExecutionStatus::Completed);
    let log = world.cluster.cloud().log.clone();
    let [.., gone, applied] = &log[..] else { panic!() };
    assert_eq!(
        (gone.as_str(), applied.as_str()),
        ("uninstall objects of a", "apply a")
    );
    assert_eq!(log.iter().filter(|done| *done == "apply a").count(), 2, "{log:?}");
}
