//! Stopping in the middle, and going on.

use serde_json::json;
use slipway_tests::{Chart, Kubernetes, Options, Registry, Template, component, statuses, text};

fn deployed(releases: &[&str]) -> Vec<(String, String)> {
    releases
        .iter()
        .map(|release| ((*release).to_owned(), "deployed".to_owned()))
        .collect()
}

#[test]
fn what_is_done_stays_what_is_in_flight_goes_and_a_retry_does_the_rest() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let seen = json!({"shown": {"first": "{{ steps.first.outputs.endpoint_url }}"}, "readyAfter": "12s"});
    server.publish(
        &Template::named("chain")
            .helm("first", &chart, &json!({}))
            .helm("second", &chart, &seen)
            .helm("third", &chart, &json!({}))
            .set("deployment_order", &json!(["first", "second", "third"])),
    );
    let created = server.create("chain", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    let stopped_execution = server.begin("chain");
    server.wait_for_component("chain", "second", "DEPLOYING", 60);
    server.wait(60, "the second release", |_| {
        (kubernetes.releases(&namespace) == deployed(&["chain-first", "chain-second"])).then_some(())
    });
    let first_revision = kubernetes.revisions(&namespace, "chain-first");

    let _ = server.post("/deployments/chain/stop", &json!({})).expect(202);
    let stopped = server.settled("chain", 60);
    assert_eq!(stopped["status"], "STOPPED", "{stopped:#}");
    let expected = [("first", "RUNNING"), ("second", "STOPPED"), ("third", "STOPPED")];
    let expected = expected.map(|(name, status)| (name.to_owned(), status.to_owned()));
    assert_eq!(statuses(&stopped), expected.into());
    let execution = server
        .get(&format!("/executions/{stopped_execution}"))
        .expect(200);
    assert_eq!(execution["status"], "CANCELLED", "{execution:#}");
    assert_eq!(kubernetes.releases(&namespace), deployed(&["chain-first"]));
    let left = kubernetes.names("deployments,services,configmaps,secrets", &namespace);
    let of_others: Vec<&String> = left
        .iter()
        .filter(|name| !name.contains("chain-first") && !name.contains("kube-root-ca"))
        .collect();
    assert!(of_others.is_empty(), "left behind: {of_others:?}");
    let jobs = server.get("/jobs?limit=200").expect(200);
    for job in jobs["items"].as_array().unwrap() {
        assert!(
            ["SUCCEEDED", "CANCELLED"].contains(&text(job, "status").as_str()),
            "{job:#}"
        );
    }
    // Stopping what is stopped is refused, with its state.
    let refused = server
        .post("/deployments/chain/stop", &json!({}))
        .expect_problem(409);
    assert!(text(&refused, "detail").contains("STOPPED"), "{refused}");

    let retried = server.post("/deployments/chain/retry", &json!({})).expect(202);
    assert_ne!(retried["pipeline_execution_id"], json!(stopped_execution));
    let running = server.running("chain", 120);
    assert_eq!(running["pipeline_execution_id"], retried["pipeline_execution_id"]);
    assert_eq!(
        kubernetes.releases(&namespace),
        deployed(&["chain-first", "chain-second", "chain-third"])
    );
    assert_eq!(
        kubernetes.revisions(&namespace, "chain-first"),
        first_revision,
        "what was done is not done again"
    );
    let shown = kubernetes.helm(&["get", "values", "chain-second", "--namespace", &namespace]);
    assert_eq!(
        shown["shown"]["first"],
        component(&running, "first")["endpoint_url"],
        "outputs are kept"
    );
    server.stop();
}

#[test]
fn a_deployment_that_is_deleted_in_the_middle_leaves_nothing() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    server.publish(
        &Template::named("doomed")
            .helm("first", &chart, &json!({}))
            .helm("second", &chart, &json!({"behaviour": "never-ready"}))
            .set("deployment_order", &json!(["first", "second"])),
    );
    let created = server.create("doomed", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    server.begin("doomed");
    server.wait_for_component("doomed", "second", "DEPLOYING", 60);
    let _ = server.delete("/deployments/doomed").expect(202);
    let id = text(&created, "id");
    server.wait(60, "the end of the deployment", |client| {
        (client.deployment(&id)["status"] == "DELETED").then_some(())
    });
    kubernetes.wait_until_gone(&namespace);
    let _ = server.get("/deployments/doomed").expect_problem(404);
    // Nothing brings it back.
    for verb in ["start", "stop", "retry", "upgrade"] {
        let refused = server
            .post(&format!("/deployments/{id}/{verb}"), &json!({}))
            .expect_problem(409);
        assert!(text(&refused, "detail").contains("DELETED"), "{verb}: {refused}");
    }
    server.stop();
}
