//! Every state in which a release may be found, made by real Helm.

use serde_json::json;
use slipway_ports::{FailureClass, PreviewRequest, ReleaseStatus};

use crate::{
    cluster::{kubectl, read, target, until_gone, web},
    plain::PlainHelm,
    support::{Chart, remove, request},
};

/// A chart whose hooks never end.
fn stuck() -> Chart {
    let hook = r#"
{{ if .Values.stuck }}
apiVersion: v1
kind: Pod
metadata: {name: hook, annotations: {helm.sh/hook: "pre-install,pre-upgrade,pre-rollback,pre-delete", dev.slipway/pod: never-ready}}
spec: {restartPolicy: Never, containers: [{name: hook, image: "registry.example/hook:1"}]}
{{ end }}
"#;
    web().file("templates/hook.yaml", hook)
}

#[tokio::test]
async fn a_release_whose_writer_was_killed_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let helm = PlainHelm::new();
    let chart = helm.file("stuck.tgz", &stuck());
    let good = request(11, &stuck(), json!({}));
    let release = &good.release;
    kubectl(&["create", "namespace", &release.namespace]);
    let begin = ["upgrade", "--install", "app", &chart, "--set", "stuck=true"];

    let record = helm
        .kill_when(&*target, release, ReleaseStatus::PendingInstall, &begin)
        .await;
    assert!(!record.ever_deployed && record.is_absent());
    let told = target.recover(release, record.revision).await.unwrap();
    assert!(
        told.contains("pending-install") && told.contains("deleted"),
        "{told}"
    );
    assert_eq!(target.record(release).await.unwrap(), None);
    assert_eq!(target.apply(&good).await.unwrap().revision, 1);

    helm.kill_when(&*target, release, ReleaseStatus::PendingUpgrade, &begin)
        .await;
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
        (record.revision, record.status, record.is_absent()),
        (2, ReleaseStatus::Failed, false)
    );
    assert!(
        target
            .recover(release, 2)
            .await
            .unwrap()
            .contains("nothing to recover")
    );

    let said = helm
        .terminate_when(&*target, release, ReleaseStatus::PendingUpgrade, &begin)
        .await;
    assert!(
        said.ends_with("Error: UPGRADE FAILED: context canceled\n"),
        "{said}"
    );
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!((record.revision, record.status), (3, ReleaseStatus::Failed));

    // Revision 2 has the hook, so going back to it hangs before the change.
    helm.kill_when(
        &*target,
        release,
        ReleaseStatus::PendingRollback,
        &["rollback", "app", "2"],
    )
    .await;
    let told = target.recover(release, 4).await.unwrap();
    assert!(told.contains("pending-rollback"), "{told}");
    assert_eq!(target.apply(&good).await.unwrap().revision, 5);
    kubectl(&[
        "-n",
        &release.namespace,
        "delete",
        "pod/hook",
        "--ignore-not-found",
    ]);
    remove(&*target, 11).await;
    kubectl(&["delete", "namespace", &release.namespace, "--wait=false"]);
    until_gone(release);
}

#[tokio::test]
async fn what_is_uninstalled_or_was_never_deployed_is_rendered_as_the_install_that_it_will_be() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let helm = PlainHelm::new();
    let chart = helm.file("stuck.tgz", &stuck());
    let wanted = request(41, &stuck(), json!({}));
    let release = &wanted.release;
    kubectl(&["create", "namespace", &release.namespace]);
    // The job and its plan take it for the same.
    let is_install = async || {
        let manifest = target.check(&wanted).await.unwrap().manifest;
        let is_install = manifest.contains("upgrade: \"false\"");
        let asked = PreviewRequest {
            release: &wanted,
            secret_values: &[],
        };
        assert_eq!(target.preview(&asked).await.unwrap().exists, !is_install);
        is_install
    };

    helm.run(release, &["install", "app", &chart]);
    assert!(!is_install().await);
    helm.run(release, &["uninstall", "app", "--keep-history"]);
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.is_absent()),
        (ReleaseStatus::Uninstalled, true)
    );
    assert!(is_install().await);
    assert_eq!(target.apply(&wanted).await.unwrap().revision, 2);
    assert_eq!(read(release, "configmap/facts")["data"]["upgrade"], "false");

    // With a hook that hangs, an uninstall is begun and not done.
    helm.run(
        release,
        &["upgrade", "app", &chart, "--set", "stuck=true", "--no-hooks"],
    );
    let record = helm
        .kill_when(
            &*target,
            release,
            ReleaseStatus::Uninstalling,
            &["uninstall", "app"],
        )
        .await;
    assert!(record.is_absent());
    assert!(is_install().await);
    let told = target.recover(release, record.revision).await.unwrap();
    assert!(told.contains("to be repeated"), "{told}");
    remove(&*target, 41).await;
    assert_eq!(target.record(release).await.unwrap(), None);

    // A first install that failed.
    let broken = Chart::new("web").file(
        "templates/all.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: zzz, labels: {bad: \"not a label!\"}}\n",
    );
    let broken = helm.file("broken.tgz", &broken);
    let failed = helm.output(release, &["install", "app", &broken]);
    assert!(!failed.status.success());
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!((record.status, record.is_absent()), (ReleaseStatus::Failed, true));
    assert!(is_install().await);
    let told = target.recover(release, 1).await.unwrap();
    assert!(told.contains("never deployed"), "{told}");
    assert_eq!(target.apply(&wanted).await.unwrap().revision, 1);
    assert_eq!(read(release, "configmap/facts")["data"]["upgrade"], "false");
    target
        .mark_failed(release, 1, "it did not become ready")
        .await
        .unwrap();
    let record = target.record(release).await.unwrap().unwrap();
    assert_eq!((record.status, record.is_absent()), (ReleaseStatus::Failed, true));
    remove(&*target, 41).await;
    kubectl(&["delete", "namespace", &release.namespace, "--wait=false"]);
    until_gone(release);
}
