//! Pods: whether they are ready, and what keeps those that are not.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{
    Snapshot, State, TELLING,
    containers::{ended_container, event_container, running_init_container, stuck_container},
    find_condition, last_event,
    nodes::{NODE_LOST, about, is_node_lost},
    scheduling, wait, waiting,
};
use crate::manifest::text_at;

/// What keeps a pod from being ready.
#[derive(Debug, PartialEq)]
pub(super) struct Explanation {
    pub(super) reason: &'static str,
    /// Begins with the pod's name.
    pub(super) message: String,
}

impl Explanation {
    pub(super) fn rank(&self) -> usize {
        TELLING
            .iter()
            .position(|reason| *reason == self.reason)
            .unwrap_or(TELLING.len())
    }
}

/// A pod of its own: ready, or done.
pub(super) fn pod(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    match text_at(object, "/status/phase") {
        "Succeeded" => State::Ready,
        "Failed" => {
            let message = explain(object, snapshot).map_or_else(String::new, |told| told.message);
            State::Failed(wait(reference, "pod failed", message))
        }
        _ => match explain(object, snapshot) {
            Some(told) => waiting(reference, told.reason, told.message),
            None => State::Ready,
        },
    }
}

/// Why a pod is not ready; nothing if it is, or if it is done.
pub(super) fn explain(pod: &Value, snapshot: &Snapshot) -> Option<Explanation> {
    let name = text_at(pod, "/metadata/name");
    let tell = |reason, message: &str| {
        Some(Explanation {
            reason,
            message: format!("{name}: {message}"),
        })
    };
    let phase = text_at(pod, "/status/phase");
    let is_ready = find_condition(pod, "Ready").is_some_and(|ready| text_at(ready, "/status") == "True");
    if phase == "Succeeded" || (is_ready && phase == "Running") {
        return None;
    }
    if phase == "Failed" {
        let what = match text_at(pod, "/status/message") {
            "" => ended_container(pod).unwrap_or_else(|| text_at(pod, "/status/reason").to_owned()),
            message => format!("{}: {message}", text_at(pod, "/status/reason")),
        };
        let reason = match text_at(pod, "/status/reason") {
            "Evicted" | "Preempting" | "NodeShutdown" | "Terminated" => "evicted",
            _ => "container ended",
        };
        return tell(reason, &what);
    }
    if let Some(scheduled) =
        find_condition(pod, "PodScheduled").filter(|condition| text_at(condition, "/status") == "False")
    {
        let message = text_at(scheduled, "/message");
        if text_at(scheduled, "/reason") == "SchedulingGated" {
            let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
            let gates: Vec<&str> = gates
                .into_iter()
                .flatten()
                .map(|gate| text_at(gate, "/name"))
                .collect();
            return tell(
                "scheduling gated",
                &format!("waits for {} to let it go", gates.join(", ")),
            );
        }
        let (reason, message) = scheduling::explain(pod, message, snapshot);
        return tell(reason, &message);
    }
    let uid = text_at(pod, "/metadata/uid");
    if is_node_lost(pod, snapshot) {
        let node = text_at(pod, "/spec/nodeName");
        return tell("node not ready", &format!("node {node} no longer answers"));
    }
    for (field, role) in [
        ("initContainerStatuses", "init container"),
        ("containerStatuses", "container"),
    ] {
        let statuses = pod.pointer(&format!("/status/{field}")).and_then(Value::as_array);
        for status in statuses.into_iter().flatten() {
            if let Some((reason, message)) = stuck_container(pod, status, role, snapshot) {
                return tell(reason, &message);
            }
        }
    }
    let hint = about(uid, snapshot)
        .filter(|event| text_at(event, "/reason") != NODE_LOST)
        .max_by_key(|event| super::seen(event));
    let hinted = |fallback: &str| match hint {
        Some(event) => format!("{}: {}", text_at(event, "/reason"), text_at(event, "/message")),
        None => fallback.to_owned(),
    };
    if let Some(init) = running_init_container(pod) {
        return tell("init container", &format!("init container {init} runs"));
    }
    if phase == "Running" {
        if let Some(probe) = failing_probe(pod, snapshot) {
            return tell("failing probe", &probe);
        }
        if let Some(gate) = missing_gate(pod) {
            return tell(
                "readiness gate",
                &format!("nobody has set its readiness gate {gate} yet"),
            );
        }
        return tell("starting", &hinted("its containers run and are not ready yet"));
    }
    if text_at(pod, "/spec/nodeName").is_empty() {
        return tell("unschedulable", &hinted("no node has been found for it yet"));
    }
    let reason = match hint.map(|event| text_at(event, "/reason")) {
        Some("FailedMount" | "FailedAttachVolume" | "FailedMapVolume") => "volume mount",
        Some("FailedCreatePodSandBox") => "pod sandbox",
        _ => "container creating",
    };
    tell(reason, &hinted("its containers are being made"))
}

