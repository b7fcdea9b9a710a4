//! Whether the node of a pod still answers.

use serde_json::Value;

use super::{Snapshot, find_condition, last_event, second, seen};
use crate::manifest::text_at;

/// What is said of the pods of a node that no longer answers.
pub(super) const NODE_LOST: &str = "NodeNotReady";

/// Whether a pod's node was said to be lost, and was not heard of since. The event of it lives for an hour.
pub(super) fn is_node_lost(pod: &Value, snapshot: &Snapshot) -> bool {
    let uid = text_at(pod, "/metadata/uid");
    let Some(event) = last_event(&snapshot.events, uid, &[NODE_LOST]) else {
        return false;
    };
    let lost = second(seen(event));
    // What only the node writes, but for `Ready`, which is set to false when it is lost, just before that is said.
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ]
    .iter()
    .filter_map(|name| find_condition(pod, name))
    .map(|condition| text_at(condition, "/lastTransitionTime"));
    let containers = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|field| pod.pointer(&format!("/status/{field}"))?.as_array())
        .flatten()
        .flat_map(|status| {
            [
                "/state/running/startedAt",
                "/state/terminated/finishedAt",
                "/lastState/terminated/finishedAt",
            ]
            .map(|field| text_at(status, field))
        });
    let events = about(uid, snapshot)
        .filter(|event| {
            ["/source/component", "/reportingComponent"]
                .iter()
                .any(|field| text_at(event, field) == "kubelet")
        })
        .map(seen);
    !conditions
        .chain(containers)
        .chain(events)
        .any(|time| second(time) > lost)
}

/// Events about a pod.
pub(super) fn about<'s>(uid: &str, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Value> {
    snapshot
        .events
        .iter()
        .filter(move |event| !uid.is_empty() && text_at(event, "/involvedObject/uid") == uid)
}
