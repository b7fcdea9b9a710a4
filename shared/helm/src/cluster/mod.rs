//! A Kubernetes cluster as a target.

mod apply;
mod check;
mod claims;
mod definitions;
mod drift;
mod hooks;
mod immutable;
mod inhabitants;
mod inspect;
mod logs;
mod managed;
mod namespace;
mod observe;
mod orphans;
mod ownership;
mod preview;
mod removals;
mod rollback;
mod uninstall;

pub(crate) use preview::{blanked, compared, run};

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use slipway_model::{ClusterHealth, HealthCheck, OutputSource};
use slipway_ports::{
    AppliedRelease, AppliedState, CheckedRelease, CollectedRelease, CompletionRequest, FoundDrift, Hook,
    HookEvent, HookRun, HookSet, HookSource, HookState, MadeHook, Managed, ObjectReference, Observation,
    PreviewRequest, Release, ReleasePreview, ReleaseRecord, ReleaseRequest, RollbackRequest, Target,
    TargetError, UninstallRequest, Uninstalled,
};

use crate::{
    binary::Helm,
    client::Kubernetes,
    gate::ReleaseGate,
    invocation::{Invocation, PATIENCE, require_helm, unusable},
};

/// Requests to the API server that run side by side.
const CONCURRENCY: usize = 8;

/// Label with the deployment's id, on objects and on namespaces that were created.
pub(crate) const DEPLOYMENT_LABEL: &str = "slipway.dev/deployment-id";

/// Labels of a hook's object: the job that made it and under which fence, when it runs and as which of the hooks, and
/// the release.
pub(crate) const JOB_LABEL: &str = "slipway.dev/job";
pub(crate) const FENCE_LABEL: &str = "slipway.dev/fence";
pub(crate) const HOOK_LABEL: &str = "slipway.dev/hook";
pub(crate) const RELEASE_LABEL: &str = "slipway.dev/release";

/// Label that says who made a namespace or a release record.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// A cluster that is reached with a kubeconfig.
#[derive(Clone)]
pub(crate) struct ClusterTarget {
    /// Without it, everything that needs no Helm works.
    pub(crate) helm: Option<Helm>,
    pub(crate) kubernetes: Kubernetes,
    /// Reduced to the chosen context; holds credentials.
    pub(crate) kubeconfig: Vec<u8>,
    pub(crate) gate: Option<ReleaseGate>,
}

impl ClusterTarget {
    /// The same with a place for its Helms, of which a quarter of the operation's time at most is spent on waiting. What
    /// changes a cluster before Helm runs takes its place first: an operation that has to queue has done nothing.
    async fn with_place(
        &self,
        release: &Release,
        operation: &'static str,
        limit: Duration,
    ) -> Result<Self, TargetError> {
        let helm = require_helm(self.helm.as_ref(), release, operation)?;
        let placed = helm.with_place(PATIENCE.min(limit / 4)).await;
        Ok(Self {
            helm: Some(placed.map_err(|error| unusable(operation, &error))?),
            ..self.clone()
        })
    }

    /// Begins an invocation of Helm against this cluster.
    fn invoke<'a>(
        &'a self,
        release: &'a Release,
        operation: &'static str,
    ) -> Result<Invocation<'a>, TargetError> {
        Invocation::new(self.helm.as_ref(), release, operation)?.with_kubeconfig(&self.kubeconfig)
    }
}

#[async_trait]
impl Target for ClusterTarget {
    async fn identity(&self) -> Result<String, TargetError> {
        self.kubernetes.identity().await
    }

    async fn health(&self) -> Result<ClusterHealth, TargetError> {
        self.kubernetes.health().await
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        self.kubernetes.record(release).await
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
        self.check_request(request).await
    }

    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError> {
        self.preview_request(request).await
    }

    async fn drift(&self, applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError> {
        self.find_drift(applied).await
    }

    async fn managed(&self, after: Option<&str>) -> Result<Managed, TargetError> {
        self.kubernetes.managed(after).await
    }

    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        self.apply_request(request).await
    }

    async fn complete(&self, request: &CompletionRequest) -> Result<Vec<ObjectReference>, TargetError> {
        let revisions = self.kubernetes.revisions(&request.release).await?;
        let earlier = revisions.get(1..).unwrap_or_default();
        let suspects = self.objects_left_of(&request.release, earlier).await?;
        self.complete_revision(request, suspects).await
    }

    async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        self.kubernetes.recover(release, revision).await
    }

    async fn mark_failed(&self, release: &Release, revision: u32, reason: &str) -> Result<(), TargetError> {
        self.kubernetes.mark_failed(release, revision, reason).await
    }

    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        self.find_hooks(release, event, source).await
    }

    async fn create_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        self.make_hook(run, hook).await
    }

    async fn find_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<Option<MadeHook>, TargetError> {
        self.find_made_hook(run, hook).await
    }

    async fn observe_hook(
        &self,
        release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError> {
        self.look_at_hook(release, hook, hold).await
    }

    async fn delete_hook(&self, hook: &MadeHook) -> Result<(), TargetError> {
        self.remove_hook_object(hook).await
    }

    async fn observe(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        self.observe_objects(release, objects, health_checks, hold).await
    }

    async fn collect(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        outputs: &BTreeMap<String, OutputSource>,
        ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        self.collect_release(release, objects, outputs, ingress_url).await
    }

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        self.uninstall_release(request).await
    }

    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError> {
        self.revision_to_go_back_to(release, wanted).await
    }

    async fn rollback(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError> {
        self.rollback_release(request).await
    }

    async fn logs(&self, release: &Release) -> Result<String, TargetError> {
        self.release_logs(release).await
    }
}
