//! Releases in whatever state somebody left them, made by real Helm and killed in the middle: the next job says what it
//! found and goes on.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Server, text};

const HOOKS: &str = r#"
{{- if .Values.stuck }}
apiVersion: v1
kind: Pod
metadata: {name: stuck, annotations: {helm.sh/hook: "pre-install,pre-upgrade,pre-rollback,pre-delete", dev.slipway/pod: never-ready}}
spec: {restartPolicy: Never, containers: [{name: main, image: "registry.example/hook:1"}]}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: seeded-{{ .Release.Revision }}, annotations: {helm.sh/hook: post-install}}
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: facts}
data: {install: "{{ .Release.IsInstall }}"}
{{- if .Values.broken }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: orphan}
---
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {ports: [{port: 99999999}]}
{{- end }}
"#;

struct Stage<'a> {
    kubernetes: &'a Kubernetes,
    server: &'a Server,
    chart: String,
    namespace: String,
}

impl Stage<'_> {
    fn helm(&self, arguments: &[&str]) -> Command {
        let mut helm = self.kubernetes.helm_command();
        helm.args(
            arguments
                .iter()
                .map(|word| if *word == "CHART" { &self.chart } else { *word }),
        );
        helm.args(["--namespace", &self.namespace]);
        helm
    }

    /// Has Helm begin something whose hook never ends, and kills it.
    fn kill_while(&self, status: &str, arguments: &[&str]) {
        let mut helm = self.helm(arguments);
        let mut helm = Killed(helm.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        self.server.wait(30, status, |_| {
            let labels = format!("owner=helm,name=app,status={status}");
            let found = self.kubernetes.kubectl(&[
                "get",
                "secrets",
                "--namespace",
                &self.namespace,
                "--selector",
                &labels,
                "--output=name",
            ]);
            (!found.trim().is_empty()).then_some(())
        });
        helm.0.kill().unwrap();
        helm.0.wait().unwrap();
    }

    fn job(&self, config: &Value) -> Value {
        let mut all = json!({"chart_ref": self.chart, "release_name": "app", "namespace": self.namespace, "adopt": true});
        for (key, value) in config.as_object().unwrap() {
            all[key] = value.clone();
        }
        let new = json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": all});
        let id = text(&self.server.post("/jobs", &new).expect(201), "id");
        let _ = self
            .server
            .post(&format!("/jobs/{id}/execute"), &json!({}))
            .expect(202);
        self.server.job_ended(&id, 60)
    }

    /// A job that deploys in spite of what it finds, and says so.
    fn deploys(&self, recovered: &str) {
        let job = self.job(&json!({}));
        assert_eq!(job["status"], "SUCCEEDED", "{job:#}");
        let said = job["metadata_"]["recovered"].to_string();
        assert!(said.contains(recovered), "{job:#}");
    }

    fn is_there(&self, what: &str) -> bool {
        let names = self.kubernetes.names("configmaps", &self.namespace);
        names.contains(&format!("ConfigMap/{what}"))
    }

    fn installed(&self) -> bool {
        let facts = self.kubernetes.kubectl(&[
            "get",
            "configmap/facts",
            "--namespace",
            &self.namespace,
            "--output=jsonpath={.data.install}",
        ]);
        facts.trim() == "true"
    }
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_job_goes_on_from_whatever_state_its_release_is_in() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::of(
        "states",
        "1.0.0",
        &[("hooks.yaml", HOOKS), ("objects.yaml", OBJECTS)],
    )
    .with("values.yaml", "stuck: false\nbroken: false\n")
    .push(&registry);
    let stage = Stage {
        kubernetes: &kubernetes,
        server: &server,
        chart,
        namespace: format!("states-{}", server.tag()),
    };
    let namespace = stage.namespace.as_str();
    kubernetes.remove_later(namespace);
    let _ = kubernetes.kubectl(&["create", "namespace", namespace]);
    let begin = [
        "upgrade",
        "--install",
        "app",
        "CHART",
        "--plain-http",
        "--set",
        "stuck=true",
    ];

    stage.kill_while("pending-install", &begin);
    stage.deploys("left pending-install by a writer that died: its record was deleted");
    assert!(
        stage.installed() && stage.is_there("seeded-1"),
        "it is a first install, with its hooks"
    );
    assert_eq!(kubernetes.revisions(namespace, "app"), ["deployed"]);

    stage.kill_while("pending-upgrade", &begin);
    stage.deploys("revision 2 of release");
    assert!(!stage.installed());
    assert_eq!(
        kubernetes.revisions(namespace, "app"),
        ["superseded", "failed", "deployed"]
    );

    stage.kill_while("pending-rollback", &["rollback", "app", "2"]);
    stage.deploys("pending-rollback");

    let stuck = [
        "upgrade",
        "app",
        "CHART",
        "--plain-http",
        "--set",
        "stuck=true",
        "--no-hooks",
    ];
    assert!(stage.helm(&stuck).status().unwrap().success());
    stage.kill_while("uninstalling", &["uninstall", "app"]);
    stage.deploys("was left unfinished");
    assert!(stage.installed() && stage.is_there("seeded-1"));
    assert_eq!(kubernetes.revisions(namespace, "app"), ["deployed"]);

    assert!(
        stage
            .helm(&["uninstall", "app", "--keep-history"])
            .status()
            .unwrap()
            .success()
    );
    let job = stage.job(&json!({}));
    assert_eq!(job["status"], "SUCCEEDED", "{job:#}");
    assert!(stage.installed() && stage.is_there("seeded-1"));
    assert_eq!(
        kubernetes.revisions(namespace, "app"),
        ["superseded", "deployed"],
        "the history goes on"
    );

    // A first install that fails and is kept is a first install again, without what only the failed one had.
    let gone = stage.job(&json!({"operation": "uninstall"}));
    assert_eq!(gone["status"], "SUCCEEDED", "{gone:#}");
    assert!(!stage.is_there("seeded-1"));
    let failed = stage.job(&json!({"values": {"broken": true}, "delete_on_failure": false}));
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    assert_eq!(
        failed["retry_count"], 0,
        "an invalid object is not tried again: {failed:#}"
    );
    assert!(stage.is_there("orphan"));
    stage.deploys("had failed and was never deployed");
    assert!(stage.installed() && stage.is_there("seeded-1") && !stage.is_there("orphan"));
    server.stop();
}
