//! Hooks of every kind, run by Helm itself and by a job: the same ones, in the same order, and the same is left.

use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Server, text};

/// Kinds of the hooks, as kubectl names them.
const KINDS: [&str; 5] = ["serviceaccounts", "configmaps", "secrets", "jobs", "pods"];

/// Names say in which order they come, where that is not what the test is about.
const HOOKS: &str = r#"
{{- define "job" }}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {dev.slipway/pod: {{ .pod }}}}
    spec: {restartPolicy: Never, containers: [{name: main, image: "registry.example/hook:1"}]}
{{- end }}
{{- define "pod" }}
spec: {restartPolicy: Never, containers: [{name: main, image: "registry.example/hook:1"}]}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata: {name: account, annotations: {helm.sh/hook: "pre-install, Pre-Upgrade", helm.sh/hook-weight: "-10"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: "-5", helm.sh/hook-delete-policy: hook-succeeded}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"}}
{{- template "job" dict "pod" "run" }}
---
apiVersion: v1
kind: Pod
metadata: {name: look, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: "not a number"}}
{{- template "pod" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: twin, annotations: {helm.sh/hook: post-install, helm.sh/hook-weight: "3"}}
---
apiVersion: v1
kind: Secret
metadata: {name: twin, annotations: {helm.sh/hook: post-install, helm.sh/hook-weight: "3"}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: seed, annotations: {helm.sh/hook: "post-install,post-upgrade,post-rollback", helm.sh/hook-delete-policy: hook-failed}}
{{- template "job" dict "pod" "run" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: noted, annotations: {helm.sh/hook: "post-upgrade,post-rollback"}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: back, annotations: {helm.sh/hook: pre-rollback}}
{{- template "job" dict "pod" "run" }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: drain, annotations: {helm.sh/hook: pre-delete}}
{{- template "job" dict "pod" "run" }}
---
apiVersion: v1
kind: Pod
metadata: {name: sweep, annotations: {helm.sh/hook: post-delete, helm.sh/hook-delete-policy: hook-succeeded}}
{{- template "pod" }}
---
apiVersion: v1
kind: Pod
metadata: {name: second, annotations: {helm.sh/hook: test, helm.sh/hook-weight: "2"}}
{{- template "pod" }}
---
apiVersion: v1
kind: Pod
metadata: {name: third, annotations: {helm.sh/hook: test-success, helm.sh/hook-weight: "10"}}
{{- template "pod" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: never, annotations: {helm.sh/hook: "pre-install,crd-install"}}
{{- if .Values.fail }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: broken, annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-weight: "5", helm.sh/hook-delete-policy: hook-failed}}
{{- template "job" dict "pod" "crash" }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: unreached, annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-weight: "6"}}
{{- template "job" dict "pod" "run" }}
{{- end }}
"#;

const FACTS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: facts}\ndata: {round: {{ .Values.round | quote }}}\n";

/// Notes which hooks are created in a namespace.
struct Watcher<'a> {
    kubernetes: &'a Kubernetes,
    namespace: String,
    folder: tempfile::TempDir,
    children: Vec<Child>,
    told: usize,
}

impl<'a> Watcher<'a> {
    fn start(kubernetes: &'a Kubernetes, namespace: &str) -> Self {
        let _ = kubernetes.kubectl(&["create", "namespace", namespace]);
        let folder = tempfile::tempdir().unwrap();
        let watch = |kind: &str| {
            let file = std::fs::File::create(folder.path().join(kind)).unwrap();
            let mut kubectl = std::process::Command::new(xtask::tools::kubectl().unwrap());
            kubectl.arg("--kubeconfig").arg(kubernetes.kubeconfig_file());
            kubectl.args(["--namespace", namespace, "get", kind, "--watch"]);
            kubectl.args(["--output-watch-events", "--output=json"]);
            kubectl.stdout(file).stderr(Stdio::null()).spawn().unwrap()
        };
        Self {
            kubernetes,
            namespace: namespace.to_owned(),
            children: KINDS.into_iter().map(watch).collect(),
            folder,
            told: 0,
        }
    }

    /// Every hook that was created so far, in order.
    fn all(&self) -> Vec<String> {
        let mut made = BTreeSet::new();
        for kind in KINDS {
            let text = std::fs::read_to_string(self.folder.path().join(kind)).unwrap();
            for event in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                // The last one may not be there as a whole yet.
                let Ok(event) = event else { break };
                let object = &event["object"];
                if event["type"] == "ADDED" && object["metadata"]["annotations"]["helm.sh/hook"].is_string() {
                    let version: u64 = text_of(&object["metadata"]["resourceVersion"]).parse().unwrap();
                    let name = text_of(&object["metadata"]["name"]);
                    made.insert((version, format!("{}/{name}", text_of(&object["kind"]))));
                }
            }
        }
        made.into_iter().map(|(_, name)| name).collect()
    }

    /// Those that were created since this was asked last, once there are that many.
    fn next(&mut self, server: &Server, count: usize) -> Vec<String> {
        let wanted = self.told + count;
        server.wait(20, "hooks are seen", |_| {
            (self.all().len() >= wanted).then_some(())
        });
        let new = self.all().split_off(self.told);
        self.told += new.len();
        new
    }

    /// The hooks whose objects are there.
    fn left(&self) -> Vec<String> {
        let kinds = KINDS.join(",");
        let mut left: Vec<String> = self
            .kubernetes
            .objects(&kinds, &self.namespace)
            .into_iter()
            .filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_string())
            .filter(|object| object["metadata"]["deletionTimestamp"].is_null())
            .map(|object| {
                format!(
                    "{}/{}",
                    text_of(&object["kind"]),
                    text_of(&object["metadata"]["name"])
                )
            })
            .collect();
        left.sort();
        left
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn job(server: &Server, config: &Value) -> Value {
    let new = json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": "dev", "config": config});
    let id = text(&server.post("/jobs", &new).expect(201), "id");
    let _ = server
        .post(&format!("/jobs/{id}/execute"), &json!({}))
        .expect(202);
    server.job_ended(&id, 90)
}

