//! Releases that somebody else made, and tests of releases.

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Server, Template, component, statuses, text};
use xtask::run::output;

fn job(server: &Server, config: &Value) -> Value {
    let new = json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": config});
    let id = text(&server.post("/jobs", &new).expect(201), "id");
    let _ = server
        .post(&format!("/jobs/{id}/execute"), &json!({}))
        .expect(202);
    server.job_ended(&id, 60)
}

#[test]
fn somebody_elses_release_is_left_alone_unless_it_is_adopted() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let namespace = format!("theirs-{}", server.tag());
    kubernetes.remove_later(&namespace);
    let mut theirs = kubernetes.helm_command();
    theirs.args([
        "install",
        "theirs",
        &chart,
        "--plain-http",
        "--create-namespace",
        "--set",
        "color=theirs",
    ]);
    let _ = output(theirs.args(["--namespace", &namespace])).unwrap();

    let mut config = json!({"chart_ref": chart, "release_name": "theirs", "namespace": namespace, "values": {"color": "ours"}});
    let refused = job(&server, &config);
    assert_eq!(refused["status"], "FAILED", "{refused:#}");
    assert!(
        text(&refused, "error_message").contains("adopt"),
        "it says what to do: {refused:#}"
    );
    assert_eq!(kubernetes.revisions(&namespace, "theirs"), ["deployed"]);
    config["adopt"] = json!(true);
    let adopted = job(&server, &config);
    assert_eq!(adopted["status"], "SUCCEEDED", "{adopted:#}");
    assert_eq!(
        kubernetes.revisions(&namespace, "theirs"),
        ["superseded", "deployed"]
    );
    let values = kubernetes.helm(&["get", "values", "theirs", "--namespace", &namespace]);
    assert_eq!(values["color"], "ours");

    // A release of a deployment is not another deployment's, nor a job's by hand.
    server.publish(&Template::named("one").helm("part", &chart, &json!({})));
    let created = server.create("one", "dev");
    kubernetes.remove_later(&text(&created, "namespace"));
    server.begin("one");
    let _ = server.running("one", 60);
    let config =
        json!({"chart_ref": chart, "release_name": "one-part", "namespace": text(&created, "namespace")});
    let refused = job(&server, &config);
    assert_eq!(refused["status"], "FAILED", "{refused:#}");
    assert!(
        text(&refused, "error_message").contains("conflict"),
        "{refused:#}"
    );
    assert_eq!(
        kubernetes.revisions(&text(&created, "namespace"), "one-part"),
        ["deployed"]
    );
    server.stop();
}

#[test]
fn a_component_that_is_tested_counts_once_its_test_passed() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    for (name, test, expected) in [("good", "pass", "RUNNING"), ("bad", "fail", "FAILED")] {
        server.publish(
            &Template::named(name)
                .helm("part", &chart, &json!({"test": test}))
                .and(&json!({"test": true}))
                .helm("after", &chart, &json!({}))
                .and(&json!({"depends_on": ["part"]})),
        );
        let created = server.create(name, "dev");
        kubernetes.remove_later(&text(&created, "namespace"));
        server.begin(name);
        let ended = server.settled(name, 90);
        assert_eq!(
            ended["status"],
            expected,
            "{:#}",
            server.deployment_progress(name)
        );
        let after = if expected == "RUNNING" {
            "RUNNING"
        } else {
            "STOPPED"
        };
        assert_eq!(statuses(&ended)["after"], after, "{ended:#}");
    }
    server.stop();
}

#[test]
fn what_a_use_case_needs_at_least_is_asked_for_first() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let much = json!({"minimum": {"cpu": 100_000, "gpu": 4000}});
    server.publish(
        &Template::named("greedy")
            .helm("part", &chart, &json!({}))
            .set("resources", &much),
    );
    let created = server.create("greedy", "dev");
    server.begin("greedy");
    let failed = server.settled("greedy", 60);
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    let said = text(&failed, "error_message");
    assert!(
        said.contains("cpu") && said.contains("gpu") && said.contains("100000"),
        "it names the shortage: {said}"
    );
    assert_eq!(component(&failed, "part")["status"], "STOPPED");
    assert!(!kubernetes.has_namespace(&text(&created, "namespace")));
    server.stop();
}
