#![allow(
    clippy::needless_pass_by_value,
    reason = "objects are written where they are used"
)]

use serde_json::{Value, json};

use super::*;

fn reference(api_version: &str, kind: &str) -> ObjectReference {
    ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: "ns".to_owned(),
        name: "app".to_owned(),
    }
}

fn judge_one(api_version: &str, kind: &str, object: Value, snapshot: Snapshot) -> State {
    judge_object(&reference(api_version, kind), Some(&object), &snapshot)
}

fn reason(state: &State) -> &str {
    match state {
        State::Ready => "ready",
        State::Waiting(wait) => &wait.reason,
        State::Failed(_) => "failed",
    }
}

fn alone(api_version: &str, kind: &str, object: Value) -> String {
    reason(&judge_one(api_version, kind, object, Snapshot::default())).to_owned()
}

fn deployment(status: Value) -> Value {
    json!({"metadata": {"uid": "d", "generation": 2}, "spec": {"replicas": 2}, "status": status})
}

fn replica_set() -> Value {
    json!({"metadata": {"uid": "r", "ownerReferences": [{"uid": "d"}],
        "annotations": {"deployment.kubernetes.io/revision": "2"}}, "spec": {"replicas": 2}})
}

fn pod(owner: &str, status: Value) -> Value {
    json!({"metadata": {"name": "app-1", "namespace": "ns", "uid": "p", "ownerReferences": [{"uid": owner}]},
        "spec": {"nodeName": "n"}, "status": status})
}

fn with_pod(status: Value, events: Vec<Value>) -> State {
    let snapshot = Snapshot {
        pods: vec![pod("r", status)],
        replica_sets: vec![replica_set()],
        events,
        ..Snapshot::default()
    };
    let object = deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2}));
    judge_one("apps/v1", "Deployment", object, snapshot)
}

#[test]
fn a_deployment_is_ready_when_the_newest_revision_alone_is_available() {
    let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
        "readyReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]});
    assert_eq!(alone("apps/v1", "Deployment", deployment(done.clone())), "ready");
    for (field, value) in [("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)] {
        let mut status = done.clone();
        status[field] = value.into();
        assert_eq!(
            alone("apps/v1", "Deployment", deployment(status)),
            "rollout",
            "{field}"
        );
    }
    let mut unseen = done.clone();
    unseen["observedGeneration"] = 1.into();
    assert_eq!(alone("apps/v1", "Deployment", deployment(unseen)), "not observed");
    let mut refused = done;
    refused["availableReplicas"] = 0.into();
    refused["conditions"] =
        json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}]);
    let state = judge_one("apps/v1", "Deployment", deployment(refused), Snapshot::default());
    assert!(
        matches!(&state, State::Waiting(wait) if wait.reason == "quota exceeded"
            && wait.message.contains("quota gpus; request less")),
        "{state:?}"
    );
}

#[test]
fn a_pod_that_is_stuck_says_why() {
    let waiting = |reason: &str| {
        json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i:1", "restartCount": 4,
            "state": {"waiting": {"reason": reason, "message": "m"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]})
    };
    assert_eq!(
        reason(&with_pod(waiting("ImagePullBackOff"), vec![])),
        "image pull"
    );
    assert_eq!(
        reason(&with_pod(waiting("CreateContainerConfigError"), vec![])),
        "container cannot start"
    );
    let State::Waiting(crash) = with_pod(waiting("CrashLoopBackOff"), vec![]) else {
        panic!("a crash loop is no end")
    };
    assert_eq!(crash.object, "Deployment/app");
    assert_eq!(crash.reason, "crash loop");
    assert!(
        crash.message.contains("exited with 137 (OOMKilled), 4 restarts"),
        "{}",
        crash.message
    );

    let unscheduled = |message: &str| {
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": message}]})
    };
    let gpu = with_pod(
        unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        vec![],
    );
    assert!(
        matches!(&gpu, State::Waiting(wait) if wait.reason == "unschedulable"
        && wait.message.contains("Insufficient nvidia.com/gpu"))
    );
    let claim = with_pod(
        unscheduled("pod has unbound immediate PersistentVolumeClaims."),
        vec![],
    );
    assert_eq!(reason(&claim), "unbound claim");
}

