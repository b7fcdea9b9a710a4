//! Whether objects are ready, and if not, what they wait for: pure functions over what the API server said.

mod checks;
mod containers;
mod diagnosis;
mod gone;
mod nodes;
mod others;
mod pods;
mod refusal;
mod scheduling;
mod workloads;

pub(crate) use checks::Check;
pub(crate) use diagnosis::{LogRequest, diagnosis, log_requests};
pub(crate) use gone::{Applied, end, is_job, is_untold, passes};

use std::sync::Arc;

use serde_json::Value;
use slipway_model::JobWait;
use slipway_ports::ObjectReference;

use crate::manifest::text_at;

/// What was read from the API server for one look.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// The objects that must become ready; `None` for one that is not there.
    pub(crate) objects: Vec<(ObjectReference, Option<Value>)>,
    /// All pods of the namespaces.
    pub(crate) pods: Vec<Value>,
    /// All ReplicaSets of the namespaces.
    pub(crate) replica_sets: Vec<Value>,
    /// Warnings of the namespaces, and all events of volume claims.
    pub(crate) events: Vec<Value>,
    /// All events about Jobs that are not there.
    pub(crate) job_events: Vec<Value>,
    /// What was applied, where a Job is not there.
    pub(crate) applied: Option<Applied>,
    /// All volume claims of the namespaces, where a pod waits for a node.
    pub(crate) claims: Vec<Value>,
    /// All nodes, where a pod waits for one and they may be read.
    pub(crate) nodes: Vec<Value>,
    /// The release that is looked at: its pods may have owners that are not among the objects.
    pub(crate) release: String,
    /// What judges kinds by expressions.
    pub(crate) checks: Arc<[Check]>,
}

/// How one object stands.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    /// Nothing to wait for.
    Ready,
    /// Not yet.
    Waiting(JobWait),
    /// Never again.
    Failed(JobWait),
}

/// How all of them stand.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// What is not ready, most telling first.
    pub(crate) waiting: Vec<JobWait>,
    /// What cannot become ready any more.
    pub(crate) failed: Option<JobWait>,
}

impl Verdict {
    /// Whether nothing is waited for.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting.is_empty() && self.failed.is_none()
    }

    /// Whether another look differs in more than wording.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let essence = |verdict: &Self| -> Vec<(String, String)> {
            verdict
                .waiting
                .iter()
                .map(|wait| (wait.object.clone(), wait.reason.clone()))
                .collect()
        };
        self.failed.is_some() != other.failed.is_some() || essence(self) != essence(other)
    }
}

/// Reasons from the most to the least telling; those that are not here come last.
const TELLING: &[&str] = &[
    "image pull",
    "crash loop",
    "container cannot start",
    "quota exceeded",
    "admission refused",
    "pod creation refused",
    "evicted",
    "node not ready",
    "unschedulable",
    "unbound claim",
    "volume mount",
    "pod sandbox",
    "failing probe",
    "container ended",
    "missing",
];

/// Judges a look.
pub(crate) fn judge(snapshot: &Snapshot) -> Verdict {
    let mut verdict = Verdict::default();
    for (reference, object) in &snapshot.objects {
        match judge_object(reference, object.as_ref(), snapshot) {
            State::Ready => {}
            State::Waiting(wait) => verdict.waiting.push(wait),
            State::Failed(wait) => {
                verdict.failed.get_or_insert(wait);
            }
        }
    }
    let rank = |wait: &JobWait| {
        TELLING
            .iter()
            .position(|reason| *reason == wait.reason)
            .unwrap_or(TELLING.len())
    };
    verdict.waiting.sort_by_key(rank);
    verdict
}

fn judge_object(reference: &ObjectReference, object: Option<&Value>, snapshot: &Snapshot) -> State {
    let Some(object) = object else {
        if is_job(reference) {
            return gone::job(reference, snapshot);
        }
        return waiting(reference, "missing", "it is not in the cluster");
    };
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return waiting(reference, "being deleted", "someone deletes it");
    }
    if let (Some(wanted), Some(seen)) = (
        number(object, "/metadata/generation"),
        number(object, "/status/observedGeneration"),
    ) && wanted != seen
    {
        let message =
            format!("its controller has seen generation {seen} of it and not yet {wanted}, the newest");
        return waiting(reference, "not observed", message);
    }
    if let Some(check) = snapshot.checks.iter().find(|check| check.is_about(reference)) {
        return check.judge(reference, object);
    }
    if let Some(state) = generic(reference, object) {
        return state;
    }
    let group = reference
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, reference.kind.as_str()) {
        ("apps", "Deployment") => workloads::deployment(reference, object, snapshot),
        ("apps", "StatefulSet") => workloads::stateful_set(reference, object, snapshot),
        ("apps", "DaemonSet") => workloads::daemon_set(reference, object, snapshot),
        ("apps", "ReplicaSet") => workloads::replica_set(reference, object, snapshot),
        ("", "ReplicationController") => workloads::replication_controller(reference, object, snapshot),
        ("batch", "Job") => workloads::job(reference, object, snapshot),
        ("", "Pod") => pods::pod(reference, object, snapshot),
        ("", "PersistentVolumeClaim") => others::claim(reference, object, snapshot),
        ("", "Service") => others::service(reference, object, snapshot),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => others::definition(reference, object),
        ("apiregistration.k8s.io", "APIService") => others::condition(reference, object, "Available"),
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") | ("policy", "PodDisruptionBudget") => {
            State::Ready
        }
        _ => others::custom(reference, object),
    }
}