/// How a pod that failed ended, after its name.
pub(super) fn ended(pod: &Value, snapshot: &Snapshot) -> Option<String> {
    explain(pod, snapshot)
        .filter(|told| matches!(told.reason, "container ended" | "crash loop" | "evicted"))
        .map(|told| told.message)
}

/// Since when a pod has been ending, and what may hold it.
pub(super) fn ending(pod: &Value) -> String {
    let finalizers = pod.pointer("/metadata/finalizers").and_then(Value::as_array);
    let finalizers: Vec<&str> = finalizers
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let held = if finalizers.is_empty() {
        format!(
            "if that lasts, node {} does not answer",
            text_at(pod, "/spec/nodeName")
        )
    } else {
        format!("finalizers {} hold it", finalizers.join(", "))
    };
    format!(
        "pod {} is to be gone by {} and is still there; {held}",
        text_at(pod, "/metadata/name"),
        text_at(pod, "/metadata/deletionTimestamp")
    )
}

/// What the newest failure of a probe said, since the containers run that it is about.
fn failing_probe(pod: &Value, snapshot: &Snapshot) -> Option<String> {
    let event = last_event(
        &snapshot.events,
        text_at(pod, "/metadata/uid"),
        &["Unhealthy", "ProbeWarning"],
    )?;
    let container = event_container(event);
    let started = pod
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array)?
        .iter()
        .filter(|status| container.is_none_or(|name| text_at(status, "/name") == name))
        .map(|status| text_at(status, "/state/running/startedAt"))
        .max()?;
    if !super::seen(event).is_empty() && super::seen(event) < started {
        return None;
    }
    let mut message = match container {
        Some(name) => format!("container {name}: {}", text_at(event, "/message").trim()),
        None => text_at(event, "/message").trim().to_owned(),
    };
    let kind = ["Readiness", "Liveness", "Startup"]
        .into_iter()
        .find(|kind| text_at(event, "/message").starts_with(kind));
    if let Some(kind) = kind
        && let Some(asked) = probe(pod, container, kind)
    {
        message = format!("{message} ({asked})");
    }
    Some(message)
}

/// What a probe asks for.
fn probe(pod: &Value, container: Option<&str>, kind: &str) -> Option<String> {
    let field = format!("{}Probe", kind.to_lowercase());
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let probe = containers
        .iter()
        .filter(|candidate| container.is_none_or(|name| text_at(candidate, "/name") == name))
        .find_map(|candidate| candidate.get(&field))?;
    let port = |asked: &Value| asked.get("port").map(|port| port.to_string().replace('"', ""));
    if let Some(get) = probe.get("httpGet") {
        return Some(format!("GET {} on port {}", text_at(get, "/path"), port(get)?));
    }
    if let Some(socket) = probe.get("tcpSocket") {
        return Some(format!("TCP port {}", port(socket)?));
    }
    probe
        .get("grpc")
        .and_then(port)
        .map(|port| format!("gRPC on port {port}"))
}

fn missing_gate(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/readinessGates")?
        .as_array()?
        .iter()
        .map(|gate| text_at(gate, "/conditionType"))
        .find(|gate| {
            find_condition(pod, gate).is_none_or(|condition| text_at(condition, "/status") != "True")
        })
}