/// What happens to the release, how Helm is told, how a job is, and which hooks come of it.
struct Round {
    helm: &'static [&'static str],
    job: Value,
    hooks: &'static [&'static str],
    fails: bool,
}

#[test]
fn hooks_of_every_kind_run_as_helm_runs_them() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::of("hooked", "1.0.0", &[("hooks.yaml", HOOKS), ("facts.yaml", FACTS)])
        .with("values.yaml", "round: 1\nfail: false\n")
        .push(&registry);
    let (theirs, ours) = (format!("helm-{}", server.tag()), format!("ours-{}", server.tag()));
    for namespace in [&theirs, &ours] {
        kubernetes.remove_later(namespace);
    }
    let mut by_helm = Watcher::start(&kubernetes, &theirs);
    let mut by_job = Watcher::start(&kubernetes, &ours);
    let rounds = [
        Round {
            helm: &["install", "app", "CHART", "--plain-http"],
            job: json!({}),
            hooks: &[
                "ServiceAccount/account",
                "ConfigMap/settings",
                "Pod/look",
                "Job/migrate",
                "Job/seed",
                "Secret/twin",
                "ConfigMap/twin",
            ],
            fails: false,
        },
        Round {
            helm: &["upgrade", "app", "CHART", "--plain-http", "--set", "round=2"],
            job: json!({"values": {"round": 2}}),
            // The job that is left of the install has ended: it is applied once more, and nothing comes of it.
            hooks: &["ServiceAccount/account", "Job/migrate", "ConfigMap/noted"],
            fails: false,
        },
        Round {
            helm: &["upgrade", "app", "CHART", "--plain-http", "--set", "fail=true"],
            job: json!({"values": {"fail": true}}),
            hooks: &["ServiceAccount/account", "Job/migrate", "Job/broken"],
            fails: true,
        },
        Round {
            helm: &["rollback", "app", "1"],
            job: json!({"operation": "rollback", "revision": 1}),
            hooks: &["Job/back", "ConfigMap/noted"],
            fails: false,
        },
        Round {
            helm: &["test", "app"],
            job: json!({"operation": "test"}),
            hooks: &["Pod/second", "Pod/third"],
            fails: false,
        },
        Round {
            helm: &["uninstall", "app"],
            job: json!({"operation": "uninstall"}),
            hooks: &["Job/drain", "Pod/sweep"],
            fails: false,
        },
    ];
    for round in &rounds {
        let mut helm = kubernetes.helm_command();
        helm.args(
            round
                .helm
                .iter()
                .map(|word| if *word == "CHART" { &chart } else { *word }),
        );
        let output = helm.args(["--namespace", &theirs]).output().unwrap();
        assert_ne!(output.status.success(), round.fails, "{output:?}");
        let mut config = json!({"chart_ref": chart, "release_name": "app", "namespace": ours});
        for (key, value) in round.job.as_object().unwrap() {
            config[key] = value.clone();
        }
        let job = job(&server, &config);
        let expected = if round.fails { "FAILED" } else { "SUCCEEDED" };
        assert_eq!(job["status"], expected, "{job:#}");
        let count = round.hooks.len();
        assert_eq!(
            by_helm.next(&server, count),
            round.hooks,
            "{:?} by Helm",
            round.helm
        );
        assert_eq!(
            by_job.next(&server, count),
            round.hooks,
            "{:?} by a job",
            round.helm
        );
        match round.helm[0] {
            // Helm leaves hooks behind; a namespace that is to go with its deployment must not hold any.
            "uninstall" => assert_eq!(by_job.left(), Vec::<String>::new()),
            _ => assert_eq!(by_job.left(), by_helm.left(), "{:?}", round.helm),
        }
        if round.fails {
            let said = text(&job, "error_message");
            assert!(
                said.contains("pre-upgrade hook Job/broken failed") && said.contains("exit code"),
                "{said}"
            );
            // Ours stops before Helm has begun a revision.
            assert_eq!(kubernetes.revisions(&ours, "app"), ["superseded", "deployed"]);
        }
    }
    assert_eq!(kubernetes.releases(&ours), []);
    drop((by_helm, by_job));
    server.stop();
}
