//! What posted steps leave out of their releases' names and say of their time.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{ExecutionStatus, StepStatus};

use crate::{
    executions::{chart, progress, run, seconds, step},
    world::{World, admin},
};

#[tokio::test]
async fn steps_that_name_no_release_and_would_share_one_are_refused() {
    let (world, caller) = (World::new().await, admin());
    let post = |more: Value| {
        let nameless = |id: &str, more: &Value| {
            let more = more.as_object().unwrap().clone();
            let mut step = chart(id, &json!({}));
            step["params"]["release_name"] = Value::Null;
            step["params"].as_object_mut().unwrap().extend(more);
            step
        };
        let dag = json!({"name": "x", "steps": [
            nameless("a", &json!({})),
            nameless("b", &more),
            {"id": "c", "action": "helm_test", "params": {
                "cluster_id": "dev", "release_name": "a", "namespace": "n"}}]});
        world.app.create_execution(&caller, dag)
    };
    let refused = crate::world::problem(post(json!({})).await);
    assert_eq!(refused.status, 422);
    let all = refused.errors.iter().map(|error| error.path.as_str());
    assert_eq!(all.collect::<Vec<_>>(), ["steps[1].params.release_name"]);
    assert!(refused.errors[0].message.contains("'a'"), "{refused:?}");
    for apart in [
        json!({"release_name": "b"}),
        json!({"namespace": "b"}),
        json!({"cluster_id": "another"}),
    ] {
        post(apart).await.unwrap();
    }
    // The id may be that of the cluster that is named.
    let dev = world.app.cluster(&caller, "dev").await.unwrap().id;
    let refused = crate::world::problem(post(json!({"cluster_id": dev})).await);
    assert_eq!(refused.errors[0].path, "steps[1].params.release_name");
    assert!(refused.errors[0].message.contains("by id"), "{refused:?}");
}

#[tokio::test]
async fn a_release_has_as_long_as_its_step_says_to_become_ready_and_its_hooks_an_hour_beside() {
    let world = World::new().await;
    {
        let mut cloud = world.cluster.cloud();
        cloud.stuck.insert("slow".to_owned());
        cloud
            .hooks
            .insert("slow pre-install".to_owned(), vec!["long".to_owned()]);
        cloud.hanging.insert("long".to_owned());
    }
    let dag = json!({"name": "x", "settings": {"timeout_seconds": 10800}, "steps": [
        chart("slow", &json!({"timeout": "2h"}))]});
    let id = run(&world, dag).await;
    for minutes in [30, 100] {
        seconds(&world, 4).await;
        world.clock.advance(Duration::from_secs(minutes * 60));
        world.app.sync_deployments().await.unwrap();
        seconds(&world, 4).await;
        world.cluster.cloud().hanging.clear();
    }
    world.cluster.cloud().stuck.clear();
    world.settle().await;
    let slow = step(&world, &id, "slow").await;
    assert_eq!(slow.status, StepStatus::Completed, "{:?}", slow.error_message);

    let mut endless = chart("endless", &json!({}));
    endless["timeout_seconds"] = json!(172_800);
    let caller = admin();
    let dag = json!({"name": "x", "steps": [endless]});
    let refused = crate::world::problem(world.app.create_execution(&caller, dag).await);
    assert_eq!(refused.status, 422);
    assert_eq!(refused.errors[0].path, "steps[0].timeout_seconds");
}

#[tokio::test]
async fn components_that_name_no_release_have_one_each() {
    let world = World::new().await;
    let slot = |id: &str, name: &str, kind: &str, selected: &str| {
        json!({"id": id, "action": "deployment_create", "params": {"cluster_id": "dev",
            "component_name": name, "component_type": kind, "selected_component": selected}})
    };
    let long = format!("a{}", "_long".repeat(10));
    let dag = json!({"name": "x", "steps": [
        slot("a", "vector_db", "vector_db", "qdrant"), slot("b", "llm", "model", "llama-3-8b"),
        slot("c", "llm_", "model", "llama-3-8b"), slot("d", &long, "model", "llama-3-8b")]});
    let same = json!({"name": "x", "steps": [
        slot("a", "llm", "model", "llama-3-8b"), slot("b", "LLM", "model", "llama-3-8b")]});
    let refused = crate::world::problem(world.app.create_execution(&admin(), same).await);
    assert_eq!(refused.errors[0].path, "steps[1].params.release_name");
    let id = run(&world, dag).await;
    world.settle().await;
    let progress = progress(&world, &id).await;
    assert_eq!(progress.status, ExecutionStatus::Completed, "{progress:?}");
    let cloud = world.cluster.cloud();
    let installed: Vec<&str> = cloud.installed.keys().map(String::as_str).collect();
    let short = &id[..8];
    let [cut, plain, odd, other] = installed[..] else {
        panic!("{installed:?}");
    };
    assert_eq!(
        [plain, other],
        [format!("uc-{short}-llm"), format!("uc-{short}-vector-db")]
    );
    assert!(
        cut.starts_with(&format!("uc-{short}-a-long-long")) && cut.len() == 53,
        "{cut}"
    );
    assert!(odd.starts_with(&format!("uc-{short}-llm-")), "{odd}");
}
