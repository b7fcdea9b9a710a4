//! What a change would lose or open.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_model::{Danger, DangerKind, ObjectChange, Quantity};

use crate::manifest::text_at;

/// Kinds that lead traffic from outside to Services.
const ROUTES: &[&str] = &[
    "GRPCRoute",
    "Gateway",
    "HTTPRoute",
    "Ingress",
    "IngressRoute",
    "Route",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "VirtualService",
];

/// Kinds whose pods stop when they are made again.
const WORKLOADS: &[&str] = &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"];

/// What is lost or opened when an object goes from `before` to `after`.
pub(crate) fn dangers(change: ObjectChange, before: Option<&Value>, after: Option<&Value>) -> Vec<Danger> {
    let Some(object) = after.or(before) else {
        return Vec::new();
    };
    let kind = text_at(object, "/kind");
    let named = format!("{kind}/{}", text_at(object, "/metadata/name"));
    let mut found = Vec::new();
    if matches!(change, ObjectChange::Delete | ObjectChange::Replace) {
        found.extend(taken_away(kind, &named, change));
    }
    if change == ObjectChange::Delete {
        return found;
    }
    let Some(after) = after else {
        return found;
    };
    match kind {
        "PersistentVolumeClaim" => found.extend(shrunk(before, after, &named)),
        "CustomResourceDefinition" => found.extend(unserved(before, after, &named)),
        _ => {}
    }
    found.extend(exposed(kind, before, after, &named));
    if let Some(before) = before
        && replicas(after) == Some(0)
        && replicas(before).unwrap_or(1) > 0
    {
        let message = format!("{named} is scaled to no replicas at all");
        found.push(Danger::new(DangerKind::ScaledToZero, message));
    }
    if change == ObjectChange::Change && kind == "StatefulSet" {
        found.extend(scaled_away(before, after, &named));
    }
    found
}

/// Claims of the pods that a StatefulSet does not have any more, where it says that they go with them. Of one that is
/// made again they stay.
fn scaled_away(before: Option<&Value>, after: &Value, named: &str) -> Option<Danger> {
    let ordinals = |set: &Value| {
        let start = set.pointer("/spec/ordinals/start").and_then(Value::as_i64);
        let start = start.unwrap_or(0);
        start..start.saturating_add(replicas(set).unwrap_or(1))
    };
    let (old, new) = (ordinals(before?), ordinals(after));
    let kept = old.end.min(new.end) - old.start.max(new.start);
    let all = old.end - old.start;
    let gone = all - kept.max(0);
    let goes = text_at(after, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled") == "Delete"
        && list(after, "/spec/volumeClaimTemplates").next().is_some();
    (goes && gone > 0).then(|| {
        Danger::new(
            DangerKind::Data,
            format!(
                "{named} loses {gone} of {all} pods, and their volume claims with them (whenScaled: Delete): their data may be lost"
            ),
        )
    })
}

fn taken_away(kind: &str, named: &str, change: ObjectChange) -> Option<Danger> {
    let is_replaced = change == ObjectChange::Replace;
    let verb = if is_replaced { "replaced" } else { "deleted" };
    let (danger, message) = match kind {
        "PersistentVolumeClaim" | "PersistentVolume" => (
            DangerKind::Data,
            format!("{named} is {verb}: the data of its volume may be lost"),
        ),
        "CustomResourceDefinition" => (
            DangerKind::Definition,
            format!("{named} is {verb}: all custom resources of its kind go with it"),
        ),
        "Namespace" => (
            DangerKind::Namespace,
            format!("{named} is {verb} with everything that lives in it"),
        ),
        kind if is_replaced && WORKLOADS.contains(&kind) => (
            DangerKind::Interruption,
            format!("{named} is replaced: its pods end before the new ones start"),
        ),
        _ => return None,
    };
    Some(Danger::new(danger, message))
}

fn shrunk(before: Option<&Value>, after: &Value, named: &str) -> Option<Danger> {
    let size = |object: &Value| -> Option<Quantity> {
        text_at(object, "/spec/resources/requests/storage").parse().ok()
    };
    let (old, new) = (size(before?)?, size(after)?);
    (new.units() < old.units()).then(|| {
        Danger::new(
            DangerKind::Data,
            format!("{named} shrinks from {old} to {new}: volumes cannot shrink without losing data"),
        )
    })
}

fn unserved(before: Option<&Value>, after: &Value, named: &str) -> Option<Danger> {
    let served = |object: &Value| -> BTreeSet<String> {
        let versions = object.pointer("/spec/versions").and_then(Value::as_array);
        versions
            .into_iter()
            .flatten()
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .map(|version| text_at(version, "/name").to_owned())
            .collect()
    };
    let now = served(after);
    let gone: Vec<String> = served(before?)
        .into_iter()
        .filter(|name| !now.contains(name))
        .collect();
    (!gone.is_empty()).then(|| {
        Danger::new(
            DangerKind::Definition,
            format!("{named} does not serve {} any more", gone.join(", ")),
        )
    })
}

fn exposed(kind: &str, before: Option<&Value>, after: &Value, named: &str) -> Vec<Danger> {
    let mut told: Vec<String> = Vec::new();
    if ROUTES.contains(&kind) {
        let known = before.map(hosts).unwrap_or_default();
        let new: Vec<String> = hosts(after).difference(&known).cloned().collect();
        if before.is_none() || !new.is_empty() {
            let hosts = if new.is_empty() {
                String::new()
            } else {
                format!(" at {}", new.join(", "))
            };
            told.push(format!(
                "{named} leads traffic from outside into the cluster{hosts}"
            ));
        }
    }
    if kind == "Service" {
        let service_type = |object: &Value| text_at(object, "/spec/type").to_owned();
        let now = service_type(after);
        if matches!(now.as_str(), "LoadBalancer" | "NodePort")
            && before.map(service_type) != Some(now.clone())
        {
            told.push(format!(
                "{named} becomes reachable from outside the cluster: type {now}"
            ));
        }
        let has_addresses = |object: &Value| {
            object
                .pointer("/spec/externalIPs")
                .and_then(Value::as_array)
                .is_some_and(|addresses| !addresses.is_empty())
        };
        if has_addresses(after) && !before.is_some_and(has_addresses) {
            told.push(format!("{named} answers at external addresses"));
        }
    }
    let known = before.map(node_access).unwrap_or_default();
    for access in node_access(after).difference(&known) {
        told.push(format!("{named} gets {access}"));
    }
    told.into_iter()
        .map(|message| Danger::new(DangerKind::Exposure, message))
        .collect()
}

/// Hosts that a route answers for.
fn hosts(route: &Value) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for rule in list(route, "/spec/rules") {
        hosts.insert(text_at(rule, "/host").to_owned());
    }
    for field in ["/spec/hostnames", "/spec/hosts"] {
        hosts.extend(list(route, field).filter_map(Value::as_str).map(str::to_owned));
    }
    hosts.insert(text_at(route, "/spec/host").to_owned());
    hosts.remove("");
    hosts
}

