//! Rolling back.

use std::{collections::BTreeMap, time::Duration};

use slipway_ports::{AppliedRelease, Release, ReleaseStatus, TargetError};

use super::{ClusterTarget, DEPLOYMENT_LABEL};
use crate::{
    invocation::{HISTORY, labels_argument},
    manifest::label,
    release::rollback_target,
};

impl ClusterTarget {
    /// `helm rollback` to a revision, or to the newest earlier one that was ever deployed. What it brings back is
    /// judged first: Helm has no post-renderer here, and renders nothing either.
    pub(super) async fn rollback_release(
        &self,
        release: &Release,
        revision: Option<u32>,
        labels: &BTreeMap<String, String>,
        time_limit: Duration,
    ) -> Result<AppliedRelease, TargetError> {
        labels_argument(labels)?;
        let revisions = self.kubernetes.revisions(release).await?;
        let known: Vec<(u32, ReleaseStatus)> = revisions
            .iter()
            .map(|known| (known.number, known.status))
            .collect();
        let target = rollback_target(release, &known, revision)?;
        if let Some(gate) = &self.gate {
            let payload = self.kubernetes.payload(release, target).await?;
            let mut documents = payload.documents()?;
            documents.extend(payload.hooks()?);
            gate.judge_documents(release, &documents, &format!("objects of revision {target}"))?;
        }
        let before = known.first().map_or(0, |(number, _)| *number);
        let deployment = self.deployment_of(release).await?;
        self.invoke(release, "rollback")?
            .with([release.name.clone(), target.to_string()])
            .with(["--namespace", &release.namespace, "--history-max", HISTORY])
            .with_timeout(time_limit)
            .run(time_limit, None)
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
        Ok(AppliedRelease {
            revision: record.revision,
            objects: record.objects,
            namespace_created: false,
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
