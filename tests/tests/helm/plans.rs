//! Plans and drift on a real API server.

use std::process::Command;

use serde_json::{Value, json};
use slipway_model::{DangerKind, DriftIgnore, DriftKind, ImmutablePolicy, ObjectChange, ObjectRole};
use slipway_ports::{AppliedState, PreviewRequest, ReleasePreview, ReleaseRequest, SecretString, Target};

use crate::{
    cluster::{kubectl, read, target, until_gone},
    support::{Chart, deployment, kubeconfig, release, remove, request},
};

/// Objects of every kind that matters here.
const ALL: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Values.app | default "web" }}}}
  template:
    metadata: {labels: {app: {{ .Values.app | default "web" }}}}
    spec:
      containers:
        - name: web
          image: registry.example/web:{{ .Values.tag }}
          env: [{name: TOKEN, value: {{ .Values.token | quote }}}]
          volumeMounts: [{name: facts, mountPath: /facts}]
      volumes: [{name: facts, configMap: {name: facts, defaultMode: 0755}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: {{ .Values.type }}, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: facts}
data: {packed: {{ printf "user:%s" .Values.token | b64enc }}, same: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: {{ .Values.token | quote }}, fixed: "for-ever-fixed"}
{{ if .Values.claim }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}
{{ end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: before, annotations: {helm.sh/hook: pre-upgrade}}
"#;

fn chart() -> Chart {
    Chart::new("all").file("templates/all.yaml", ALL)
}

fn wanted(number: u32, over: &Value) -> ReleaseRequest {
    let mut values =
        json!({"replicas": 1, "tag": "1", "type": "ClusterIP", "token": "first-token", "claim": true});
    for (key, value) in over.as_object().unwrap() {
        values[key] = value.clone();
    }
    let mut request = request(number, &chart(), values);
    request
        .labels
        .insert("slipway-deployment".to_owned(), deployment(number).to_string());
    request
}

async fn plan(target: &dyn Target, request: &ReleaseRequest, token: &str) -> ReleasePreview {
    let mut request = request.clone();
    request.secrets = vec![SecretString::from(token.to_owned())];
    let asked = PreviewRequest {
        release: &request,
        secret_values: &["/token".to_owned()],
    };
    let preview = target.preview(&asked).await.unwrap();
    let all = format!("{preview:?}");
    for secret in [
        "first-token",
        "second-token",
        "Zmlyc3QtdG9rZW4",
        "c2Vjb25kLXRva2Vu",
        "for-ever",
        "Zm9yLWV2ZXI",
    ] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    preview
}

/// Uninstalls; the claim, which no uninstall deletes, and with it the namespace go when somebody asks for them by name.
async fn remove_with_claim(target: &dyn Target, number: u32) {
    remove(target, number).await;
    let namespace = release(number).namespace;
    kubectl(&["-n", &namespace, "delete", "persistentvolumeclaim/data"]);
    remove(target, number).await;
    until_gone(&release(number));
}

fn changes(preview: &ReleasePreview) -> Vec<String> {
    let word = |change: ObjectChange| serde_json::to_value(change).unwrap().as_str().unwrap().to_owned();
    let mut found: Vec<String> = preview
        .objects
        .iter()
        .map(|object| format!("{} {}/{}", word(object.change), object.kind, object.name))
        .collect();
    found.sort();
    found
}

fn object<'p>(preview: &'p ReleasePreview, kind: &str) -> &'p slipway_model::ObjectPlan {
    preview.objects.iter().find(|object| object.kind == kind).unwrap()
}

/// What a plan says that it would do to the objects that are there.
async fn planned(target: &dyn Target, request: &ReleaseRequest) -> (Vec<String>, Vec<String>) {
    let preview = plan(target, request, "unused-secret").await;
    let mut changes = changes(&preview);
    changes.retain(|line| !line.starts_with("unchanged "));
    (changes, preview.refused)
}