/// What the conditions that any kind may have say: `Reconciling` and `Stalled`, whichever comes first.
fn generic(reference: &ObjectReference, object: &Value) -> Option<State> {
    conditions(object)
        .filter(|condition| text_at(condition, "/status") == "True")
        .find_map(|condition| match text_at(condition, "/type") {
            "Reconciling" => Some(waiting(reference, "reconciling", others::said(condition))),
            "Stalled" => Some(State::Failed(wait(reference, "stalled", others::said(condition)))),
            _ => None,
        })
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn waiting(reference: &ObjectReference, reason: &str, message: impl Into<String>) -> State {
    State::Waiting(wait(reference, reason, message))
}

/// The message is whole: secrets are taken out before it is cut.
fn wait(reference: &ObjectReference, reason: &str, message: impl Into<String>) -> JobWait {
    JobWait {
        object: reference.to_string(),
        reason: reason.to_owned(),
        message: message.into(),
    }
}

/// A whole number at a JSON pointer.
fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// A condition of an object's status.
fn find_condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    conditions(object).find(|condition| text_at(condition, "/type") == name)
}

/// A condition that holds.
fn holds<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    find_condition(object, name).filter(|condition| text_at(condition, "/status") == "True")
}

/// Whether the controller has said which specification it saw; that it is the newest is judged before.
fn is_observed(object: &Value) -> bool {
    number(object, "/status/observedGeneration").is_some()
}

/// The objects of a list that `uid` controls.
fn owned<'a>(list: &'a [Value], uid: &'a str) -> impl Iterator<Item = &'a Value> {
    list.iter().filter(move |object| {
        object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|owner| !uid.is_empty() && text_at(owner, "/uid") == uid)
    })
}

/// Whether a pod is of what is looked at: owned by one of the objects, directly or through a ReplicaSet, or labelled
/// with the release, as pods are whose owner an operator has made.
fn concerns(pod: &Value, snapshot: &Snapshot) -> bool {
    let own = |uid: &str| {
        snapshot.objects.iter().any(|(_, object)| {
            object
                .as_ref()
                .is_some_and(|object| text_at(object, "/metadata/uid") == uid)
        })
    };
    let owners = |object: &Value| -> Vec<String> {
        object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|owner| text_at(owner, "/uid").to_owned())
            .filter(|uid| !uid.is_empty())
            .collect()
    };
    let uid = text_at(pod, "/metadata/uid");
    (!uid.is_empty() && own(uid))
        || owners(pod).iter().any(|owner| {
            own(owner)
                || snapshot
                    .replica_sets
                    .iter()
                    .filter(|set| text_at(set, "/metadata/uid") == owner)
                    .any(|set| owners(set).iter().any(|owner| own(owner)))
        })
        || (!snapshot.release.is_empty()
            && text_at(pod, "/metadata/labels/app.kubernetes.io~1instance") == snapshot.release)
}

/// When an event was seen last, in a form that compares.
fn seen(event: &Value) -> &str {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .map(|pointer| text_at(event, pointer))
    .find(|time| !time.is_empty())
    .unwrap_or_default()
}

/// A time without fractions of a second, which not all have.
fn second(time: &str) -> Option<&str> {
    time.get(..19)
}

/// The newest event about an object, by its UID, with one of the given reasons or with any.
fn last_event<'a>(events: &'a [Value], uid: &str, reasons: &[&str]) -> Option<&'a Value> {
    events
        .iter()
        .filter(|event| !uid.is_empty() && text_at(event, "/involvedObject/uid") == uid)
        .filter(|event| reasons.is_empty() || reasons.contains(&text_at(event, "/reason")))
        .max_by_key(|event| seen(event))
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
