//! The target over what is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use slipway_model::{ClusterHealth, ClusterId, HealthCheck, OutputSource};
use slipway_ports::{
    AppliedRelease, AppliedState, CheckedRelease, CollectedRelease, CompletionRequest, Diagnosis,
    ExposeSecret as _, FoundDrift, Hook, HookEvent, HookRun, HookSet, HookSource, HookState, MadeHook,
    Managed, ObjectReference, Observation, PreviewRequest, Release, ReleasePreview, ReleaseRecord,
    ReleaseRequest, ReleaseStatus, RollbackRequest, SecretString, Target, TargetError, UninstallRequest,
    Uninstalled,
};

use super::{
    preview::kept,
    shelf::{Record, RenderStore, Shelf},
};
use crate::{
    archive::CheckedArchive,
    binary::Helm,
    collect::{Found, collect, wanted},
    definitions::definitions,
    difference::Hidden,
    gate::ReleaseGate,
    invocation::{Invocation, checked_chart, labels_argument, require_helm},
    manifest::{self, Document, inventory, preview},
    release::{rollback_target, word},
};

/// Said wherever somebody might think that something runs.
const NO_CLUSTER: &str = "render target: charts are rendered and kept on disk, no cluster is there";

/// Nothing makes hooks here, since none are given out.
fn not_run(object: &ObjectReference) -> TargetError {
    TargetError::permanent(format!("{NO_CLUSTER}; {object} is not run"))
}

/// No cluster.
pub(crate) struct RenderTarget {
    helm: Option<Helm>,
    gate: Option<ReleaseGate>,
    id: ClusterId,
    shelf: Box<dyn Shelf>,
}

impl RenderTarget {
    /// Keeps everything in the cluster's part of `store`.
    pub(crate) fn new(
        helm: Option<Helm>,
        gate: Option<ReleaseGate>,
        store: &RenderStore,
        id: ClusterId,
    ) -> Self {
        Self {
            helm,
            gate,
            id,
            shelf: store.shelf(id),
        }
    }

    /// `helm template`, as install or upgrade as it would be.
    pub(super) async fn render(
        &self,
        request: &ReleaseRequest,
        chart: &CheckedArchive,
        upgrade: bool,
    ) -> Result<Vec<Document>, TargetError> {
        let mut arguments = vec!["--skip-crds"];
        if upgrade {
            arguments.push("--is-upgrade");
        }
        let finished = Invocation::new(self.helm.as_ref(), &request.release, "template")?
            .with_request(request)?
            .with(arguments)
            .run(request.time_limit, self.gate.as_ref())
            .await?;
        let mut documents = manifest::parse(&String::from_utf8_lossy(&finished.stdout))
            .map_err(|error| TargetError::permanent(crate::chain(&error)))?;
        let definitions = definitions(self.helm.as_ref(), request, chart, None).await?;
        if let Some(gate) = &self.gate {
            gate.judge_documents(&request.release, &definitions, "definitions")?;
        }
        documents.extend(definitions);
        Ok(documents)
    }

    /// All revisions, newest first.
    pub(super) async fn history(&self, release: &Release) -> Result<Vec<Record>, TargetError> {
        self.shelf.history(release).await
    }

    /// The objects of a revision, as they were kept.
    pub(super) async fn kept_documents(
        &self,
        release: &Release,
        revision: u32,
    ) -> Result<Vec<Document>, TargetError> {
        let text = self.shelf.manifest(release, revision).await?;
        manifest::parse(&text).map_err(|error| TargetError::permanent(crate::chain(&error)))
    }

    async fn set_status(
        &self,
        release: &Release,
        record: &Record,
        status: ReleaseStatus,
        description: &str,
    ) -> Result<(), TargetError> {
        let changed = Record {
            status,
            description: description.to_owned(),
            ..record.clone()
        };
        self.shelf.write_record(release, &changed).await
    }