#[tokio::test]
async fn a_plan_knows_what_a_failed_upgrade_left_and_what_adoption_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let settings = |name: &str, color: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{color: {color}}}\n"
        )
    };
    let claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}\n";
    let bad =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999999}]}\n";
    let chart = |text: &str| Chart::new("c").file("templates/all.yaml", text);
    let good = chart(&settings("base", "one"));
    let first = request(73, &good, json!({}));
    target.apply(&first).await.unwrap();
    let broken = settings("base", "one") + &settings("orphan", "one") + claim + bad;
    let broken = request(73, &chart(&broken), json!({}));
    target.apply(&broken).await.unwrap_err();

    // The same chart as the one that is deployed, and yet something goes; the claim does not.
    let gone = (vec!["delete ConfigMap/orphan".to_owned()], Vec::new());
    assert_eq!(planned(&*target, &first).await, gone);
    let removed = target.apply(&first).await.unwrap().removed;
    assert_eq!(
        removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["ConfigMap/orphan"]
    );
    assert_eq!(planned(&*target, &first).await, (Vec::new(), Vec::new()));

    // A field that somebody has set since.
    let namespace = release(73).namespace;
    let edit = r#"{"data": {"color": "edited"}}"#;
    kubectl(&[
        "-n",
        &namespace,
        "patch",
        "configmap/base",
        "--type=merge",
        "-p",
        edit,
    ]);
    let mut second = request(73, &chart(&settings("base", "newer")), json!({}));
    let (changes, refused) = planned(&*target, &second).await;
    assert_eq!(changes, ["change ConfigMap/base"]);
    assert!(
        refused.len() == 1 && refused[0].contains(".data.color"),
        "{refused:?}"
    );
    second.adopt = true;
    let taken = (vec!["change ConfigMap/base".to_owned()], Vec::new());
    assert_eq!(planned(&*target, &second).await, taken);
    // What it takes over, it does not let pass.
    let odd = settings("base", "newer").replace("\ndata:", "\ndato:");
    let mut third = request(73, &chart(&odd), json!({}));
    third.adopt = true;
    let (_, refused) = planned(&*target, &third).await;
    assert!(refused.len() == 1 && refused[0].contains("dato"), "{refused:?}");
    remove_with_claim(&*target, 73).await;
}

/// Everything in a namespace that a look could touch, with who wrote it and when, but without what the cluster's own
/// controllers report on it: they go on while somebody looks, so a resource version says nothing.
fn written(number: u32) -> Vec<Value> {
    let namespace = release(number).namespace;
    let listed = kubectl(&[
        "-n",
        &namespace,
        "get",
        "deploy,svc,cm,secret,pvc,hpa",
        "--show-managed-fields",
        "-o",
        "json",
    ]);
    let mut listed: Value = serde_json::from_str(&listed).unwrap();
    let mut objects: Vec<Value> = listed["items"].as_array_mut().unwrap().drain(..).collect();
    for object in &mut objects {
        object.as_object_mut().unwrap().remove("status");
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        if let Some(Value::Array(managers)) = metadata.get_mut("managedFields") {
            managers.retain(|manager| {
                manager["manager"] != "kube-controller-manager" && manager["subresource"] != "status"
            });
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("deployment.kubernetes.io/revision");
        }
    }
    objects
}

#[tokio::test]
async fn a_plan_says_what_an_apply_would_do_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let first = wanted(70, &json!({}));
    // Before there is a namespace.
    let preview = plan(&*target, &first, "first-token").await;
    assert_eq!((preview.exists, preview.revision), (false, None));
    assert_eq!(
        changes(&preview),
        [
            "create ConfigMap/facts",
            "create Deployment/web",
            &format!("create Namespace/{}", release(70).namespace),
            "create PersistentVolumeClaim/data",
            "create Secret/keys",
            "create Service/web",
        ]
    );
    assert!(preview.notes[0].contains("not there yet"), "{:?}", preview.notes);
    target.apply(&first).await.unwrap();

    // Defaults and everything that the server adds are no change.
    let before = written(70);
    let preview = plan(&*target, &first, "first-token").await;
    assert_eq!((preview.exists, preview.revision), (true, Some(1)));
    let changed: Vec<String> = changes(&preview)
        .into_iter()
        .filter(|line| !line.starts_with("unchanged "))
        .collect();
    assert_eq!(changed, ["run ConfigMap/before"]);
    assert_eq!(
        preview
            .objects
            .iter()
            .filter(|object| object.role == ObjectRole::Hook)
            .count(),
        1
    );

    // Every kind of change at once.
    let second = wanted(
        70,
        &json!({"replicas": 0, "tag": "2", "type": "NodePort", "token": "second-token", "claim": false}),
    );
    let preview = plan(&*target, &second, "second-token").await;
    assert_eq!(
        changes(&preview),
        [
            "change ConfigMap/facts",
            "change Deployment/web",
            "change Secret/keys",
            "change Service/web",
            "run ConfigMap/before",
            "unchanged PersistentVolumeClaim/data",
        ]
    );
    let diff = object(&preview, "Deployment").diff.clone().unwrap();
    for line in [
        "-  replicas: 1",
        "+  replicas: 0",
        "registry.example/web:2",
        "(hidden, changed)",
    ] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert!(!diff.contains("managedFields") && !diff.contains("uid"), "{diff}");
    let secret = object(&preview, "Secret").diff.clone().unwrap();
    assert!(
        secret.contains("token: (hidden, changed)") && secret.contains("fixed: (hidden)"),
        "{secret}"
    );
    let mut dangers: Vec<DangerKind> = preview
        .objects
        .iter()
        .flat_map(|object| object.dangers.iter().map(|danger| danger.kind))
        .collect();
    dangers.sort();
    assert_eq!(
        dangers,
        [DangerKind::Exposure, DangerKind::ScaledToZero],
        "a claim stays"
    );

    // An immutable field: refused, or replaced where that is allowed.
    let mut third = wanted(70, &json!({"app": "other"}));
    let preview = plan(&*target, &third, "first-token").await;
    assert_eq!(object(&preview, "Deployment").change, ObjectChange::Replace);
    assert!(
        preview.refused.len() == 1 && preview.refused[0].contains("set immutable: recreate"),
        "{:?}",
        preview.refused
    );
    third.immutable = ImmutablePolicy::Recreate;
    let preview = plan(&*target, &third, "first-token").await;
    assert_eq!(preview.refused, [""; 0]);
    let replaced = object(&preview, "Deployment");
    assert_eq!(replaced.dangers[0].kind, DangerKind::Interruption);
    assert!(replaced.diff.as_ref().unwrap().contains("other"));

    // What the server would refuse.
    let fourth = wanted(70, &json!({"type": "Nonsense"}));
    let preview = plan(&*target, &fourth, "first-token").await;
    assert!(
        preview.refused[0].contains("Service/web") && preview.refused[0].contains("Nonsense"),
        "{:?}",
        preview.refused
    );

    assert_eq!(written(70), before, "a plan changes nothing");
    remove_with_claim(&*target, 70).await;
}

