//! Releases on a real API server: applied, waited for, collected, recovered and taken away.

mod helm;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use helm::{Chart, cluster_target, deployment, kubeconfig, release, remove, request};
use serde_json::{Value, json};
use slipway_model::{CrdPolicy, ImmutablePolicy};
use slipway_ports::{FailureClass, ObjectReference, Release, ReleaseStatus, Target, UninstallRequest};

/// How long one look may wait for a change, and how many looks there are at most.
const HOLD: Duration = Duration::from_secs(3);
const LOOKS: usize = 20;

/// A Deployment, its Service, a configuration, a secret, a hook and a test.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-web
  labels: &labels {app.kubernetes.io/instance: {{ .Release.Name }}, app: web}
spec:
  replicas: {{ .Values.replicas | default 1 }}
  selector: {matchLabels: *labels}
  template:
    metadata:
      labels: *labels
      annotations: {dev.slipway/pod: {{ .Values.pod | default "run" }}, dev.slipway/ready-after: 300ms}
    spec:
      containers:
        - name: web
          image: registry.example/web:{{ .Values.tag | default "1" }}
          resources: {requests: {nvidia.com/gpu: {{ .Values.gpus | default 0 }}}, limits: {nvidia.com/gpu: {{ .Values.gpus | default 0 }}}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}-web, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: facts}
data: {upgrade: "{{ .Release.IsUpgrade }}", size: "3", system: "{{ (lookup "v1" "Namespace" "" "kube-system").metadata.name }}"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: {{ .Values.key | default "none" | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: greeted, annotations: {helm.sh/hook: post-install}}
---
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-check, annotations: {helm.sh/hook: test}}
spec: {restartPolicy: Never, containers: [{name: check, image: "registry.example/check:1"}]}
"#;

fn web() -> Chart {
    Chart::new("web").file("templates/all.yaml", WEB)
}

async fn target(folder: &Path) -> Arc<dyn Target> {
    cluster_target(folder, None, None).await
}

fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new(xtask::tools::kubectl().unwrap())
        .arg("--kubeconfig")
        .arg(kubeconfig())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn read(release: &Release, what: &str) -> Value {
    serde_json::from_str(&kubectl(&["-n", &release.namespace, "get", what, "-o", "json"])).unwrap()
}

/// Watches until everything is ready.
async fn until_ready(target: &dyn Target, release: &Release, objects: &[ObjectReference]) {
    for _ in 0..LOOKS {
        let observation = target.observe(release, objects, HOLD).await.unwrap();
        assert_eq!(observation.failed, None);
        if observation.ready {
            return;
        }
    }
    panic!("{release} does not become ready");
}

/// Watches until something waits for that reason.
async fn until_waiting(
    target: &dyn Target,
    release: &Release,
    objects: &[ObjectReference],
    reason: &str,
) -> (String, String) {
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        let observation = target.observe(release, objects, HOLD).await.unwrap();
        assert!(!observation.ready);
        match observation.waiting.first() {
            Some(wait) if wait.reason == reason => return (wait.to_string(), observation.diagnosis),
            other => seen.push(format!("{other:?}")),
        }
    }
    panic!("never waits for {reason}: {seen:#?}");
}

