//! Installing and upgrading.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use slipway_model::DeploymentId;
use slipway_ports::{
    AppliedRelease, CompletionRequest, ObjectReference, Release, ReleaseRecord, ReleaseRequest,
    ReleaseStatus, TargetError,
};
use tokio::time::timeout;

use super::{CONCURRENCY, ClusterTarget, DEPLOYMENT_LABEL};
use crate::{
    client::PatchKind,
    invocation::{Budget, HISTORY, checked_chart, labels_argument},
};

/// How long a deleted object may take until it is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Helm's own way to take over objects of others, and the fields that they have set.
pub(super) fn adoption(request: &ReleaseRequest) -> &'static [&'static str] {
    if request.adopt {
        &["--take-ownership", "--force-conflicts"]
    } else {
        &[]
    }
}

impl ClusterTarget {
    /// Namespace, definitions, then `helm upgrade --install` without hooks and without waiting, then our label on every
    /// object, and what failed revisions had left is removed.
    pub(super) async fn apply_request(
        &self,
        request: &ReleaseRequest,
    ) -> Result<AppliedRelease, TargetError> {
        let release = &request.release;
        let budget = Budget::of(request.time_limit);
        let chart = checked_chart(request)?;
        let placed = self.with_place(release, "upgrade", request.time_limit).await?;
        let namespace_created = self.ensure_namespace(request).await?;
        placed.apply_definitions(request, &chart).await?;
        // Read now, because Helm may forget the oldest of them.
        let revisions = self.kubernetes.revisions(release).await?;
        let suspects = self.objects_left_of(release, &revisions).await?;
        self.protect_claims(release, &suspects).await?;
        let mut recreated: Vec<ObjectReference> = Vec::new();
        while let Err(error) = placed.upgrade(request, budget).await {
            self.make_way(error, release, request.immutable, &mut recreated)
                .await?;
        }
        drop(placed);
        let record = self.own_record(request).await?;
        let completion = CompletionRequest {
            release: release.clone(),
            deployment: request.deployment,
            objects: record.objects,
            leftovers: request.leftovers.clone(),
            time_limit: budget.rest(),
        };
        let removed = self.complete_revision(&completion, suspects).await?;
        Ok(AppliedRelease {
            revision: record.revision,
            objects: completion.objects,
            hooks: record.hooks,
            namespace_created,
            removed,
        })
    }

    /// The record that the upgrade left. That it ended without an error proves nothing: the record does.
    async fn own_record(&self, request: &ReleaseRequest) -> Result<ReleaseRecord, TargetError> {
        let release = &request.release;
        let found = self.kubernetes.record(release).await?;
        let newest = match &found {
            Some(record) => format!(
                "its newest record is revision {}, of another writer",
                record.revision
            ),
            None => "it left no record".to_owned(),
        };
        found
            .filter(|record| {
                record.status == ReleaseStatus::Deployed
                    && request
                        .labels
                        .iter()
                        .all(|(name, value)| record.labels.get(name) == Some(value))
            })
            .ok_or_else(|| {
                TargetError::transient(format!(
                    "helm upgrade of {release} ended without an error, but {newest}: either somebody else changed the \
                     release meanwhile, or the Helm binary is not what it should be"
                ))
            })
    }

    async fn upgrade(&self, request: &ReleaseRequest, budget: Budget) -> Result<(), TargetError> {
        let limit = budget.left(&request.release, "upgrade")?;
        self.invoke(&request.release, "upgrade")?
            .with_request(request)?
            .with([
                "--install",
                "--no-hooks",
                "--reset-values",
                "--skip-crds",
                "--history-max",
                HISTORY,
            ])
            .with(adoption(request))
            .with(labels_argument(&request.labels)?)
            .run(limit, self.gate.as_ref())
            .await
            .map(|_| ())
    }

    /// What comes after Helm: our label, and the end of what `suspects` and the leftovers are that the revision has not.
    pub(super) async fn complete_revision(
        &self,
        request: &CompletionRequest,
        mut suspects: Vec<ObjectReference>,
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let release = &request.release;
        suspects.extend(request.leftovers.iter().cloned());
        let work = async {
            if let Some(deployment) = request.deployment {
                self.label_objects(&request.objects, deployment).await?;
            }
            let touched = [suspects.as_slice(), &request.objects].concat();
            let removed = self.remove_orphans(release, suspects, &request.objects).await?;
            self.unguard_sets(release, &touched).await?;
            Ok(removed)
        };
        timeout(request.time_limit, work).await.unwrap_or_else(|_| {
            Err(TargetError::transient(format!(
                "what comes after Helm's change of {release} took too long and goes on later"
            )))
        })
    }

    /// Puts the deployment's id onto objects, beside Helm's own labels. Helm's next apply leaves it alone, because
    /// another manager owns the field.
    pub(super) async fn label_objects(
        &self,
        objects: &[ObjectReference],
        deployment: DeploymentId,
    ) -> Result<(), TargetError> {
        let body = json!({"metadata": {"labels": {DEPLOYMENT_LABEL: deployment.to_string()}}});
        let body = &body;
        stream::iter(objects.to_vec())
            .map(|object| async move {
                match self.kubernetes.path_of(&object).await? {
                    Some(path) => match self.kubernetes.patch(&path, PatchKind::Merge, body).await {
                        // A hook of the chart, or its own controller, may have removed it; readiness will say so.
                        Err(error) if error.to_string().contains("not found") => Ok(()),
                        outcome => outcome,
                    },
                    None => Ok(()),
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await
            .map(|_| ())
    }

    /// Waits until a deleted object is gone.
    pub(super) async fn wait_until_gone(&self, object: &ObjectReference) -> Result<(), TargetError> {
        let gone = async {
            let Some(collection) = self
                .kubernetes
                .collection_of(&object.api_version, &object.kind, &object.namespace)
                .await?
            else {
                return Ok(());
            };
            let path = format!("{collection}/{}", crate::client::encode(&object.name));
            loop {
                let mut changes = Box::pin(self.kubernetes.changes(&collection).await?);
                while self.kubernetes.get(&path).await?.is_some() {
                    match changes.next().await {
                        Some(change) => change?,
                        None => break,
                    }
                }
                if self.kubernetes.get(&path).await?.is_none() {
                    return Ok(());
                }
            }
        };
        match timeout(PATIENCE, gone).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TargetError::transient(format!(
                "{object} was deleted to be created again and is still there after {} s",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// The newest record's objects, or none without a record.
    pub(super) async fn recorded_objects(
        &self,
        release: &Release,
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let record = self.kubernetes.record(release).await?;
        Ok(record.map(|record| record.objects).unwrap_or_default())
    }
}