#[test]
fn events_tell_what_the_status_does_not() {
    let event = |reason: &str, time: &str| {
        json!({"reason": reason, "message": format!("{reason} happened"), "lastTimestamp": time,
            "involvedObject": {"uid": "p"}})
    };
    let running = json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    let probe = vec![
        event("Unhealthy", "2026-01-01T00:00:02Z"),
        event("Other", "2026-01-01T00:00:03Z"),
    ];
    assert_eq!(reason(&with_pod(running.clone(), probe)), "failing probe");
    assert_eq!(reason(&with_pod(running, vec![])), "starting");
    let creating = json!({"phase": "Pending"});
    let State::Waiting(mount) = with_pod(creating, vec![event("FailedMount", "2026-01-01T00:00:02Z")]) else {
        panic!("not ready")
    };
    assert_eq!(mount.reason, "volume mount");
    assert!(mount.message.contains("FailedMount happened"));
}

#[test]
fn a_workload_without_pods_says_what_refuses_them() {
    let snapshot = Snapshot {
        events: vec![
            json!({"reason": "FailedCreate", "message": "violates PodSecurity \"restricted:latest\": privileged",
            "involvedObject": {"uid": "s"}}),
        ],
        ..Snapshot::default()
    };
    let set = json!({"metadata": {"uid": "s", "generation": 1}, "status": {"observedGeneration": 1}});
    assert_eq!(
        reason(&judge_one("apps/v1", "StatefulSet", set, snapshot)),
        "admission refused"
    );
}

#[test]
fn a_stateful_set_follows_its_partition_and_strategy() {
    let set = |strategy: Value, updated: u32, ready: u32| {
        json!({"metadata": {"generation": 1}, "spec": {"replicas": 3, "updateStrategy": strategy},
            "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": updated, "readyReplicas": ready,
                "currentRevision": "a", "updateRevision": "b"}})
    };
    let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    assert_eq!(
        alone("apps/v1", "StatefulSet", set(partition.clone(), 1, 3)),
        "ready"
    );
    assert_eq!(alone("apps/v1", "StatefulSet", set(partition, 0, 3)), "rollout");
    let on_delete = json!({"type": "OnDelete"});
    assert_eq!(
        alone("apps/v1", "StatefulSet", set(on_delete.clone(), 0, 3)),
        "ready"
    );
    assert_eq!(alone("apps/v1", "StatefulSet", set(on_delete, 0, 2)), "rollout");
    assert_eq!(alone("apps/v1", "StatefulSet", set(json!({}), 3, 3)), "rollout");
}

#[test]
fn a_daemon_set_counts_the_nodes_it_is_for() {
    let set = |updated: u32, available: u32| {
        json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1,
            "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available,
            "numberReady": available}})
    };
    assert_eq!(alone("apps/v1", "DaemonSet", set(2, 2)), "ready");
    assert_eq!(alone("apps/v1", "DaemonSet", set(1, 2)), "rollout");
    assert_eq!(alone("apps/v1", "DaemonSet", set(2, 1)), "rollout");
}

#[test]
fn a_job_that_failed_stays_failed() {
    let job = |condition: &str| {
        json!({"metadata": {"uid": "j"}, "status": {"conditions": [{"type": condition, "status": "True",
            "reason": "BackoffLimitExceeded", "message": "too many"}]}})
    };
    assert_eq!(alone("batch/v1", "Job", job("Complete")), "ready");
    assert_eq!(alone("batch/v1", "Job", job("Failed")), "failed");
    let running = Snapshot {
        pods: vec![pod(
            "j",
            json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}),
        )],
        ..Snapshot::default()
    };
    let state = judge_one("batch/v1", "Job", json!({"metadata": {"uid": "j"}}), running);
    assert_eq!(reason(&state), "running");
}