async fn drift(target: &dyn Target, number: u32, revision: u32, ignore: &[DriftIgnore]) -> Vec<String> {
    let release = release(number);
    let applied = AppliedState {
        release: &release,
        revision: Some(revision),
        deployment: &deployment(number).to_string(),
        ignore,
    };
    let before = written(number);
    let found = target.drift(&applied).await.unwrap();
    assert_eq!(written(number), before, "a look changes nothing");
    let all = format!("{found:?}");
    assert!(!all.contains("not-to-be-told"), "{all}");
    let uncompared = found
        .uncompared
        .iter()
        .map(|one| format!("uncompared {}: {}", one.object, one.reason));
    let mut told: Vec<String> = found
        .objects
        .iter()
        .map(|object| {
            let fields: Vec<String> = object
                .fields
                .iter()
                .map(|field| format!("{}={}", field.path, field.managers.join("+")))
                .collect();
            let kind = match object.drift {
                DriftKind::Missing => "missing",
                DriftKind::Changed => "changed",
                DriftKind::Leftover => "leftover",
                DriftKind::Record => "record",
            };
            format!("{kind} {}/{} {}", object.kind, object.name, fields.join(" "))
        })
        .collect();
    told.extend(uncompared);
    told
}

#[tokio::test]
async fn an_object_that_admission_refuses_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let chart = Chart::new("c").file(
        "templates/all.yaml",
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: facts}\ndata: {word: not-to-be-told}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n",
    );
    let mut first = request(72, &chart, json!({}));
    let own = deployment(72).to_string();
    first.labels.insert("slipway-deployment".to_owned(), own);
    target.apply(&first).await.unwrap();
    let namespace = release(72).namespace;

    // A policy that is younger than what it is about, and repeats what it does not like.
    let policy = format!(
        "---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {namespace}}}\nspec:\n  matchConstraints: {{resourceRules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}}]}}\n  validations: [{{expression: 'false', messageExpression: \"'no ' + object.data.word\"}}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {namespace}}}\nspec:\n  policyName: {namespace}\n  validationActions: [Deny]\n  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}\n"
    );
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, policy).unwrap();
    kubectl(&["create", "-f", file.to_str().unwrap()]);
    kubectl(&["-n", &namespace, "delete", "service/web"]);
    // The API server takes a moment until it keeps to it.
    let mut told = Vec::new();
    for _ in 0..200 {
        told = drift(&*target, 72, 1, &[]).await;
        if told.len() > 1 {
            break;
        }
    }
    assert_eq!(
        told,
        [
            "missing Service/web ",
            "uncompared ConfigMap/facts: the cluster would not take it again as it was applied (422); a plan of the deployment says why",
        ]
    );
    kubectl(&["delete", "-f", file.to_str().unwrap()]);
    remove(&*target, 72).await;
}

