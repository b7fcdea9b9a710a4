//! Rolling back.

use std::{collections::BTreeMap, time::Duration};

use slipway_ports::{AppliedRelease, Release, ReleaseStatus, TargetError};

use super::{ClusterTarget, DEPLOYMENT_LABEL};
use crate::{
    invocation::{Budget, HISTORY, labels_argument},
    manifest::label,
    release::rollback_target,
};

impl ClusterTarget {
    /// The revision that a rollback goes to.
    pub(super) async fn revision_to_go_back_to(
        &self,
        release: &Release,
        wanted: Option<u32>,
    ) -> Result<u32, TargetError> {
        let revisions = self.kubernetes.revisions(release).await?;
        let known: Vec<(u32, ReleaseStatus)> = revisions
            .iter()
            .map(|known| (known.number, known.status))
            .collect();
        rollback_target(release, &known, wanted)
    }

    /// `helm rollback` to a revision, without hooks. What it brings back is judged first: Helm has no post-renderer
    /// here, and renders nothing either.
    pub(super) async fn rollback_release(
        &self,
        release: &Release,
        revision: u32,
        labels: &BTreeMap<String, String>,
        time_limit: Duration,
    ) -> Result<AppliedRelease, TargetError> {
        let budget = Budget::of(time_limit);
        labels_argument(labels)?;
        let target = self.revision_to_go_back_to(release, Some(revision)).await?;
        if let Some(gate) = &self.gate {
            let payload = self.kubernetes.payload(release, target).await?;
            let mut documents = payload.documents()?;
            documents.extend(payload.hooks()?);
            gate.judge_documents(release, &documents, &format!("objects of revision {target}"))?;
        }
        let known = self.kubernetes.revisions(release).await?;
        let suspects = self.objects_of_failed_revisions(release).await?;
        self.protect_claims(release).await?;
        let before = known.first().map_or(0, |newest| newest.number);
        let deployment = self.deployment_of(release).await?;
        let limit = budget.left(release, "rollback")?;
        self.invoke(release, "rollback")?
            .with([release.name.clone(), target.to_string()])
            .with(["--namespace", &release.namespace, "--no-hooks"])
            .with(["--history-max", HISTORY])
            .run(limit, None)
            .await?;
        let record = self
            .kubernetes
            .record(release)
            .await?
            .filter(|record| record.revision > before)
            .ok_or_else(|| TargetError::transient(format!("the rollback of {release} left no record")))?;
        // Helm copies the labels of the revision that it goes back to.
        self.kubernetes
            .label_revision(release, record.revision, labels)
            .await?;
        if let Some(deployment) = deployment {
            self.label_objects(&record.objects, deployment).await?;
        }
        let removed = self.remove_orphans(release, suspects, &record.objects).await?;
        Ok(AppliedRelease {
            revision: record.revision,
            objects: record.objects,
            hooks: record.hooks,
            namespace_created: false,
            removed,
        })
    }

    /// The deployment that a release's objects are labelled with.
    async fn deployment_of(
        &self,
        release: &Release,
    ) -> Result<Option<slipway_model::DeploymentId>, TargetError> {
        for object in self
            .recorded_objects(release)
            .await?
            .iter()
            .take(super::CONCURRENCY)
        {
            let Some(path) = self.kubernetes.path_of(object).await? else {
                continue;
            };
            let object = self.kubernetes.get(&path).await?;
            let id = object.as_ref().and_then(|object| label(object, DEPLOYMENT_LABEL));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}
