//! The `slipway` program as a client.

use std::fs;

use serde_json::{Value, json};
use slipway_tests::{Run, Server, Template, text};

fn template_file(folder: &tempfile::TempDir, template: &Template) -> String {
    let file = folder
        .path()
        .join(format!("{}.json", template.document()["name"].as_str().unwrap()));
    fs::write(&file, template.document().to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn templates_are_validated_without_a_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let slipway = |arguments: &[&str]| {
        let mut command = std::process::Command::new(slipway_tests::slipway());
        Run::of(
            command
                .args(arguments)
                .current_dir(xtask::run::workspace())
                .env("SLIPWAY_DATA", folder.path()),
        )
    };
    let _ = slipway(&["template", "validate", "templates/agent-rag.yaml"]).expect(0);
    let bad = Template::named("bad").helm("a", "ftp://bad-protocol/chart", &json!({"hostNetwork": true}));
    let run = slipway(&["template", "validate", &template_file(&folder, &bad)]);
    let out = run.expect(1);
    assert!(out.contains("does not match any allowed pattern"), "{out}");
    assert!(out.contains("hostNetwork"), "all errors at once: {out}");
    // What cannot be done now is 1, misuse is 2, and both say what to do.
    for (arguments, code) in [
        (&["status", "x"][..], 1),
        (&["deploy", "agent-rag"], 1),
        (&["deploy"], 2),
        (&["no-such-command"], 2),
        (&["template", "validate", "/nowhere"], 2),
    ] {
        let run = slipway(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {} {}", run.out, run.errors);
        assert!(!run.errors.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_deployment_is_watched_in_a_pipe() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let slipway = |arguments: &[&str]| Run::of(&mut server.command(arguments));
    let _ = slipway(&["cluster", "add", "local", "--render"]).expect(0);
    let good = Template::named("good").helm("agent", "charts/agent-runtime", &json!({}));
    let _ = slipway(&["template", "publish", &template_file(&folder, &good)]).expect(0);
    let run = slipway(&["deploy", "good", "--name", "one", "--cluster", "local", "--watch"]);
    let out = run.expect(0);
    assert!(!out.contains('\u{1b}'), "plain lines in a pipe: {out:?}");
    assert!(out.contains("RUNNING") && out.contains("agent"), "{out}");
    // Three agents cannot be had of a chart that refuses its values: failed is 1.
    let bad = json!({"agent": {"replicas": "not a number"}}).to_string();
    let values = folder.path().join("values.json");
    fs::write(&values, bad).unwrap();
    let run = slipway(&[
        "deploy",
        "good",
        "--name",
        "two",
        "--values",
        values.to_str().unwrap(),
        "--watch",
    ]);
    assert_eq!(run.code, 1, "{}\n{}", run.out, run.errors);
    assert!(
        format!("{}{}", run.out, run.errors).contains("replicas"),
        "{}\n{}",
        run.out,
        run.errors
    );
    // Not there, twice there, not started.
    assert_eq!(slipway(&["deploy", "nothing", "--cluster", "local"]).code, 2);
    assert_ne!(
        slipway(&["deploy", "good", "--name", "one", "--cluster", "local"]).code,
        0
    );

    let status: Value =
        serde_json::from_str(slipway(&["status", "one", "--output", "json"]).expect(0)).unwrap();
    assert_eq!(text(&status, "status"), "RUNNING");
    assert_eq!(status["name"], "one");
    let listed: Value = serde_json::from_str(slipway(&["status", "--output", "json"]).expect(0)).unwrap();
    assert!(listed.to_string().contains("\"two\""), "{listed}");
    let events = slipway(&["events", "one"]);
    assert!(events.expect(0).contains("agent"), "{}", events.out);
    let dry = slipway(&[
        "deploy",
        "good",
        "--cluster",
        "local",
        "--dry-run",
        "--output",
        "json",
    ]);
    let dag: Value = serde_json::from_str(dry.expect(0)).unwrap();
    assert_eq!(dag["steps"][0]["id"], "cluster_health", "{dag:#}");
    let _ = slipway(&["delete", "one", "--watch"]).expect(0);
    let _ = server.get("/deployments/one").expect_problem(404);
    server.stop();
}

#[test]
fn a_dag_is_run() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dag.yaml");
    fs::write(
        &file,
        "name: greet\nparameters: {word: hello}\nsteps:\n  - {id: say, action: pass, params: {text: '{{ parameters.word }}'}}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let run = Run::of(&mut server.command(&["run", file, "--param", "word=bye", "--watch"]));
    assert!(run.expect(0).contains("COMPLETED"), "{}", run.out);
    let executions = server.get("/executions").expect(200);
    let progress = server.steps(&text(&executions["items"][0], "id"));
    assert_eq!(progress["steps"][0]["outputs"]["text"], "bye");
    let broken = folder.path().join("broken.json");
    fs::write(
        &broken,
        json!({"name": "x", "steps": [
        {"id": "call", "action": "http_request", "params": {"url": "http://127.0.0.1:1/"}}]})
        .to_string(),
    )
    .unwrap();
    let run = Run::of(&mut server.command(&["run", broken.to_str().unwrap(), "--watch"]));
    assert_eq!(run.code, 1, "{}\n{}", run.out, run.errors);
    fs::write(
        &broken,
        json!({"name": "x", "steps": [{"id": "a", "action": "fly"}]}).to_string(),
    )
    .unwrap();
    assert_eq!(
        Run::of(&mut server.command(&["run", broken.to_str().unwrap()])).code,
        2
    );
    server.stop();
}
