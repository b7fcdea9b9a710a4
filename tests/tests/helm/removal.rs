//! Taking releases away, and recovering those whose writer was killed.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use slipway_ports::{FailureClass, ObjectReference, Release, ReleaseStatus, Target, UninstallRequest};

use crate::{
    cluster::{kubectl, read, target, until_gone, until_ready, web},
    support::{Chart, deployment, left_behind, remove, request},
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

/// Set for the process that the next test starts and kills: folder, namespace and deployment.
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
        let (folder, given) = given.split_once('=').unwrap();
        let (namespace, deployment) = given.split_once('=').unwrap();
        let target = target(Path::new(folder)).await;
        let mut request = request(11, &stuck(), json!({"stuck": true}));
        request.release.namespace = namespace.to_owned();
        request.deployment = Some(deployment.parse().unwrap());
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
    until_gone(release);
}

async fn kill_while(target: &dyn Target, folder: &Path, release: &Release, status: ReleaseStatus) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "removal::a_release_whose_writer_was_killed_is_recovered",
        ])
        .env(
            VICTIM,
            format!("{}={}={}", folder.display(), release.namespace, deployment(11)),
        )
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
    while !left_behind(folder).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "Helm goes on");
    }
}
