//! What Helm would let happen, on a real API server: objects of others, what failed revisions leave, claims, and
//! hooks that need the chart's own definitions.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{CrdPolicy, ImmutablePolicy};
use slipway_ports::{
    CompletionRequest, FailureClass, HookEvent, HookSource, ObjectReference, ReleaseStatus, RollbackRequest,
    UninstallRequest,
};

use crate::{
    cluster::{PATIENCE, kubectl, read, run_hooks, target},
    plain::PlainHelm,
    support::{Chart, deployment, release, remove, request},
};

fn settings(name: &str, color: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{color: {color}}}\n")
}

#[tokio::test]
async fn objects_of_others_are_taken_over_only_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let helm = PlainHelm::new();
    let chart = Chart::new("mine").file(
        "templates/all.yaml",
        &(settings("a", "ours") + &settings("b", "ours")),
    );
    let mut wanted = request(51, &chart, json!({}));
    let release = wanted.release.clone();
    kubectl(&["create", "namespace", &release.namespace]);
    kubectl(&[
        "-n",
        &release.namespace,
        "create",
        "configmap",
        "a",
        "--from-literal=color=theirs",
    ]);
    let theirs = Chart::new("theirs").file("templates/b.yaml", &settings("b", "theirs"));
    helm.run(&release, &["install", "other", &helm.file("theirs.tgz", &theirs)]);

    let refused = target.check(&wanted).await.unwrap_err();
    assert_eq!(refused.class(), FailureClass::Permanent, "{refused}");
    assert!(
        refused.to_string().contains("ConfigMap \"a\" in namespace")
            && refused.to_string().contains("was not made by Helm"),
        "{refused}"
    );
    kubectl(&["-n", &release.namespace, "delete", "configmap", "a"]);
    let refused = target.apply(&wanted).await.unwrap_err();
    assert!(
        refused.to_string().contains("ConfigMap \"b\"")
            && refused.to_string().contains("belongs to release 'other'"),
        "{refused}"
    );
    kubectl(&[
        "-n",
        &release.namespace,
        "create",
        "configmap",
        "a",
        "--from-literal=color=theirs",
    ]);
    wanted.adopt = true;
    target.check(&wanted).await.unwrap();
    let applied = target.apply(&wanted).await.unwrap();
    assert_eq!(applied.objects.len(), 2);
    for name in ["a", "b"] {
        let found = read(&release, &format!("configmap/{name}"));
        assert_eq!(found["data"]["color"], "ours");
        assert_eq!(
            found["metadata"]["annotations"]["meta.helm.sh/release-name"],
            "app"
        );
    }
    // A field that somebody has set since is theirs.
    kubectl(&[
        "-n",
        &release.namespace,
        "patch",
        "configmap",
        "a",
        "--type=merge",
        "-p",
        r#"{"data": {"color": "edited"}}"#,
    ]);
    let changed = Chart::new("mine").file(
        "templates/all.yaml",
        &(settings("a", "newer") + &settings("b", "ours")),
    );
    let mut second = request(51, &changed, json!({}));
    let refused = target.apply(&second).await.unwrap_err();
    assert_eq!(refused.class(), FailureClass::Permanent, "{refused}");
    assert!(
        refused.to_string().contains(".data.color") && refused.to_string().contains("adopt: true"),
        "{refused}"
    );
    second.adopt = true;
    target.apply(&second).await.unwrap();
    assert_eq!(read(&release, "configmap/a")["data"]["color"], "newer");
    remove(&*target, 51).await;
    helm.run(&release, &["uninstall", "other"]);
    kubectl(&["delete", "namespace", &release.namespace, "--wait=false"]);
}

/// The names of the ConfigMaps there.
fn there() -> Vec<String> {
    let namespace = release(52).namespace;
    let list = kubectl(&[
        "-n",
        &namespace,
        "get",
        "configmaps",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ]);
    let mut names: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
    names.retain(|name| name != "kube-root-ca.crt");
    names
}

