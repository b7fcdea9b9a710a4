//! Steps of every kind but Helm, posted as DAGs.

use serde_json::{Value, json};
use slipway_tests::{Options, Receiver, Server, step, text};

/// Statuses of the steps of a progress, in the DAG's order.
fn steps(progress: &Value) -> Vec<(String, String)> {
    let steps = progress["steps"].as_array().unwrap().iter();
    steps
        .map(|step| (text(step, "step_id"), text(step, "status")))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(id, status)| ((*id).to_owned(), (*status).to_owned()))
        .collect()
}

#[test]
fn a_person_decides() {
    let mut server = Server::start();
    let dag = json!({"name": "asks", "steps": [
        {"id": "what", "action": "pass", "params": {"word": "on"}},
        {"id": "ask", "action": "approval", "depends_on": ["what"],
         "params": {"message": "go {{ steps.what.outputs.word }}?"}},
        {"id": "then", "action": "pass", "depends_on": ["ask"], "params": {"by": "{{ steps.ask.outputs.approved_by }}"}},
    ]});
    let waits = |execution: &str| {
        server.wait(30, "the step waits for a person", |client| {
            let progress = client.steps(execution);
            let ask = step(&progress, "ask");
            (ask["status"] == "AWAITING_EVENT").then(|| {
                let waits = text(ask, "waiting_for");
                assert!(waits.starts_with("the approval of a person, until "), "{ask}");
                assert!(waits.ends_with(": go on?"), "{ask}");
            })
        });
    };
    let yes = server.execute(&dag);
    waits(&yes);
    let path = format!("/executions/{yes}/steps/ask/approve");
    let _ = server
        .post(&path, &json!({"approved": true, "comment": "fine"}))
        .expect(200);
    let progress = server.ended(&yes, 30);
    assert_eq!(progress["status"], "COMPLETED", "{progress:#}");
    let outputs = &step(&progress, "ask")["outputs"];
    assert_eq!(
        (&outputs["approved"], &outputs["comment"]),
        (&json!(true), &json!("fine")),
        "{outputs}"
    );
    assert_eq!(step(&progress, "then")["outputs"]["by"], outputs["approved_by"]);
    let _ = server
        .post(&path, &json!({"approved": false}))
        .expect_problem(409);

    let no = server.execute(&dag);
    waits(&no);
    let _ = server
        .post(&format!("/executions/{no}/steps/then/approve"), &json!({}))
        .expect_problem(409);
    // A restart does not lose the question.
    server.kill9();
    server.restart();
    let _ = server
        .post(
            &format!("/executions/{no}/steps/ask/approve"),
            &json!({"approved": false, "comment": "no"}),
        )
        .expect(200);
    let progress = server.ended(&no, 30);
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    assert_eq!(
        steps(&progress),
        pairs(&[("what", "COMPLETED"), ("ask", "FAILED"), ("then", "SKIPPED")])
    );
    server.stop();
}

#[test]
fn waits_conditions_and_typed_values() {
    let mut server = Server::start();
    let dag = json!({
        "name": "mixed",
        "parameters": {"count": 3, "wanted": false, "list": [1, 2]},
        "steps": [
            {"id": "pause", "action": "wait", "params": {"seconds": 1}},
            {"id": "typed", "action": "pass", "depends_on": ["pause"], "params": {
                "number": "{{ parameters.count }}", "text": "n={{ parameters.count }}",
                "list": "{{ parameters.list }}", "plain": "{{ '{{' }} not evaluated again"}},
            {"id": "unwanted", "action": "pass", "when": "parameters.wanted", "params": {"x": "here"}},
            {"id": "after", "action": "pass", "depends_on": ["unwanted", "typed"],
             "params": {"x": "{{ steps.unwanted.outputs.x | default('none') }}", "twice": "{{ steps.typed.outputs.plain }}"}},
            {"id": "always", "action": "pass", "run": "always", "depends_on": ["after"]},
            {"id": "never", "action": "pass", "run": "failure", "depends_on": ["after"]},
        ],
        "outputs": {"result": "{{ steps.typed.outputs.number }}"},
    });
    let execution = server.execute(&dag);
    let progress = server.ended(&execution, 30);
    assert_eq!(progress["status"], "COMPLETED", "{progress:#}");
    let expected = [
        ("pause", "COMPLETED"),
        ("typed", "COMPLETED"),
        ("unwanted", "SKIPPED"),
        ("after", "COMPLETED"),
        ("always", "COMPLETED"),
        ("never", "SKIPPED"),
    ];
    assert_eq!(steps(&progress), pairs(&expected));
    let typed = &step(&progress, "typed")["outputs"];
    assert_eq!(typed["number"], 3);
    assert_eq!(typed["text"], "n=3");
    assert_eq!(typed["list"], json!([1, 2]));
    let after = &step(&progress, "after")["outputs"];
    assert_eq!(after["x"], "none");
    assert_eq!(after["twice"], "{{ not evaluated again");
    assert_eq!(
        server.get(&format!("/executions/{execution}")).expect(200)["outputs"]["result"],
        3
    );
    let pause = step(&progress, "pause");
    assert!(text(pause, "ended_at") > text(pause, "started_at"), "{pause}");
    server.stop();
}

