//! What lives in a namespace, of whatever kind: a namespace that is not empty is not taken away.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::JobWait;
use slipway_ports::{FailureClass, ObjectReference, TargetError};

use super::{
    CONCURRENCY, ClusterTarget,
    ownership::{Owners, is_deleted, owners},
};
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

/// What was found in a namespace.
pub(super) struct Found {
    /// Every object that could be listed.
    pub(super) objects: Vec<Inhabitant>,
    /// Whether there may be others, of kinds that could not be listed.
    hides: bool,
}

impl ClusterTarget {
    /// Who lives in a namespace. What cannot be listed may hide something, so it counts.
    pub(super) async fn inhabitants(&self, namespace: &str) -> Result<Inhabitants, TargetError> {
        let found = self.objects_in(namespace).await?;
        if found.hides {
            return Ok(Inhabitants::Living);
        }
        let mut owners = Owners::new(self, namespace);
        for object in owned_from_outside(&found.objects) {
            if owners.keep(object).await? {
                return Ok(Inhabitants::Living);
            }
        }
        Ok(judge(&found.objects))
    }

    /// Every object in a namespace, of every kind that the server knows and lets us list, but for those that every
    /// namespace gets.
    pub(super) async fn objects_in(&self, namespace: &str) -> Result<Found, TargetError> {
        let mut kinds = Vec::new();
        let mut hides = false;
        for root in ["/api", "/apis"] {
            let Some(groups) = self.kubernetes.discover(root).await? else {
                hides = true;
                continue;
            };
            kinds.extend(listable(&groups, root));
            hides |= has_stale(&groups);
        }
        let lists: Vec<Option<Vec<Inhabitant>>> = stream::iter(kinds)
            .map(|kind| self.objects_of(kind, namespace.to_owned()))
            .buffer_unordered(CONCURRENCY)
            .map(|list| match list {
                Ok(objects) => Ok(Some(objects)),
                Err(error) if cannot_be_listed(&error) => Ok(None),
                Err(error) => Err(error),
            })
            .try_collect()
            .await?;
        hides |= lists.iter().any(Option::is_none);
        Ok(Found {
            objects: lists.into_iter().flatten().flatten().collect(),
            hides,
        })
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

/// Whether a list fails for longer than a moment: for want of a right, or because what converts the objects is gone.
fn cannot_be_listed(error: &TargetError) -> bool {
    error.class() == FailureClass::Permanent || error.to_string().contains("conversion webhook for")
}

pub(super) fn list(value: &Value, field: &str) -> Vec<Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

/// The groups of a discovery document, each with the version that the server prefers, which is the first.
fn preferred(groups: &Value) -> Vec<(Value, Value)> {
    let groups = list(groups, "items").into_iter();
    groups
        .filter_map(|group| {
            let version = list(&group, "versions").into_iter().next()?;
            Some((group, version))
        })
        .collect()
}

/// Whether the server that has the objects of a version does not answer the API server.
fn is_stale(version: &Value) -> bool {
    text_at(version, "/freshness") == "Stale"
}

/// Whether a server behind the API server does not answer: what objects it has is not known.
fn has_stale(groups: &Value) -> bool {
    preferred(groups).iter().any(|(_, version)| is_stale(version))
}

/// The kinds of a discovery document whose objects stand in namespaces and can be listed and deleted.
fn listable(groups: &Value, root: &str) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (group, version) in preferred(groups) {
        if is_stale(&version) {
            continue;
        }
        let name = text_at(&group, "/metadata/name");
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

fn uids(objects: &[Inhabitant]) -> HashSet<&str> {
    objects
        .iter()
        .map(|(_, object)| text_at(object, "/metadata/uid"))
        .collect()
}

/// The objects with an owner that was not found among them: one that has no namespace, or is gone.
fn owned_from_outside(objects: &[Inhabitant]) -> impl Iterator<Item = &Value> {
    let uids = uids(objects);
    objects.iter().map(|(_, object)| object).filter(move |object| {
        !is_deleted(object) && owners(object).any(|owner| !uids.contains(text_at(owner, "/uid")))
    })
}

/// What is owned goes with its owner: if that is there, it decides, and if not, the garbage collector is coming.
fn judge(objects: &[Inhabitant]) -> Inhabitants {
    let uids = uids(objects);
    let mut ending = None;
    for (reference, object) in objects {
        let mut owners = owners(object).map(|owner| text_at(owner, "/uid")).peekable();
        if !is_deleted(object) && owners.peek().is_none() {
            return Inhabitants::Living;
        }
        ending.get_or_insert_with(|| JobWait {
            object: reference.to_string(),
            reason: "ending".to_owned(),
            message: if is_deleted(object) {
                "it is being deleted".to_owned()
            } else if owners.any(|owner| uids.contains(owner)) {
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
        assert_eq!(owned_from_outside(&[owned.clone(), deleted.clone()]).count(), 1);
        let own = pod(json!({"name": "o", "uid": "gone"}));
        assert_eq!(owned_from_outside(&[owned.clone(), own.clone()]).count(), 0);
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
            {"metadata": {"name": "away.example"}, "versions": [
                {"version": "v1", "freshness": "Stale", "resources": [resource("asked", "Namespaced", &all)]},
            ]},
        ]});
        let shown: Vec<String> = listable(&groups, "/apis")
            .into_iter()
            .map(|kind| format!("{}/{}", kind.base, kind.plural))
            .collect();
        assert_eq!(shown, ["/apis/apps/v1/deployments"]);
        assert!(has_stale(&groups));
        assert!(!has_stale(
            &json!({"items": [{"versions": [{"version": "v1", "freshness": "Current"}]}]})
        ));
    }
}