    /// Begins a revision, as pending, unless another writer is at it.
    async fn begin(
        &self,
        release: &Release,
        history: &[Record],
        status: ReleaseStatus,
        labels: &BTreeMap<String, String>,
        chart: &str,
    ) -> Result<Record, TargetError> {
        labels_argument(labels)?;
        if let Some(newest) = history.first().filter(|newest| newest.status.is_pending()) {
            return Err(TargetError::transient(format!(
                "revision {} of release {release} is {}: another operation is in progress",
                newest.revision,
                word(newest.status)
            )));
        }
        let record = Record {
            revision: history.first().map_or(1, |newest| newest.revision + 1),
            status,
            labels: labels.clone(),
            chart: chart.to_owned(),
            objects: Vec::new(),
            blanked: true,
            description: "begun".to_owned(),
        };
        self.shelf.write_record(release, &record).await?;
        Ok(record)
    }

    /// Ends a revision as deployed, and the one before as superseded.
    async fn finish(
        &self,
        release: &Release,
        history: &[Record],
        record: &Record,
        documents: &[Document],
        secrets: &[SecretString],
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let objects = inventory(documents, &release.namespace);
        let hidden = Hidden::of(secrets.iter().map(|secret| secret.expose_secret()));
        let blanked: Vec<Document> = documents
            .iter()
            .map(|document| document.with_object(kept(&hidden, &document.object)))
            .collect();
        // A comment may repeat what the chart writes below it.
        let shown = if hidden.is_empty() { documents } else { &blanked };
        self.shelf
            .write_manifest(release, record.revision, &preview(shown))
            .await?;
        let done = Record {
            objects: objects.clone(),
            ..record.clone()
        };
        self.set_status(
            release,
            &done,
            ReleaseStatus::Deployed,
            "rendered; no cluster is there",
        )
        .await?;
        for earlier in history
            .iter()
            .filter(|earlier| earlier.status == ReleaseStatus::Deployed)
        {
            self.set_status(release, earlier, ReleaseStatus::Superseded, &earlier.description)
                .await?;
        }
        self.shelf.prune(release).await?;
        Ok(objects)
    }

    /// The newest revision's record and objects that are kept, or an error that it does not exist.
    async fn newest(&self, release: &Release) -> Result<(Record, Vec<Document>), TargetError> {
        let newest = self
            .shelf
            .history(release)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| {
                TargetError::permanent(format!("release {release} does not exist on this render target"))
            })?;
        let documents = self.kept_documents(release, newest.revision).await?;
        Ok((newest, documents))
    }
}

#[async_trait]
impl Target for RenderTarget {
    async fn identity(&self) -> Result<String, TargetError> {
        Ok(format!("render-{}", self.id))
    }

    async fn health(&self) -> Result<ClusterHealth, TargetError> {
        Ok(ClusterHealth {
            healthy: true,
            message: NO_CLUSTER.to_owned(),
            version: None,
            uid: Some(format!("render-{}", self.id)),
            ready_nodes: 0,
            nodes: 0,
            allocatable: None,
            free: None,
        })
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        let history = self.shelf.history(release).await?;
        let ever_deployed = history
            .iter()
            .any(|record| matches!(record.status, ReleaseStatus::Deployed | ReleaseStatus::Superseded));
        Ok(history.into_iter().next().map(|newest| ReleaseRecord {
            revision: newest.revision,
            status: newest.status,
            labels: newest.labels,
            chart: newest.chart,
            objects: newest.objects,
            kept: Vec::new(),
            hooks: BTreeSet::from([HookEvent::Test]),
            ever_deployed,
        }))
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
        let chart = checked_chart(request)?;
        let upgrade = !self.shelf.history(&request.release).await?.is_empty();
        let documents = self.render(request, &chart, upgrade).await?;
        let whole: String = documents.iter().map(Document::text).collect();
        Ok(CheckedRelease {
            objects: inventory(&documents, &request.release.namespace),
            // Kept with the manifest, and not run.
            hooks: BTreeSet::new(),
            manifest_digest: manifest::digest(whole.as_bytes()),
            manifest: preview(&documents),
        })
    }

    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError> {
        self.preview_request(request).await
    }

