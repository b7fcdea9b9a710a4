//! Volume claims, Services, definitions and custom resources.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, find_condition, is_observed, last_event, number, wait, waiting};
use crate::manifest::text_at;

/// Bound; or of a class that binds when a pod comes, while none has.
pub(super) fn claim(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
    match text_at(object, "/status/phase") {
        "Bound" => State::Ready,
        "Lost" => State::Failed(wait(
            reference,
            "claim lost",
            "the volume that it was bound to is gone",
        )),
        _ => {
            let uid = text_at(object, "/metadata/uid");
            let event = last_event(&snapshot.events, uid, &[]);
            let reason = event.map(|event| text_at(event, "/reason")).unwrap_or_default();
            if reason == "WaitForFirstConsumer" && !is_used(reference, snapshot) {
                return State::Ready;
            }
            let message = match event {
                Some(event) => format!("{reason}: {}", text_at(event, "/message")),
                None => "no volume has been bound to it yet".to_owned(),
            };
            waiting(reference, "unbound claim", message)
        }
    }
}

fn is_used(claim: &ObjectReference, snapshot: &Snapshot) -> bool {
    snapshot
        .pods
        .iter()
        .filter(|pod| text_at(pod, "/metadata/namespace") == claim.namespace)
        .filter_map(|pod| pod.pointer("/spec/volumes")?.as_array())
        .flatten()
        .any(|volume| text_at(volume, "/persistentVolumeClaim/claimName") == claim.name)
}

/// A Service of type LoadBalancer has an address; any other is ready when it is there.
pub(super) fn service(reference: &ObjectReference, object: &Value) -> State {
    let has_any = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    if text_at(object, "/spec/type") != "LoadBalancer"
        || has_any("/status/loadBalancer/ingress")
        || has_any("/spec/externalIPs")
    {
        return State::Ready;
    }
    waiting(
        reference,
        "load balancer",
        "the cluster has not given it an address yet",
    )
}

/// Established; one whose names another has taken says so.
pub(super) fn definition(reference: &ObjectReference, object: &Value) -> State {
    match find_condition(object, "NamesAccepted") {
        Some(names) if text_at(names, "/status") == "False" => {
            waiting(reference, "names not accepted", text_at(names, "/message"))
        }
        _ => condition(reference, object, "Established"),
    }
}

/// Ready when the condition holds.
pub(super) fn condition(reference: &ObjectReference, object: &Value, name: &str) -> State {
    match find_condition(object, name) {
        Some(found) if text_at(found, "/status") == "True" => State::Ready,
        Some(found) => waiting(reference, &format!("not {name}"), said(found)),
        None => waiting(
            reference,
            &format!("not {name}"),
            "its controller has said nothing yet",
        ),
    }
}

/// A custom resource: observed, if it says what was observed, and `Ready`, if it has such a condition.
pub(super) fn custom(reference: &ObjectReference, object: &Value) -> State {
    let says_observed = number(object, "/status/observedGeneration").is_some();
    if says_observed && !is_observed(object) {
        return waiting(
            reference,
            "not observed",
            "its controller has not seen the newest specification yet",
        );
    }
    match find_condition(object, "Ready") {
        None => State::Ready,
        Some(ready) => {
            let generation = number(object, "/metadata/generation");
            let stale = number(ready, "/observedGeneration")
                .zip(generation)
                .is_some_and(|(seen, wanted)| seen < wanted);
            match text_at(ready, "/status") {
                "True" if stale => waiting(
                    reference,
                    "not observed",
                    "its Ready condition is of an older specification",
                ),
                "True" => State::Ready,
                _ => waiting(reference, "not Ready", said(ready)),
            }
        }
    }
}

fn said(condition: &Value) -> String {
    match (text_at(condition, "/reason"), text_at(condition, "/message")) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}