#[tokio::test]
async fn a_release_lives_from_its_install_to_the_end_of_its_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let first = request(1, &web(), json!({"key": "hunter22"}));
    let release = &first.release;
    let checked = target.check(&first).await.unwrap();
    assert!(
        checked.manifest.contains("system: \"kube-system\""),
        "{}",
        checked.manifest
    );
    assert!(checked.manifest.contains("name: greeted") && !checked.manifest.contains("hunter22"));
    let absent = kubectl(&["get", "namespace", &release.namespace, "--ignore-not-found"]);
    assert_eq!(absent, "", "a check changes nothing");

    let applied = target.apply(&first).await.unwrap();
    assert!(applied.namespace_created && applied.revision == 1);
    assert_eq!(applied.objects.len(), 4);
    let (mut found, mut foretold) = (applied.objects.clone(), checked.objects);
    found.sort();
    foretold.sort();
    assert_eq!(found, foretold);
    let own = deployment(1).to_string();
    let namespace = read(release, &format!("namespace/{}", release.namespace));
    assert_eq!(
        namespace["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "slipway"
    );
    assert_eq!(
        namespace["metadata"]["labels"]["slipway.dev/deployment-id"],
        own.as_str()
    );
    let configuration = read(release, "configmap/facts");
    assert_eq!(
        configuration["metadata"]["labels"]["slipway.dev/deployment-id"],
        own.as_str()
    );
    assert_eq!(
        configuration["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "Helm"
    );
    kubectl(&["-n", &release.namespace, "get", "configmap/greeted"]);
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.ever_deployed),
        (ReleaseStatus::Deployed, true)
    );
    assert_eq!(record.labels["slipway-job"], "job-1");
    assert_eq!(record.labels["app.kubernetes.io/managed-by"], "slipway");
    assert_eq!(record.chart, "web-1.0.0");

    until_ready(&*target, release, &applied.objects).await;
    let outputs: BTreeMap<String, _> = serde_json::from_value(json!({
        "size": {"from": "config_map", "name": "facts", "key": "size", "type": "integer"},
        "ready": {"from": "status", "api_version": "apps/v1", "kind": "Deployment", "name": "app-web",
            "field": "readyReplicas", "type": "integer"},
        "url": {"from": "service", "port": "http"},
    }))
    .unwrap();
    let collected = target
        .collect(release, &applied.objects, &outputs, None)
        .await
        .unwrap();
    let url = format!("http://app-web.{}.svc:8080", release.namespace);
    assert_eq!(collected.endpoint_url, url);
    assert_eq!(collected.services, ["app-web"]);
    assert_eq!(
        Value::from(collected.outputs),
        json!({"size": 3, "ready": 1, "url": url})
    );
    assert!(target.logs(release).await.unwrap().contains("(web)"));
    let tested = target.test(release, Duration::from_secs(60)).await.unwrap();
    assert!(tested.contains("Succeeded"), "{tested}");

    let second = request(1, &web(), json!({"replicas": 2}));
    let upgraded = target.apply(&second).await.unwrap();
    assert!(upgraded.revision == 2 && upgraded.namespace_created);
    assert_eq!(read(release, "configmap/facts")["data"]["upgrade"], "true");
    let labels = BTreeMap::from([("slipway-job".to_owned(), "back".to_owned())]);
    let back = target
        .rollback(release, None, &labels, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(back.revision, 3);
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!(record.labels["slipway-job"], "back");
    assert_eq!(read(release, "deployment/app-web")["spec"]["replicas"], 1);
    remove(&*target, 1).await;
    assert_eq!(target.record(release).await.unwrap(), None);
    until_gone(release);
}

fn until_gone(release: &Release) {
    kubectl(&[
        "wait",
        "--for=delete",
        "--timeout=60s",
        &format!("namespace/{}", release.namespace),
    ]);
}

#[tokio::test]
async fn what_a_release_waits_for_is_said_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    for (number, values, reason, said) in [
        (
            2,
            json!({"pod": "image-pull"}),
            "image pull",
            "registry.example/web:1",
        ),
        (3, json!({"pod": "crash"}), "crash loop", "exited with 3"),
        (4, json!({"gpus": 99}), "unschedulable", "nvidia.com/gpu"),
        (5, json!({"pod": "never-ready"}), "starting", "not ready yet"),
    ] {
        let request = request(number, &web(), values);
        let applied = target.apply(&request).await.unwrap();
        let (wait, diagnosis) = until_waiting(&*target, &request.release, &applied.objects, reason).await;
        assert!(
            wait.starts_with("Deployment/app-web: ") && wait.contains(said),
            "{wait}"
        );
        assert!(diagnosis.len() <= 4096);
        if reason == "image pull" {
            assert!(diagnosis.contains("ErrImagePull"), "{diagnosis}");
        }
        if reason == "crash loop" {
            assert!(diagnosis.contains("log of app-web-"), "{diagnosis}");
        }
        remove(&*target, number).await;
    }
}

