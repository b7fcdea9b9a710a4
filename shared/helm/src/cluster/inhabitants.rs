//! What lives in a namespace, of whatever kind: a namespace that is not empty is not taken away.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::JobWait;
use slipway_ports::{ObjectReference, TargetError};

use super::{CONCURRENCY, ClusterTarget};
use crate::{client::encode, manifest::text_at};

/// Kinds that are only a shadow of others, by group and plural.
const SHADOWS: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("apps", "controllerrevisions"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
];

/// Objects that every namespace gets, by plural and name.
const ALWAYS_THERE: &[(&str, &str)] = &[
    ("configmaps", "kube-root-ca.crt"),
    ("configmaps", "openshift-service-ca.crt"),
    ("configmaps", "istio-ca-root-cert"),
    ("serviceaccounts", "default"),
    ("serviceaccounts", "builder"),
    ("serviceaccounts", "deployer"),
];

/// Who is there.
#[derive(Debug, PartialEq)]
pub(super) enum Inhabitants {
    /// Nobody.
    None,
    /// Only what is on its way out; one of them.
    Ending(JobWait),
    /// Something that stays.
    Living,
}

/// A kind whose objects are in namespaces.
struct Kind {
    base: String,
    plural: String,
    kind: String,
}

/// An object in a namespace: what it is, and its metadata.
pub(super) type Inhabitant = (ObjectReference, Value);

impl ClusterTarget {
    /// Who lives in a namespace. What cannot be listed may hide something, so it counts.
    pub(super) async fn inhabitants(&self, namespace: &str) -> Result<Inhabitants, TargetError> {
        Ok(match self.objects_in(namespace).await? {
            Some(objects) => judge(&objects),
            None => Inhabitants::Living,
        })
    }

    /// Every object in a namespace, of every kind that the server knows, but for those that every namespace gets; none
    /// if the server cannot tell what it knows.
    pub(super) async fn objects_in(&self, namespace: &str) -> Result<Option<Vec<Inhabitant>>, TargetError> {
        let mut kinds = Vec::new();
        for root in ["/api", "/apis"] {
            match self.kubernetes.discover(root).await? {
                Some(groups) => kinds.extend(listable(&groups, root)),
                None => return Ok(None),
            }
        }
        let found: Vec<Vec<Inhabitant>> = stream::iter(kinds)
            .map(|kind| self.objects_of(kind, namespace.to_owned()))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(Some(found.concat()))
    }

    async fn objects_of(&self, kind: Kind, namespace: String) -> Result<Vec<Inhabitant>, TargetError> {
        let path = format!("{}/namespaces/{}/{}", kind.base, encode(&namespace), kind.plural);
        let api_version = kind.base.trim_start_matches("/apis/").trim_start_matches("/api/");
        let objects = self.kubernetes.list_metadata(&path, "").await?;
        Ok(objects
            .into_iter()
            .filter(|object| {
                !ALWAYS_THERE.contains(&(kind.plural.as_str(), text_at(object, "/metadata/name")))
            })
            .map(|object| {
                let reference = ObjectReference {
                    api_version: api_version.to_owned(),
                    kind: kind.kind.clone(),
                    namespace: namespace.clone(),
                    name: text_at(&object, "/metadata/name").to_owned(),
                };
                (reference, object)
            })
            .collect())
    }
}

/// The kinds of a discovery document whose objects stand in namespaces and can be listed and deleted.
fn listable(groups: &Value, root: &str) -> Vec<Kind> {
    let list = |value: &Value, field: &str| -> Vec<Value> {
        value
            .get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut kinds = Vec::new();
    for group in list(groups, "items") {
        let name = text_at(&group, "/metadata/name");
        // The first version is the one that the server prefers.
        let Some(version) = list(&group, "versions").into_iter().next() else {
            continue;
        };
        let base = [root, name, text_at(&version, "/version")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        for resource in list(&version, "resources") {
            let plural = text_at(&resource, "/resource");
            let can = |verb: &str| list(&resource, "verbs").iter().any(|known| known == verb);
            if text_at(&resource, "/scope") == "Namespaced"
                && can("list")
                && can("delete")
                && !SHADOWS.contains(&(name, plural))
            {
                kinds.push(Kind {
                    base: base.clone(),
                    plural: plural.to_owned(),
                    kind: text_at(&resource, "/responseKind/kind").to_owned(),
                });
            }
        }
    }
    kinds
}

/// What is owned goes with its owner: if that is there, it decides, and if not, the garbage collector is coming.
fn judge(objects: &[Inhabitant]) -> Inhabitants {
    let uids: HashSet<&str> = objects
        .iter()
        .map(|(_, object)| text_at(object, "/metadata/uid"))
        .collect();
    let mut ending = None;
    for (reference, object) in objects {
        let owners: Vec<&str> = object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|owner| text_at(owner, "/uid"))
            .collect();
        let is_deleted = object.pointer("/metadata/deletionTimestamp").is_some();
        if !is_deleted && owners.is_empty() {
            return Inhabitants::Living;
        }
        ending.get_or_insert_with(|| JobWait {
            object: reference.to_string(),
            reason: "ending".to_owned(),
            message: if is_deleted {
                "it is being deleted".to_owned()
            } else if owners.iter().any(|owner| uids.contains(owner)) {
                "its owner is being deleted".to_owned()
            } else {
                "its owner is gone".to_owned()
            },
        });
    }
    ending.map_or(Inhabitants::None, Inhabitants::Ending)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_owned_or_deleted_is_ending_and_anything_else_lives() {
        let pod = |metadata: Value| {
            let reference = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespace: "ns".to_owned(),
                name: text_at(&metadata, "/name").to_owned(),
            };
            (reference, json!({"metadata": metadata}))
        };
        assert_eq!(judge(&[]), Inhabitants::None);
        let owned = pod(json!({"name": "p", "uid": "1", "ownerReferences": [{"uid": "gone"}]}));
        let deleted = pod(json!({"name": "d", "uid": "2", "deletionTimestamp": "now"}));
        let told = judge(&[owned.clone(), deleted.clone()]);
        assert!(
            matches!(&told, Inhabitants::Ending(wait) if wait.to_string() == "Pod/p: ending (its owner is gone)")
        );
        let own = pod(json!({"name": "o", "uid": "gone"}));
        assert_eq!(judge(&[deleted, owned, own]), Inhabitants::Living);
    }

    #[test]
    fn kinds_come_in_the_preferred_version_without_shadows_and_what_has_no_namespace() {
        let resource = |plural: &str, scope: &str, verbs: &[&str]| json!({"resource": plural, "scope": scope, "verbs": verbs, "responseKind": {"kind": plural}});
        let all = ["list", "delete"];
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "resources": [
                    resource("deployments", "Namespaced", &all),
                    resource("controllerrevisions", "Namespaced", &all),
                    resource("nodes", "Cluster", &all),
                    resource("scales", "Namespaced", &["get"]),
                ]},
                {"version": "v1beta1", "resources": [resource("old", "Namespaced", &all)]},
            ]},
        ]});
        let shown: Vec<String> = listable(&groups, "/apis")
            .into_iter()
            .map(|kind| format!("{}/{}", kind.base, kind.plural))
            .collect();
        assert_eq!(shown, ["/apis/apps/v1/deployments"]);
    }
}
