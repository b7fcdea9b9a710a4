//! Volume claims of StatefulSets on a real API server, with the controller that makes a set their owner.

use serde_json::{Value, json};
use slipway_model::ImmutablePolicy;
use slipway_ports::RollbackRequest;
use std::time::Duration;

use crate::{
    cluster::{kubectl, read, target, until_gone},
    support::{Chart, release, remove, request},
};

const SET: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
{{- if .Values.replicas }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: own}
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: {{ .Values.replicas }}
  podManagementPolicy: Parallel
  serviceName: {{ .Values.service }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "registry.example/db:1"}]}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}
{{- end }}
"#;

const NUMBER: u32 = 56;
const CLAIMS: [&str; 2] = ["pvc/data-db-0", "pvc/data-db-1"];

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn owners(what: &str) -> Vec<String> {
    let claim = read(&release(NUMBER), what);
    let owners = claim["metadata"]["ownerReferences"].as_array().cloned();
    owners
        .unwrap_or_default()
        .iter()
        .map(|owner| owner["uid"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the controller has made the set the owner of `claims`; the set's UID.
fn until_owned(claims: &[&str]) -> String {
    let namespace = release(NUMBER).namespace;
    let set = uid(&read(&release(NUMBER), "statefulset/db"));
    let owner = format!("jsonpath={{.metadata.ownerReferences[0].uid}}={set}");
    for condition in ["create", &owner] {
        let condition = format!("--for={condition}");
        let waiting = ["-n", &namespace, "wait", &condition, "--timeout=60s"];
        kubectl(&[&waiting, claims].concat());
    }
    set
}

/// That the claims are the same, are not being deleted, and do not belong to what is gone: the garbage collector would
/// take them.
fn assert_kept(uids: &[String; 2], gone: &str) {
    for (claim, was) in CLAIMS.iter().zip(uids) {
        let live = read(&release(NUMBER), claim);
        assert_eq!(uid(&live), *was, "{claim}");
        assert_eq!(live["metadata"]["deletionTimestamp"], Value::Null, "{claim}");
        assert!(!owners(claim).contains(&gone.to_owned()), "{claim}: {live}");
    }
}

fn names(of: &str) -> String {
    kubectl(&["-n", &release(NUMBER).namespace, "get", of, "-o", "name"])
}

#[tokio::test]
async fn claims_outlive_a_set_whose_chart_says_that_they_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let chart = Chart::new("c").file("templates/set.yaml", SET);
    let wanted = |replicas: u32, service: &str| {
        request(NUMBER, &chart, json!({"replicas": replicas, "service": service}))
    };
    target.apply(&wanted(2, "a")).await.unwrap();
    let first = until_owned(&CLAIMS);
    let uids = CLAIMS.map(|claim| uid(&read(&release(NUMBER), claim)));

    // Made again for a field that cannot change. The new one is their owner then.
    let mut other = wanted(2, "b");
    other.immutable = ImmutablePolicy::Recreate;
    target.apply(&other).await.unwrap();
    assert_kept(&uids, &first);
    let second = until_owned(&CLAIMS);
    assert_ne!(first, second);

    // Nothing stays on a set that stays; one that lost a pod still owns that one's claim.
    target.apply(&wanted(1, "b")).await.unwrap();
    let live = read(&release(NUMBER), "statefulset/db");
    assert_eq!(
        live["metadata"]["annotations"]["helm.sh/resource-policy"],
        Value::Null
    );
    let policy = &live["spec"]["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(policy["whenDeleted"], "Delete");
    assert_eq!(owners(CLAIMS[1]), std::slice::from_ref(&second));

    // An upgrade that does not have it any more, nor a claim that was marked as somebody else's.
    let namespace = release(NUMBER).namespace;
    let mark = |owner: &str| {
        let mark = format!("meta.helm.sh/release-name={owner}");
        let unkept = "helm.sh/resource-policy-";
        kubectl(&[
            "-n",
            &namespace,
            "annotate",
            "pvc/own",
            &mark,
            unkept,
            "--overwrite",
        ])
    };
    mark("other");
    target.apply(&wanted(0, "b")).await.unwrap();
    assert_eq!(
        read(&release(NUMBER), "pvc/own")["metadata"]["deletionTimestamp"],
        Value::Null
    );
    mark("app");
    assert_eq!(names("statefulset"), "");
    assert_kept(&uids, &second);

    // It comes back with a rollback, and goes with another.
    let back = |revision: u32, newest_before: u32| RollbackRequest {
        release: release(NUMBER),
        revision,
        newest_before,
        labels: std::collections::BTreeMap::new(),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(60),
    };
    let newest = target.record(&release(NUMBER)).await.unwrap().unwrap().revision;
    target.rollback(&back(newest - 1, newest)).await.unwrap();
    // Nor does anything stay of who died in the middle of taking its claims from it.
    let manifest = folder.path().join("retain.yaml");
    let retain = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain}}}";
    std::fs::write(&manifest, retain).unwrap();
    let manager = ["--server-side", "--force-conflicts", "--field-manager=slipway"];
    let applied = ["-n", &namespace, "apply", "-f", manifest.to_str().unwrap()];
    kubectl(&[&applied[..], &manager].concat());
    target.apply(&wanted(1, "b")).await.unwrap();
    let third = until_owned(&CLAIMS[..1]);
    target.rollback(&back(newest, newest + 2)).await.unwrap();
    assert_eq!(names("statefulset"), "");
    assert_kept(&uids, &third);

    // And the whole release.
    target.apply(&wanted(2, "b")).await.unwrap();
    let fourth = until_owned(&CLAIMS);
    remove(&*target, NUMBER).await;
    assert_eq!(names("statefulset"), "");
    assert_kept(&uids, &fourth);

    kubectl(&[&["-n", &namespace, "delete", "pvc/own"], &CLAIMS[..]].concat());
    remove(&*target, NUMBER).await;
    until_gone(&release(NUMBER));
}