#[tokio::test]
async fn a_test_that_fails_is_an_error_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: check, annotations: {helm.sh/hook: test, dev.slipway/pod: {{ .Values.pod }}}}
spec: {restartPolicy: Never, containers: [{name: check, image: "registry.example/check:1"}]}
"#;
    let chart = Chart::new("tested").file("templates/pod.yaml", pod);
    target
        .apply(&request(15, &chart, json!({"pod": "crash"})))
        .await
        .unwrap();
    let error = target
        .test(&release(15), Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent, "{error}");
    assert!(
        error.to_string().contains("check") && error.to_string().contains("POD LOGS"),
        "{error}"
    );
    target
        .apply(&request(15, &chart, json!({"pod": "never-ready"})))
        .await
        .unwrap();
    let error = target
        .test(&release(15), Duration::from_secs(4))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::TimedOut, "{error}");
    remove(&*target, 15).await;
}

#[tokio::test]
async fn a_job_that_failed_for_good_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let job = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: load}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {dev.slipway/pod: crash}}
    spec: {restartPolicy: Never, containers: [{name: load, image: "registry.example/load:1"}]}
"#;
    let request = request(6, &Chart::new("load").file("templates/job.yaml", job), json!({}));
    let applied = target.apply(&request).await.unwrap();
    let mut looks = 0..LOOKS;
    let failed = loop {
        assert!(looks.next().is_some(), "the job does not fail");
        let observation = target
            .observe(&request.release, &applied.objects, HOLD)
            .await
            .unwrap();
        assert!(!observation.ready);
        if let Some(failed) = observation.failed {
            break failed;
        }
    };
    assert_eq!(failed.object, "Job/load");
    assert!(failed.message.contains("BackoffLimitExceeded"), "{failed}");
    remove(&*target, 6).await;
}

#[tokio::test]
async fn volume_claims_survive_their_release() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let chart = web().file("templates/claim.yaml", claim);
    let request = request(7, &chart, json!({}));
    let applied = target.apply(&request).await.unwrap();
    until_ready(&*target, &request.release, &applied.objects).await;
    remove(&*target, 7).await;
    assert_eq!(
        read(&request.release, "persistentvolumeclaim/data")["status"]["phase"],
        "Bound"
    );
    kubectl(&[
        "-n",
        &request.release.namespace,
        "delete",
        "persistentvolumeclaim/data",
    ]);
    remove(&*target, 7).await;
    until_gone(&request.release);
}

#[tokio::test]
async fn an_immutable_field_stops_an_upgrade_or_recreates_the_object() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let set = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: {{ .Values.service }}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, app.kubernetes.io/instance: {{ .Release.Name }}}}
    spec: {containers: [{name: db, image: "registry.example/db:1"}]}
"#;
    let chart = Chart::new("db").file("templates/set.yaml", set);
    let applied = target
        .apply(&request(8, &chart, json!({"service": "one"})))
        .await
        .unwrap();
    until_ready(&*target, &release(8), &applied.objects).await;
    let mut second = request(8, &chart, json!({"service": "two"}));
    let error = target.apply(&second).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent);
    assert!(
        error.to_string().ends_with("set immutable: recreate to allow it"),
        "{error}"
    );
    assert!(error.to_string().contains("StatefulSet/db"), "{error}");
    let record = target.record(&release(8)).await.unwrap().unwrap();
    assert_eq!(
        (record.revision, record.status, record.ever_deployed),
        (2, ReleaseStatus::Failed, true)
    );
    second.immutable = ImmutablePolicy::Recreate;
    let applied = target.apply(&second).await.unwrap();
    assert_eq!(read(&release(8), "statefulset/db")["spec"]["serviceName"], "two");
    until_ready(&*target, &release(8), &applied.objects).await;
    remove(&*target, 8).await;
}

