//! Calls to AWS that a finished step takes, counted at the SDK: the promises of `docs/cost.md`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what tests share fails as tests do, and counting prints its figures"
)]

#[path = "../common/mod.rs"]
mod common;

mod capacity;
mod plane;

use plane::{Bill, Plane};
use serde_json::{Value, json};

fn chain(steps: usize, action: &str, params: &Value) -> Value {
    let steps: Vec<Value> = (0..steps)
        .map(|n| {
            let before: Vec<String> = n
                .checked_sub(1)
                .map(|before| format!("s{before}"))
                .into_iter()
                .collect();
            json!({ "id": format!("s{n}"), "action": action, "depends_on": before, "params": params })
        })
        .collect();
    json!({ "name": "chain", "steps": steps })
}

fn fan(width: usize) -> Value {
    let mut steps = vec![json!({ "id": "first", "action": "pass" })];
    steps.extend(
        (0..width).map(|n| json!({ "id": format!("s{n}"), "action": "pass", "depends_on": ["first"] })),
    );
    let all: Vec<String> = (0..width).map(|n| format!("s{n}")).collect();
    steps.push(json!({ "id": "last", "action": "pass", "depends_on": all }));
    json!({ "name": "fan", "steps": steps })
}

/// Prints what an execution took for each of its steps, as `docs/cost.md` shows it.
fn print(what: &str, steps: f64, bill: &Bill) {
    let each = |count: u64| count as f64 / steps;
    println!(
        "{what}: {:.3} store writes, {:.3} calls, {:.3} write units, {:.3} read units, {:.4} invocations a step, {:.1} s",
        each(bill.store_writes()),
        each(bill.all()),
        bill.units.write / steps,
        bill.units.read / steps,
        each(bill.invocations),
        bill.time.as_secs_f64(),
    );
    for (operation, count) in &bill.calls {
        println!("    {operation}: {count} ({:.4} a step)", each(*count));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_step_takes_the_same_calls_whatever_the_size_of_its_dag() {
    let plane = Plane::start().await;
    let mut calls_each = Vec::new();
    for steps in [100_u32, 1_000, 10_000] {
        let bill = plane
            .run(&chain(steps as usize, "pass", &json!({ "n": 1 })))
            .await;
        let count = f64::from(steps);
        print(&format!("chain of {steps} `pass` steps"), count, &bill);
        // What belongs to the execution and not to its steps: its header, its first and last messages.
        let writes_once = 4.0;
        let writes = bill.store_writes() as f64;
        assert!(
            writes <= 1.05 * count + writes_once,
            "{steps} steps: {writes} store writes"
        );
        let all = bill.all() as f64;
        assert!(all <= 2.5 * count, "{steps} steps: {all} calls");
        calls_each.push(all / count);
    }
    let (small, large) = (calls_each[0], calls_each[2]);
    assert!(
        large <= small * 1.05,
        "a step of 10,000 takes {large} calls, one of 100 {small}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_in_of_a_thousand_takes_calls_in_proportion_to_its_edges() {
    let plane = Plane::start().await;
    let mut writes_each = Vec::new();
    for width in [100_u32, 1_000] {
        let bill = plane.run(&fan(width as usize)).await;
        let steps = f64::from(width) + 2.0;
        print(
            &format!("fan-out and fan-in of {width} `pass` steps"),
            steps,
            &bill,
        );
        let writes = bill.store_writes() as f64 / steps;
        // A record and an arrival, and the joins between: one for 32.
        assert!(writes <= 2.2, "{writes} store writes a step");
        let all = bill.all() as f64 / steps;
        assert!(all <= 4.0, "{all} calls a step");
        writes_each.push(writes);
    }
    assert!(
        writes_each[1] <= writes_each[0] * 1.05,
        "a step's writes grow with the width: {writes_each:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_with_an_effect_takes_a_claim_more() {
    let plane = Plane::start().await;
    let request = json!({ "url": "https://example.com/", "method": "GET" });
    let bill = plane.run(&chain(200, "http_request", &request)).await;
    print("chain of 200 `http_request` steps", 200.0, &bill);
    let writes = bill.store_writes() as f64 / 200.0;
    // A claim and an end, and what says now and then how far the execution is.
    assert!(writes <= 2.2, "{writes} store writes a step");
}
