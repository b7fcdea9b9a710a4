//! Volume claims outlive what used them: nothing deletes one that nobody asked for by name. Helm would delete those of
//! its manifest, and the garbage collector those that belong to a StatefulSet: with
//! `persistentVolumeClaimRetentionPolicy.whenDeleted: Delete` its controller makes it the owner of the claims of its
//! templates.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt as _;
use serde_json::{Value, json};
use slipway_ports::{ObjectReference, Release, TargetError};
use tokio::time::timeout;

use super::{
    ClusterTarget,
    uninstall::{is_kept, is_own},
};
use crate::{
    client::{PatchKind, encode},
    manifest::{RESOURCE_POLICY, text_at},
};

/// Annotation of a StatefulSet that Helm is kept from deleting, because its claims would go with it: what its chart does
/// not have any more is deleted by Slipway, after its claims were taken from it.
pub(super) const GUARD: &str = "slipway.dev/claims-guarded";

const CLAIM: &str = "PersistentVolumeClaim";

const WHEN_DELETED: &str = "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted";

/// How long the StatefulSet controller may take to notice that claims are to stay.
const PATIENCE: Duration = Duration::from_secs(30);

impl ClusterTarget {
    /// Has Helm leave the release's volume claims alone, and those of `objects` that claims would go with: it would
    /// delete one that its next revision does not have. What it asks is the annotation of the object itself; whose that
    /// says that the object is, it does not ask.
    pub(super) async fn protect_claims(
        &self,
        release: &Release,
        objects: &[ObjectReference],
    ) -> Result<(), TargetError> {
        let collection = claims_of(&release.namespace);
        for claim in self.kubernetes.list_metadata(&collection, "").await? {
            let name = text_at(&claim, "/metadata/name");
            let is_recorded = objects.iter().any(|object| {
                object.kind == CLAIM && object.namespace == release.namespace && object.name == name
            });
            if (is_recorded || is_own(&claim, release)) && !is_kept(&claim) {
                let path = format!("{collection}/{}", encode(name));
                let keep = json!({"metadata": {"annotations": {RESOURCE_POLICY: "keep"}}});
                self.kubernetes.patch(&path, PatchKind::Merge, &keep).await?;
            }
        }
        for (set, path, live) in self.own_sets(release, objects).await? {
            let takes = is_owner_to_be(&live) || !self.owned_claims(set, &live).await?.is_empty();
            if takes && !is_kept(&live) {
                let annotations = json!({RESOURCE_POLICY: "keep", GUARD: "true"});
                let body = json!({"metadata": {"annotations": annotations}});
                self.put_mark(set, &path, &live, body).await?;
            } else if is_marked(&live) {
                self.put_mark(set, &path, &live, json!({})).await?;
            }
        }
        Ok(())
    }

    /// Takes back what `protect_claims` did to the sets that are still there.
    pub(super) async fn unguard_sets(
        &self,
        release: &Release,
        objects: &[ObjectReference],
    ) -> Result<(), TargetError> {
        for (set, path, live) in self.own_sets(release, objects).await? {
            if is_marked(&live) && live.pointer("/metadata/deletionTimestamp").is_none() {
                self.put_mark(set, &path, &live, json!({})).await?;
            }
        }
        Ok(())
    }

    /// As `keep_claims_of`, for every set among `objects` that is the release's.
    pub(super) async fn keep_claims_of_sets(
        &self,
        release: &Release,
        objects: &[ObjectReference],
    ) -> Result<(), TargetError> {
        for (set, path, _) in self.own_sets(release, objects).await? {
            self.keep_claims_of(set, &path).await?;
        }
        Ok(())
    }