#[tokio::test]
async fn definitions_are_created_kept_or_updated_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let plural = format!("things{}", std::process::id());
    let definition = |description: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.test.slipway.dev}}\nspec:\n  group: test.slipway.dev\n  scope: Namespaced\n  names: {{kind: {kind}, plural: {plural}}}\n  versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, description: {description}, x-kubernetes-preserve-unknown-fields: true}}}}}}]\n",
            kind = plural.replacen('t', "T", 1),
        )
    };
    let thing = format!(
        "apiVersion: test.slipway.dev/v1\nkind: {}\nmetadata: {{name: one}}\nspec: {{known: {{{{ .Capabilities.APIVersions.Has \"test.slipway.dev/v1\" }}}}}}\n",
        plural.replacen('t', "T", 1)
    );
    let chart = |description: &str| {
        Chart::new("things")
            .file("crds/things.yaml", &definition(description))
            .file("templates/thing.yaml", &thing)
    };
    let described = || {
        let found = kubectl(&["get", "crd", &format!("{plural}.test.slipway.dev"), "-o", "json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"].clone()
    };
    let mut first = request(9, &chart("first"), json!({}));
    first.crds = CrdPolicy::Skip;
    let error = target.check(&first).await.unwrap_err();
    assert!(error.to_string().contains("no matches for kind"), "{error}");
    first.crds = CrdPolicy::Create;
    let checked = target.check(&first).await.unwrap();
    assert!(
        checked.manifest.contains("known: true") && checked.manifest.contains("CustomResourceDefinition")
    );
    let applied = target.apply(&first).await.unwrap();
    assert_eq!(applied.objects, checked.objects);
    until_ready(&*target, &first.release, &applied.objects).await;
    let mut second = request(9, &chart("second"), json!({}));
    target.apply(&second).await.unwrap();
    assert_eq!(described(), "first");
    second.crds = CrdPolicy::Apply;
    target.apply(&second).await.unwrap();
    assert_eq!(described(), "second");
    remove(&*target, 9).await;
    kubectl(&["delete", "crd", &format!("{plural}.test.slipway.dev")]);
}

