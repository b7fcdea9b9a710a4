//! A deployment as its operator sees it: what is planned, what is kept, what others changed, and what nobody owns.

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Run, Server, Template, component, text};

const FIRST: &str = "correct-horse-battery-staple-51";
const SECOND: &str = "correct-horse-battery-staple-52";

/// What can be looked at: a workload, something that is shown, a secret, a volume and a way in.
const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: main, image: "example.org/tiny:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {type: {{ .Values.type }}, selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {color: {{ .Values.color | quote }}, address: {{ printf "key:%s" .Values.key | quote }}}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}}
stringData: {key: {{ .Values.key | quote }}}
{{- if .Values.claim }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: {{ .Release.Name }}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
{{- end }}
"#;

const VALUES: &str = "replicas: 1\ntype: ClusterIP\ncolor: ''\nkey: ''\nclaim: false\n";

/// A store whose colour a reader is told, and one that has nothing to do with them.
fn template(chart: &str, version: &str) -> Template {
    let store = json!({
        "replicas": "{{ parameters.replicas }}", "type": "{{ parameters.type }}", "color": "{{ parameters.color }}",
        "key": "{{ parameters.key }}", "claim": "{{ parameters.claim }}",
    });
    Template::named("looked")
        .set("version", &json!(version))
        .helm("store", chart, &store)
        .and(&json!({"outputs": {"color": {"from": "config_map", "name": "looked-store", "key": "color"}}}))
        .helm("reader", chart, &json!({"color": "{{ steps.store.outputs.color }}"}))
        .helm("other", chart, &json!({"color": "grey"}))
        .set(
            "parameters",
            &json!({
                "replicas": {"type": "integer", "default": 1}, "type": {"type": "string", "default": "ClusterIP"},
                "color": {"type": "string", "default": "red"}, "claim": {"type": "boolean", "default": true},
                "key": {"type": "string", "secret": true, "required": true},
            }),
        )
}

struct Stage<'a> {
    kubernetes: &'a Kubernetes,
    server: &'a Server,
    namespace: String,
}

impl Stage<'_> {
    /// What a command prints; no secret in any notation.
    #[track_caller]
    fn slipway(&self, code: i32, arguments: &[&str]) -> String {
        let run = Run::of(&mut self.server.command(arguments));
        let out = run.expect(code).to_owned();
        for secret in [FIRST, SECOND, "Y29ycmVjdC1ob3Jz"] {
            let told = out.contains(secret) || run.errors.contains(secret);
            assert!(!told, "{arguments:?} tells {secret}: {out}");
        }
        out
    }

    /// The newest revision of each component's release, as Helm has it.
    fn revisions(&self) -> [usize; 3] {
        ["store", "reader", "other"].map(|name| {
            let release = format!("looked-{name}");
            self.kubernetes.revisions(&self.namespace, &release).len()
        })
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let arguments = ["get", kind, name, "--namespace", &self.namespace, "--output=json"];
        serde_json::from_str(&self.kubernetes.kubectl(&arguments)).unwrap()
    }

    fn kept(&self) -> [bool; 3] {
        let deployment = self.server.deployment("looked");
        ["store", "reader", "other"].map(|name| component(&deployment, name)["kept"] == true)
    }
}

#[track_caller]
fn expect_lines(out: &str, lines: &[&str]) {
    for line in lines {
        assert!(out.contains(line), "'{line}' is missing in:\n{out}");
    }
}

fn plans_say_what_would_happen_before_anything_does(stage: &Stage<'_>) {
    let first = stage.slipway(0, &["plan", "looked"]);
    let created = |name: &str| format!("+ {name}: create release {}/looked-{name}", stage.namespace);
    expect_lines(
        &first,
        &[
            &created("store"),
            &created("other"),
            "  + PersistentVolumeClaim/looked-store",
            "? reader: deferred",
            "reads output 'color' of step 'store', which is not known yet",
            "key: (hidden",
            ", 0 to change, 0 to replace, 0 to delete, 0 unchanged; 1 component is not known yet",
        ],
    );
    let there = stage.kubernetes.has_namespace(&stage.namespace);
    assert!(!there, "a plan changes nothing");
}

fn a_plan_of_an_upgrade_names_its_dangers(stage: &Stage<'_>) {
    let key = format!("key={SECOND}");
    let change = ["--set", "type=NodePort", "--set", "claim=false", "--set", &key];
    let arguments = [&["plan", "looked"][..], &change].concat();
    let upgrade = stage.slipway(0, &arguments);
    expect_lines(
        &upgrade,
        &[
            "~ store: change release",
            "? reader: deferred release",
            "= other: unchanged release",
            "  = PersistentVolumeClaim/looked-store: the chart does not have it any more; a volume claim stays",
            "    ! Service/looked-store",
            "      +  type: NodePort",
            "key: (hidden, changed)",
            "; 1 danger",
        ],
    );
    let as_json: Value =
        serde_json::from_str(&stage.slipway(0, &[&arguments[..], &["--output", "json"]].concat())).unwrap();
    assert_eq!(as_json["summary"]["dangers"], 1, "{:#}", as_json["summary"]);
    assert_eq!(stage.revisions(), [1, 1, 1]);
    assert_eq!(
        stage.object("service", "looked-store")["spec"]["type"],
        "ClusterIP"
    );
}

