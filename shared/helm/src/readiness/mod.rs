//! Whether objects are ready, and if not, what they wait for: pure functions over what the API server said.

mod diagnosis;
mod others;
mod pods;
mod workloads;

pub(crate) use diagnosis::{LogRequest, diagnosis, log_requests, tail};

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
    "pod creation refused",
    "unschedulable",
    "unbound claim",
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
        return waiting(reference, "missing", "it is not in the cluster");
    };
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return waiting(reference, "being deleted", "someone deletes it");
    }
    let group = reference
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, reference.kind.as_str()) {
        ("apps", "Deployment") => workloads::deployment(reference, object, snapshot),
        ("apps", "StatefulSet") => workloads::stateful_set(reference, object, snapshot),
        ("apps", "DaemonSet") => workloads::daemon_set(reference, object, snapshot),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            workloads::replica_set(reference, object, snapshot)
        }
        ("batch", "Job") => workloads::job(reference, object, snapshot),
        ("", "Pod") => pods::pod(reference, object, snapshot),
        ("", "PersistentVolumeClaim") => others::claim(reference, object, snapshot),
        ("", "Service") => others::service(reference, object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => others::definition(reference, object),
        ("apiregistration.k8s.io", "APIService") => others::condition(reference, object, "Available"),
        _ if is_custom(group) => others::custom(reference, object),
        _ => State::Ready,
    }
}

/// Whether objects of the group come from a custom resource definition.
fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

fn waiting(reference: &ObjectReference, reason: &str, message: impl Into<String>) -> State {
    State::Waiting(wait(reference, reason, message))
}

fn wait(reference: &ObjectReference, reason: &str, message: impl Into<String>) -> JobWait {
    let mut message: String = message.into();
    if let Some((end, _)) = message.char_indices().nth(500) {
        message.truncate(end);
        message.push('…');
    }
    JobWait {
        object: reference.to_string(),
        reason: reason.to_owned(),
        message,
    }
}

/// A whole number at a JSON pointer.
fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// A condition of an object's status.
fn find_condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| text_at(condition, "/type") == name)
}

/// Whether the controller has seen the newest specification.
fn is_observed(object: &Value) -> bool {
    match (
        number(object, "/metadata/generation"),
        number(object, "/status/observedGeneration"),
    ) {
        (Some(wanted), Some(seen)) => seen >= wanted,
        (Some(_), None) => false,
        _ => true,
    }
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

/// The newest event about an object, by its UID, with one of the given reasons or with any.
fn last_event<'a>(events: &'a [Value], uid: &str, reasons: &[&str]) -> Option<&'a Value> {
    events
        .iter()
        .filter(|event| !uid.is_empty() && text_at(event, "/involvedObject/uid") == uid)
        .filter(|event| reasons.is_empty() || reasons.contains(&text_at(event, "/reason")))
        .max_by_key(|event| seen(event))
}

#[cfg(test)]
mod tests;