    /// Nobody changes what is only rendered.
    async fn drift(&self, _applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError> {
        Ok(FoundDrift::default())
    }

    /// What is kept here is nobody else's.
    async fn managed(&self, _after: Option<&str>) -> Result<Managed, TargetError> {
        Ok(Managed::default())
    }

    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        require_helm(self.helm.as_ref(), &request.release, "template")?;
        let chart = checked_chart(request)?;
        let release = &request.release;
        let namespace_created = self.shelf.ensure_namespace(release, request.deployment).await?;
        let history = self.shelf.history(release).await?;
        let pending = if history.is_empty() {
            ReleaseStatus::PendingInstall
        } else {
            ReleaseStatus::PendingUpgrade
        };
        let name = format!("{}-{}", chart.name, chart.version);
        let record = self
            .begin(release, &history, pending, &request.labels, &name)
            .await?;
        let documents = match self.render(request, &chart, !history.is_empty()).await {
            Ok(documents) => documents,
            Err(error) => {
                self.set_status(release, &record, ReleaseStatus::Failed, &error.to_string())
                    .await?;
                return Err(error);
            }
        };
        Ok(AppliedRelease {
            revision: record.revision,
            objects: self
                .finish(release, &history, &record, &documents, &request.secrets)
                .await?,
            hooks: BTreeSet::new(),
            namespace_created,
            removed: Vec::new(),
        })
    }

    /// A revision is whole when it is deployed, and only its own objects are kept.
    async fn complete(&self, _request: &CompletionRequest) -> Result<Vec<ObjectReference>, TargetError> {
        Ok(Vec::new())
    }

