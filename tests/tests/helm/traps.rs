//! What Helm would let happen, on a real API server: objects of others, what failed revisions leave, claims, and
//! hooks that need the chart's own definitions.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::{CrdPolicy, ImmutablePolicy};
use slipway_ports::{FailureClass, HookEvent, HookSource, UninstallRequest};

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
    let wanted = target.rollback_target(&release(52), None).await.unwrap();
    let labels = std::collections::BTreeMap::new();
    let back = target
        .rollback(&release(52), wanted, &labels, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(there(), ["base", "kept"]);
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
    let mut next = request(52, &good, json!({}));
    next.leftovers = back
        .objects
        .iter()
        .map(|object| slipway_ports::ObjectReference {
            name: "kept".to_owned(),
            ..object.clone()
        })
        .collect();
    target.apply(&next).await.unwrap();
    assert_eq!(there(), ["base"]);
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
