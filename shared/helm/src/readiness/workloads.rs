//! Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{
    Snapshot, State, find_condition, holds, is_observed, last_event, number, owned, pods, refusal, wait,
    waiting,
};
use crate::manifest::text_at;

/// What the API server makes of a Deployment's `progressDeadlineSeconds` that is not there.
const NO_DEADLINE: i64 = 2_147_483_647;

const UNSEEN: &str = "its controller has not seen it yet";

/// Updated, available, and nothing left of the revision before.
pub(super) fn deployment(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return State::Ready;
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let status = |field: &str| number(object, &format!("/status/{field}")).unwrap_or(0);
    let (all, updated) = (status("replicas"), status("updatedReplicas"));
    let available = status("availableReplicas").min(status("readyReplicas"));
    // Without a deadline the controller says nothing about progress.
    let has_deadline =
        number(object, "/spec/progressDeadlineSeconds").is_some_and(|seconds| seconds != NO_DEADLINE);
    let progressed = holds(object, "Progressing")
        .is_some_and(|condition| text_at(condition, "/reason") == "NewReplicaSetAvailable");
    let progress = if !is_observed(object) {
        UNSEEN.to_owned()
    } else if updated < wanted {
        format!("{updated} of {wanted} pods are of the new revision")
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else if all > wanted {
        format!("{} pods of the old revision are still there", all - wanted)
    } else if (has_deadline && !progressed) || holds(object, "Available").is_none() {
        "the rollout is being completed".to_owned()
    } else {
        return State::Ready;
    };
    let late = find_condition(object, "Progressing")
        .filter(|condition| text_at(condition, "/reason") == "ProgressDeadlineExceeded");
    let progress = match late {
        // Its controller goes on nevertheless, and the release has a time limit of its own.
        Some(late) => format!(
            "{progress}, and its progress deadline has passed: {}",
            text_at(late, "/message")
        ),
        None => progress,
    };
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
    let refused = holds(object, "ReplicaFailure").map(|condition| text_at(condition, "/message"));
    explain(reference, owner, snapshot, &progress, refused)
}

/// Updated as far as its partition says, and all ready.
pub(super) fn stateful_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let status = |field: &str| number(object, &format!("/status/{field}")).unwrap_or(0);
    let (all, ready, updated) = (
        status("replicas"),
        status("readyReplicas"),
        status("updatedReplicas"),
    );
    let on_delete = text_at(object, "/spec/updateStrategy/type") == "OnDelete";
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let to_update = if on_delete {
        0
    } else {
        (wanted - partition.unwrap_or(0)).max(0)
    };
    let between = text_at(object, "/status/currentRevision") != text_at(object, "/status/updateRevision");
    let progress = if !is_observed(object) {
        UNSEEN.to_owned()
    } else if updated < to_update {
        format!("{updated} of {to_update} pods are of the new revision")
    } else if ready < wanted {
        format!("{ready} of {wanted} pods are ready")
    } else if all > wanted {
        format!("{} pods too many are still there", all - wanted)
    } else if !on_delete && partition.is_none() && wanted > 0 && between {
        "the rollout is being completed".to_owned()
    } else {
        return State::Ready;
    };
    explain(
        reference,
        text_at(object, "/metadata/uid"),
        snapshot,
        &progress,
        None,
    )
}

/// Updated and available on every node that it is for.
pub(super) fn daemon_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let status = |field: &str| number(object, &format!("/status/{field}")).unwrap_or(0);
    let on_delete = text_at(object, "/spec/updateStrategy/type") == "OnDelete";
    let available = status("numberAvailable").min(status("numberReady"));
    let progress = match number(object, "/status/desiredNumberScheduled") {
        Some(wanted) if is_observed(object) => {
            if status("currentNumberScheduled") < wanted {
                format!(
                    "{} of {wanted} nodes have its pod",
                    status("currentNumberScheduled")
                )
            } else if status("updatedNumberScheduled") < wanted && !on_delete {
                format!(
                    "{} of {wanted} pods are of the new revision",
                    status("updatedNumberScheduled")
                )
            } else if available < wanted {
                format!("{available} of {wanted} pods are available")
            } else {
                return State::Ready;
            }
        }
        _ => UNSEEN.to_owned(),
    };
    explain(
        reference,
        text_at(object, "/metadata/uid"),
        snapshot,
        &progress,
        None,
    )
}

/// A ReplicaSet of its own.
pub(super) fn replica_set(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    let refused = holds(object, "ReplicaFailure").map(|condition| text_at(condition, "/message"));
    let labelled = number(object, "/status/fullyLabeledReplicas").unwrap_or(0);
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    if labelled < wanted && refused.is_none() && is_observed(object) {
        let progress = format!("{labelled} of {wanted} pods have all labels of its template");
        return explain(
            reference,
            text_at(object, "/metadata/uid"),
            snapshot,
            &progress,
            None,
        );
    }
    replicas(reference, object, snapshot, refused)
}