/// In what ways the pods of an object reach their node.
fn node_access(object: &Value) -> BTreeSet<String> {
    let mut access = BTreeSet::new();
    let places = [
        "/spec/template/spec",
        "/spec/jobTemplate/spec/template/spec",
        "/spec",
    ];
    let Some(spec) = places
        .iter()
        .filter_map(|place| object.pointer(place))
        .find(|spec| spec.get("containers").is_some())
    else {
        return access;
    };
    for (field, words) in [
        ("hostNetwork", "the network of its node"),
        ("hostPID", "the processes of its node"),
        ("hostIPC", "the shared memory of its node"),
    ] {
        if spec.get(field) == Some(&Value::Bool(true)) {
            access.insert(words.to_owned());
        }
    }
    for volume in list(spec, "/volumes") {
        if let Some(path) = volume.pointer("/hostPath/path").and_then(Value::as_str) {
            access.insert(format!("the folder {path} of its node"));
        }
    }
    for container in list(spec, "/initContainers").chain(list(spec, "/containers")) {
        let name = text_at(container, "/name");
        if container.pointer("/securityContext/privileged") == Some(&Value::Bool(true)) {
            access.insert(format!("all rights on its node (container {name} is privileged)"));
        }
        for port in list(container, "/ports") {
            if let Some(port) = port
                .get("hostPort")
                .and_then(Value::as_u64)
                .filter(|port| *port > 0)
            {
                access.insert(format!("port {port} of its node"));
            }
        }
    }
    access
}

fn replicas(object: &Value) -> Option<i64> {
    object.pointer("/spec/replicas")?.as_i64()
}

