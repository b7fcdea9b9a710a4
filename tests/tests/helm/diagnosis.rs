//! What the cluster itself says about pods and claims that do not come up: its quotas, its admission, its scheduler.

#![expect(
    clippy::needless_pass_by_value,
    reason = "values are written where they are used"
)]

use serde_json::json;

use crate::{
    cluster::{kubectl, target, until_ready, until_waiting},
    support::{Chart, release, remove, request},
};

/// A workload and whatever stands in its way.
const APP: &str = r#"
{{ with .Values.quota }}
apiVersion: v1
kind: ResourceQuota
metadata: {name: small}
spec: {hard: {{ . | toJson }}}
---
{{ end }}
{{ with .Values.claim }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {{ . | toJson }}
---
{{ end }}
apiVersion: apps/v1
kind: {{ .Values.kind | default "Deployment" }}
metadata: {name: app}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app, tag: {{ .Values.tag | default "a" }}}}
    spec: {{ .Values.pod | toJson }}
"#;

fn chart() -> Chart {
    Chart::new("app").file("templates/app.yaml", APP)
}

fn pod(more: serde_json::Value) -> serde_json::Value {
    let mut pod = json!({"containers": [{"name": "main", "image": "registry.example/app:1"}]});
    pod.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    pod
}

fn asks(resources: serde_json::Value) -> serde_json::Value {
    pod(
        json!({"containers": [{"name": "main", "image": "registry.example/app:1", "resources": {"requests": resources, "limits": resources}}]}),
    )
}

#[tokio::test]
async fn what_the_cluster_refuses_or_lacks_is_named_with_what_would_help() {
    let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    let claim = json!({"storageClassName": "absent", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let quota = json!({"requests.cpu": "1"});
    let cases = [
        (
            81,
            json!({"pod": asks(json!({"cpu": "2"})), "quota": quota}),
            "quota exceeded",
            vec![
                "quota small",
                "requested: requests.cpu=2",
                "limited: requests.cpu=1",
                "ResourceQuota raised",
            ],
        ),
        (
            82,
            json!({"pod": asks(json!({"cpu": "2"})), "quota": quota, "kind": "StatefulSet"}),
            "quota exceeded",
            vec!["quota small", "limited: requests.cpu=1"],
        ),
        (
            83,
            json!({"pod": asks(json!({"nvidia.com/gpu": "12"}))}),
            "unschedulable",
            vec!["needs nvidia.com/gpu 12, and no node has more than 8"],
        ),
        (
            84,
            json!({"pod": asks(json!({"example.com/fpga": "1"}))}),
            "unschedulable",
            vec!["needs example.com/fpga 1, and no node has any"],
        ),
        (
            85,
            json!({"pod": pod(json!({"nodeSelector": {"disk": "none"}}))}),
            "unschedulable",
            vec!["nodes do not match its node selector disk=none"],
        ),
        (
            86,
            json!({"pod": pod(json!({"volumes": volume})), "claim": claim}),
            "unbound claim",
            vec!["ProvisioningFailed", "storage class absent does not exist"],
        ),
        (
            87,
            json!({"pod": pod(json!({"volumes": volume}))}),
            "unbound claim",
            vec!["claim data does not exist"],
        ),
        (
            88,
            json!({"pod": pod(json!({"serviceAccountName": "nobody"}))}),
            "pod creation refused",
            vec!["nobody", "create the ServiceAccount"],
        ),
    ];
    let mut running = tokio::task::JoinSet::new();
    for (number, values, reason, said) in cases {
        running.spawn(async move {
            let folder = tempfile::tempdir().unwrap();
            let target = target(folder.path()).await;
            let request = request(number, &chart(), values);
            let applied = target.apply(&request).await.unwrap();
            let (wait, diagnosis) = until_waiting(&*target, &request.release, &applied.objects, reason).await;
            for words in said {
                assert!(wait.contains(words), "{wait}");
            }
            assert!(diagnosis.len() <= 4096, "{wait}\n{diagnosis}");
            remove(&*target, number).await;
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn pods_that_admission_refuses_say_which_rule_they_break() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let first = request(89, &chart(), json!({"pod": pod(json!({}))}));
    let applied = target.apply(&first).await.unwrap();
    until_ready(&*target, &first.release, &applied.objects).await;
    let namespace = release(89).namespace;
    kubectl(&[
        "label",
        "namespace",
        &namespace,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let second = request(89, &chart(), json!({"pod": pod(json!({})), "tag": "b"}));
    let applied = target.apply(&second).await.unwrap();
    let (wait, _) = until_waiting(&*target, &second.release, &applied.objects, "admission refused").await;
    for words in [
        "Deployment/app",
        "violates PodSecurity \"restricted:latest\"",
        "allowPrivilegeEscalation",
        "security contexts",
    ] {
        assert!(wait.contains(words), "{wait}");
    }
    remove(&*target, 89).await;
}
