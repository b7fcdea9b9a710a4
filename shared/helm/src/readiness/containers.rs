//! Containers that do not get on: why, and what that means.

use serde_json::Value;

use super::{Snapshot, last_event, number, seen};
use crate::manifest::text_at;

/// The container that an event is about: `spec.containers{web}`.
pub(super) fn event_container(event: &Value) -> Option<&str> {
    text_at(event, "/involvedObject/fieldPath")
        .split_once('{')
        .and_then(|(_, rest)| rest.strip_suffix('}'))
}

/// A container that does not get on by itself.
pub(super) fn stuck_container(
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
        .max_by_key(|event| seen(event))
        .map_or(message, |event| text_at(event, "/message").trim());
    // Its tag or digest may hold any word or number.
    let lower = said.to_lowercase().replace(&image.to_lowercase(), "");
    let any = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    let help = if reason == "InvalidImageName" {
        "correct the image's name in the values"
    } else if reason == "ErrImageNeverPull" {
        "imagePullPolicy is Never and the node does not have it"
    } else if any(&["toomanyrequests", "too many requests", "rate limit"]) {
        "the registry limits pulls: log in (imagePullSecrets) or use a mirror"
    } else if any(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
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
    let ended = how_it_ended(pod, status, state);
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

fn how_it_ended(pod: &Value, status: &Value, state: &str) -> String {
    let reason = text_at(status, &format!("{state}/terminated/reason"));
    let containers = [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ]
    .iter()
    .filter_map(|field| pod.pointer(&format!("/status/{field}"))?.as_array())
    .map(Vec::len)
    .sum();
    let message = text_at(status, &format!("{state}/terminated/message"));
    let message = whole_lines(message, containers);
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

pub(super) fn ended_container(pod: &Value) -> Option<String> {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|field| pod.pointer(&format!("/status/{field}"))?.as_array())
        .flatten()
        .find(|status| number(status, "/state/terminated/exitCode").is_some_and(|code| code != 0))
        .map(|status| {
            format!(
                "container {} {}",
                text_at(status, "/name"),
                how_it_ended(pod, status, "/state")
            )
        })
}

/// The init container that is at work; sidecars, which go on running, do not count.
pub(super) fn running_init_container(pod: &Value) -> Option<&str> {
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

/// What a container left as its message, without what the node may have cut through: it keeps the last 2 KiB of a log or
/// 4 KiB of a file, and of that the first 12 KiB of all containers of a pod, in equal shares. Secrets are taken out later,
/// and of one that lies across a cut the rest would not be found.
fn whole_lines(message: &str, containers: usize) -> &str {
    const OF_A_LOG: usize = 2 << 10;
    const OF_A_POD: usize = 12 << 10;
    // The API may have made a longer one of a character that was cut through.
    const CHARACTER: usize = 4;
    let lines = message.contains('\n');
    let parts = |c: char| if lines { c == '\n' } else { c.is_whitespace() };
    let mut whole = message;
    if message.len() + CHARACTER > OF_A_POD / containers.max(1) {
        whole = whole.rsplit_once(parts).map_or("", |(whole, _)| whole);
    }
    if message.len() + CHARACTER > OF_A_LOG {
        whole = whole.split_once(parts).map_or("", |(_, whole)| whole);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_has_cut_through_is_left_out_of_a_message() {
        let log = |length: usize| format!("{}\nfatal: the end", "x".repeat(length - 15));
        assert_eq!(whole_lines(&log(1000), 1), log(1000));
        assert_eq!(whole_lines(&log(2048), 1), "fatal: the end");
        let line = format!("{} fatal: the end", "x".repeat(2032));
        assert_eq!(whole_lines(&line, 1), "fatal: the end", "of one line its words");
        assert_eq!(whole_lines(&"x".repeat(2048), 1), "");
        // A share of twelve is 1 KiB.
        let share = log(1024);
        assert_eq!(whole_lines(&share, 11), share);
        assert_eq!(whole_lines(&share, 12), "x".repeat(1024 - 15));
    }
}
