//! Comparing objects: what a change does to them, in text for people, and which fields somebody else changed.

mod dangers;
mod fields;
mod hiding;
mod owners;
mod text;

pub(crate) use dangers::dangers;
pub(crate) use fields::{covers, differing, is_pointer};
pub(crate) use hiding::Hidden;
pub(crate) use owners::{Owner, owners};
pub(crate) use text::unified;

use serde_json::Value;

/// Metadata that only the server sets.
const SERVER_METADATA: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotations that controllers and clients keep their notes in.
const NOTES: &[&str] = &[
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// The object without what only the server sets: what is left is what somebody wants.
pub(crate) fn wanted_part(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else {
        return object;
    };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            metadata.remove(*field);
        }
        let is_empty = match metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            Some(annotations) => {
                for note in NOTES {
                    annotations.remove(*note);
                }
                annotations.is_empty()
            }
            None => false,
        };
        if is_empty {
            metadata.remove("annotations");
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_the_server_sets_is_no_part_of_what_is_wanted() {
        let live = json!({
            "kind": "Deployment", "status": {"replicas": 1}, "spec": {"replicas": 1},
            "metadata": {"name": "a", "uid": "1", "generation": 2, "managedFields": [],
                "annotations": {"deployment.kubernetes.io/revision": "3"}, "labels": {"l": "1"}},
        });
        assert_eq!(
            wanted_part(&live),
            json!({"kind": "Deployment", "spec": {"replicas": 1}, "metadata": {"name": "a", "labels": {"l": "1"}}})
        );
    }
}
