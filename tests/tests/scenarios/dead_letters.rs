//! Messages that nobody can deal with: kept with the reason, shown, and put back, while everything else goes on.

use serde_json::{Value, json};
use slipway_tests::{Run, Server, text};

/// How long a message may take to become a dead letter, in seconds.
const DEATH: u64 = 60;

fn slipway(server: &Server, arguments: &[&str]) -> Run {
    Run::of(&mut server.command(arguments))
}

/// The dead letters, as the program lists them.
fn letters(server: &Server, more: &[&str]) -> Vec<Value> {
    let arguments = [&["dlq", "list", "--output", "json"], more].concat();
    let run = slipway(server, &arguments);
    let listed: Value = serde_json::from_str(run.expect(0)).unwrap();
    listed.as_array().unwrap().clone()
}

fn poison(server: &mut Server, queue: &str, body: &str) -> Value {
    server.poison(queue, body);
    server.wait(DEATH, "the death of the message", |_| {
        letters(server, &["--queue", queue]).pop()
    })
}

/// An execution still goes through every queue of steps.
fn expect_others_go_on(server: &Server) {
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    let ended = server.ended(&server.execute(&dag), 60);
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
}

#[test]
fn a_message_that_nobody_can_read_is_kept_shown_and_put_back() {
    let mut server = Server::start();
    assert_eq!(letters(&server, &[]), [] as [Value; 0]);
    let out = slipway(&server, &["dlq", "list"]);
    assert!(out.expect(0).contains("no dead letters"), "{out:?}");

    let letter = poison(&mut server, "execute-step", "{not even JSON");
    expect_others_go_on(&server);
    assert_eq!(letter["queue"], "execute-step");
    assert_eq!(letter["about"], json!({"kind": "unreadable"}));
    let reason = text(&letter, "reason");
    assert!(reason.contains("cannot be read"), "{reason}");
    let id = text(&letter, "id");

    let table = slipway(&server, &["dlq", "list"]);
    assert!(table.expect(0).contains(&id), "{table:?}");
    assert_eq!(letters(&server, &["--queue", "plan-dag"]), [] as [Value; 0]);
    let shown = slipway(&server, &["dlq", "show", &id]);
    let out = shown.expect(0);
    assert!(out.contains("{not even JSON") && out.contains(&reason), "{out}");
    let api = server
        .get(&format!("/dead-letters/execute-step/{id}"))
        .expect(200);
    assert_eq!(api["body"], "{not even JSON", "{api:#}");
    let log = server.whole_log();
    assert!(log.contains("cannot be read"), "the log says why:\n{log}");

    let back = slipway(&server, &["dlq", "redrive", &id]);
    assert!(back.expect(0).contains("execute-step"), "{back:?}");
    // It is no better the second time.
    server.wait(DEATH, "the second death of the message", |_| {
        let again = letters(&server, &[]).pop()?;
        (again["at"].as_str() > letter["at"].as_str()).then_some(())
    });
    expect_others_go_on(&server);
}

#[test]
fn dead_letters_are_put_back_by_queue_and_all_together() {
    let mut server = Server::start();
    poison(&mut server, "plan-dag", "1");
    poison(&mut server, "deploy-helm", "[]");
    poison(&mut server, "execute-step", "\"text\"");
    assert_eq!(letters(&server, &[]).len(), 3);
    let back = slipway(&server, &["dlq", "redrive", "--all", "--queue", "plan-dag"]);
    let out = back.expect(0);
    assert!(out.contains("plan-dag") && !out.contains("deploy-helm"), "{out}");
    server.wait(DEATH, "the second death of the message", |_| {
        (letters(&server, &[]).len() == 3).then_some(())
    });
    let back = slipway(&server, &["dlq", "redrive", "--all", "--output", "json"]);
    let done: Value = serde_json::from_str(back.expect(0)).unwrap();
    assert_eq!(done.as_array().unwrap().len(), 3, "{done:#}");
    expect_others_go_on(&server);
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let server = Server::start();
    for (arguments, hint) in [
        (&["dlq", "show", "nope"][..], "slipway dlq list"),
        (&["dlq", "redrive", "nope"], "slipway dlq list"),
        (&["dlq", "list", "--queue", "nope"], "deploy-helm"),
        (&["dlq", "redrive"], "--all"),
    ] {
        let run = slipway(&server, arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(run.errors.contains(hint), "{arguments:?}: {}", run.errors);
    }
    let none = slipway(&server, &["dlq", "redrive", "--all"]);
    assert!(none.expect(0).contains("no dead letter"), "{none:?}");
    for path in [
        "/dead-letters/execute-step/nope",
        "/dead-letters/nope/1",
        "/dead-letters/execute-step/%00",
    ] {
        let _ = server.get(path).expect_problem(404);
        let _ = server
            .post(&format!("{path}/redrive"), &json!({}))
            .expect_problem(404);
    }
}
