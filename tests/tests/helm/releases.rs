//! Releases on a real API server: applied, upgraded, rolled back, and refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use slipway_model::{CrdPolicy, ImmutablePolicy};
use slipway_ports::{FailureClass, HookEvent, HookSource, ReleaseStatus, RollbackRequest};

use crate::{
    cluster::{PATIENCE, kubectl, read, run_hooks, target, until_gone, until_ready, web},
    support::{Chart, cluster_target, deployment, kubeconfig, release, remove, request},
};

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
    assert_eq!(
        applied.hooks,
        BTreeSet::from([HookEvent::PostInstall, HookEvent::Test])
    );
    let greeted = [
        "-n",
        &release.namespace,
        "get",
        "configmap/greeted",
        "--ignore-not-found",
    ];
    assert_eq!(kubectl(&greeted), "", "hooks are no part of the apply");
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
    for event in [HookEvent::PostInstall, HookEvent::Test] {
        let told = run_hooks(&*target, release, event, HookSource::Revision(1), PATIENCE).await;
        assert!(told.as_ref().unwrap().contains("Succeeded"), "{told:?}");
    }
    kubectl(&["-n", &release.namespace, "get", "configmap/greeted"]);

    let second = request(1, &web(), json!({"replicas": 2}));
    let upgraded = target.apply(&second).await.unwrap();
    assert!(upgraded.revision == 2 && upgraded.namespace_created);
    assert_eq!(read(release, "configmap/facts")["data"]["upgrade"], "true");
    assert_eq!(target.rollback_target(release, None).await.unwrap(), 1);
    let back = RollbackRequest {
        release: release.clone(),
        revision: 1,
        newest_before: 2,
        labels: BTreeMap::from([("slipway-job".to_owned(), "back".to_owned())]),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(60),
    };
    let back = target.rollback(&back).await.unwrap();
    assert_eq!(back.revision, 3);
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!(record.labels["slipway-job"], "back");
    assert_eq!(read(release, "deployment/app-web")["spec"]["replicas"], 1);
    remove(&*target, 1).await;
    assert_eq!(target.record(release).await.unwrap(), None);
    until_gone(release);
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
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fixed, labels: {of: {{ .Values.label | default "db" | quote }}}}
immutable: true
data: {service: {{ .Values.service }}}
---
apiVersion: v1
kind: Secret
metadata: {name: other, labels: {of: {{ .Values.label | default "db" | quote }}}}
{{- range $job := list "load" "index" "check" }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: {{ $job }}}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: "registry.example/db:{{ $.Values.service }}"
          env: [{{ range $number := until 100 }}{name: V{{ $number }}, value: "of one \" && {{ repeat 50 "x" }}"},{{ end }}]
{{- end }}
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
    for object in ["StatefulSet/db", "ConfigMap/fixed", "Job/load", "Job/check"] {
        assert!(error.to_string().contains(object), "{error}");
    }
    let record = target.record(&release(8)).await.unwrap().unwrap();
    assert_eq!(
        (record.revision, record.status, record.ever_deployed),
        (2, ReleaseStatus::Failed, true)
    );
    // What refuses for another reason would do so again.
    let mut wrong = request(8, &chart, json!({"service": "two", "label": "not a label!"}));
    wrong.immutable = ImmutablePolicy::Recreate;
    let error = target.apply(&wrong).await.unwrap_err();
    assert!(error.to_string().contains("a valid label must be"), "{error}");
    assert_eq!(read(&release(8), "statefulset/db")["spec"]["serviceName"], "one");
    assert_eq!(read(&release(8), "configmap/fixed")["data"]["service"], "one");
    // Nor does anything go if one of them may not.
    second.immutable = ImmutablePolicy::Recreate;
    let policy = keep_sets_from_deletion(folder.path(), &release(8).namespace);
    let error = target.apply(&second).await.unwrap_err();
    assert!(
        error.to_string().contains("statefulsets/db") && error.to_string().contains("it is kept"),
        "{error}"
    );
    for object in ["configmap/fixed", "job/load"] {
        let found = read(&release(8), object);
        assert_eq!(found["metadata"]["deletionTimestamp"], Value::Null, "{object}");
    }
    kubectl(&["delete", "-f", policy.to_str().unwrap()]);
    until_deletion(&release(8).namespace, true);
    let applied = target.apply(&second).await.unwrap();
    assert_eq!(applied.revision, 6, "all make way at once");
    let images = "jsonpath={.items[*].spec.template.spec.containers[0].image}";
    let jobs = kubectl(&["-n", &release(8).namespace, "get", "jobs", "-o", images]);
    assert_eq!(jobs, ["registry.example/db:two"; 3].join(" "));
    assert_eq!(read(&release(8), "statefulset/db")["spec"]["serviceName"], "two");
    assert_eq!(read(&release(8), "configmap/fixed")["data"]["service"], "two");
    until_ready(&*target, &release(8), &applied.objects).await;
    let mut back = RollbackRequest {
        release: release(8),
        revision: 1,
        newest_before: applied.revision,
        labels: BTreeMap::new(),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(60),
    };
    let error = target.rollback(&back).await.unwrap_err();
    assert!(error.to_string().contains("set immutable: recreate"), "{error}");
    back.immutable = ImmutablePolicy::Recreate;
    let applied = target.rollback(&back).await.unwrap();
    assert_eq!(read(&release(8), "statefulset/db")["spec"]["serviceName"], "one");
    until_ready(&*target, &release(8), &applied.objects).await;
    remove(&*target, 8).await;
}

