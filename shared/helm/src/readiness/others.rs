//! Volume claims, Services, definitions and custom resources.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, find_condition, last_event, number, wait, waiting};
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
            let event = last_event(&snapshot.events, text_at(object, "/metadata/uid"), &[]);
            let reason = event.map(|event| text_at(event, "/reason")).unwrap_or_default();
            if reason == "WaitForFirstConsumer" && !is_used(reference, snapshot) {
                return State::Ready;
            }
            waiting(reference, "unbound claim", unbound(object, snapshot))
        }
    }
}

/// What a claim that is not bound waits for.
pub(super) fn unbound(claim: &Value, snapshot: &Snapshot) -> String {
    let class = text_at(claim, "/spec/storageClassName");
    let Some(event) = last_event(&snapshot.events, text_at(claim, "/metadata/uid"), &[]) else {
        return match class {
            "" => "no volume has been bound to it yet, and it names no storage class".to_owned(),
            class => format!("no volume of storage class {class} has been bound to it yet"),
        };
    };
    let message = text_at(event, "/message").trim();
    let told = format!("{}: {message}", text_at(event, "/reason"));
    match text_at(event, "/reason") {
        "ProvisioningFailed" if message.contains("storageclass") && message.contains("not found") => {
            format!(
                "{told}; storage class {class} does not exist: name one that does (kubectl get storageclass)"
            )
        }
        "FailedBinding" if message.contains("no storage class is set") => {
            format!("{told}; set a storage class in the values, or make one the cluster's default")
        }
        "ExternalProvisioning" => {
            format!("{told}; if that lasts, the provisioner of storage class {class} is not running")
        }
        _ => told,
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
pub(super) fn service(reference: &ObjectReference, object: &Value, snapshot: &Snapshot) -> State {
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
    let message = match last_event(&snapshot.events, text_at(object, "/metadata/uid"), &[]) {
        Some(event) => format!(
            "{}: {}",
            text_at(event, "/reason"),
            text_at(event, "/message").trim()
        ),
        None => {
            "the cluster has not given it an address yet; if that lasts, nothing in the cluster makes load \
                 balancers: install a controller that does, or use another type of Service"
                .to_owned()
        }
    };
    waiting(reference, "load balancer", message)
}

/// Established; names that another definition has taken stay taken.
pub(super) fn definition(reference: &ObjectReference, object: &Value) -> State {
    match find_condition(object, "NamesAccepted") {
        Some(names) if text_at(names, "/status") == "False" => {
            return State::Failed(wait(reference, "names not accepted", said(names)));
        }
        _ => {}
    }
    match find_condition(object, "Established") {
        Some(refused)
            if text_at(refused, "/status") == "False" && text_at(refused, "/reason") != "Installing" =>
        {
            State::Failed(wait(reference, "not Established", said(refused)))
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

/// Anything else, custom resources above all: `Ready`, if it has such a condition.
pub(super) fn custom(reference: &ObjectReference, object: &Value) -> State {
    let Some(ready) = find_condition(object, "Ready") else {
        return State::Ready;
    };
    if text_at(ready, "/status") != "True" {
        return waiting(reference, "not Ready", said(ready));
    }
    match (
        number(ready, "/observedGeneration"),
        number(object, "/metadata/generation"),
    ) {
        (Some(seen), Some(wanted)) if seen < wanted => waiting(
            reference,
            "not observed",
            "its Ready condition is of an older specification",
        ),
        _ => State::Ready,
    }
}

/// Reason and message of a condition.
pub(super) fn said(condition: &Value) -> String {
    match (text_at(condition, "/reason"), text_at(condition, "/message")) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}
