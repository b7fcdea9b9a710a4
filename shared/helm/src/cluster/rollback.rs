//! Rolling back.

use slipway_ports::{
    AppliedRelease, CompletionRequest, Release, ReleaseStatus, RollbackRequest, TargetError,
};

use super::{ClusterTarget, DEPLOYMENT_LABEL};
use crate::{
    invocation::{Budget, HISTORY, labels_argument},
    manifest::label,
    release::{Revision, rollback_target},
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
        request: &RollbackRequest,
    ) -> Result<AppliedRelease, TargetError> {
        let release = &request.release;
        let budget = Budget::of(request.time_limit);
        labels_argument(&request.labels)?;
        let target = self
            .revision_to_go_back_to(release, Some(request.revision))
            .await?;
        if let Some(gate) = &self.gate {
            let payload = self.kubernetes.payload(release, target).await?;
            let mut documents = payload.documents()?;
            documents.extend(payload.hooks()?);
            gate.judge_documents(release, &documents, &format!("objects of revision {target}"))?;
        }
        let known = self.kubernetes.revisions(release).await?;
        let suspects = self.objects_left_of(release, &known).await?;
        let deployment = self.deployment_of(release).await?;
        let before = if self.is_rolled_back(request, target, &known).await? {
            request.newest_before
        } else {
            let placed = self.with_place(release, "rollback", request.time_limit).await?;
            self.protect_claims(release, &suspects).await?;
            let mut recreated = Vec::new();
            while let Err(error) = placed.go_back(release, target, budget).await {
                self.make_way(error, release, request.immutable, &mut recreated)
                    .await?;
            }
            known.first().map_or(0, |newest| newest.number)
        };
        let record = self
            .kubernetes
            .record(release)
            .await?
            .filter(|record| record.revision > before)
            .ok_or_else(|| TargetError::transient(format!("the rollback of {release} left no record")))?;
        // Helm copies the labels of the revision that it goes back to.
        self.kubernetes
            .label_revision(release, record.revision, &request.labels)
            .await?;
        let completion = CompletionRequest {
            release: release.clone(),
            deployment,
            objects: record.objects,
            leftovers: Vec::new(),
            time_limit: budget.rest(),
        };
        let removed = self.complete_revision(&completion, suspects).await?;
        Ok(AppliedRelease {
            revision: record.revision,
            objects: completion.objects,
            hooks: record.hooks,
            namespace_created: false,
            removed,
        })
    }

    async fn go_back(&self, release: &Release, target: u32, budget: Budget) -> Result<(), TargetError> {
        let limit = budget.left(release, "rollback")?;
        self.invoke(release, "rollback")?
            .with([release.name.clone(), target.to_string()])
            .with(["--namespace", &release.namespace, "--no-hooks"])
            .with(["--history-max", HISTORY])
            .run(limit, None)
            .await
            .map(|_| ())
    }

    /// Whether an earlier try of this rollback died between Helm's end and the labels that would say whose it is.
    async fn is_rolled_back(
        &self,
        request: &RollbackRequest,
        target: u32,
        known: &[Revision],
    ) -> Result<bool, TargetError> {
        let newest = known.first().filter(|newest| {
            newest.number > request.newest_before && newest.status == ReleaseStatus::Deployed
        });
        let Some(newest) = newest else {
            return Ok(false);
        };
        let payload = self.kubernetes.payload(&request.release, newest.number).await?;
        Ok(payload.description() == format!("Rollback to {target}"))
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
