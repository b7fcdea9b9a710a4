//! Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, find_condition, is_observed, last_event, number, owned, pods, wait, waiting};
use crate::manifest::text_at;

/// Updated, available, and nothing left of the revision before.
pub(super) fn deployment(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return State::Ready;
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let updated = number(object, "/status/updatedReplicas").unwrap_or(0);
    let all = number(object, "/status/replicas").unwrap_or(0);
    let available = number(object, "/status/availableReplicas").unwrap_or(0);
    let progress = if !is_observed(object) {
        "the controller has not seen it yet".to_owned()
    } else if updated < wanted {
        format!("{updated} of {wanted} pods are of the new revision")
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else if all > updated {
        format!("{} pods of the old revision are still there", all - updated)
    } else {
        return State::Ready;
    };
    if let Some(refused) =
        find_condition(object, "ReplicaFailure").filter(|condition| text_at(condition, "/status") == "True")
    {
        return waiting(reference, "pod creation refused", text_at(refused, "/message"));
    }
    let uid = text_at(object, "/metadata/uid");
    let sets: Vec<&Value> = owned(&snapshot.replica_sets, uid).collect();
    // The newest revision's pods say why the rollout does not go on; those before it were fine.
    let newest = sets
        .iter()
        .filter(|set| number(set, "/spec/replicas").unwrap_or(0) > 0)
        .max_by_key(|set| {
            crate::manifest::annotation(set, "deployment.kubernetes.io/revision")
                .and_then(|revision| revision.parse::<u64>().ok())
        });
    let owner = newest.map_or("", |set| text_at(set, "/metadata/uid"));
    explain(reference, owner, snapshot, &progress)
}

/// Updated as far as its partition says, and all ready.
pub(super) fn stateful_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let ready = number(object, "/status/readyReplicas").unwrap_or(0);
    let updated = number(object, "/status/updatedReplicas").unwrap_or(0);
    let on_delete = text_at(object, "/spec/updateStrategy/type") == "OnDelete";
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let to_update = if on_delete { 0 } else { (wanted - partition).max(0) };
    let between = text_at(object, "/status/currentRevision") != text_at(object, "/status/updateRevision");
    let progress = if !is_observed(object) {
        "the controller has not seen it yet".to_owned()
    } else if updated < to_update {
        format!("{updated} of {to_update} pods are of the new revision")
    } else if ready < wanted {
        format!("{ready} of {wanted} pods are ready")
    } else if !on_delete && partition == 0 && wanted > 0 && between {
        "the rollout is being completed".to_owned()
    } else {
        return State::Ready;
    };
    explain(reference, text_at(object, "/metadata/uid"), snapshot, &progress)
}

/// Updated and available on every node that it is for.
pub(super) fn daemon_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let wanted = number(object, "/status/desiredNumberScheduled").unwrap_or(0);
    let updated = number(object, "/status/updatedNumberScheduled").unwrap_or(0);
    let available = number(object, "/status/numberAvailable").unwrap_or(0);
    let on_delete = text_at(object, "/spec/updateStrategy/type") == "OnDelete";
    let progress = if !is_observed(object) {
        "the controller has not seen it yet".to_owned()
    } else if updated < wanted && !on_delete {
        format!("{updated} of {wanted} pods are of the new revision")
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else {
        return State::Ready;
    };
    explain(reference, text_at(object, "/metadata/uid"), snapshot, &progress)
}

/// A ReplicaSet or ReplicationController of its own.
pub(super) fn replica_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let ready = number(object, "/status/readyReplicas").unwrap_or(0);
    let progress = if !is_observed(object) {
        "the controller has not seen it yet".to_owned()
    } else if ready < wanted {
        format!("{ready} of {wanted} pods are ready")
    } else {
        return State::Ready;
    };
    explain(reference, text_at(object, "/metadata/uid"), snapshot, &progress)
}

/// Complete; one that failed has used up its retries and stays so.
pub(super) fn job(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let holds =
        |name| find_condition(object, name).filter(|condition| text_at(condition, "/status") == "True");
    if holds("Complete").is_some() || holds("SuccessCriteriaMet").is_some() {
        return State::Ready;
    }
    if let Some(failed) = holds("Failed").or_else(|| holds("FailureTarget")) {
        let reason = text_at(failed, "/reason");
        let message = format!("{reason}: {}", text_at(failed, "/message"));
        return State::Failed(wait(reference, "job failed", message));
    }
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return State::Ready;
    }
    let wanted = number(object, "/spec/completions").unwrap_or(1);
    let succeeded = number(object, "/status/succeeded").unwrap_or(0);
    let failed = number(object, "/status/failed").unwrap_or(0);
    let mut progress = format!("{succeeded} of {wanted} runs are done");
    if failed > 0 {
        progress = format!("{progress}, {failed} failed");
    }
    match explain(reference, text_at(object, "/metadata/uid"), snapshot, &progress) {
        // A pod that runs is what a job is for.
        State::Waiting(told) if told.reason == "starting" => waiting(reference, "running", progress),
        told => told,
    }
}

/// Why a workload is not ready: the most telling of its pods, what keeps its pods from being made, or how far it is.
fn explain(reference: &ObjectReference, owner: &str, snapshot: &Snapshot, progress: &str) -> State {
    let pods: Vec<&Value> = owned(&snapshot.pods, owner).collect();
    let told = pods
        .iter()
        .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
        .filter_map(|pod| pods::explain(pod, snapshot))
        .min_by_key(|explanation| explanation.rank());
    if let Some(explanation) = told {
        let message = format!("{progress}; pod {}", explanation.message);
        return waiting(reference, explanation.reason, message);
    }
    let refused = last_event(&snapshot.events, owner, &["FailedCreate"]).filter(|_| {
        pods.iter()
            .all(|pod| pod.pointer("/metadata/deletionTimestamp").is_some())
    });
    if let Some(event) = refused {
        return waiting(reference, "pod creation refused", text_at(event, "/message"));
    }
    waiting(reference, "rollout", progress)
}
