//! The `crds/` of a chart. Helm would create them on install only, and before any post-renderer has spoken; so it is
//! told to leave them, and they are handled here.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::CrdPolicy;
use slipway_ports::{ObjectReference, ReleaseRequest, TargetError};
use tokio::time::{Duration, timeout};

use super::{CONCURRENCY, ClusterTarget};
use crate::{
    archive::CheckedArchive,
    client::PatchKind,
    definitions::definitions,
    manifest::{Document, text_at},
    readiness::{Snapshot, judge},
};

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// How long new definitions may take until the API server serves them.
const PATIENCE: Duration = Duration::from_secs(30);

impl ClusterTarget {
    /// The chart's definitions, as far as Helm would take them.
    pub(super) async fn definitions(
        &self,
        request: &ReleaseRequest,
        chart: &CheckedArchive,
    ) -> Result<Vec<Document>, TargetError> {
        let mut version = None;
        if chart.has_subchart_crds {
            version = Some(self.kubernetes_version().await?);
        }
        definitions(self.helm.as_ref(), request, chart, version.as_deref()).await
    }

    /// The version of the API server, as in `v1.36.3`.
    pub(super) async fn kubernetes_version(&self) -> Result<String, TargetError> {
        let version = self.kubernetes.get("/version").await?.unwrap_or_default();
        Ok(text_at(&version, "/gitVersion").to_owned())
    }

    /// Creates or updates the chart's definitions as the policy says and waits until they are established.
    pub(super) async fn apply_definitions(
        &self,
        request: &ReleaseRequest,
        chart: &CheckedArchive,
    ) -> Result<(), TargetError> {
        let release = &request.release;
        let documents = self.definitions(request, chart).await?;
        if documents.is_empty() {
            return Ok(());
        }
        for document in &documents {
            if document.kind() != "CustomResourceDefinition" || document.name().is_empty() {
                return Err(TargetError::permanent(format!(
                    "crds/ of the chart holds {}/{}: expected custom resource definitions only",
                    document.kind(),
                    document.name()
                )));
            }
        }
        if let Some(gate) = &self.gate {
            gate.judge_documents(release, &documents, "definitions")?;
        }
        stream::iter(documents.clone())
            .map(|document| self.apply_definition(document, request.crds))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        let references: Vec<ObjectReference> =
            documents.iter().map(|document| document.reference("")).collect();
        match timeout(PATIENCE, self.established(&references)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TargetError::transient(format!(
                "the definitions of {release} are not established after {} s",
                PATIENCE.as_secs()
            ))),
        }
    }

    async fn apply_definition(&self, document: Document, policy: CrdPolicy) -> Result<(), TargetError> {
        match policy {
            CrdPolicy::Skip => Ok(()),
            CrdPolicy::Create => self.kubernetes.create(PATH, &document.object).await.map(|_| ()),
            CrdPolicy::Apply => {
                let path = format!("{PATH}/{}", crate::client::encode(document.name()));
                self.kubernetes
                    .patch(&path, PatchKind::Apply, &document.object)
                    .await
            }
        }
    }

    async fn established(&self, references: &[ObjectReference]) -> Result<(), TargetError> {
        let mut changes = Box::pin(self.kubernetes.changes(PATH).await?);
        loop {
            let mut snapshot = Snapshot::default();
            for reference in references {
                let path = format!("{PATH}/{}", crate::client::encode(&reference.name));
                let object: Option<Value> = self.kubernetes.get(&path).await?;
                snapshot.objects.push((reference.clone(), object));
            }
            if judge(&snapshot).is_ready() {
                return Ok(());
            }
            match changes.next().await {
                Some(change) => change?,
                None => changes = Box::pin(self.kubernetes.changes(PATH).await?),
            }
        }
    }
}