#[tokio::test]
async fn what_people_change_is_drift_and_what_controllers_do_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    target.apply(&wanted(71, &json!({}))).await.unwrap();
    let namespace = release(71).namespace;
    let none = [""; 0];
    assert_eq!(drift(&*target, 71, 1, &[]).await, none, "defaults are no drift");

    // An autoscaler does its work: the controller manager scales to its minimum.
    kubectl(&[
        "-n",
        &namespace,
        "autoscale",
        "deployment/web",
        "--min=2",
        "--max=3",
        "--cpu=80%",
    ]);
    kubectl(&[
        "-n",
        &namespace,
        "wait",
        "--for=jsonpath={.spec.replicas}=2",
        "--timeout=60s",
        "deployment/web",
    ]);
    assert_eq!(
        drift(&*target, 71, 1, &[]).await,
        none,
        "{}",
        read(&release(71), "deployment/web")
    );
    kubectl(&["-n", &namespace, "delete", "hpa/web"]);

    // People do theirs.
    kubectl(&["-n", &namespace, "scale", "deployment/web", "--replicas=3"]);
    kubectl(&[
        "-n",
        &namespace,
        "set",
        "image",
        "deployment/web",
        "web=registry.example/web:hot",
    ]);
    kubectl(&[
        "-n",
        &namespace,
        "patch",
        "secret/keys",
        "-p",
        "{\"data\":{\"token\":\"eA==\"}}",
    ]);
    kubectl(&["-n", &namespace, "delete", "configmap/facts"]);
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(
        drift(&*target, 71, 1, &[]).await,
        [
            "changed Secret/keys /data/token=kubectl-patch",
            "missing ConfigMap/facts ",
            &format!("changed Deployment/web /spec/replicas=kubectl {image}=kubectl-set"),
        ]
    );
    // Rules and annotations leave alone what they name.
    let rule = |kind: &str, paths: &[&str]| DriftIgnore {
        kind: Some(kind.to_owned()),
        name: None,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let rules = [rule("Deployment", &["/spec/replicas"]), rule("ConfigMap", &[])];
    kubectl(&[
        "-n",
        &namespace,
        "annotate",
        "secret/keys",
        "slipway.dev/drift-ignore=/data/token",
    ]);
    assert_eq!(
        drift(&*target, 71, 1, &rules).await,
        [format!("changed Deployment/web {image}=kubectl-set")]
    );
    kubectl(&[
        "-n",
        &namespace,
        "annotate",
        "deployment/web",
        "slipway.dev/drift-ignore=true",
    ]);
    assert_eq!(drift(&*target, 71, 1, &rules).await, none);

    // Another manager took a field over; Helm by hand wrote another revision.
    let intruder = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {namespace}}}, spec: {{selector: {{app: elsewhere}}}}}}"
    );
    let file = folder.path().join("intruder.yaml");
    std::fs::write(&file, intruder).unwrap();
    kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=intruder",
        "-f",
        file.to_str().unwrap(),
    ]);
    assert_eq!(
        drift(&*target, 71, 1, &rules).await,
        ["changed Service/web /spec/selector/app=intruder"]
    );
    let helm = std::env::var_os("SLIPWAY_HELM").map_or_else(|| xtask::tools::helm().unwrap(), Into::into);
    let rolled = Command::new(helm)
        .args([
            "rollback",
            "app",
            "1",
            "--namespace",
            &namespace,
            "--force-conflicts",
            "--kubeconfig",
        ])
        .arg(kubeconfig())
        .output()
        .unwrap();
    assert!(
        rolled.status.success(),
        "{}",
        String::from_utf8_lossy(&rolled.stderr)
    );
    assert_eq!(drift(&*target, 71, 1, &rules).await, ["record Release/app "]);

    // And what is labelled as Slipway's is found, whoever owns it.
    let mut managed = target.managed(None).await.unwrap();
    while let Some(next) = managed.next.take() {
        let page = target.managed(Some(&next)).await.unwrap();
        managed.releases.extend(page.releases);
        managed.next = page.next;
    }
    let own = deployment(71).to_string();
    assert!(
        managed
            .releases
            .iter()
            .any(|found| found.release == release(71) && found.deployment == own)
    );
    assert!(
        managed
            .namespaces
            .iter()
            .any(|found| found.name == namespace && found.deployment == own)
    );
    remove_with_claim(&*target, 71).await;
    assert_eq!(
        drift(&*target, 71, 1, &[]).await,
        ["record Release/app "],
        "the release is gone"
    );
}
