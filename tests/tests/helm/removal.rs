//! Taking releases away.

use std::time::Duration;

use serde_json::json;
use slipway_ports::{HookEvent, HookSource, ObjectReference, ReleaseStatus, UninstallRequest};

use crate::{
    cluster::{PATIENCE, kubectl, read, run_hooks, target, until_gone, until_ready, web},
    support::{Chart, cluster_target, deployment, kubeconfig, release, remove, request},
};

/// To take the release away and all that came with it.
fn whole(number: u32) -> UninstallRequest {
    UninstallRequest {
        release: release(number),
        leftovers: Vec::new(),
        namespace_of: Some(deployment(number)),
        keep_record: false,
        time_limit: Duration::from_secs(60),
    }
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
        leftovers: failed.objects.iter().cloned().chain([foreign]).collect(),
        ..whole(10)
    };
    let remaining = target.uninstall(&gone).await.unwrap().remaining;
    assert_eq!(remaining.len(), 1, "{remaining:?}");
    assert_eq!(
        remaining[0].to_string(),
        "ConfigMap/held: finalizers (it waits for test.slipway.dev/hold)"
    );
    let left = target.record(release).await.unwrap().unwrap();
    assert_eq!(left.status, ReleaseStatus::Uninstalled);
    // It stays the same when asked again, although Helm is done.
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
    assert_eq!(target.record(release).await.unwrap(), None);
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

#[tokio::test]
async fn what_an_object_without_a_namespace_owns_keeps_the_namespace_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n";
    let wanted = request(
        13,
        &Chart::new("plain").file("templates/a.yaml", settings),
        json!({}),
    );
    let release = &wanted.release;
    target.apply(&wanted).await.unwrap();
    let owner = format!("bundle-{}", release.namespace);
    kubectl(&["create", "clusterrole", &owner, "--verb=get", "--resource=pods"]);
    let uid = kubectl(&["get", "clusterrole", &owner, "-o", "jsonpath={.metadata.uid}"]);
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "bundle", "namespace": release.namespace, "ownerReferences": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": owner, "uid": uid},
        ]},
    });
    let file = folder.path().join("bundle.json");
    std::fs::write(&file, bundle.to_string()).unwrap();
    kubectl(&["create", "-f", file.to_str().unwrap()]);
    assert_eq!(target.uninstall(&whole(13)).await.unwrap().remaining, []);
    read(release, "configmap/bundle");
    // With its owner it goes, and with it the namespace.
    kubectl(&["delete", "clusterrole", &owner]);
    remove(&*target, 13).await;
    until_gone(release);
}

#[tokio::test]
async fn the_hook_of_a_release_that_took_the_name_over_stays() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let hook = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, annotations: {helm.sh/hook: post-install}}\n";
    let wanted = request(
        36,
        &Chart::new("shared").file("templates/hook.yaml", hook),
        json!({}),
    );
    let release = &wanted.release;
    target.apply(&wanted).await.unwrap();
    run_hooks(
        &*target,
        release,
        HookEvent::PostInstall,
        HookSource::Revision(1),
        PATIENCE,
    )
    .await
    .unwrap();
    let namespace = &release.namespace;
    let of_another = "slipway.dev/release=another";
    kubectl(&[
        "-n",
        namespace,
        "label",
        "--overwrite",
        "configmap/shared",
        of_another,
    ]);
    assert_eq!(target.uninstall(&whole(36)).await.unwrap().remaining, []);
    read(release, "configmap/shared");
    kubectl(&["-n", namespace, "delete", "configmap/shared"]);
    remove(&*target, 36).await;
    until_gone(release);
}

#[tokio::test]
async fn what_may_not_be_listed_and_pods_that_stay_keep_no_uninstall_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let all = target(folder.path()).await;
    let stays = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: stays, annotations: {helm.sh/resource-policy: keep}}
spec:
  selector: {matchLabels: &labels {app: stays, app.kubernetes.io/instance: {{ .Release.Name }}}}
  template:
    metadata: {labels: *labels}
    spec: {containers: [{name: stays, image: "registry.example/stays:1"}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: goes}
"#;
    let wanted = request(
        14,
        &Chart::new("stays").file("templates/all.yaml", stays),
        json!({}),
    );
    let release = &wanted.release;
    let applied = all.apply(&wanted).await.unwrap();
    until_ready(&*all, release, &applied.objects).await;

    // Somebody who may do anything with the kinds of the chart, and nothing with others.
    let name = format!("few-{}", release.namespace);
    let account = format!("--serviceaccount=default:{name}");
    let role = format!("--clusterrole={name}");
    kubectl(&["-n", "default", "create", "serviceaccount", &name]);
    kubectl(&[
        "create",
        "clusterrole",
        &name,
        "--verb=*",
        "--resource=namespaces,pods,configmaps,secrets,deployments.apps,replicasets.apps",
    ]);
    kubectl(&["create", "clusterrolebinding", &name, &role, &account]);
    let token = kubectl(&["-n", "default", "create", "token", &name]);
    let admin = std::fs::read_to_string(kubeconfig()).unwrap();
    let own = admin
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .unwrap();
    let few = cluster_target(folder.path(), Some(admin.replace(own, token.trim())), None).await;

    assert_eq!(few.uninstall(&whole(14)).await.unwrap().remaining, []);
    assert_eq!(all.record(release).await.unwrap(), None);
    assert_eq!(read(release, "deployment/stays")["status"]["readyReplicas"], 1);
    let goes = [
        "-n",
        &release.namespace,
        "get",
        "configmap/goes",
        "--ignore-not-found",
    ];
    assert_eq!(kubectl(&goes), "");
    // What is in the way of the namespace is seen only by who may look.
    kubectl(&["-n", &release.namespace, "delete", "deployment/stays"]);
    remove(&*few, 14).await;
    read(release, &format!("namespace/{}", release.namespace));
    remove(&*all, 14).await;
    until_gone(release);
    kubectl(&["delete", "clusterrole,clusterrolebinding", &name]);
    kubectl(&["-n", "default", "delete", "serviceaccount", &name]);
}