    async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let history = self.shelf.history(release).await?;
        let Some(newest) = history.first() else {
            return Ok(format!(
                "release {release} has no revision {revision}: nothing to recover"
            ));
        };
        if newest.revision != revision {
            return Err(TargetError::transient(format!(
                "release {release} is at revision {}, not {revision}: someone else writes it",
                newest.revision
            )));
        }
        let was_deployed =
            |record: &Record| matches!(record.status, ReleaseStatus::Deployed | ReleaseStatus::Superseded);
        match newest.status {
            ReleaseStatus::Failed if !history.iter().any(was_deployed) => {
                let numbers: Vec<u32> = history.iter().map(|record| record.revision).collect();
                self.shelf.remove_revisions(release, &numbers).await?;
                Ok(format!(
                    "release {release} had failed and was never deployed: its record was deleted, so that it is installed again"
                ))
            }
            ReleaseStatus::PendingInstall => {
                self.shelf.remove_revisions(release, &[revision]).await?;
                Ok(format!(
                    "release {release} was left pending-install by a writer that died: its record was deleted, so that it is installed again"
                ))
            }
            ReleaseStatus::PendingUpgrade | ReleaseStatus::PendingRollback => {
                self.set_status(
                    release,
                    newest,
                    ReleaseStatus::Failed,
                    "its writer died; marked failed by slipway",
                )
                .await?;
                Ok(format!(
                    "revision {revision} of release {release} was left {} by a writer that died: it was marked failed",
                    word(newest.status)
                ))
            }
            status => Ok(format!(
                "revision {revision} of release {release} is {}: nothing to recover",
                word(status)
            )),
        }
    }

    async fn mark_failed(&self, release: &Release, revision: u32, reason: &str) -> Result<(), TargetError> {
        let history = self.shelf.history(release).await?;
        match history.first() {
            Some(newest) if newest.revision == revision && newest.status == ReleaseStatus::Deployed => {
                self.set_status(release, newest, ReleaseStatus::Failed, reason)
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        _source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        let (_, documents) = self.newest(release).await?;
        let named: Vec<String> = documents
            .iter()
            .filter(|document| document.hook_events().contains(&event))
            .map(|document| format!("{}/{}", document.kind(), document.name()))
            .collect();
        let note = match (named.is_empty(), event) {
            (true, HookEvent::Test) => format!("{NO_CLUSTER}; the chart has no tests"),
            (true, _) => String::new(),
            (false, _) => format!("{NO_CLUSTER}; not run: {}", named.join(", ")),
        };
        Ok(HookSet {
            hooks: Vec::new(),
            note,
        })
    }

    async fn create_hook(&self, _run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        Err(not_run(&hook.object))
    }

    async fn find_hook(&self, _run: HookRun<'_>, _hook: &Hook) -> Result<Option<MadeHook>, TargetError> {
        Ok(None)
    }

    async fn observe_hook(
        &self,
        _release: &Release,
        hook: &MadeHook,
        _hold: Duration,
    ) -> Result<HookState, TargetError> {
        Err(not_run(&hook.object))
    }

    async fn delete_hook(&self, _hook: &MadeHook) -> Result<(), TargetError> {
        Ok(())
    }

    async fn observe(
        &self,
        _release: &Release,
        _objects: &[ObjectReference],
        _health_checks: &[HealthCheck],
        _hold: Duration,
    ) -> Result<Observation, TargetError> {
        Ok(Observation {
            ready: true,
            waiting: Vec::new(),
            failed: None,
            diagnosis: Diagnosis::of(NO_CLUSTER),
        })
    }

    async fn collect(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        outputs: &BTreeMap<String, OutputSource>,
        ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        let (_, documents) = self.newest(release).await?;
        let kept: Vec<&Document> = documents.iter().filter(|document| !document.is_hook()).collect();
        let of_kind = |kind: &str| {
            kept.iter()
                .filter(|document| document.kind() == kind)
                .filter(|document| document.reference(&release.namespace).namespace == release.namespace)
                .map(|document| document.object.clone())
                .collect()
        };
        let mut found = Found {
            services: of_kind("Service"),
            ingresses: of_kind("Ingress"),
            has_status: false,
            ..Found::default()
        }
        .keep_own(release, objects);
        for reference in wanted(release, outputs) {
            let object = kept
                .iter()
                .find(|document| document.reference(&release.namespace) == reference);
            if let Some(document) = object {
                found.others.insert(reference, document.object.clone());
            }
        }
        collect(release, &found, outputs, ingress_url)
    }

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        if request.keep_record {
            return Ok(Uninstalled::default());
        }
        self.shelf.remove_release(&request.release).await?;
        if let Some(deployment) = request.namespace_of {
            self.shelf.remove_namespace(&request.release, deployment).await?;
        }
        Ok(Uninstalled::default())
    }

    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError> {
        let history = self.shelf.history(release).await?;
        let known: Vec<(u32, ReleaseStatus)> = history
            .iter()
            .map(|record| (record.revision, record.status))
            .collect();
        rollback_target(release, &known, wanted)
    }

    async fn rollback(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError> {
        let release = &request.release;
        let history = self.shelf.history(release).await?;
        let number = self.rollback_target(release, Some(request.revision)).await?;
        let text = self.shelf.manifest(release, number).await?;
        let documents =
            manifest::parse(&text).map_err(|error| TargetError::permanent(crate::chain(&error)))?;
        let wanted = history.iter().find(|record| record.revision == number);
        let chart = wanted.map(|record| record.chart.clone()).unwrap_or_default();
        let mut record = self
            .begin(
                release,
                &history,
                ReleaseStatus::PendingRollback,
                &request.labels,
                &chart,
            )
            .await?;
        record.blanked = wanted.is_some_and(|wanted| wanted.blanked);
        Ok(AppliedRelease {
            revision: record.revision,
            objects: self.finish(release, &history, &record, &documents, &[]).await?,
            hooks: BTreeSet::new(),
            namespace_created: false,
            removed: Vec::new(),
        })
    }

    async fn logs(&self, _release: &Release) -> Result<String, TargetError> {
        Ok(format!("{NO_CLUSTER}, so there are no logs\n"))
    }
}
