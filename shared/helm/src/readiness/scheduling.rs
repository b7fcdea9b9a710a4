//! Why the scheduler finds no node: its message, taken apart and held against what the pod asks for.

use serde_json::Value;
use slipway_model::Quantity;

use super::Snapshot;
use crate::manifest::text_at;

/// What keeps a pod without a node, as a reason and a message; `message` is the scheduler's.
pub(super) fn explain(pod: &Value, message: &str, snapshot: &Snapshot) -> (&'static str, String) {
    if message.contains("unbound immediate PersistentVolumeClaims")
        || (message.contains("persistentvolumeclaim") && message.contains("not found"))
    {
        return ("unbound claim", claims(pod, message, snapshot));
    }
    let Some((counts, reasons)) = message.split_once(" nodes are available: ") else {
        return ("unschedulable", message.to_owned());
    };
    // What follows tells that taking claims or the place of other pods would not help either.
    let reasons = reasons
        .split(". ")
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    let mut told: Vec<(usize, String)> = parts(reasons)
        .into_iter()
        .map(|(count, reason)| tell(pod, count, reason, snapshot))
        .collect();
    told.sort_by_key(|(rank, _)| *rank);
    let told: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
    (
        "unschedulable",
        format!("{counts} nodes fit: {}", told.join("; ")),
    )
}

/// `3 Insufficient cpu, 1 node(s) had untolerated taint {a: b, c: d}` → counts and reasons. A comma parts two reasons
/// only where a count follows.
fn parts(reasons: &str) -> Vec<(&str, &str)> {
    let mut parts = Vec::new();
    let mut rest = reasons;
    loop {
        let end = rest
            .match_indices(", ")
            .map(|(at, _)| at)
            .find(|at| {
                let next = &rest[at + 2..];
                let word = next.split(' ').next().unwrap_or_default();
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
            })
            .unwrap_or(rest.len());
        let (count, reason) = rest[..end].split_once(' ').unwrap_or(("", &rest[..end]));
        parts.push((count, reason.trim()));
        match rest.get(end + 2..) {
            Some(next) => rest = next,
            None => return parts,
        }
    }
}

/// One reason in words, after a rank: what no node could ever give comes first.
fn tell(pod: &Value, count: &str, reason: &str, snapshot: &Snapshot) -> (usize, String) {
    if let Some(resource) = reason.strip_prefix("Insufficient ") {
        return insufficient(pod, count, resource, snapshot);
    }
    if reason == "Too many pods" {
        return (2, format!("{count} nodes run as many pods as they may"));
    }
    if let Some((_, taint)) = reason.split_once("untolerated taint") {
        let taint = taint.trim_start_matches("(s)").trim();
        return (
            3,
            format!("{count} nodes have taint {taint}, which the pod does not tolerate"),
        );
    }
    if reason.contains("didn't match Pod's node affinity") {
        let selector = pod.pointer("/spec/nodeSelector").map(labels).unwrap_or_default();
        let wanted = match selector.as_str() {
            "" => "its node affinity".to_owned(),
            selector => format!("its node selector {selector}"),
        };
        return (1, format!("{count} nodes do not match {wanted}"));
    }
    if reason.contains("volume node affinity conflict") {
        let text = format!("{count} nodes are not where its volume is (another zone or node): {reason}");
        return (1, text);
    }
    if reason.contains("were unschedulable") {
        return (3, format!("{count} nodes are cordoned"));
    }
    if reason.contains("free ports") {
        return (2, format!("on {count} nodes its host ports are taken"));
    }
    (2, format!("{count} {reason}"))
}

fn insufficient(pod: &Value, count: &str, resource: &str, snapshot: &Snapshot) -> (usize, String) {
    let raw = format!("{count} Insufficient {resource}");
    let Some(needed) = request(pod, resource) else {
        return (1, raw);
    };
    if snapshot.nodes.is_empty() {
        return (1, format!("needs {resource} {needed} ({raw})"));
    }
    let most = snapshot
        .nodes
        .iter()
        .filter_map(|node| quantity(node.pointer("/status/allocatable")?.get(resource)?))
        .max_by_key(|(_, amount)| *amount);
    match most {
        Some((_, 0)) | None => (
            0,
            format!("needs {resource} {needed}, and no node has any ({raw})"),
        ),
        Some((shown, amount)) if amount < needed.amount => (
            0,
            format!("needs {resource} {needed}, and no node has more than {shown} ({raw})"),
        ),
        Some((shown, _)) => (
            1,
            format!(
                "needs {resource} {needed}; nodes have up to {shown}, but too little of it is free ({raw})"
            ),
        ),
    }
}

/// How much of a resource a pod asks for.
struct Needed {
    amount: u64,
    shown: String,
}

impl std::fmt::Display for Needed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The sum over its containers, or the largest init container if that is more.
fn request(pod: &Value, resource: &str) -> Option<Needed> {
    let of = |field: &str| -> Vec<(String, u64)> {
        pod.pointer(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|container| {
                let resources = container.get("resources")?;
                let amounts = ["requests", "limits"]
                    .iter()
                    .find_map(|kind| resources.get(kind)?.get(resource))?;
                quantity(amounts)
            })
            .collect()
    };
    let containers = of("/spec/containers");
    let together = containers
        .iter()
        .fold(0u64, |sum, (_, amount)| sum.saturating_add(*amount));
    let largest = of("/spec/initContainers")
        .into_iter()
        .max_by_key(|(_, amount)| *amount)
        .filter(|(_, amount)| *amount > together);
    let shown = match (&largest, containers.as_slice()) {
        (Some((shown, _)), _) | (None, [(shown, _)]) => shown.clone(),
        (None, []) => return None,
        (None, several) => several
            .iter()
            .map(|(shown, _)| shown.as_str())
            .collect::<Vec<_>>()
            .join(" + "),
    };
    Some(Needed {
        amount: largest.map_or(together, |(_, amount)| amount),
        shown,
    })
}

/// As it is written, and in thousandths.
fn quantity(value: &Value) -> Option<(String, u64)> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let amount = text.parse::<Quantity>().ok()?.millis();
    Some((text, amount))
}

fn labels(selector: &Value) -> String {
    let pairs = selector.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the pod's claims wait for, where they are known.
fn claims(pod: &Value, message: &str, snapshot: &Snapshot) -> String {
    let namespace = text_at(pod, "/metadata/namespace");
    let names = pod
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| text_at(volume, "/persistentVolumeClaim/claimName"))
        .filter(|name| !name.is_empty());
    let told: Vec<String> = names
        .filter_map(|name| {
            let claim = snapshot.claims.iter().find(|claim| {
                text_at(claim, "/metadata/name") == name && text_at(claim, "/metadata/namespace") == namespace
            });
            match claim {
                None if message.contains("not found") => Some(format!(
                    "claim {name} does not exist: create it, or name another in the values"
                )),
                None => None,
                Some(claim) if text_at(claim, "/status/phase") == "Bound" => None,
                Some(claim) => Some(format!(
                    "claim {name}: {}",
                    super::others::unbound(claim, snapshot)
                )),
            }
        })
        .collect();
    if told.is_empty() {
        message.to_owned()
    } else {
        told.join("; ")
    }
}