#[tokio::test]
async fn what_a_failed_revision_made_goes_with_the_next_upgrade_or_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let good = Chart::new("c").file("templates/all.yaml", &settings("base", "one"));
    // Objects are applied side by side: the orphans are there before the last kind is refused.
    let bad =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999999}]}\n";
    let claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let kept = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n";
    let broken = Chart::new("c").file(
        "templates/all.yaml",
        &(settings("base", "one") + &settings("orphan", "one") + kept + claim + bad),
    );
    let first = request(52, &good, json!({}));
    target.apply(&first).await.unwrap();
    target.apply(&request(52, &broken, json!({}))).await.unwrap_err();
    assert_eq!(there(), ["base", "kept", "orphan"]);
    let mended = target.apply(&first).await.unwrap();
    let removed: Vec<String> = mended.removed.iter().map(ToString::to_string).collect();
    assert_eq!(removed, ["ConfigMap/orphan"]);
    assert_eq!(there(), ["base", "kept"]);
    read(&release(52), "persistentvolumeclaim/data");

    target.apply(&request(52, &broken, json!({}))).await.unwrap_err();
    assert_eq!(there(), ["base", "kept", "orphan"]);
    let mut rollback = RollbackRequest {
        release: release(52),
        revision: target.rollback_target(&release(52), None).await.unwrap(),
        newest_before: mended.revision + 1,
        labels: std::collections::BTreeMap::new(),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(60),
    };
    let back = target.rollback(&rollback).await.unwrap();
    assert_eq!(there(), ["base", "kept"]);
    assert_eq!(back.revision, mended.revision + 2);
    // Whoever died after Helm had done it comes again, and finds it.
    assert_eq!(target.rollback(&rollback).await.unwrap(), back);
    rollback.newest_before = back.revision;
    let again = target.rollback(&rollback).await.unwrap();
    assert_eq!(again.revision, back.revision + 1, "another intent");
    // Helm itself compares with the failed revision here, and would take its claim away.
    read(&release(52), "persistentvolumeclaim/data");

    // What a deleted record had is told by who deleted it.
    kubectl(&[
        "-n",
        &release(52).namespace,
        "annotate",
        "configmap",
        "kept",
        "meta.helm.sh/release-name=app",
        "--overwrite",
    ]);
    kubectl(&[
        "-n",
        &release(52).namespace,
        "annotate",
        "configmap",
        "kept",
        "helm.sh/resource-policy-",
    ]);
    let kept = back.objects.iter().map(|object| ObjectReference {
        name: "kept".to_owned(),
        ..object.clone()
    });
    let mut next = request(52, &good, json!({}));
    next.leftovers = kept.collect();
    target.apply(&next).await.unwrap();
    assert_eq!(there(), ["base"]);

    // A writer that dies after Helm leaves the rest to the next one: what a failed revision made, and the label.
    target.apply(&request(52, &broken, json!({}))).await.unwrap_err();
    assert_eq!(there(), ["base", "kept", "orphan"]);
    let helm = PlainHelm::new();
    helm.run(
        &release(52),
        &["upgrade", "app", &helm.file("good", &good), "--force-conflicts"],
    );
    assert_eq!(there(), ["base", "kept", "orphan"]);
    kubectl(&[
        "-n",
        &release(52).namespace,
        "label",
        "configmap/base",
        "slipway.dev/deployment-id-",
    ]);
    kubectl(&[
        "-n",
        &release(52).namespace,
        "annotate",
        "configmap/kept",
        "helm.sh/resource-policy-",
    ]);
    let completion = CompletionRequest {
        release: release(52),
        deployment: Some(deployment(52)),
        objects: back.objects,
        leftovers: next.leftovers,
        time_limit: Duration::from_secs(60),
    };
    target.complete(&completion).await.unwrap();
    assert_eq!(there(), ["base"]);
    let label = &read(&release(52), "configmap/base")["metadata"]["labels"]["slipway.dev/deployment-id"];
    assert_eq!(*label, json!(deployment(52).to_string()));
    assert_eq!(target.complete(&completion).await.unwrap(), []);
    kubectl(&[
        "-n",
        &release(52).namespace,
        "delete",
        "persistentvolumeclaim/data",
        "--wait=false",
    ]);
    remove(&*target, 52).await;
}