#[test]
fn a_claim_that_waits_for_its_first_pod_is_waited_for_only_with_that_pod() {
    let event = json!({"reason": "WaitForFirstConsumer", "involvedObject": {"uid": "c"}});
    let claim = json!({"metadata": {"uid": "c"}, "status": {"phase": "Pending"}});
    let user = json!({"metadata": {"namespace": "ns"},
        "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "app"}}]}});
    let look = |pods: Vec<Value>| {
        let snapshot = Snapshot {
            events: vec![event.clone()],
            pods,
            ..Snapshot::default()
        };
        reason(&judge_one("v1", "PersistentVolumeClaim", claim.clone(), snapshot)).to_owned()
    };
    assert_eq!(look(vec![]), "ready");
    assert_eq!(look(vec![user]), "unbound claim");
}

#[test]
fn other_kinds_have_their_own_rules() {
    let balancer = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}});
    assert_eq!(alone("v1", "Service", balancer), "load balancer");
    assert_eq!(
        alone("v1", "Service", json!({"spec": {"type": "ClusterIP"}})),
        "ready"
    );
    let kind = "CustomResourceDefinition";
    assert_eq!(
        alone("apiextensions.k8s.io/v1", kind, json!({})),
        "not Established"
    );
    let established = json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}});
    assert_eq!(alone("apiextensions.k8s.io/v1", kind, established), "ready");
    assert_eq!(alone("v1", "ConfigMap", json!({})), "ready");
    assert_eq!(
        alone("v1", "ConfigMap", json!({"metadata": {"deletionTimestamp": "x"}})),
        "being deleted"
    );
    let custom = |observed: u32, ready: &str| {
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed,
            "conditions": [{"type": "Ready", "status": ready, "reason": "Provisioning"}]}})
    };
    assert_eq!(alone("db.example.com/v1", "Database", custom(2, "True")), "ready");
    assert_eq!(
        alone("db.example.com/v1", "Database", custom(1, "True")),
        "not observed"
    );
    assert_eq!(
        alone("db.example.com/v1", "Database", custom(2, "False")),
        "not Ready"
    );
    assert_eq!(
        alone(
            "db.example.com/v1",
            "Database",
            json!({"metadata": {"generation": 1}})
        ),
        "ready"
    );
}

#[test]
fn the_most_telling_comes_first_and_what_is_missing_is_waited_for() {
    let stuck = pod(
        "r",
        json!({"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
    );
    let mut second = reference("apps/v1", "Deployment");
    second.name = "second".to_owned();
    let snapshot = Snapshot {
        objects: vec![
            (reference("v1", "ConfigMap"), None),
            (second, Some(deployment(json!({"observedGeneration": 2})))),
        ],
        pods: vec![stuck],
        replica_sets: vec![replica_set()],
        ..Snapshot::default()
    };
    let verdict = judge(&snapshot);
    let shown: Vec<_> = verdict
        .waiting
        .iter()
        .map(|wait| format!("{}: {}", wait.object, wait.reason))
        .collect();
    assert_eq!(shown, ["Deployment/second: image pull", "ConfigMap/app: missing"]);
}

#[test]
fn a_diagnosis_has_the_warnings_and_logs_of_what_is_not_ready() {
    let crashed = json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {}},
        "lastState": {"terminated": {"exitCode": 3}}}]});
    let snapshot = Snapshot {
        objects: vec![(
            reference("apps/v1", "ReplicaSet"),
            Some(json!({"metadata": {"uid": "r"}})),
        )],
        pods: vec![pod("r", crashed.clone()), pod("of another release", crashed)],
        events: vec![
            json!({"type": "Warning", "reason": "BackOff", "message": "x".repeat(3000), "count": 7,
                "involvedObject": {"kind": "Pod", "name": "app-1", "uid": "p"}}),
            json!({"type": "Warning", "reason": "Foreign", "involvedObject": {"uid": "unknown"}}),
        ],
        ..Snapshot::default()
    };
    let requests = log_requests(&snapshot);
    assert_eq!(requests.len(), 1);
    assert!(requests[0].previous);
    let logs = vec![(requests[0].clone(), "the end\n".to_owned())];
    let told = diagnosis(&snapshot, logs);
    assert_eq!(
        told.warnings,
        [format!("Pod/app-1: BackOff: {} (7 times)", "x".repeat(3000))],
        "whole"
    );
    assert_eq!(
        (told.logs[0].of.as_str(), told.logs[0].text.as_str()),
        ("app-1 (c)", "the end\n")
    );
}

