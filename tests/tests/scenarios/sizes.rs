//! Large DAGs.

use std::fs;

use serde_json::{Value, json};
use slipway_model::Timestamp;
use slipway_tests::{Run, Server, step};

/// Seconds after which a run hangs, however slow its machine is.
const LIMIT: u64 = 240;

/// When a step ended, in milliseconds since 1970.
fn ended_at(step: &Value) -> i64 {
    let at: Timestamp = serde_json::from_value(step["ended_at"].clone()).unwrap();
    at.as_millis()
}

fn chain(length: usize) -> Value {
    let steps: Vec<Value> = (0..length)
        .map(|index| match index {
            0 => json!({"id": "s0", "action": "pass", "params": {"number": 0}}),
            _ => json!({"id": format!("s{index}"), "action": "pass", "depends_on": [format!("s{}", index - 1)]}),
        })
        .collect();
    json!({"name": "chain", "steps": steps})
}

fn fan(width: usize) -> Value {
    let mut steps = vec![json!({"id": "first", "action": "pass", "params": {"word": "hello"}})];
    let names: Vec<String> = (0..width).map(|index| format!("s{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        let word = format!("{{{{ steps.first.outputs.word }}}} {index}");
        steps.push(json!({"id": name, "action": "pass", "depends_on": ["first"], "params": {"word": word}}));
    }
    steps.push(json!({"id": "last", "action": "pass", "depends_on": names}));
    json!({"name": "fan", "steps": steps})
}

fn expect_completed(progress: &Value, steps: usize) {
    assert_eq!(progress["status"], "COMPLETED", "{}", progress["error_message"]);
    assert_eq!(progress["total_steps"], steps);
    assert_eq!(progress["finished_steps"], steps);
    assert_eq!(progress["percent"], 100.0);
    let all = progress["steps"].as_array().unwrap();
    assert_eq!(all.len(), steps);
    assert!(all.iter().all(|step| step["status"] == "COMPLETED"));
}

#[test]
fn ten_thousand_steps_in_a_chain() {
    let mut server = Server::start();
    let execution = server.execute(&chain(10_000));
    let progress = server.ended(&execution, LIMIT);
    expect_completed(&progress, 10_000);
    let steps = progress["steps"].as_array().unwrap();
    for pair in steps.windows(2).step_by(997) {
        assert!(ended_at(&pair[0]) <= ended_at(&pair[1]), "{pair:?}");
    }
    // A step late in a long chain costs what an early one does; five times as much leaves room for other work on the
    // machine.
    let took = |from: usize, to: usize| ended_at(&steps[to]) - ended_at(&steps[from]);
    let (first, last) = (took(0, 2000), took(7999, 9999));
    assert!(
        last <= 5 * first + 5000,
        "the first 2,000 steps took {first} ms, the last {last} ms"
    );
    // One more than is allowed.
    let refused = server.post("/executions", &chain(10_001)).expect_problem(422);
    assert!(
        refused["detail"].as_str().unwrap().contains("10,000")
            || refused["detail"].as_str().unwrap().contains("10000"),
        "{refused}"
    );
    server.stop();
}

#[test]
fn a_thousand_steps_side_by_side() {
    let mut server = Server::start();
    let execution = server.execute(&fan(1000));
    let progress = server.ended(&execution, LIMIT);
    expect_completed(&progress, 1002);
    assert_eq!(step(&progress, "s7")["outputs"]["word"], "hello 7");
    server.stop();
}

#[test]
fn the_command_line_runs_them_too() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fan.json");
    fs::write(&file, fan(1000).to_string()).unwrap();
    let run = Run::of(&mut server.command(&["run", file.to_str().unwrap(), "--watch", "--output", "json"]));
    let out = run.expect(0);
    assert!(out.contains("COMPLETED"), "{out}");
    server.stop();
}
