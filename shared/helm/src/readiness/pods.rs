//! Pods: whether they are ready, and what keeps those that are not.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, TELLING, find_condition, last_event, number, wait, waiting};
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
        return tell("container ended", &what);
    }
    if let Some(scheduled) =
        find_condition(pod, "PodScheduled").filter(|condition| text_at(condition, "/status") == "False")
    {
        let message = text_at(scheduled, "/message");
        let reason = match text_at(scheduled, "/reason") {
            "SchedulingGated" => "scheduling gated",
            _ if message.contains("unbound immediate PersistentVolumeClaims")
                || (message.contains("persistentvolumeclaim") && message.contains("not found")) =>
            {
                "unbound claim"
            }
            _ => "unschedulable",
        };
        return tell(reason, message);
    }
    for (field, role) in [
        ("initContainerStatuses", "init container"),
        ("containerStatuses", "container"),
    ] {
        let statuses = pod.pointer(&format!("/status/{field}")).and_then(Value::as_array);
        for status in statuses.into_iter().flatten() {
            if let Some((reason, message)) = stuck_container(status, role) {
                return tell(reason, &message);
            }
        }
    }
    let uid = text_at(pod, "/metadata/uid");
    let hint = last_event(&snapshot.events, uid, &[]);
    let hinted = |fallback: &str| match hint {
        Some(event) => format!("{}: {}", text_at(event, "/reason"), text_at(event, "/message")),
        None => fallback.to_owned(),
    };
    if let Some(init) = running_init_container(pod) {
        return tell("init container", &format!("init container {init} runs"));
    }
    if phase == "Running" {
        if let Some(probe) = last_event(&snapshot.events, uid, &["Unhealthy", "ProbeWarning"]) {
            return tell("failing probe", text_at(probe, "/message"));
        }
        return tell("starting", &hinted("its containers run and are not ready yet"));
    }
    if text_at(pod, "/spec/nodeName").is_empty() {
        return tell("unschedulable", &hinted("no node has been found for it yet"));
    }
    tell("container creating", &hinted("its containers are being made"))
}

/// A container that does not get on by itself.
fn stuck_container(status: &Value, role: &str) -> Option<(&'static str, String)> {
    let name = text_at(status, "/name");
    let image = text_at(status, "/image");
    let reason = text_at(status, "/state/waiting/reason");
    let message = text_at(status, "/state/waiting/message");
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some((
            "image pull",
            format!("{role} {name}: image {image}: {reason}: {message}"),
        )),
        "CrashLoopBackOff" => {
            let restarts = number(status, "/restartCount").unwrap_or(0);
            Some((
                "crash loop",
                format!(
                    "{role} {name} {}, {restarts} restarts",
                    how_it_ended(status, "/lastState")
                ),
            ))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PostStartHookError" => Some((
            "container cannot start",
            format!("{role} {name}: {reason}: {message}"),
        )),
        _ => {
            let code = number(status, "/state/terminated/exitCode")?;
            (code != 0).then(|| {
                let restarts = number(status, "/restartCount").unwrap_or(0);
                let reason = if restarts > 0 {
                    "crash loop"
                } else {
                    "container ended"
                };
                let ended = how_it_ended(status, "/state");
                (reason, format!("{role} {name} {ended}, {restarts} restarts"))
            })
        }
    }
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
