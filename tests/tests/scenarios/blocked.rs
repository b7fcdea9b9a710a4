//! Deployments that something holds up which only people or other controllers can let go: they say what it is, and go on
//! when it is gone.

use serde_json::{Value, json};
use slipway_tests::{
    ApiServer, Chart, Fault, Kubernetes, Options, Registry, Run, Server, Template, component, statuses, text,
};

/// The chart's own kind; its plural is unique on a cluster that many share.
fn definition(plural: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.blocked.test.slipway.dev}}
spec:
  group: blocked.test.slipway.dev
  scope: Namespaced
  names: {{kind: Database, plural: {plural}, singular: {plural}}}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {{status: {{}}}}
      schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"
    )
}

const HELD: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [test.slipway.dev/hold]}
";

const OBJECTS: &str = "apiVersion: blocked.test.slipway.dev/v1
kind: Database
metadata: {name: main}
spec: {size: 1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [test.slipway.dev/hold]}
";

/// A kind on a cluster, which goes with this value.
struct Definition<'a> {
    kubernetes: &'a Kubernetes,
    plural: String,
}

impl Definition<'_> {
    fn report(&self, namespace: &str, status: &Value) {
        let _ = self.kubernetes.kubectl(&[
            "patch",
            &self.plural,
            "main",
            "--namespace",
            namespace,
            "--subresource=status",
            "--type=merge",
            "--patch",
            &json!({"status": status}).to_string(),
        ]);
    }
}

impl Drop for Definition<'_> {
    fn drop(&mut self) {
        let name = format!("{}.blocked.test.slipway.dev", self.plural);
        let _ = self
            .kubernetes
            .kubectl(&["delete", "crd", &name, "--ignore-not-found", "--wait=false"]);
    }
}

/// Lets the object go that somebody's finalizer keeps.
fn let_go(kubernetes: &Kubernetes, namespace: &str) {
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    let arguments = ["patch", "configmap/held", "--namespace", namespace];
    let _ = kubernetes.kubectl(&[&arguments[..], &["--type=merge", "--patch", patch]].concat());
}

/// Waits until the first component of a deployment is said to wait with all of these words.
#[track_caller]
fn wait_for_words(server: &Server, deployment: &str, words: &[&str]) {
    server.wait(30, &format!("progress says {words:?}"), |client| {
        let progress = client.deployment_progress(deployment);
        let waiting = component(&progress, "db")["waiting_for"].as_str()?.to_owned();
        words.iter().all(|word| waiting.contains(word)).then_some(())
    });
}

#[test]
fn what_a_resource_or_a_finalizer_holds_up_says_so_and_goes_on_when_it_lets_go() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let held = Definition {
        kubernetes: &kubernetes,
        plural: format!("databases{}", server.tag()),
    };
    let chart = Chart::of("held", "1.0.0", &[("objects.yaml", OBJECTS)])
        .with("crds/database.yaml", &definition(&held.plural))
        .push(&registry);
    let checks = json!([{
        "api_version": "blocked.test.slipway.dev/v1", "kind": "Database",
        "current": "status.phase == 'Ready' && status.replicas >= spec.size",
        "in_progress": "status.phase == 'Building'",
    }]);
    server.publish(
        &Template::named("blocked")
            .helm("db", &chart, &json!({}))
            .and(&json!({"health_checks": checks}))
            .helm("after", &Chart::tiny().push(&registry), &json!({}))
            .and(&json!({"depends_on": ["db"]})),
    );
    let created = server.create("blocked", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    server.begin("blocked");

    // Its controller, which a person plays here, has said nothing yet, then that it works, then that it is done.
    wait_for_words(&server, "blocked", &["Database/main"]);
    held.report(&namespace, &json!({"phase": "Building"}));
    wait_for_words(&server, "blocked", &["Database/main", "in_progress"]);
    held.report(&namespace, &json!({"phase": "Ready", "replicas": 0}));
    let waits = statuses(&server.deployment("blocked"));
    assert_eq!(
        (waits["db"].as_str(), waits["after"].as_str()),
        ("DEPLOYING", "PENDING")
    );
    held.report(&namespace, &json!({"phase": "Ready", "replicas": 1}));
    let _ = server.running("blocked", 60);

    // Somebody's finalizer keeps an object from going.
    let _ = server.delete("/deployments/blocked").expect(202);
    wait_for_words(&server, "blocked", &["ConfigMap/held", "test.slipway.dev/hold"]);
    let status = Run::of(&mut server.command(&["status", "blocked"]));
    let out = status.expect(0);
    assert!(
        out.contains("DELETING") && out.contains("ConfigMap/held") && out.contains("test.slipway.dev/hold"),
        "{out}"
    );
    assert!(kubernetes.has_namespace(&namespace));
    let_go(&kubernetes, &namespace);
    server.wait(60, "the end of the deletion", |client| {
        (client.get("/deployments/blocked").status == 404).then_some(())
    });
    let gone = server.deployment(&text(&created, "id"));
    assert_eq!(gone["status"], "DELETED", "{gone:#}");
    kubernetes.wait_until_gone(&namespace);
    server.stop();
}