#[test]
fn calls_to_others_are_repeated_as_they_may_be() {
    let mut server = Server::start();
    let receiver = Receiver::start();
    let url = |path: &str| receiver.url(path);
    // Twice no, then yes: three attempts under a backoff that doubles, with one key.
    receiver.answer_with(&[503, 503]);
    let call = json!([{"id": "call", "action": "http_request", "retry": {"max_attempts": 4, "backoff_seconds": 1},
        "params": {"url": url("/flaky"), "method": "PUT", "body": {"word": "hello"}, "headers": {"x-mine": "yes"}}}]);
    let progress = server.run(&call);
    assert_eq!(progress["status"], "COMPLETED", "{progress:#}");
    let calls = receiver.received("/flaky");
    assert_eq!(calls.len(), 3);
    assert!(
        calls
            .iter()
            .all(|call| call.key() == calls[0].key() && call.body["word"] == "hello"),
        "{calls:?}"
    );
    assert_eq!(calls[0].headers["x-mine"], "yes");
    let done = step(&progress, "call");
    assert_eq!(done["attempt"], 3);
    assert_eq!(done["attempts"].as_array().unwrap().len(), 2, "{done:#}");
    assert_eq!(
        (
            &done["outputs"]["status_code"],
            &done["outputs"]["body"]["number"]
        ),
        (&json!(200), &json!(7))
    );
    // What was refused for good is not tried again.
    receiver.answer_with(&[404]);
    let refused = json!([{"id": "call", "action": "http_request", "retry": {"max_attempts": 4, "backoff_seconds": 1},
        "params": {"url": url("/gone")}}]);
    let progress = server.run(&refused);
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    assert_eq!(receiver.received("/gone").len(), 1);
    assert!(text(step(&progress, "call"), "error_message").contains("404"));
    // A gateway that gives up on a call does not know what became of it: only what may be repeated is.
    for (repeatable, calls) in [(false, 1), (true, 2)] {
        receiver.answer_with(&[504]);
        let path = format!("/once-{repeatable}");
        let call = json!([{"id": "call", "action": "http_request", "retry": {"max_attempts": 4, "backoff_seconds": 1},
            "params": {"url": url(&path), "method": "POST", "idempotent": repeatable}}]);
        let progress = server.run(&call);
        assert_eq!(receiver.received(&path).len(), calls, "{progress:#}");
        let failed = progress["status"] == "FAILED";
        assert_eq!(failed, !repeatable, "{progress:#}");
        if failed {
            let said = text(step(&progress, "call"), "error_message");
            assert!(
                said.contains("outcome unknown: the answer has status 504"),
                "{said}"
            );
        }
    }
    // A notification that nobody takes breaks nothing.
    let progress = server.run(&json!([
        {"id": "tell", "action": "notification", "params": {"channel": "slack", "url": url("/chat"), "message": "done"}},
        {"id": "silent", "action": "notification", "params": {"message": "for the history"}},
        {"id": "nobody", "action": "notification",
         "params": {"channel": "webhook", "url": "http://127.0.0.1:1/", "message": "lost"}},
    ]));
    assert_eq!(progress["status"], "COMPLETED", "{progress:#}");
    assert_eq!(receiver.received("/chat")[0].body, json!({"text": "done"}));
    assert_eq!(step(&progress, "nobody")["outputs"]["delivered"], false);
    // Where credentials are to be had nobody calls.
    let metadata = json!([{"id": "call", "action": "http_request", "params": {"url": "http://169.254.169.254/latest/"}}]);
    let progress = server.run(&metadata);
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    server.stop();
}

/// A step that fails, one after it, and a branch of its own that is slower.
fn broken(on_failure: &str, url: &str) -> Value {
    json!({"name": "broken", "settings": {"on_failure": on_failure}, "steps": [
        {"id": "fails", "action": "http_request", "params": {"url": url}},
        {"id": "after", "action": "pass", "depends_on": ["fails"]},
        {"id": "cleanup", "action": "pass", "run": "failure", "depends_on": ["fails"]},
        {"id": "slow", "action": "wait", "params": {"seconds": 1}},
        {"id": "branch", "action": "pass", "depends_on": ["slow"]},
    ]})
}

