//! What has to hold of the functions together, on the local stand-in for AWS. The scenarios are played there, too; this
//! is about bursts, calls that fail and functions that die.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use slipway_tests::{Chance, Client, Options, Platform, Server};

/// Clients that post at the same time.
const CLIENTS: usize = 20;

/// How long a burst may take on a machine that does other things as well.
const PATIENCE: u64 = 300;

/// Five steps: one, two beside each other, and two more.
fn diamond() -> Value {
    let word = "{{ steps.first.outputs.word }}";
    json!({"name": "diamond", "steps": [
        {"id": "first", "action": "pass", "params": {"word": "hello"}},
        {"id": "left", "action": "pass", "depends_on": ["first"], "params": {"word": word}},
        {"id": "right", "action": "pass", "depends_on": ["first"], "params": {"word": word}},
        {"id": "both", "action": "pass", "depends_on": ["left", "right"]},
        {"id": "last", "action": "pass", "depends_on": ["both"]},
    ]})
}

/// Posts an execution until it is accepted: under one key, so that it begins once.
fn post(client: &Client, key: &str) -> String {
    let headers = [("idempotency-key", key)];
    for _ in 0..20 {
        let answer = client.post_with("/executions", &diamond(), &headers);
        if answer.status < 500 {
            return answer.expect(201)["id"].as_str().unwrap().to_owned();
        }
    }
    panic!("{key} was not accepted in twenty attempts");
}

/// Begins so many executions at once; their ids.
fn burst(server: &Server, count: usize) -> BTreeSet<String> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client: Client = (**server).clone();
            thread::spawn(move || -> Vec<String> {
                (0..count / CLIENTS)
                    .map(|index| post(&client, &format!("burst-{number}-{index}")))
                    .collect()
            })
        })
        .collect();
    clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect()
}

/// The ids of executions in a status.
fn with_status(client: &Client, status: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let answer = client.get(&format!("/executions?status={status}&limit=200{cursor}"));
        if answer.status >= 500 {
            // Calls to AWS are made to fail, the ones of this list, too.
            continue;
        }
        let page = answer.expect(200);
        for item in page["items"].as_array().unwrap() {
            found.insert(item["id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Waits until every one of them completed.
fn expect_all_complete(server: &Server, begun: &BTreeSet<String>) {
    server.wait(PATIENCE, "the end of every execution", |client| {
        with_status(client, "RUNNING").is_empty().then_some(())
    });
    assert_eq!(&with_status(server, "COMPLETED"), begun);
    for id in begun.iter().step_by(97) {
        let progress = server.steps(id);
        assert_eq!(progress["finished_steps"], 5, "{progress:#}");
        assert_eq!(progress["steps"][2]["outputs"]["word"], "hello", "{progress:#}");
    }
}

fn start() -> Options {
    Options::default().on(Platform::AwsLocal)
}

#[test]
fn of_a_thousand_executions_at_once_none_is_lost() {
    let mut server = start().start();
    let begun = burst(&server, 1000);
    assert_eq!(begun.len(), 1000);
    expect_all_complete(&server, &begun);
    server.stop();
}

#[test]
fn of_a_thousand_executions_none_is_lost_while_calls_to_aws_fail() {
    let mut server = start().start();
    let faults = |percent: u64| {
        server
            .control()
            .post("/faults", &json!({"percent": percent, "seed": 7}))
            .status
    };
    assert_eq!(faults(5), 204);
    let begun = burst(&server, 1000);
    assert_eq!(begun.len(), 1000);
    expect_all_complete(&server, &begun);
    assert_eq!(faults(0), 204);
    server.stop();
}

#[test]
fn functions_that_are_killed_in_the_middle_lose_nothing() {
    // What a function that died had received comes again after this many seconds. They must be more than an invocation
    // takes on a machine with other work: what comes again before it is dealt with ends as a dead letter, although
    // nothing is wrong with it.
    let mut server = start().visibility(30).start();
    let begun = burst(&server, 200);
    let mut chance = Chance::of(20_260_206);
    let mut killed = 0;
    server.wait(
        PATIENCE,
        "thirty dead functions, or the end of all work",
        |client| {
            let functions = ["execute-step", "track-deployments", "executions-api"];
            let function = functions[usize::try_from(chance.below(3)).unwrap()];
            let order = json!({"function": function});
            let answer = server.control().post("/kill", &order).expect(200);
            killed += u32::from(!answer["killed"].is_null());
            (killed >= 30 || with_status(client, "RUNNING").is_empty()).then_some(())
        },
    );
    assert!(killed > 0, "no function was caught at work");
    expect_all_complete(&server, &begun);
    server.stop();
}
