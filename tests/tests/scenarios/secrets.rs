//! Secrets reach the cluster, and nothing else.

use serde_json::json;
use slipway_tests::{Chart, Kubernetes, Options, Receiver, Registry, Template, component, text};

const SECRET: &str = "correct-horse-battery-staple-41";

#[test]
fn a_secret_parameter_stands_in_the_release_and_nowhere_else() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let receiver = Receiver::start();
    let mut server = Options::default()
        .registry(&registry)
        .variable("SLIPWAY_LOG", "trace")
        .start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let values = json!({"color": "key {{ secrets.password }}!", "shown": {"name": "{{ deployment.name }}"}});
    let parameters = json!({"password": {"type": "string", "secret": true, "required": true}});
    server.publish(
        &Template::named("guarded")
            .helm("vault", &chart, &values)
            .helm(
                "broken",
                &chart,
                &json!({"color": "{{ secrets.password }}", "behaviour": "image-pull"}),
            )
            .and(&json!({"timeout_seconds": 5}))
            .set("parameters", &parameters)
            .set("settings", &json!({"on_failure": "continue"})),
    );
    let new = json!({"name": "guarded", "template": "guarded", "cluster": "dev", "parameters": {"password": SECRET}});
    let created = server.create_with(&new);
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    let _ = server.post("/deployments/guarded/plan", &json!({})).expect(202);
    let execution = server.begin("guarded");
    let failed = server.settled("guarded", 90);
    assert_eq!(component(&failed, "vault")["status"], "RUNNING", "{failed:#}");
    assert_eq!(component(&failed, "broken")["status"], "FAILED", "{failed:#}");
    let config = kubernetes.objects("configmaps", &namespace);
    let vault = config
        .iter()
        .find(|object| object["metadata"]["name"] == "guarded-vault")
        .unwrap();
    assert_eq!(
        vault["data"]["color"],
        format!("key {SECRET}!"),
        "it reached the release"
    );

    for path in [
        "/deployments/guarded".to_owned(),
        "/deployments/guarded/progress".to_owned(),
        "/deployments/guarded/events?limit=200".to_owned(),
        "/deployments/guarded/plan".to_owned(),
        format!("/executions/{execution}"),
        format!("/executions/{execution}/progress?detail=steps"),
        "/jobs?limit=200".to_owned(),
    ] {
        let answer = server.get(&path).expect(200);
        assert!(!answer.to_string().contains(SECRET), "{path}: {answer:#}");
    }
    // Another name of it: an expression cannot smuggle it into outputs.
    let smuggle = json!({"name": "x", "steps": [
        {"id": "a", "action": "pass", "params": {"x": "{{ secrets.password }}"}},
        {"id": "b", "action": "notification", "depends_on": ["a"],
         "params": {"channel": "webhook", "url": receiver.url("/told"), "message": "{{ steps.a.outputs.x }}"}}]});
    let _ = server.post("/executions", &smuggle).expect_problem(422);

    server.stop();
    let log = server.whole_log();
    assert!(!log.contains(SECRET), "in the log");
    assert_eq!(server.holding(SECRET), [""; 0]);
    let token = kubernetes
        .kubeconfig()
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: ").map(str::to_owned));
    let token = token.unwrap();
    assert!(!log.contains(token.trim()), "the cluster's token is in the log");
    assert_eq!(server.holding(token.trim()), [""; 0]);
}
