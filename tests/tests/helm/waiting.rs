//! What releases wait for, and what ends the wait.

use std::time::Duration;

use serde_json::json;
use slipway_ports::{AppliedState, HookEvent, HookSource, ObjectReference, Observation, Target};

use crate::{
    cluster::{HOLD, LOOKS, PATIENCE, kubectl, read, run_hooks, target, until_waiting, web},
    support::{Chart, deployment, release, remove, request},
};

#[tokio::test]
async fn what_a_release_waits_for_is_said_with_its_reason() {
    let cases = [
        (
            2,
            json!({"pod": "image-pull"}),
            "image pull",
            "registry.example/web:1",
            "ErrImagePull",
        ),
        (
            3,
            json!({"pod": "crash"}),
            "crash loop",
            "exited with 3",
            "log of app-web-",
        ),
        (
            4,
            json!({"gpus": 99}),
            "unschedulable",
            "nvidia.com/gpu",
            "FailedScheduling",
        ),
        (5, json!({"pod": "never-ready"}), "starting", "not ready yet", ""),
    ];
    let mut running = tokio::task::JoinSet::new();
    for (number, values, reason, said, diagnosed) in cases {
        running.spawn(async move {
            let folder = tempfile::tempdir().unwrap();
            let target = target(folder.path()).await;
            let request = request(number, &web(), values);
            let applied = target.apply(&request).await.unwrap();
            let (wait, diagnosis) = until_waiting(&*target, &request.release, &applied.objects, reason).await;
            assert!(
                wait.starts_with("Deployment/app-web: ") && wait.contains(said),
                "{wait}"
            );
            assert!(
                diagnosis.len() <= 4096 && diagnosis.contains(diagnosed),
                "{diagnosis}"
            );
            if let Some((_, log)) = diagnosis.split_once("log of ") {
                let line = log.lines().nth(1).unwrap_or_default();
                assert!(line.contains("KWOK plays this pod"), "not its log: {diagnosis}");
            }
            remove(&*target, number).await;
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_probe_that_fails_is_said_with_what_it_answered() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let request = request(17, &web(), json!({"pod": "never-ready"}));
    let applied = target.apply(&request).await.unwrap();
    until_waiting(&*target, &request.release, &applied.objects, "starting").await;
    let pods = read(&request.release, "pods");
    let pod = &pods["items"][0]["metadata"];
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "probed", "namespace": request.release.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"],
                           "namespace": request.release.namespace, "fieldPath": "spec.containers{web}"},
        "type": "Warning", "reason": "Unhealthy", "count": 3, "lastTimestamp": "2999-01-01T00:00:00Z",
        "message": "Readiness probe failed: HTTP probe failed with statuscode: 503", "source": {"component": "kubelet"},
    });
    let file = folder.path().join("event.json");
    std::fs::write(&file, event.to_string()).unwrap();
    kubectl(&["create", "-f", file.to_str().unwrap()]);
    let reason = "failing probe";
    let (wait, _) = until_waiting(&*target, &request.release, &applied.objects, reason).await;
    assert!(
        wait.contains("container web: Readiness probe failed: HTTP probe failed with statuscode: 503"),
        "{wait}"
    );
    remove(&*target, 17).await;
}

#[tokio::test]
async fn a_test_that_fails_is_an_error_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: check, annotations: {helm.sh/hook: test, dev.slipway/pod: {{ .Values.pod }}}}
spec: {restartPolicy: Never, containers: [{name: check, image: "registry.example/check:1"}]}
"#;
    let chart = Chart::new("tested").file("templates/pod.yaml", pod);
    target
        .apply(&request(15, &chart, json!({"pod": "crash"})))
        .await
        .unwrap();
    let test = async |revision, patience| {
        let source = HookSource::Revision(revision);
        run_hooks(&*target, &release(15), HookEvent::Test, source, patience)
            .await
            .unwrap_err()
    };
    let failed = test(1, PATIENCE).await;
    assert!(failed.starts_with("Pod/check: the pod failed"), "{failed}");
    assert!(
        failed.contains("container check ended with exit code"),
        "{failed}"
    );
    assert!(failed.lines().count() > 1, "the log is missing: {failed}");
    target
        .apply(&request(15, &chart, json!({"pod": "never-ready"})))
        .await
        .unwrap();
    let late = test(2, Duration::from_secs(2)).await;
    assert!(late.starts_with("Pod/check: "), "{late}");
    remove(&*target, 15).await;
}