#[test]
fn what_a_container_said_is_told_whole() {
    let said = "x ".repeat(1000);
    let ended = json!({"phase": "Pending", "containerStatuses": [{"name": "c", "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3, "message": said}}}]});
    let State::Waiting(wait) = with_pod(ended, vec![]) else {
        panic!("a crash loop is no end")
    };
    assert!(
        wait.message.contains(said.trim()),
        "secrets are taken out of it before it is cut"
    );
}

#[test]
fn what_a_registry_says_is_read_and_not_the_name_of_the_image() {
    let told = |image: &str, message: &str| {
        let status = json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": image,
            "state": {"waiting": {"reason": "ErrImagePull", "message": message}}}]});
        match with_pod(status, vec![]) {
            State::Waiting(wait) => wait.message,
            other => format!("{other:?}"),
        }
    };
    for (image, message, expected) in [
        (
            "ghcr.io/acme/agent:20240315",
            "failed to resolve reference \"ghcr.io/acme/agent:20240315\": not found",
            "no such image or tag",
        ),
        (
            "acme/denied:429",
            "lookup ghcr.io on 10.96.0.10:53: read udp 10.42.9.7:42955->10.96.0.10:53: i/o timeout",
            "the node does not reach the registry",
        ),
        (
            "acme/agent:1",
            "unexpected status from HEAD request to https://ghcr.io/v2/acme/agent/manifests/1: 403 Forbidden",
            "the registry refuses",
        ),
        (
            "acme/agent:1",
            "429 Too Many Requests - Server message: toomanyrequests",
            "the registry limits pulls",
        ),
    ] {
        let said = told(image, message);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_node_that_is_heard_of_again_is_no_reason_any_more() {
    let lost = json!({"reason": "NodeNotReady", "message": "Node is not ready", "lastTimestamp": "2026-01-01T12:00:00Z",
        "involvedObject": {"uid": "p"}});
    let look = |status: Value, more: Option<Value>| {
        let events = std::iter::once(lost.clone()).chain(more).collect();
        match with_pod(status, events) {
            State::Waiting(wait) => format!("{}: {}", wait.reason, wait.message),
            other => format!("{other:?}"),
        }
    };
    let crashed = |at: &str| {
        json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3, "finishedAt": at}}}]})
    };
    assert!(look(crashed("2026-01-01T11:59:00Z"), None).starts_with("node not ready: "));
    assert!(look(crashed("2026-01-01T12:05:00Z"), None).starts_with("crash loop: "));
    let pulling = || {
        json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i:1",
            "state": {"waiting": {"reason": "ErrImagePull"}}}]})
    };
    let said = |component: &str| {
        json!({"reason": "Failed", "message": "no such image", "lastTimestamp": "2026-01-01T12:05:00Z",
            "source": {"component": component}, "involvedObject": {"uid": "p"}})
    };
    assert!(look(pulling(), None).starts_with("node not ready: "));
    assert!(look(pulling(), Some(said("kubelet"))).starts_with("image pull: "));
    assert!(look(pulling(), Some(said("taint-eviction-controller"))).starts_with("node not ready: "));
    // As the node controller marks it, and as the node does later.
    let unready = |at: &str| {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at}],
            "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": "2026-01-01T11:00:00Z"}}}]})
    };
    assert!(look(unready("2026-01-01T12:00:00Z"), None).starts_with("node not ready: "));
    let back = look(unready("2026-01-01T12:05:00Z"), None);
    assert!(
        back.starts_with("starting: ") && !back.contains("NodeNotReady"),
        "{back}"
    );
}
