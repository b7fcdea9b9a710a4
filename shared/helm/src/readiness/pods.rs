//! Pods: whether they are ready, and what keeps those that are not.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, TELLING, find_condition, last_event, number, scheduling, wait, waiting};
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
    if last_event(&snapshot.events, uid, &["NodeNotReady"]).is_some() {
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
    let hint = last_event(&snapshot.events, uid, &[]);
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

/// The container that an event is about: `spec.containers{web}`.
fn event_container(event: &Value) -> Option<&str> {
    text_at(event, "/involvedObject/fieldPath")
        .split_once('{')
        .and_then(|(_, rest)| rest.strip_suffix('}'))
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

/// A container that does not get on by itself.
fn stuck_container(
    pod: &Value,
    status: &Value,
    role: &str,
    snapshot: &Snapshot,
) -> Option<(&'static str, String)> {
    let name = text_at(status, "/name");
    let reason = text_at(status, "/state/waiting/reason");
    let message = text_at(status, "/state/waiting/message").trim();
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            let told = image_pull(pod, status, reason, message, snapshot);
            Some(("image pull", format!("{role} {name}: {told}")))
        }
        "CrashLoopBackOff" => Some(("crash loop", crash(pod, status, role, "/lastState", snapshot))),
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PostStartHookError" => {
            let help = if message.contains("not found") || message.contains("couldn't find key") {
                ": create it, or correct the reference in the values"
            } else if message.contains("runAsNonRoot") || message.contains("run as non-root") {
                ": set runAsUser, or use an image that names a user other than root"
            } else {
                ""
            };
            Some((
                "container cannot start",
                format!("{role} {name}: {reason}: {message}{help}"),
            ))
        }
        _ => {
            let code = number(status, "/state/terminated/exitCode")?;
            (code != 0).then(|| {
                let restarts = number(status, "/restartCount").unwrap_or(0);
                let reason = if restarts > 0 {
                    "crash loop"
                } else {
                    "container ended"
                };
                (reason, crash(pod, status, role, "/state", snapshot))
            })
        }
    }
}

/// Which image, what the registry said, and what that means.
fn image_pull(pod: &Value, status: &Value, reason: &str, message: &str, snapshot: &Snapshot) -> String {
    let image = text_at(status, "/image");
    // The back-off says less than the failure before it.
    let said = snapshot
        .events
        .iter()
        .filter(|event| text_at(event, "/involvedObject/uid") == text_at(pod, "/metadata/uid"))
        .filter(|event| {
            let message = text_at(event, "/message");
            message.starts_with("Failed to pull image") && message.contains(image)
        })
        .max_by_key(|event| super::seen(event))
        .map_or(message, |event| text_at(event, "/message").trim());
    let lower = said.to_lowercase();
    let any = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    let help = if reason == "InvalidImageName" {
        "correct the image's name in the values"
    } else if reason == "ErrImageNeverPull" {
        "imagePullPolicy is Never and the node does not have it"
    } else if any(&["toomanyrequests", "429", "rate limit"]) {
        "the registry limits pulls: log in (imagePullSecrets) or use a mirror"
    } else if any(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
        "403",
        "forbidden",
    ]) {
        "the registry refuses: check that the image exists and that imagePullSecrets may read it"
    } else if any(&["no match for platform", "no matching manifest"]) {
        "the image is not made for the node's architecture"
    } else if any(&["not found", "manifest unknown", "does not exist"]) {
        "the registry has no such image or tag: correct it in the values, or push it"
    } else if any(&["x509", "certificate"]) {
        "the node does not trust the registry's certificate"
    } else if any(&[
        "no such host",
        "dial tcp",
        "timeout",
        "connection refused",
        "no route",
    ]) {
        "the node does not reach the registry"
    } else {
        ""
    };
    let mut text = format!("image {image}: {reason}: {said}");
    if !help.is_empty() {
        text = format!("image {image}: {reason}: {help} ({said})");
    }
    text
}

/// How it ended, how often it was begun again, and what that means.
fn crash(pod: &Value, status: &Value, role: &str, state: &str, snapshot: &Snapshot) -> String {
    let name = text_at(status, "/name");
    let restarts = number(status, "/restartCount").unwrap_or(0);
    let ended = how_it_ended(status, state);
    let mut text = format!("{role} {name} {ended}, {restarts} restarts");
    let code = number(status, &format!("{state}/terminated/exitCode"));
    if text_at(status, &format!("{state}/terminated/reason")) == "OOMKilled" {
        let limit = memory_limit(pod, name).map_or_else(String::new, |limit| format!(" of {limit}"));
        text = format!("{text}; it used more memory than its limit{limit}: raise it");
    } else if matches!(code, Some(137 | 143)) {
        // The kubelet ends what does not pass its liveness or startup probe.
        let probe = last_event(&snapshot.events, text_at(pod, "/metadata/uid"), &["Unhealthy"])
            .filter(|event| event_container(event).is_none_or(|container| container == name))
            .map(|event| text_at(event, "/message").trim())
            .filter(|message| message.starts_with("Liveness") || message.starts_with("Startup"));
        if let Some(probe) = probe {
            text = format!("{text}; it was ended for its probe: {probe}");
        }
    } else if matches!(code, Some(126 | 127)) {
        text = format!("{text}; its command is not in the image or cannot be run");
    }
    text
}

fn memory_limit<'p>(pod: &'p Value, container: &str) -> Option<&'p str> {
    ["/spec/containers", "/spec/initContainers"]
        .iter()
        .filter_map(|field| pod.pointer(field)?.as_array())
        .flatten()
        .find(|candidate| text_at(candidate, "/name") == container)
        .map(|candidate| text_at(candidate, "/resources/limits/memory"))
        .filter(|limit| !limit.is_empty())
}

fn how_it_ended(status: &Value, state: &str) -> String {
    let reason = text_at(status, &format!("{state}/terminated/reason"));
    let message = text_at(status, &format!("{state}/terminated/message"));
    let mut text = match number(status, &format!("{state}/terminated/exitCode")) {
        Some(code) => format!("exited with {code}"),
        None => "ended".to_owned(),
    };
    if !reason.is_empty() && reason != "Error" {
        text = format!("{text} ({reason})");
    }
    if !message.is_empty() {
        text = format!("{text}: {}", message.trim());
    }
    text
}

fn ended_container(pod: &Value) -> Option<String> {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|field| pod.pointer(&format!("/status/{field}"))?.as_array())
        .flatten()
        .find(|status| number(status, "/state/terminated/exitCode").is_some_and(|code| code != 0))
        .map(|status| {
            format!(
                "container {} {}",
                text_at(status, "/name"),
                how_it_ended(status, "/state")
            )
        })
}

/// The init container that is at work; sidecars, which go on running, do not count.
fn running_init_container(pod: &Value) -> Option<&str> {
    let is_sidecar = |name: &str| {
        pod.pointer("/spec/initContainers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|container| {
                text_at(container, "/name") == name && text_at(container, "/restartPolicy") == "Always"
            })
    };
    pod.pointer("/status/initContainerStatuses")?
        .as_array()?
        .iter()
        .filter(|status| status.pointer("/state/running").is_some())
        .map(|status| text_at(status, "/name"))
        .find(|name| !is_sidecar(name))
}
