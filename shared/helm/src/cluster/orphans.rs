//! What Helm would forget: objects that a failed revision made and no later one has, because
//! an upgrade compares with the last deployed revision only; those of deployed ones, because a rollback compares with the
//! newest, which may be a rollback that failed, whoever made a revision may have died before this was done, and Helm is
//! kept from deleting what takes volume claims with it.

use std::collections::BTreeSet;

use serde_json::json;
use slipway_ports::{ObjectReference, Release, ReleaseStatus, TargetError};

use super::{
    ClusterTarget,
    uninstall::{is_kept, is_own},
};
use crate::{
    manifest::{inventory, text_at},
    release::Revision,
};

/// Whether objects of a revision may be there that no later one has.
pub(super) fn may_have_left(revision: &Revision) -> bool {
    matches!(
        revision.status,
        ReleaseStatus::Failed | ReleaseStatus::Deployed | ReleaseStatus::Superseded
    )
}

impl ClusterTarget {
    /// The objects of revisions that failed or were deployed, of which a new one may find some that it does not have.
    pub(super) async fn objects_left_of(
        &self,
        release: &Release,
        revisions: &[Revision],
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let mut objects = Vec::new();
        for revision in revisions {
            if may_have_left(revision) {
                let payload = self.kubernetes.payload(release, revision.number).await?;
                objects.extend(inventory(&payload.documents()?, &release.namespace));
            }
        }
        Ok(objects)
    }

    /// Deletes those of `suspects` that the release still owns and that are not among its objects any more. Volume
    /// claims stay, and what its chart says is kept.
    pub(super) async fn remove_orphans(
        &self,
        release: &Release,
        mut suspects: Vec<ObjectReference>,
        objects: &[ObjectReference],
    ) -> Result<Vec<ObjectReference>, TargetError> {
        self.kubernetes.settle_namespaces(&mut suspects).await?;
        // Whatever version of its kind an object was written in, it is the same object.
        let identity = |object: &ObjectReference| {
            let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
            let (kind, namespace) = (object.kind.clone(), object.namespace.clone());
            (group.to_owned(), kind, namespace, object.name.clone())
        };
        let current: BTreeSet<_> = objects.iter().map(identity).collect();
        let mut removed = Vec::new();
        for suspect in suspects.into_iter().collect::<BTreeSet<_>>() {
            if suspect.kind == "PersistentVolumeClaim" || current.contains(&identity(&suspect)) {
                continue;
            }
            let Some(path) = self.kubernetes.path_of(&suspect).await? else {
                continue;
            };
            let Some(found) = self.kubernetes.get(&path).await? else {
                continue;
            };
            if is_own(&found, release) && !is_kept(&found) {
                self.keep_claims_of(&suspect, &path).await?;
                let uid = text_at(&found, "/metadata/uid");
                let options = json!({"propagationPolicy": "Background", "preconditions": {"uid": uid}});
                self.kubernetes.delete(&path, &options).await?;
                removed.push(suspect);
            }
        }
        Ok(removed)
    }
}