fn only_what_changes_is_touched(stage: &Stage<'_>) {
    // The store changes, and nobody reads what does.
    let out = stage.slipway(0, &["upgrade", "looked", "--set", "replicas=2", "--watch"]);
    expect_lines(&out, &["reader: RUNNING, kept", "other: RUNNING, kept"]);
    assert!(!out.contains("store: RUNNING, kept"), "{out}");
    assert_eq!(stage.revisions(), [2, 1, 1]);
    assert_eq!(stage.kept(), [false, true, true]);
    // What its reader is told changes, too.
    let out = stage.slipway(0, &["upgrade", "looked", "--set", "color=blue", "--watch"]);
    expect_lines(&out, &["other: RUNNING, kept"]);
    assert_eq!(stage.revisions(), [3, 2, 1]);
    assert_eq!(stage.kept(), [false, false, true]);
    assert_eq!(
        stage.object("configmap", "looked-reader")["data"]["color"],
        "blue"
    );
    // And back.
    let _ = stage.slipway(0, &["rollback", "looked", "--watch"]);
    assert_eq!(stage.revisions(), [4, 3, 1]);
    assert_eq!(stage.kept(), [false, false, true]);
    assert_eq!(stage.object("configmap", "looked-reader")["data"]["color"], "red");
    let status = stage.slipway(0, &["status", "looked"]);
    let line = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(line("other").contains("RUNNING, kept"), "{status}");
    assert!(!line("store").contains("kept"), "{status}");
}

fn what_others_do_is_told_and_left_alone(stage: &Stage<'_>) {
    let out = stage.slipway(0, &["drift", "looked"]);
    expect_lines(&out, &["drift: none"]);
    let kubectl = |arguments: &[&str]| {
        let _ = stage
            .kubernetes
            .kubectl(&[arguments, &["--namespace", &stage.namespace]].concat());
    };
    kubectl(&["scale", "deployment/looked-store", "--replicas=3"]);
    kubectl(&["delete", "configmap/looked-other"]);
    let found = [
        "store: Deployment/looked-store: ",
        "/spec/replicas",
        "kubectl",
        "other: ConfigMap/looked-other: ",
        "nothing was corrected",
    ];
    expect_lines(&stage.slipway(1, &["drift", "looked"]), &found);
    expect_lines(&stage.slipway(0, &["status", "looked"]), &found);
    let deployment = stage.server.deployment("looked");
    let objects = deployment["drift"]["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "{objects:#?}");
    let scaled = objects.iter().find(|one| one["component"] == "store").unwrap();
    assert_eq!(
        scaled["fields"],
        json!([{"path": "/spec/replicas", "managers": ["kubectl"]}]),
        "{scaled:#}"
    );
    let history = stage.server.history("looked");
    let told = history
        .iter()
        .filter(|line| line["type"] == "drift_found")
        .count();
    assert_eq!(told, 2, "{history:#?}");
    assert_eq!(stage.object("deployment", "looked-store")["spec"]["replicas"], 3);
    assert_eq!(stage.revisions(), [4, 3, 1], "nothing was applied");
}

fn a_rule_silences_what_is_wanted(stage: &Stage<'_>) {
    // What is gone is not kept, and so it is applied again; the store is as its last revision says.
    let out = stage.slipway(0, &["upgrade", "looked", "--to", "1.1.0", "--watch"]);
    expect_lines(&out, &["store: RUNNING, kept"]);
    assert_eq!(stage.revisions(), [4, 3, 2]);
    assert_eq!(stage.object("deployment", "looked-store")["spec"]["replicas"], 3);
    expect_lines(&stage.slipway(0, &["drift", "looked"]), &["drift: none"]);
}

fn what_nobody_owns_is_told_and_left_alone(stage: &Stage<'_>) {
    let left = format!("{}-left", stage.namespace);
    stage.kubernetes.remove_later(&left);
    stage.kubernetes.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {left}\n  labels: {{app.kubernetes.io/managed-by: slipway, \
         slipway.dev/deployment-id: 00000000-0000-4000-8000-00000000dead}}\n"
    ));
    let out = stage.slipway(1, &["cluster", "orphans", "dev"]);
    expect_lines(&out, &[&format!("namespace {left}: "), "nothing was removed"]);
    assert!(
        !out.contains(&format!("release {}/", stage.namespace)),
        "its own are owned: {out}"
    );
    assert!(stage.kubernetes.has_namespace(&left));
}

#[test]
fn an_operator_sees_what_would_happen_what_was_kept_and_what_others_did() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::of("looked", "1.0.0", &[("objects.yaml", OBJECTS)])
        .with("values.yaml", VALUES)
        .push(&registry);
    server.publish(&template(&chart, "1.0.0"));
    let rule = json!({"drift": {"ignore": [{"kind": "Deployment", "paths": ["/spec/replicas"]}]}});
    let mut ruled = template(&chart, "1.1.0").document().clone();
    ruled["components"][0]["drift"] = rule["drift"].clone();
    let _ = server.post("/templates", &ruled).expect(201);
    let created = server.create_with(&json!({
        "name": "looked", "template": "looked", "template_version": "1.0.0", "cluster": "dev",
        "parameters": {"key": FIRST},
    }));
    let stage = Stage {
        kubernetes: &kubernetes,
        server: &server,
        namespace: text(&created, "namespace"),
    };
    kubernetes.remove_later(&stage.namespace);
    plans_say_what_would_happen_before_anything_does(&stage);
    let _ = stage.slipway(0, &["start", "looked", "--watch"]);
    a_plan_of_an_upgrade_names_its_dangers(&stage);
    only_what_changes_is_touched(&stage);
    what_others_do_is_told_and_left_alone(&stage);
    a_rule_silences_what_is_wanted(&stage);
    what_nobody_owns_is_told_and_left_alone(&stage);
    server.stop();
}