#[tokio::test]
async fn an_uninstall_says_what_remains_and_removes_what_a_failed_revision_left() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let held =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [test.slipway.dev/hold]}\n";
    let extra = "{{ if .Values.extra }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: zzz, labels: {bad: \"not a label!\"}}\n{{ end }}\n";
    let chart = Chart::new("held")
        .file("templates/held.yaml", held)
        .file("templates/extra.yaml", extra);
    let first = request(10, &chart, json!({}));
    let release = &first.release;
    target.apply(&first).await.unwrap();
    target
        .apply(&request(10, &chart, json!({"extra": true})))
        .await
        .unwrap_err();
    let failed = target.record(release).await.unwrap().unwrap();
    assert_eq!(failed.status, ReleaseStatus::Failed);
    let foreign = ObjectReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: release.namespace.clone(),
        name: "foreign".into(),
    };
    kubectl(&["-n", &release.namespace, "create", "configmap", "foreign"]);
    let gone = UninstallRequest {
        release: release.clone(),
        leftovers: failed.objects.iter().cloned().chain([foreign]).collect(),
        namespace_of: Some(deployment(10)),
        time_limit: Duration::from_secs(60),
    };
    let remaining = target.uninstall(&gone).await.unwrap().remaining;
    assert_eq!(remaining.len(), 1, "{remaining:?}");
    assert_eq!(
        remaining[0].to_string(),
        "ConfigMap/held: finalizers (it waits for test.slipway.dev/hold)"
    );
    assert_eq!(target.record(release).await.unwrap(), None);
    // It stays the same when asked again, although the release is gone.
    let again = UninstallRequest {
        leftovers: Vec::new(),
        ..gone.clone()
    };
    assert_eq!(target.uninstall(&again).await.unwrap().remaining, remaining);
    kubectl(&[
        "-n",
        &release.namespace,
        "patch",
        "configmap",
        "held",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    assert!(target.uninstall(&again).await.unwrap().remaining.is_empty());
    // Somebody else's object keeps the namespace.
    kubectl(&["-n", &release.namespace, "get", "configmap/foreign"]);
    let extra = kubectl(&[
        "-n",
        &release.namespace,
        "get",
        "configmap/extra",
        "--ignore-not-found",
    ]);
    assert_eq!(extra, "");
    kubectl(&["-n", &release.namespace, "delete", "configmap/foreign"]);
    remove(&*target, 10).await;
    until_gone(release);
}

/// Set for the process that the next test starts and kills: the folder and which number it applies.
const VICTIM: &str = "SLIPWAY_TEST_VICTIM";

/// A chart whose hook never ends.
fn stuck() -> Chart {
    let hook = r#"
{{ if .Values.stuck }}
apiVersion: v1
kind: Pod
metadata: {name: hook, annotations: {helm.sh/hook: "pre-install,pre-upgrade", dev.slipway/pod: never-ready}}
spec: {restartPolicy: Never, containers: [{name: hook, image: "registry.example/hook:1"}]}
{{ end }}
"#;
    web().file("templates/hook.yaml", hook)
}

#[tokio::test]
async fn a_release_whose_writer_was_killed_is_recovered() {
    if let Ok(given) = std::env::var(VICTIM) {
        let (folder, namespace) = given.split_once('=').unwrap();
        let target = target(Path::new(folder)).await;
        let mut request = request(11, &stuck(), json!({"stuck": true}));
        request.release.namespace = namespace.to_owned();
        let outcome = target.apply(&request).await;
        panic!("ended by itself: {outcome:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let good = request(11, &stuck(), json!({}));
    let release = &good.release;
    kill_while(&*target, folder.path(), release, ReleaseStatus::PendingInstall).await;
    let record = target.record(release).await.unwrap().unwrap();
    assert!(!record.ever_deployed);
    let told = target.recover(release, record.revision).await.unwrap();
    assert!(
        told.contains("pending-install") && told.contains("deleted"),
        "{told}"
    );
    kubectl(&[
        "-n",
        &release.namespace,
        "delete",
        "pod/hook",
        "--wait=false",
        "--ignore-not-found",
    ]);
    assert_eq!(target.apply(&good).await.unwrap().revision, 1);
    kubectl(&["-n", &release.namespace, "get", "configmap/greeted"]);

    kill_while(&*target, folder.path(), release, ReleaseStatus::PendingUpgrade).await;
    let refused = target.apply(&good).await.unwrap_err();
    assert_eq!(refused.class(), FailureClass::Transient, "{refused}");
    let wrong = target.recover(release, 1).await.unwrap_err();
    assert_eq!(wrong.class(), FailureClass::Transient, "{wrong}");
    let told = target.recover(release, 2).await.unwrap();
    assert!(
        told.contains("pending-upgrade") && told.contains("marked failed"),
        "{told}"
    );
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!(
        (record.revision, record.status, record.ever_deployed),
        (2, ReleaseStatus::Failed, true)
    );
    assert!(
        target
            .recover(release, 2)
            .await
            .unwrap()
            .contains("nothing to recover")
    );
    let applied = target.apply(&good).await.unwrap();
    assert_eq!(applied.revision, 3);
    kubectl(&[
        "-n",
        &release.namespace,
        "delete",
        "pod/hook",
        "--ignore-not-found",
    ]);
    remove(&*target, 11).await;
}

async fn kill_while(target: &dyn Target, folder: &Path, release: &Release, status: ReleaseStatus) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_release_whose_writer_was_killed_is_recovered"])
        .env(VICTIM, format!("{}={}", folder.display(), release.namespace))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while target
        .record(release)
        .await
        .unwrap()
        .is_none_or(|record| record.status != status)
    {
        assert!(start.elapsed() < Duration::from_secs(30), "never {status:?}");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    while !helm::left_behind(folder).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "Helm goes on");
    }
}

#[tokio::test]
async fn what_cannot_be_applied_says_why_and_whether_a_repeat_can_help() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let mut homeless = request(12, &web(), json!({}));
    homeless.create_namespace = false;
    let error = target.apply(&homeless).await.unwrap_err();
    assert!(
        error.to_string().ends_with("create it, or set create_namespace"),
        "{error}"
    );
    let mut system = request(12, &web(), json!({}));
    system.release.namespace = "kube-public".to_owned();
    let error = target.apply(&system).await.unwrap_err();
    assert!(error.to_string().contains("belongs to Kubernetes"), "{error}");

    let noise: String = (0..90_000)
        .map(|n: u64| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let large = web().file("files/noise.txt", &noise);
    let error = target.check(&request(12, &large, json!({}))).await.unwrap_err();
    assert!(
        error.to_string().contains("KiB") && error.class() == FailureClass::Permanent,
        "{error}"
    );

    let foreign = request(12, &web(), json!({}));
    let namespace = &foreign.release.namespace;
    kubectl(&["create", "namespace", namespace]);
    kubectl(&["-n", namespace, "create", "configmap", "facts"]);
    let error = target.apply(&foreign).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent);
    assert!(
        error.to_string().contains("ConfigMap \"facts\"") && error.to_string().contains("ownership"),
        "{error}"
    );
    kubectl(&["delete", "namespace", namespace, "--wait=false"]);
}