/// Has the API server refuse to delete StatefulSets of a namespace; the file that says so.
fn keep_sets_from_deletion(folder: &Path, namespace: &str) -> PathBuf {
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}}}
spec:
  matchConstraints: {{resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [DELETE], resources: [statefulsets]}}]}}
  validations: [{{expression: 'false', message: it is kept}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}}}
spec:
  policyName: {namespace}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}
"#
    );
    let file = folder.join("policy.yaml");
    fs::write(&file, policy).unwrap();
    kubectl(&["create", "-f", file.to_str().unwrap()]);
    until_deletion(namespace, false);
    file
}

/// Asks until StatefulSets may be deleted, or may not: the API server takes a moment until it keeps to a policy.
fn until_deletion(namespace: &str, may_be: bool) {
    let asked = || {
        let mut command = Command::new(xtask::tools::kubectl().unwrap());
        command.arg("--kubeconfig").arg(kubeconfig());
        command.args(["-n", namespace, "delete", "statefulset/db", "--dry-run=server"]);
        command.output().unwrap().status.success()
    };
    assert!((0..200).any(|_| asked() == may_be), "the policy has no effect");
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
        "apiVersion: test.slipway.dev/v1\nkind: {}\nmetadata: {{name: one}}\nspec:\n  known: {{{{ .Capabilities.APIVersions.Has \"test.slipway.dev/v1\" }}}}\n  kinds: {{{{ and (.Capabilities.APIVersions.Has \"networking.k8s.io/v1/Ingress\") (.Capabilities.APIVersions.Has \"v1/ConfigMap\") }}}}\n  none: {{{{ .Capabilities.APIVersions.Has \"v1/Nothing\" }}}}\n",
        plural.replacen('t', "T", 1)
    );
    // Of a subchart that the values leave out.
    let unwanted = format!("un{plural}.test.slipway.dev");
    let of_subchart = definition("unwanted")
        .replace(&plural, &format!("un{plural}"))
        .replace("kind: T", "kind: Unt");
    let chart = |description: &str| {
        Chart::new("things")
            .file(
                "Chart.yaml",
                "apiVersion: v2\nname: things\nversion: 1.0.0\nkubeVersion: '>=1.30.0-0'\ndependencies: [{name: sub, version: 1.0.0, condition: sub.enabled}]\n",
            )
            .file("crds/things.yaml", &definition(description))
            .file("templates/thing.yaml", &thing)
            .file("values.yaml", "sub: {enabled: false}\n")
            .file("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n")
            .file("charts/sub/crds/unthings.yaml", &of_subchart)
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
    for said in [
        "known: true",
        "kinds: true",
        "none: false",
        "CustomResourceDefinition",
    ] {
        assert!(checked.manifest.contains(said), "{said}: {}", checked.manifest);
    }
    assert!(!checked.manifest.contains(&unwanted), "{}", checked.manifest);
    let applied = target.apply(&first).await.unwrap();
    assert_eq!(applied.objects, checked.objects);
    assert_eq!(kubectl(&["get", "crd", &unwanted, "--ignore-not-found"]), "");
    until_ready(&*target, &first.release, &applied.objects).await;
    let mut second = request(9, &chart("second"), json!({}));
    target.apply(&second).await.unwrap();
    assert_eq!(described(), "first");
    second.crds = CrdPolicy::Apply;
    target.apply(&second).await.unwrap();
    assert_eq!(described(), "second");
    // Helm cannot delete what it does not know any more, which keeps nothing from going.
    kubectl(&["delete", "crd", &format!("{plural}.test.slipway.dev")]);
    remove(&*target, 9).await;
    assert_eq!(target.record(&first.release).await.unwrap(), None);
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
    let health = target.health().await.unwrap();
    assert!(
        health.healthy && health.ready_nodes >= 3 && health.ready_nodes == health.nodes,
        "{health:?}"
    );
    assert_eq!(health.uid, Some(target.identity().await.unwrap()));
    assert!(health.allocatable.unwrap().gpus >= 8);
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
    let error = absent.health().await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    // Somebody else's certificate, or none that anybody vouches for, is no better in a minute.
    let strangers = kubeconfig
        .lines()
        .filter(|line| !line.contains("certificate-authority-data"))
        .collect::<Vec<_>>()
        .join("\n");
    assert_ne!(strangers, kubeconfig);
    let unknown = cluster_target(folder.path(), Some(strangers), None).await;
    let error = unknown.health().await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent, "{error}");
    assert!(error.to_string().contains("is not accepted: "), "{error}");
    let error = absent.record(&release(14)).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(
        error.to_string().to_lowercase().contains("connection refused"),
        "{error}"
    );
    let error = absent.check(&request(14, &web(), json!({}))).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient, "{error}");
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
}
