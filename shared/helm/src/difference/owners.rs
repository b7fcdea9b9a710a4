//! Who owns a field, as the API server keeps it in `metadata.managedFields`.

use serde_json::Value;

/// A manager that owns a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// As the manager calls itself.
    pub(crate) name: String,
    /// Such as `scale`; empty for the object itself.
    pub(crate) subresource: String,
}

impl Owner {
    /// Whether it is a controller that does its work, and not somebody who deploys or edits.
    pub(crate) fn is_controller(&self) -> bool {
        let name = self.name.to_lowercase();
        let deploys = [
            "argocd",
            "helm",
            "kustomize",
            "flux",
            "kubectl",
            "terraform",
            "pulumi",
        ];
        if deploys.iter().any(|word| name.starts_with(word)) {
            return false;
        }
        let works = [
            "controller",
            "operator",
            "autoscaler",
            "scheduler",
            "kubelet",
            "vpa-",
            "keda",
        ];
        works.iter().any(|word| name.contains(word)) || name == "manager" || name == "kube-apiserver"
    }
}

/// The managers that own the field at a pointer, or all of what stands there.
pub(crate) fn owners(object: &Value, pointer: &str) -> Vec<Owner> {
    let parts: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    entries
        .filter(|entry| {
            entry
                .get("fieldsV1")
                .is_some_and(|fields| owns(fields, object, &parts))
        })
        .map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
            Owner {
                name: text("manager").to_owned(),
                subresource: text("subresource").to_owned(),
            }
        })
        .collect()
}

/// Whether a set of fields has the one at `parts` of `object`. A set that ends above it owns everything below.
fn owns(fields: &Value, object: &Value, parts: &[String]) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return true;
    };
    let Some(known) = fields.as_object() else {
        return false;
    };
    if known.is_empty() {
        // Owned as a whole.
        return true;
    }
    match object {
        Value::Array(items) => {
            let Some(item) = part.parse::<usize>().ok().and_then(|index| items.get(index)) else {
                return false;
            };
            known
                .iter()
                .any(|(key, below)| is_item(key, item, part) && owns(below, item, rest))
        }
        _ => known.get(&format!("f:{part}")).is_some_and(|below| {
            let value = object.get(part).unwrap_or(&Value::Null);
            owns(below, value, rest)
        }),
    }
}

/// Whether a key of a set means this item of a list: by its fields, its value, or its place.
fn is_item(key: &str, item: &Value, index: &str) -> bool {
    let Some((kind, text)) = key.split_once(':') else {
        return false;
    };
    match kind {
        "k" => serde_json::from_str::<Value>(text).is_ok_and(|wanted| {
            wanted
                .as_object()
                .is_some_and(|wanted| wanted.iter().all(|(field, value)| item.get(field) == Some(value)))
        }),
        "v" => serde_json::from_str::<Value>(text).is_ok_and(|wanted| &wanted == item),
        "i" => text == index,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn owners_are_found_through_named_items_and_atomic_fields() {
        let object = json!({
            "metadata": {"managedFields": [
                {"manager": "helm", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}, "f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}}},
                {"manager": "kube-controller-manager", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:tag": {}}}}}},
            ]},
            "spec": {"replicas": 3, "selector": {"a": "b"}, "containers": [{"name": "other"}, {"name": "web", "image": "x", "tag": 1}]},
        });
        let names = |pointer: &str| -> Vec<String> {
            owners(&object, pointer)
                .into_iter()
                .map(|owner| owner.name)
                .collect()
        };
        assert_eq!(names("/spec/replicas"), ["helm", "kube-controller-manager"]);
        assert_eq!(names("/spec/containers/1/image"), ["helm"]);
        assert_eq!(names("/spec/containers/1/tag"), ["kubectl-edit"]);
        assert_eq!(names("/spec/containers/0/image"), [""; 0]);
        assert_eq!(names("/spec/selector/a"), ["helm"], "owned as a whole");
        assert_eq!(names("/spec/paused"), [""; 0]);
    }

    #[test]
    fn controllers_are_told_from_those_who_deploy() {
        let is_controller = |name: &str| {
            Owner {
                name: name.to_owned(),
                subresource: String::new(),
            }
            .is_controller()
        };
        for name in [
            "kube-controller-manager",
            "vpa-updater",
            "cluster-autoscaler",
            "cert-manager-cainjector-controller",
            "manager",
        ] {
            assert!(is_controller(name), "{name}");
        }
        for name in [
            "kubectl-edit",
            "kubectl",
            "argocd-controller",
            "helm-controller",
            "helm",
            "node-fetch",
            "unknown",
        ] {
            assert!(!is_controller(name), "{name}");
        }
    }
}