/// A ReplicationController.
pub(super) fn replication_controller(
    reference: &ObjectReference,
    object: &Value,
    snapshot: &Snapshot,
) -> State {
    let refused = holds(object, "ReplicaFailure").map(|condition| text_at(condition, "/message"));
    replicas(reference, object, snapshot, refused)
}

fn replicas(
    reference: &ObjectReference,
    object: &Value,
    snapshot: &Snapshot,
    refused: Option<&str>,
) -> State {
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let status = |field: &str| number(object, &format!("/status/{field}")).unwrap_or(0);
    let available = status("availableReplicas").min(status("readyReplicas"));
    let progress = if !is_observed(object) {
        UNSEEN.to_owned()
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else if status("replicas") > wanted {
        format!("{} pods too many are still there", status("replicas") - wanted)
    } else if refused.is_some() {
        format!("{available} of {wanted} pods are available")
    } else {
        return State::Ready;
    };
    explain(
        reference,
        text_at(object, "/metadata/uid"),
        snapshot,
        &progress,
        refused,
    )
}

/// Complete; one that failed has used up its retries and stays so.
pub(super) fn job(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    if holds(object, "Complete").is_some() || holds(object, "SuccessCriteriaMet").is_some() {
        return State::Ready;
    }
    let uid = text_at(object, "/metadata/uid");
    if let Some(failed) = holds(object, "Failed").or_else(|| holds(object, "FailureTarget")) {
        let mut message = format!("{}: {}", text_at(failed, "/reason"), text_at(failed, "/message"));
        let newest = owned(&snapshot.pods, uid)
            .filter_map(|pod| {
                Some((
                    text_at(pod, "/metadata/creationTimestamp"),
                    pods::ended(pod, snapshot)?,
                ))
            })
            .max_by_key(|(made, _)| *made);
        if let Some((_, ended)) = newest {
            message = format!("{message}; its last pod {ended}");
        }
        return State::Failed(wait(reference, "job failed", message));
    }
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        // A queue suspends what it has not admitted yet; anybody else means it to stay so.
        let label = "/metadata/labels/kueue.x-k8s.io~1queue-name";
        return match text_at(object, label) {
            "" => State::Ready,
            queue => waiting(
                reference,
                "queued",
                format!("queue {queue} has not admitted it yet"),
            ),
        };
    }
    let wanted = number(object, "/spec/completions").unwrap_or(1);
    let succeeded = number(object, "/status/succeeded").unwrap_or(0);
    let failed = number(object, "/status/failed").unwrap_or(0);
    let mut progress = format!("{succeeded} of {wanted} runs are done");
    if failed > 0 {
        progress = format!("{progress}, {failed} failed");
    }
    match explain(reference, uid, snapshot, &progress, None) {
        // A pod that runs is what a job is for.
        State::Waiting(told) if told.reason == "starting" => waiting(reference, "running", progress),
        told => told,
    }
}

/// Why a workload is not ready: the most telling of its pods, what keeps its pods from being made, or how far it is.
fn explain(
    reference: &ObjectReference,
    owner: &str,
    snapshot: &Snapshot,
    progress: &str,
    refused: Option<&str>,
) -> State {
    let (ending, pods): (Vec<&Value>, Vec<&Value>) =
        owned(&snapshot.pods, owner).partition(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
    let told = pods
        .iter()
        .filter_map(|pod| pods::explain(pod, snapshot))
        .min_by_key(|explanation| explanation.rank());
    // What was refused before the newest pod was made is no longer the matter.
    let newest = pods
        .iter()
        .map(|pod| text_at(pod, "/metadata/creationTimestamp"))
        .max()
        .unwrap_or_default();
    let event = last_event(&snapshot.events, owner, &["FailedCreate"])
        .filter(|event| newest.is_empty() || super::seen(event) > newest)
        .map(|event| text_at(event, "/message"));
    if let Some(refused) = event
        .or(refused)
        .filter(|_| told.as_ref().is_none_or(|told| told.rank() >= refusal::RANK))
    {
        let (reason, message) = refusal::explain(refused);
        return waiting(reference, reason, format!("{progress}; {message}"));
    }
    if let Some(explanation) = told {
        let message = format!("{progress}; pod {}", explanation.message);
        return waiting(reference, explanation.reason, message);
    }
    if let Some(pod) = ending.first() {
        let message = format!("{progress}; {}", pods::ending(pod));
        return waiting(reference, "pod being deleted", message);
    }
    waiting(reference, "rollout", progress)
}
