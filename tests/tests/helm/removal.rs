//! Taking releases away.

use std::time::Duration;

use serde_json::json;
use slipway_ports::{ObjectReference, ReleaseStatus, UninstallRequest};

use crate::{
    cluster::{kubectl, read, target, until_gone, until_ready, web},
    support::{Chart, deployment, remove, request},
};

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
        release: release.clone(),
        leftovers: failed.objects.iter().cloned().chain([foreign]).collect(),
        namespace_of: Some(deployment(10)),
        keep_record: false,
        time_limit: Duration::from_secs(60),
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