#[test]
fn what_is_wanted_again_while_it_is_going_comes_when_it_is_gone() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::of("held", "1.0.0", &[("objects.yaml", HELD)]).push(&registry);
    let namespace = format!("again-{}", server.tag());
    kubernetes.remove_later(&namespace);
    let begin = |operation: &str| {
        let config = json!({"chart_ref": chart, "release_name": "app", "namespace": namespace, "operation": operation});
        let job =
            json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": config});
        let id = text(&server.post("/jobs", &job).expect(201), "id");
        let _ = server
            .post(&format!("/jobs/{id}/execute"), &json!({}))
            .expect(202);
        id
    };
    let held = |id: &str| {
        server.wait(30, "the job says what is held", |client| {
            let job = client.get(&format!("/jobs/{id}")).expect(200);
            job["waiting_for"]
                .to_string()
                .contains("ConfigMap/held")
                .then_some(())
        });
    };
    assert_eq!(server.job_ended(&begin("deploy"), 60)["status"], "SUCCEEDED");
    let away = begin("uninstall");
    held(&away);
    let _ = server
        .post(&format!("/jobs/{away}/cancel"), &json!({}))
        .expect(202);
    assert_eq!(server.job_ended(&away, 60)["status"], "CANCELLED");
    let again = begin("deploy");
    held(&again);
    let_go(&kubernetes, &namespace);
    let job = server.job_ended(&again, 60);
    assert_eq!(job["status"], "SUCCEEDED", "{job:#}");
    let maps = kubernetes.objects("configmaps", &namespace);
    let held = maps.iter().find(|map| map["metadata"]["name"] == "held").unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_null(), "{held:#}");
    // Helm calls what came before a new revision superseded, the uninstalled one, too.
    assert_eq!(
        kubernetes.revisions(&namespace, "app"),
        ["superseded", "deployed"]
    );
    let_go(&kubernetes, &namespace);
    server.stop();
}

#[test]
fn a_cluster_that_is_away_is_waited_for_and_a_stop_waits_for_nothing() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    let api = ApiServer::start(&kubernetes);
    let cluster = json!({"name": "away", "type": "kubeconfig", "kubeconfig": api.kubeconfig()});
    let _ = server.post("/clusters", &cluster).expect(201);
    let chart = Chart::tiny().push(&registry);
    server.publish(&Template::named("small").helm("db", &chart, &json!({})));
    api.fails(Fault::Down);
    for name in ["patient", "given-up"] {
        let order = json!({"name": name, "template": "small", "cluster": "away"});
        kubernetes.remove_later(&text(&server.create_with(&order), "namespace"));
        server.begin(name);
    }
    for name in ["patient", "given-up"] {
        wait_for_words(
            &server,
            name,
            &["cluster 'away' is not healthy", "; tried again at "],
        );
    }
    let out = Run::of(&mut server.command(&["status", "patient"]));
    let out = out.expect(0);
    assert!(
        out.contains("DEPLOYING") && out.contains("is not healthy"),
        "{out}"
    );

    let _ = server.post("/deployments/given-up/stop", &json!({})).expect(202);
    server.wait(30, "the end of what was given up", |client| {
        let deployment = client.get("/deployments/given-up").expect(200);
        (deployment["status"] == "STOPPED").then_some(())
    });
    api.fails(Fault::None);
    let _ = server.running("patient", 90);
    let stopped = server.deployment("given-up");
    assert_eq!(stopped["status"], "STOPPED", "{stopped:#}");
    server.stop();
}
