//! How many calls executions take, and how much of them one message causes.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{ExecutionStatus, Message, Queue};
use slipway_ports::Receiver;

use crate::{
    flaky::Calls,
    world::{World, admin},
};

fn pass(id: impl Into<String>, after: &[String]) -> Value {
    json!({"id": id.into(), "action": "pass", "depends_on": after})
}

/// Runs an execution to its end. The calls in all, and the most that one message caused.
async fn run(world: &World, steps: Vec<Value>, topics: Value) -> (Calls, Calls) {
    let dag = json!({"name": "x", "steps": steps, "callback_topics": topics});
    let execution = world.app.create_execution(&admin(), dag).await.unwrap();
    let (queue, mut all, mut most) = (Queue::ExecuteStep, Calls::default(), Calls::default());
    world.flaky.calls();
    loop {
        let got = world
            .store
            .receive(&queue, 10, Duration::ZERO, Duration::from_secs(60))
            .await
            .unwrap();
        if got.is_empty() {
            break;
        }
        for delivery in got {
            let message = Message::from_body(&queue, &delivery.body).unwrap();
            world.app.handle(&queue, message).await.unwrap();
            world.store.acknowledge(&queue, &delivery.receipt).await.unwrap();
            let calls = world.flaky.calls();
            all.reads += calls.reads;
            all.writes += calls.writes;
            all.sends += calls.sends;
            if calls.all() > most.all() {
                most = calls;
            }
        }
    }
    let progress = world
        .app
        .execution_progress(&admin(), &execution.id.to_string(), true)
        .await
        .unwrap();
    assert_eq!(progress.status, ExecutionStatus::Completed);
    assert_eq!(progress.finished_steps, execution.step_count);
    (all, most)
}

#[tokio::test]
async fn a_step_of_a_chain_takes_one_write_and_next_to_no_read() {
    let world = World::new().await;
    for length in [64, 640] {
        let chain = (0..length).map(|index| match index {
            0 => pass("s0", &[]),
            _ => pass(format!("s{index}"), &[format!("s{}", index - 1)]),
        });
        let (all, most) = run(&world, chain.collect(), json!([])).await;
        // The header's end is one write more.
        assert_eq!(all.writes, length + 1, "{all:?}");
        let messages = length.div_ceil(64);
        assert!(all.sends < messages, "{all:?}");
        assert!(all.reads <= 5 * messages, "{all:?}");
        assert!(most.all() <= 80, "{most:?}");
    }
}

#[tokio::test]
async fn a_step_that_reads_the_one_before_costs_no_read() {
    let world = World::new().await;
    let mut chain = vec![json!({"id": "s0", "action": "pass", "params": {"n": 1}})];
    for index in 1..60 {
        let value = format!("{{{{ steps.s{}.outputs.n + 1 }}}}", index - 1);
        chain.push(json!({"id": format!("s{index}"), "action": "pass", "params": {"n": value}}));
    }
    let (all, _) = run(&world, chain, json!([])).await;
    assert!(all.reads <= 6, "{all:?}");
}

#[tokio::test]
async fn what_a_thousand_steps_follow_is_spread_over_messages() {
    let world = World::new().await;
    let ids: Vec<String> = (0..1000).map(|index| format!("s{index}")).collect();
    let mut steps = vec![pass("start", &[])];
    steps.extend(ids.iter().map(|id| pass(id, &["start".to_owned()])));
    steps.push(pass("stop", &ids));
    let (all, most) = run(&world, steps, json!([])).await;
    // Each step is one record and one arrival; the joins arrive at the last.
    assert!(all.writes <= 2 * 1002 + 32 + 1, "{all:?}");
    assert!(all.sends <= 20, "{all:?}");
    assert!(all.reads <= 250, "{all:?}");
    assert!(most.all() <= 200, "{most:?}");
}

#[tokio::test]
async fn an_event_of_an_execution_without_a_deployment_is_dropped_without_a_read() {
    let world = World::new().await;
    run(&world, vec![pass("only", &[])], json!(["budusecasesEvents"])).await;
    world.flaky.calls();
    let topic = Queue::Topic("budusecasesEvents".to_owned());
    assert_eq!(world.deliver(&topic).await, 2);
    assert_eq!(world.flaky.calls(), Calls::default());
}