#[tokio::test]
async fn a_job_that_failed_for_good_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let job = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: load}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {dev.slipway/pod: crash}}
    spec: {restartPolicy: Never, containers: [{name: load, image: "registry.example/load:1"}]}
"#;
    let request = request(6, &Chart::new("load").file("templates/job.yaml", job), json!({}));
    let applied = target.apply(&request).await.unwrap();
    let mut looks = 0..LOOKS;
    let failed = loop {
        assert!(looks.next().is_some(), "the job does not fail");
        let observation = target
            .observe(&request.release, &applied.objects, &[], HOLD)
            .await
            .unwrap();
        assert!(!observation.ready);
        if let Some(failed) = observation.failed {
            break failed;
        }
    };
    assert_eq!(failed.object, "Job/load");
    assert!(failed.message.contains("BackoffLimitExceeded"), "{failed}");
    remove(&*target, 6).await;
}

/// Jobs that take themselves away when they have ended, one that does not, and one that somebody takes away.
const JOBS: &str = r#"
{{ range $name, $job := .Values.jobs }}
apiVersion: batch/v1
kind: Job
metadata: {name: {{ $name }}}
spec:
  backoffLimit: 0
  {{ if $job.passes }}ttlSecondsAfterFinished: 0{{ end }}
  template:
    metadata: {annotations: {dev.slipway/pod: {{ $job.pod }}}}
    spec: {restartPolicy: Never, containers: [{name: main, image: "registry.example/job:1"}]}
---
{{ end }}
"#;

async fn look_at(target: &dyn Target, name: &str) -> Observation {
    let job = ObjectReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        namespace: release(16).namespace,
        name: name.to_owned(),
    };
    target
        .observe(&release(16), &[job], &[], Duration::ZERO)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_job_that_is_gone_is_judged_by_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let jobs = json!({"jobs": {
        "done": {"pod": "run", "passes": true},
        "broken": {"pod": "crash", "passes": true},
        "stopped": {"pod": "never-ready", "passes": true},
        "tidied": {"pod": "run"},
    }});
    let request = request(16, &Chart::new("jobs").file("templates/jobs.yaml", JOBS), jobs);
    let namespace = request.release.namespace.as_str();
    let applied = target.apply(&request).await.unwrap();
    let wait = |what: &str, job: &str| {
        kubectl(&[
            "-n",
            namespace,
            "wait",
            what,
            "--timeout=60s",
            &format!("job/{job}"),
        ]);
    };
    wait("--for=condition=Complete", "tidied");
    wait("--for=jsonpath={.status.active}=1", "stopped");
    kubectl(&["-n", namespace, "delete", "job", "tidied", "stopped"]);
    for job in ["done", "broken"] {
        wait("--for=delete", job);
    }
    // Their controller tells it a moment after it was so.
    for (job, reason) in [("done", "Completed"), ("broken", "BackoffLimitExceeded")] {
        let field = format!("--field-selector=involvedObject.name={job},reason={reason}");
        kubectl(&[
            "-n",
            namespace,
            "wait",
            "event",
            &field,
            "--for=create",
            "--timeout=60s",
        ]);
    }
    assert!(
        look_at(&*target, "done").await.ready,
        "its event says that it completed"
    );
    assert!(
        look_at(&*target, "tidied").await.ready,
        "it was done, whoever took it away"
    );
    let broken = look_at(&*target, "broken").await.failed.unwrap();
    assert!(broken.message.contains("BackoffLimitExceeded"), "{broken}");
    let stopped = look_at(&*target, "stopped").await;
    assert!(
        stopped.failed.is_none() && stopped.waiting[0].message.contains("before it ended"),
        "{stopped:?}"
    );

    // As after an hour.
    kubectl(&["-n", namespace, "delete", "events", "--all"]);
    assert!(
        look_at(&*target, "done").await.ready,
        "that it is absent is what its manifest says"
    );
    assert_eq!(look_at(&*target, "tidied").await.waiting[0].reason, "missing");
    let applied = AppliedState {
        release: &request.release,
        revision: Some(applied.revision),
        deployment: &deployment(16).to_string(),
        ignore: &[],
    };
    let drift = target.drift(&applied).await.unwrap();
    let drifted: Vec<&str> = drift
        .objects
        .iter()
        .map(|object| object.name.as_str())
        .filter(|name| *name != "app")
        .collect();
    assert_eq!(drifted, ["tidied"], "{drift:#?}");
    remove(&*target, 16).await;
}
