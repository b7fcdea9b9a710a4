//! What the tests on a real API server share.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use serde_json::Value;
use slipway_ports::{
    FailureClass, Hidden, Hook, HookEvent, HookRun, HookSource, HookState, ObjectReference, Release, Target,
};

use crate::support::{Chart, cluster_target, kubeconfig};

/// How long one look may wait for a change, and how many looks there are at most.
pub(crate) const HOLD: Duration = Duration::from_secs(3);
pub(crate) const LOOKS: usize = 20;

/// How long a hook may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A Deployment, its Service, a configuration, a secret, a hook and a test.
pub(crate) const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-web
  labels: &labels {app.kubernetes.io/instance: {{ .Release.Name }}, app: web}
spec:
  replicas: {{ .Values.replicas | default 1 }}
  selector: {matchLabels: *labels}
  template:
    metadata:
      labels: *labels
      annotations: {dev.slipway/pod: {{ .Values.pod | default "run" }}, dev.slipway/ready-after: 300ms}
    spec:
      containers:
        - name: web
          image: registry.example/web:{{ .Values.tag | default "1" }}
          resources: {requests: {nvidia.com/gpu: {{ .Values.gpus | default 0 }}}, limits: {nvidia.com/gpu: {{ .Values.gpus | default 0 }}}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}-web, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: facts}
data: {upgrade: "{{ .Release.IsUpgrade }}", size: "3", system: "{{ (lookup "v1" "Namespace" "" "kube-system").metadata.name }}"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: {{ .Values.key | default "none" | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: greeted, annotations: {helm.sh/hook: post-install}}
---
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-check, annotations: {helm.sh/hook: test}}
spec: {restartPolicy: Never, containers: [{name: check, image: "registry.example/check:1"}]}
"#;

pub(crate) fn web() -> Chart {
    Chart::new("web").file("templates/all.yaml", WEB)
}

pub(crate) async fn target(folder: &Path) -> Arc<dyn Target> {
    cluster_target(folder, None, None).await
}

pub(crate) fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new(xtask::tools::kubectl().unwrap())
        .arg("--kubeconfig")
        .arg(kubeconfig())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn read(release: &Release, what: &str) -> Value {
    serde_json::from_str(&kubectl(&["-n", &release.namespace, "get", what, "-o", "json"])).unwrap()
}

/// Watches until everything is ready.
pub(crate) async fn until_ready(target: &dyn Target, release: &Release, objects: &[ObjectReference]) {
    for _ in 0..LOOKS {
        let observation = target.observe(release, objects, &[], HOLD).await.unwrap();
        assert_eq!(observation.failed, None);
        if observation.ready {
            return;
        }
    }
    panic!("{release} does not become ready");
}

/// Watches until something waits for that reason.
pub(crate) async fn until_waiting(
    target: &dyn Target,
    release: &Release,
    objects: &[ObjectReference],
    reason: &str,
) -> (String, String) {
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        let observation = target.observe(release, objects, &[], HOLD).await.unwrap();
        assert!(!observation.ready);
        match observation.waiting.first() {
            Some(wait) if wait.reason == reason => {
                return (wait.to_string(), observation.diagnosis.told(&Hidden::default()));
            }
            other => seen.push(format!("{other:?}")),
        }
    }
    panic!("never waits for {reason}: {seen:#?}");
}

pub(crate) fn until_gone(release: &Release) {
    kubectl(&[
        "wait",
        "--for=delete",
        "--timeout=60s",
        &format!("namespace/{}", release.namespace),
    ]);
}

/// Runs the hooks of an event as a job does, until all have succeeded or one has not; what they said, or why.
pub(crate) async fn run_hooks(
    target: &dyn Target,
    release: &Release,
    event: HookEvent,
    source: HookSource<'_>,
    patience: Duration,
) -> Result<String, String> {
    let set = target.hooks(release, event, source).await.unwrap();
    let mut told = set.note;
    for (number, hook) in set.hooks.iter().enumerate() {
        let run = HookRun {
            release,
            job: "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap(),
            fence: 7,
            deployment: None,
            event,
            number,
        };
        // Right after a definition is established its storage may still be in the making, which a job tries again.
        let mut made = target.create_hook(run, hook).await;
        for _ in 0..1_000 {
            match &made {
                Err(error) if error.class() == FailureClass::Transient => {
                    made = target.create_hook(run, hook).await;
                }
                _ => break,
            }
        }
        let made = made.unwrap();
        let again = target.create_hook(run, hook).await.unwrap();
        assert_eq!(made, again, "a repeat finds what it made");
        let known = Hook {
            manifest: String::new(),
            ..hook.clone()
        };
        let found = target.find_hook(run, &known).await.unwrap();
        assert_eq!(found.as_ref(), Some(&made), "so does who only knows of it");
        let never = HookRun { number: 99, ..run };
        assert_eq!(target.find_hook(never, &known).await.unwrap(), None);
        match target.observe_hook(release, &made, patience).await.unwrap() {
            HookState::Succeeded { log } => told = format!("{told}{}: Succeeded\n{log}\n", made.object),
            HookState::Failed { reason, log } => return Err(format!("{}: {reason}\n{log}", made.object)),
            HookState::Running { wait, .. } => return Err(wait.to_string()),
        }
    }
    Ok(told)
}