#[tokio::test]
async fn the_gate_refuses_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let gate: slipway_helm::Gate = Arc::new(|cluster, release, manifest| {
        assert_eq!(cluster.name, "test");
        if manifest.contains("name: greeted") && manifest.contains("hunter22") {
            return Err(format!("{release}: ConfigMap/greeted is not allowed"));
        }
        Ok(())
    });
    let target = cluster_target(folder.path(), None, Some(gate)).await;
    let refused = request(13, &web(), json!({"key": "hunter22"}));
    for error in [
        target.check(&refused).await.unwrap_err(),
        target.apply(&refused).await.unwrap_err(),
    ] {
        assert_eq!(error.class(), FailureClass::Permanent);
        assert!(
            error.to_string().ends_with("ConfigMap/greeted is not allowed"),
            "{error}"
        );
    }
    assert_eq!(target.record(&refused.release).await.unwrap(), None);
    let objects = kubectl(&[
        "-n",
        &refused.release.namespace,
        "get",
        "configmap,service,deployment",
        "-o",
        "name",
    ]);
    assert_eq!(objects.trim(), "configmap/kube-root-ca.crt");
    target.apply(&request(13, &web(), json!({}))).await.unwrap();
    remove(&*target, 13).await;
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_said_soon_and_one_that_does_tells_its_capacity() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = fs::read_to_string(kubeconfig()).unwrap();
    let target = target(folder.path()).await;
    let health = target.health().await;
    assert!(
        health.healthy && health.ready_nodes == 3 && health.nodes == 3,
        "{health:?}"
    );
    assert_eq!(health.uid, Some(target.identity().await.unwrap()));
    assert_eq!(health.allocatable.unwrap().gpus, 8);
    assert!(health.version.unwrap().starts_with("v1."));

    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = kubeconfig
        .split_whitespace()
        .find_map(|word| word.trim_matches(['"', ',']).strip_prefix("https://"))
        .unwrap()
        .to_owned();
    let start = Instant::now();
    let closed = kubeconfig.replace(&server, &format!("127.0.0.1:{port}"));
    let absent = cluster_target(folder.path(), Some(closed), None).await;
    let health = absent.health().await;
    assert!(
        !health.healthy && health.message.contains(&port.to_string()),
        "{}",
        health.message
    );
    let error = absent.record(&release(14)).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(
        error.to_string().to_lowercase().contains("connection refused"),
        "{error}"
    );
    let error = absent.check(&request(14, &web(), json!({}))).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient, "{error}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