#[tokio::test]
async fn a_rollback_that_is_repeated_leaves_nothing_of_what_it_goes_back_from() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let frozen = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: frozen}\nimmutable: true\ndata: {by: chart}\n";
    let first = Chart::new("c").file("templates/all.yaml", frozen);
    let second = Chart::new("c").file("templates/all.yaml", &settings("newer", "one"));
    target.apply(&request(55, &first, json!({}))).await.unwrap();
    target.apply(&request(55, &second, json!({}))).await.unwrap();
    let namespace = release(55).namespace;
    let names = || {
        let list = kubectl(&["-n", &namespace, "get", "configmaps", "-o", "name"]);
        list.replace("configmap/kube-root-ca.crt\n", "")
    };
    assert_eq!(names(), "configmap/newer\n");

    // Somebody is in the way, and cannot be changed.
    let manifest = folder.path().join("frozen.yaml");
    std::fs::write(&manifest, frozen.replace("chart", "somebody")).unwrap();
    kubectl(&["-n", &namespace, "create", "-f", manifest.to_str().unwrap()]);
    let rollback = RollbackRequest {
        release: release(55),
        revision: 1,
        newest_before: 2,
        labels: std::collections::BTreeMap::new(),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(60),
    };
    target.rollback(&rollback).await.unwrap_err();
    let record = target.record(&release(55)).await.unwrap().unwrap();
    assert_eq!((record.revision, record.status), (3, ReleaseStatus::Failed));
    kubectl(&["-n", &namespace, "delete", "configmap/frozen"]);

    // Helm compares with that failed revision now, which never had what the deployed one has.
    let back = target.rollback(&rollback).await.unwrap();
    assert_eq!(names(), "configmap/frozen\n");
    assert_eq!(back.removed.len(), 1);

    // The same, whose writer dies right after Helm, and what comes then is another apply.
    target.apply(&request(55, &second, json!({}))).await.unwrap();
    kubectl(&["-n", &namespace, "create", "-f", manifest.to_str().unwrap()]);
    target.rollback(&rollback).await.unwrap_err();
    kubectl(&["-n", &namespace, "delete", "configmap/frozen"]);
    PlainHelm::new().run(&release(55), &["rollback", "app", "1"]);
    assert_eq!(names(), "configmap/frozen\nconfigmap/newer\n");
    target.apply(&request(55, &first, json!({}))).await.unwrap();
    assert_eq!(names(), "configmap/frozen\n");
    remove(&*target, 55).await;
}

#[tokio::test]
async fn a_claim_is_never_recreated_for_a_field_that_cannot_change() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [{{ .Values.mode }}], resources: {requests: {storage: 1Gi}}}\n";
    let chart = Chart::new("c").file("templates/claim.yaml", claim);
    target
        .apply(&request(53, &chart, json!({"mode": "ReadWriteOnce"})))
        .await
        .unwrap();
    let uid = read(&release(53), "persistentvolumeclaim/data")["metadata"]["uid"].clone();
    let mut second = request(53, &chart, json!({"mode": "ReadWriteMany"}));
    second.immutable = ImmutablePolicy::Recreate;
    let error = target.apply(&second).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent);
    let said = error.to_string();
    assert!(
        said.contains("PersistentVolumeClaim") && said.contains("never deleted"),
        "{said}"
    );
    assert_eq!(
        read(&release(53), "persistentvolumeclaim/data")["metadata"]["uid"],
        uid
    );
    kubectl(&[
        "-n",
        &release(53).namespace,
        "delete",
        "persistentvolumeclaim/data",
        "--wait=false",
    ]);
    remove(&*target, 53).await;
}

#[tokio::test]
async fn a_hook_may_be_of_a_kind_that_its_chart_defines() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let plural = format!("gadgets{}", std::process::id());
    let kind = plural.replacen('g', "G", 1);
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.test.slipway.dev}}\nspec:\n  group: test.slipway.dev\n  scope: Namespaced\n  names: {{kind: {kind}, plural: {plural}}}\n  versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
    );
    let hook = format!(
        "apiVersion: test.slipway.dev/v1\nkind: {kind}\nmetadata: {{name: one, annotations: {{helm.sh/hook: pre-install}}}}\n"
    );
    let chart = Chart::new("gadgets")
        .file("crds/gadgets.yaml", &definition)
        .file("templates/hook.yaml", &hook);
    let mut wanted = request(54, &chart, json!({}));
    wanted.crds = CrdPolicy::Create;
    assert!(
        target
            .check(&wanted)
            .await
            .unwrap()
            .hooks
            .contains(&HookEvent::PreInstall)
    );
    let source = HookSource::Rendered(&wanted);
    let told = run_hooks(&*target, &release(54), HookEvent::PreInstall, source, PATIENCE).await;
    assert!(told.is_ok(), "{told:?}");
    let made: Value = read(&release(54), &format!("{plural}.test.slipway.dev/one"));
    let labels = &made["metadata"]["labels"];
    assert_eq!(labels["slipway.dev/hook"], "pre-install.0");
    assert_eq!(labels["slipway.dev/release"], "app");
    // Helm has no record yet; what its hooks made goes all the same.
    let gone = UninstallRequest {
        release: release(54),
        leftovers: Vec::new(),
        namespace_of: Some(deployment(54)),
        keep_record: false,
        time_limit: Duration::from_secs(60),
    };
    target.uninstall(&gone).await.unwrap();
    remove(&*target, 54).await;
    kubectl(&["delete", "crd", &format!("{plural}.test.slipway.dev")]);
}