fn list<'v>(object: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ObjectChange::{Change, Create, Delete, Replace};

    /// The kinds of danger of a change of an object of `kind`, whose other fields are given.
    fn found(
        change: ObjectChange,
        kind: &str,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Vec<DangerKind> {
        let object = |spec: Value| json!({"kind": kind, "metadata": {"name": "x"}, "spec": spec});
        let (before, after) = (before.map(object), after.map(object));
        dangers(change, before.as_ref(), after.as_ref())
            .into_iter()
            .map(|danger| danger.kind)
            .collect()
    }

    #[test]
    fn what_goes_with_an_object_is_said() {
        for (kind, danger) in [
            ("PersistentVolumeClaim", Some(DangerKind::Data)),
            ("CustomResourceDefinition", Some(DangerKind::Definition)),
            ("Namespace", Some(DangerKind::Namespace)),
            ("Deployment", None),
            ("ConfigMap", None),
        ] {
            let danger: Vec<DangerKind> = danger.into_iter().collect();
            assert_eq!(found(Delete, kind, Some(json!({})), None), danger, "{kind}");
        }
        let replaced = found(Replace, "StatefulSet", Some(json!({})), Some(json!({})));
        assert_eq!(replaced, [DangerKind::Interruption]);
    }

    #[test]
    fn a_claim_may_grow_and_not_shrink() {
        let claim = |size: &str| Some(json!({"resources": {"requests": {"storage": size}}}));
        let kind = "PersistentVolumeClaim";
        assert_eq!(
            found(Change, kind, claim("10Gi"), claim("9000Mi")),
            [DangerKind::Data]
        );
        assert_eq!(found(Change, kind, claim("10Gi"), claim("20Gi")), []);
        assert_eq!(found(Create, kind, None, claim("1Gi")), []);
    }

    #[test]
    fn a_definition_that_stops_serving_a_version_is_said() {
        let definition = |served: bool| {
            Some(json!({"versions": [{"name": "v1", "served": true}, {"name": "v1beta1", "served": served}]}))
        };
        let kind = "CustomResourceDefinition";
        assert_eq!(
            found(Change, kind, definition(true), definition(false)),
            [DangerKind::Definition]
        );
        assert_eq!(found(Change, kind, definition(false), definition(true)), []);
    }

    #[test]
    fn what_opens_a_way_in_is_said_once() {
        let service = |kind: &str| Some(json!({"type": kind}));
        for (before, after, is_opened) in [
            (service("ClusterIP"), service("LoadBalancer"), true),
            (None, service("NodePort"), true),
            (service("LoadBalancer"), service("LoadBalancer"), false),
            (service("LoadBalancer"), service("ClusterIP"), false),
        ] {
            let danger = found(Change, "Service", before, after);
            assert_eq!(danger == [DangerKind::Exposure], is_opened, "{danger:?}");
        }
        let ingress = |host: &str| Some(json!({"rules": [{"host": host}]}));
        assert_eq!(
            found(Create, "Ingress", None, ingress("a")),
            [DangerKind::Exposure]
        );
        assert_eq!(
            found(Change, "Ingress", ingress("a"), ingress("b")),
            [DangerKind::Exposure]
        );
        assert_eq!(found(Change, "Ingress", ingress("a"), ingress("a")), []);
    }

    #[test]
    fn every_way_to_the_node_is_said() {
        let pod = |extra: Value| {
            let mut spec = json!({"containers": [{"name": "c"}]});
            for (key, value) in extra.as_object().unwrap() {
                spec[key] = value.clone();
            }
            Some(json!({"template": {"spec": spec}}))
        };
        for extra in [
            json!({"hostNetwork": true}),
            json!({"hostPID": true}),
            json!({"hostIPC": true}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}),
            json!({"initContainers": [{"name": "i", "ports": [{"hostPort": 80}]}]}),
        ] {
            let opened = found(Change, "Deployment", pod(json!({})), pod(extra.clone()));
            assert_eq!(opened, [DangerKind::Exposure], "{extra}");
            assert_eq!(found(Change, "Deployment", pod(extra.clone()), pod(extra)), []);
        }
    }

    #[test]
    fn claims_that_go_with_pods_are_said_and_those_of_a_set_stay() {
        let set = |when_scaled: &str, start: i64, count: i64| {
            Some(json!({
                "replicas": count,
                "ordinals": {"start": start},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": when_scaled},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            }))
        };
        let kind = "StatefulSet";
        let changed = |before, after| found(Change, kind, before, after);
        let data = [DangerKind::Data];
        assert_eq!(changed(set("Delete", 0, 3), set("Delete", 0, 1)), data);
        assert_eq!(changed(set("Retain", 0, 3), set("Delete", 0, 2)), data);
        assert_eq!(changed(set("Delete", 0, 3), set("Delete", 2, 3)), data);
        assert_eq!(
            changed(set("Delete", 0, 1), set("Delete", 0, 0)),
            [DangerKind::ScaledToZero, DangerKind::Data]
        );
        assert_eq!(changed(set("Delete", 0, 3), set("Retain", 0, 1)), []);
        assert_eq!(changed(set("Delete", 0, 1), set("Delete", 0, 3)), []);
        let mut bare = set("Delete", 0, 1);
        bare.as_mut().unwrap()["volumeClaimTemplates"] = json!([]);
        assert_eq!(changed(set("Delete", 0, 3), bare), []);
        assert_eq!(found(Delete, kind, set("Delete", 0, 3), None), []);
        assert_eq!(
            found(Replace, kind, set("Delete", 0, 3), set("Delete", 0, 1)),
            [DangerKind::Interruption]
        );
    }

    #[test]
    fn scaling_to_nothing_is_said() {
        let replicas = |count: i64| Some(json!({"replicas": count}));
        assert_eq!(
            found(Change, "Deployment", replicas(2), replicas(0)),
            [DangerKind::ScaledToZero]
        );
        assert_eq!(
            found(Change, "Deployment", Some(json!({})), replicas(0)),
            [DangerKind::ScaledToZero]
        );
        assert_eq!(found(Change, "Deployment", replicas(0), replicas(0)), []);
        assert_eq!(found(Create, "Deployment", None, replicas(0)), []);
    }
}