    /// Before an object is deleted: if it is a StatefulSet, its volume claims are taken from it, so that they stay. An
    /// error if that cannot be had; nothing may be deleted then.
    pub(super) async fn keep_claims_of(
        &self,
        object: &ObjectReference,
        path: &str,
    ) -> Result<(), TargetError> {
        if !is_set(object) {
            return Ok(());
        }
        let Some(live) = self.kubernetes.get(path).await? else {
            return Ok(());
        };
        if !has_templates(&live) {
            return Ok(());
        }
        match timeout(PATIENCE, self.part_from_claims(object, path, &live)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TargetError::transient(format!(
                "{object} is not deleted, because its volume claims would go with it: it was set to whenDeleted: Retain, \
                 and the StatefulSet controller has not taken note of that in {} s; see to it that the cluster's \
                 controller manager runs",
                PATIENCE.as_secs()
            ))),
        }
    }

    async fn part_from_claims(
        &self,
        set: &ObjectReference,
        path: &str,
        live: &Value,
    ) -> Result<(), TargetError> {
        if is_owner_to_be(live) {
            let retain = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}});
            self.put_mark(set, path, live, retain).await?;
            // Given up at once, it falls back to the default, which is the same, and is nobody's: should the set stay
            // for some reason, Helm finds no conflict in it.
            self.put_mark(set, path, live, json!({})).await?;
        } else if self.owned_claims(set, live).await?.is_empty() {
            return Ok(());
        }
        if !self.is_observed(set, path).await? {
            return Ok(());
        }
        // The controller has taken itself off the claims of pods that it has got to; not of those that it is yet to get
        // to, nor of pods that were scaled away.
        let collection = claims_of(&set.namespace);
        loop {
            let owned = self.owned_claims(set, live).await?;
            if owned.is_empty() {
                return Ok(());
            }
            for claim in owned {
                let path = format!("{collection}/{}", encode(text_at(&claim, "/metadata/name")));
                let rest: Vec<&Value> = owners(&claim).filter(|owner| !is_of(owner, live)).collect();
                let version = text_at(&claim, "/metadata/resourceVersion");
                let body = json!({"metadata": {"resourceVersion": version, "ownerReferences": rest}});
                match self.kubernetes.patch(&path, PatchKind::Merge, &body).await {
                    // Somebody else was faster: looked at again.
                    Err(error) if is_outdated(&error) => {}
                    outcome => outcome?,
                }
            }
        }
    }

    /// Waits until the controller knows a set as it is; `false` if the set is gone.
    async fn is_observed(&self, set: &ObjectReference, path: &str) -> Result<bool, TargetError> {
        let collection = path.rsplit_once('/').map_or(path, |(collection, _)| collection);
        loop {
            let mut changes = Box::pin(self.kubernetes.changes(collection).await?);
            loop {
                let Some(live) = self.kubernetes.get(path).await? else {
                    return Ok(false);
                };
                if is_owner_to_be(&live) {
                    return Err(TargetError::permanent(format!(
                        "{set} is not deleted, because its volume claims would go with it, and somebody sets \
                         whenDeleted: Delete again: set persistentVolumeClaimRetentionPolicy.whenDeleted to Retain"
                    )));
                }
                let number = |place: &str| live.pointer(place).and_then(Value::as_i64);
                if number("/status/observedGeneration") >= number("/metadata/generation") {
                    return Ok(true);
                }
                match changes.next().await {
                    Some(change) => change?,
                    None => break,
                }
            }
        }
    }

    /// Claims that go when a set goes.
    async fn owned_claims(&self, set: &ObjectReference, live: &Value) -> Result<Vec<Value>, TargetError> {
        if !has_templates(live) {
            return Ok(Vec::new());
        }
        let mut claims = self
            .kubernetes
            .list_metadata(&claims_of(&set.namespace), "")
            .await?;
        claims.retain(|claim| owners(claim).any(|owner| is_of(owner, live)));
        Ok(claims)
    }

    /// The StatefulSets among `objects` that are there and the release's.
    async fn own_sets<'o>(
        &self,
        release: &Release,
        objects: &'o [ObjectReference],
    ) -> Result<Vec<(&'o ObjectReference, String, Value)>, TargetError> {
        let sets: BTreeSet<&ObjectReference> = objects.iter().filter(|object| is_set(object)).collect();
        let mut found = Vec::new();
        for set in sets {
            if let Some(path) = self.kubernetes.path_of(set).await?
                && let Some(live) = self.kubernetes.get(&path).await?
                && is_own(&live, release)
            {
                found.push((set, path, live));
            }
        }
        Ok(found)
    }

    /// Has `body` be all that Slipway wants of a set; what it wanted before and does not want any more goes.
    async fn put_mark(
        &self,
        set: &ObjectReference,
        path: &str,
        live: &Value,
        mut body: Value,
    ) -> Result<(), TargetError> {
        body["apiVersion"] = set.api_version.clone().into();
        body["kind"] = set.kind.clone().into();
        body["metadata"]["name"] = set.name.clone().into();
        // So that none is made if it is gone meanwhile.
        body["metadata"]["uid"] = text_at(live, "/metadata/uid").into();
        self.kubernetes.patch(path, PatchKind::Apply, &body).await
    }
}

fn claims_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/persistentvolumeclaims", encode(namespace))
}

fn is_set(object: &ObjectReference) -> bool {
    object.kind == "StatefulSet" && object.api_version.starts_with("apps/")
}

/// Whether a StatefulSet has claims of its own.
pub(super) fn has_templates(set: &Value) -> bool {
    let templates = set
        .pointer("/spec/volumeClaimTemplates")
        .and_then(Value::as_array);
    templates.is_some_and(|templates| !templates.is_empty())
}

/// Whether the controller makes this set the owner of its claims.
fn is_owner_to_be(set: &Value) -> bool {
    has_templates(set) && text_at(set, WHEN_DELETED) == "Delete"
}

/// Whether there is anything on a set that `put_mark` left.
fn is_marked(set: &Value) -> bool {
    let managers = set.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers
        .into_iter()
        .flatten()
        .any(|manager| text_at(manager, "/manager") == "slipway" && text_at(manager, "/operation") == "Apply")
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners.into_iter().flatten()
}

fn is_of(owner: &Value, set: &Value) -> bool {
    text_at(owner, "/uid") == text_at(set, "/metadata/uid")
}

fn is_outdated(error: &TargetError) -> bool {
    let text = error.to_string();
    text.contains("has been modified") || text.contains("not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_takes_claims_if_it_has_any_and_says_so() {
        let set = |templates: Value, policy: &str| {
            let policy = json!({"whenDeleted": policy, "whenScaled": "Delete"});
            json!({"spec": {"volumeClaimTemplates": templates, "persistentVolumeClaimRetentionPolicy": policy}})
        };
        let templates = || json!([{"metadata": {"name": "data"}}]);
        assert!(is_owner_to_be(&set(templates(), "Delete")));
        assert!(!is_owner_to_be(&set(templates(), "Retain")));
        assert!(!is_owner_to_be(&set(json!([]), "Delete")));
        assert!(!is_owner_to_be(
            &json!({"spec": {"volumeClaimTemplates": templates()}})
        ));
    }

    #[test]
    fn what_only_helm_is_kept_from_deleting_is_not_kept() {
        let annotated = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        assert!(is_kept(&annotated(json!({RESOURCE_POLICY: "keep"}))));
        assert!(!is_kept(&annotated(
            json!({RESOURCE_POLICY: "keep", GUARD: "true"})
        )));
    }

    #[test]
    fn a_mark_is_what_was_applied_and_not_what_was_labelled() {
        let managed = |operation: &str| json!({"metadata": {"managedFields": [{"manager": "slipway", "operation": operation}]}});
        assert!(is_marked(&managed("Apply")));
        assert!(!is_marked(&managed("Update")));
    }
}