#[test]
fn a_failure_stops_the_rest_or_only_what_needs_it() {
    let mut server = Server::start();
    let receiver = Receiver::start();
    for (on_failure, branch) in [("fail", "SKIPPED"), ("continue", "COMPLETED")] {
        receiver.answer_with(&[400]);
        let execution = server.execute(&broken(on_failure, &receiver.url("/no")));
        let progress = server.ended(&execution, 30);
        assert_eq!(progress["status"], "FAILED", "{progress:#}");
        let by_id: std::collections::BTreeMap<String, String> = steps(&progress).into_iter().collect();
        assert_eq!(by_id["fails"], "FAILED");
        assert_eq!(by_id["after"], "SKIPPED");
        assert_eq!(
            by_id["slow"], "COMPLETED",
            "what runs is let finish: {progress:#}"
        );
        assert_eq!(by_id["branch"], branch, "{on_failure}: {progress:#}");
        assert!(text(&progress, "error_message").contains("400"), "{progress:#}");
    }
    server.stop();
}

#[test]
fn a_failure_undoes_what_was_deployed_where_that_is_wanted() {
    let mut server = Server::start();
    server.add_render();
    let receiver = Receiver::start();
    receiver.answer_with(&[400]);
    let execution = server.execute(&json!({"name": "undone", "settings": {"on_failure": "rollback"}, "steps": [
        {"id": "deploy", "action": "helm_deploy", "params": {"cluster_id": "local", "chart_ref": "charts/agent-runtime",
            "release_name": "undone", "namespace": "undone"}},
        {"id": "fails", "action": "http_request", "depends_on": ["deploy"], "params": {"url": receiver.url("/no")}},
    ]}));
    let progress = server.ended(&execution, 60);
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    let compensation = server.wait(30, "the compensation", |client| {
        let failed = client.get(&format!("/executions/{execution}")).expect(200);
        failed["compensated_by"].as_str().map(str::to_owned)
    });
    let undone = server.ended(&compensation, 60);
    assert_eq!(undone["status"], "COMPLETED", "{undone:#}");
    let header = server.get(&format!("/executions/{compensation}")).expect(200);
    assert_eq!(header["compensates"], json!(execution));
    server.stop();
}

#[test]
fn an_execution_that_is_cancelled_or_late_ends() {
    let mut server = Server::start();
    let waiting = |settings: Value| {
        server.execute(&json!({"name": "long", "settings": settings, "steps": [
            {"id": "long", "action": "wait", "params": {"seconds": 3000}},
            {"id": "after", "action": "pass", "depends_on": ["long"]},
        ]}))
    };
    let cancelled = waiting(json!({}));
    server.wait(30, "the step waits", |client| {
        (step(&client.steps(&cancelled), "long")["status"] == "AWAITING_EVENT").then_some(())
    });
    let _ = server
        .post(
            &format!("/executions/{cancelled}/cancel"),
            &json!({"reason": "changed my mind"}),
        )
        .expect(202);
    let progress = server.ended(&cancelled, 30);
    assert_eq!(progress["status"], "CANCELLED", "{progress:#}");
    assert_eq!(
        steps(&progress),
        pairs(&[("long", "CANCELLED"), ("after", "CANCELLED")])
    );
    let refused = server
        .post(&format!("/executions/{cancelled}/cancel"), &json!({}))
        .expect_problem(409);
    assert!(text(&refused, "detail").contains("CANCELLED"), "{refused}");

    let late = waiting(json!({"timeout_seconds": 1}));
    let progress = server.ended(&late, 30);
    assert_eq!(progress["status"], "TIMED_OUT", "{progress:#}");
    assert_eq!(step(&progress, "long")["status"], "TIMED_OUT", "{progress:#}");

    // One step that takes too long is that step's failure.
    let progress = server
        .run(&json!([{"id": "long", "action": "wait", "timeout_seconds": 1, "params": {"seconds": 3000}}]));
    assert_eq!(step(&progress, "long")["status"], "TIMED_OUT", "{progress:#}");
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    server.stop();
}

#[test]
fn every_action_is_described() {
    let mut server = Options::default().start();
    let actions = server.get("/actions").expect(200);
    let actions = actions["items"]
        .as_array()
        .or(actions.as_array())
        .unwrap()
        .clone();
    let mut types: Vec<String> = actions.iter().map(|action| text(action, "type")).collect();
    types.sort();
    let expected = [
        "approval",
        "cluster_health",
        "deployment_create",
        "helm_deploy",
        "helm_rollback",
        "helm_test",
        "helm_uninstall",
        "http_request",
        "notification",
        "pass",
        "wait",
    ];
    assert_eq!(types, expected);
    let helm = actions
        .iter()
        .find(|action| action["type"] == "helm_deploy")
        .unwrap();
    assert_eq!(helm["execution_mode"], "EVENT_DRIVEN", "{helm:#}");
    server.stop();
}
