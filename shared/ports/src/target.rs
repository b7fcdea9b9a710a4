//! What Slipway does to a cluster: the release operations of Helm, and looking at what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use slipway_model::{
    Cluster, ClusterHealth, CrdPolicy, DeploymentId, HealthCheck, ImmutablePolicy, JobWait, JsonMap,
    OutputSource, TenantId,
};

use crate::diagnosis::Diagnosis;
use crate::hooks::{Hook, HookEvent, HookRun, HookSet, HookSource, HookState, MadeHook};
use crate::looking::{AppliedState, FoundDrift, Managed, PreviewRequest, ReleasePreview};

/// A release by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Helm release name.
    pub name: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object of a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectReference {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// What is installed or upgraded. Values may hold secrets: the type does not print them.
#[derive(Clone)]
pub struct ReleaseRequest {
    /// Which release.
    pub release: Release,
    /// The packaged chart, as it was checked.
    pub chart: Vec<u8>,
    /// Rendered values.
    pub values: JsonMap,
    /// Texts that no answer may hold, nor what is kept outside the cluster: the secrets that were resolved for the
    /// values.
    pub secrets: Vec<SecretString>,
    /// Labels of Helm's release record: who wrote it.
    pub labels: BTreeMap<String, String>,
    /// Goes onto a namespace that is created, and onto objects.
    pub deployment: Option<DeploymentId>,
    /// Whether a missing namespace is created.
    pub create_namespace: bool,
    /// What is done with `crds/`.
    pub crds: CrdPolicy,
    /// What is done when an immutable field changes.
    pub immutable: ImmutablePolicy,
    /// Whether objects that belong to somebody else are taken over.
    pub adopt: bool,
    /// Objects that an earlier, failed revision may have left: removed if this one does not have them. Never volume
    /// claims.
    pub leftovers: Vec<ObjectReference>,
    /// How long the whole operation may take before it is stopped.
    pub time_limit: Duration,
}

impl fmt::Debug for ReleaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseRequest")
            .field("release", &self.release)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// What a check found: the objects that would be applied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckedRelease {
    /// Every object that the chart renders, hooks excluded.
    pub objects: Vec<ObjectReference>,
    /// Events for which the chart renders hooks that this target runs.
    #[serde(default)]
    pub hooks: BTreeSet<HookEvent>,
    /// `sha256:<hex>` of the rendered manifest.
    pub manifest_digest: String,
    /// The rendered manifest with the data of Secrets blanked, for plan previews.
    pub manifest: String,
}

/// What Helm wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedRelease {
    /// Helm revision.
    pub revision: u32,
    /// Every object of the revision, hooks excluded.
    pub objects: Vec<ObjectReference>,
    /// Events for which the revision has hooks that this target runs.
    #[serde(default)]
    pub hooks: BTreeSet<HookEvent>,
    /// Whether the namespace was created for it.
    pub namespace_created: bool,
    /// What failed revisions had left, and was removed.
    #[serde(default)]
    pub removed: Vec<ObjectReference>,
}

/// The status in Helm's newest release record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStatus {
    /// Helm finished.
    Deployed,
    /// Helm gave up.
    Failed,
    /// An install was begun.
    PendingInstall,
    /// An upgrade was begun.
    PendingUpgrade,
    /// A rollback was begun.
    PendingRollback,
    /// An uninstall was begun.
    Uninstalling,
    /// Uninstalled with its history kept.
    Uninstalled,
    /// Replaced by a newer revision.
    Superseded,
    /// Helm does not know either.
    Unknown,
}

impl ReleaseStatus {
    /// Whether a writer began and has not finished.
    pub fn is_pending(self) -> bool {
        matches!(
            self,
            Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback | Self::Uninstalling
        )
    }

    /// Whether the release was uninstalled, or is being.
    pub fn is_going(self) -> bool {
        matches!(self, Self::Uninstalled | Self::Uninstalling)
    }
}

/// Helm's newest release record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// Revision.
    pub revision: u32,
    /// Status.
    pub status: ReleaseStatus,
    /// Labels of the record; ours begin with `slipway-`.
    pub labels: BTreeMap<String, String>,
    /// Chart name and version, such as `agent-runtime-1.2.0`.
    pub chart: String,
    /// Objects of the revision, hooks excluded.
    pub objects: Vec<ObjectReference>,
    /// Those of them that stay when the release is uninstalled, because their manifest says so.
    pub kept: Vec<ObjectReference>,
    /// Events for which the revision has hooks that this target runs.
    pub hooks: BTreeSet<HookEvent>,
    /// Whether any revision was ever `deployed` or `superseded`.
    pub ever_deployed: bool,
}

impl ReleaseRecord {
    /// Whether the next apply is a first install: nothing was ever deployed, or it was uninstalled since.
    pub fn is_absent(&self) -> bool {
        !self.ever_deployed || self.status.is_going()
    }
}

/// What a look at a release saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Everything is ready.
    pub ready: bool,
    /// What is not, and why; most telling first. The messages are whole and may hold secrets.
    pub waiting: Vec<JobWait>,
    /// Something that cannot become ready any more (a Job that failed for good): which and why.
    pub failed: Option<JobWait>,
    /// Last events and a log tail of what is not ready, for error messages.
    pub diagnosis: Diagnosis,
}

/// What was found when the release was ready.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectedRelease {
    /// Names of the release's Services.
    pub services: Vec<String>,
    /// Ingress, else LoadBalancer, else first Service by name and port, else empty.
    pub endpoint_url: String,
    /// What the extractors read.
    pub outputs: JsonMap,
}

/// What of an apply or a rollback comes after Helm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionRequest {
    /// Which release.
    pub release: Release,
    /// Whose label its objects get.
    pub deployment: Option<DeploymentId>,
    /// Every object of the revision, hooks excluded.
    pub objects: Vec<ObjectReference>,
    /// Objects that revisions had whose records were deleted: removed if this one does not have them. Never volume
    /// claims.
    pub leftovers: Vec<ObjectReference>,
    /// How long it may take before another invocation goes on.
    pub time_limit: Duration,
}

/// What a release goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRequest {
    /// Which release.
    pub release: Release,
    /// The revision whose objects are wanted.
    pub revision: u32,
    /// The newest revision before this was first tried. A newer one that has just these objects is what a try made that
    /// died: it is taken for this one's, and none is made besides.
    pub newest_before: u32,
    /// Labels of Helm's release record: who wrote it.
    pub labels: BTreeMap<String, String>,
    /// What is done with an object that has a field which is to change and cannot.
    pub immutable: ImmutablePolicy,
    /// How long the whole operation may take before it is stopped.
    pub time_limit: Duration,
}

/// What is taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UninstallRequest {
    /// Which release.
    pub release: Release,
    /// Objects to remove as well if they are still there: what a failed revision made. Never volume claims.
    pub leftovers: Vec<ObjectReference>,
    /// Remove the namespace if it was created for this deployment and nothing else lives in it.
    pub namespace_of: Option<DeploymentId>,
    /// Only the release's objects go; Helm's record is kept as `uninstalled`, and so are hooks and namespace: what
    /// post-delete hooks need. Asked again without it, the rest goes.
    pub keep_record: bool,
    /// How long the whole operation may take.
    pub time_limit: Duration,
}

/// How an uninstall stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uninstalled {
    /// What is still there and why (finalizers, pods that end); empty when all is gone.
    pub remaining: Vec<JobWait>,
}

/// What kind of failure it was: decides whether a repeat can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The same again would fail again: bad values, no rights, policy, not found.
    Permanent,
    /// Worth repeating: out of reach, throttled, conflict.
    Transient,
    /// Helm was stopped at its time limit.
    TimedOut,
    /// Nothing was begun, because others have all the places that there are: worth repeating, and no failure.
    Queued,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides whether a repeat can help.
    pub class: FailureClass,
    /// For people; whole enough that secrets are found in it, which are taken out before it is kept or told.
    pub message: String,
}

/// An operation on a cluster that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct TargetError(pub Failure);

impl TargetError {
    /// The same again would fail again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self(Failure {
            class: FailureClass::Permanent,
            message: message.into(),
        })
    }

    /// Worth repeating.
    pub fn transient(message: impl Into<String>) -> Self {
        Self(Failure {
            class: FailureClass::Transient,
            message: message.into(),
        })
    }

    /// It waits for its turn.
    pub fn queued(message: impl Into<String>) -> Self {
        Self(Failure {
            class: FailureClass::Queued,
            message: message.into(),
        })
    }

    /// What kind of failure it was.
    pub fn class(&self) -> FailureClass {
        self.0.class
    }
}

/// One cluster, or the `render` target that stands for one.
#[async_trait]
pub trait Target: Send + Sync {
    /// What two registrations of one cluster share: the UID of the `kube-system` namespace.
    async fn identity(&self) -> Result<String, TargetError>;

    /// Whether it is ready, and what it has free. Of one that cannot be asked the error says why, and whether that may
    /// pass.
    async fn health(&self) -> Result<ClusterHealth, TargetError>;

    /// Helm's newest record of a release.
    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError>;

    /// Renders against this cluster, as install or upgrade as it would be, and changes nothing.
    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError>;

    /// What applying would do, object by object: a dry run on the server where there is one. Changes nothing. What the
    /// chart or the server refuses is an error or stands in `refused`.
    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError>;

    /// Where the cluster differs from what was applied; an object that it does not let compare hides no other. Changes
    /// nothing; needs no Helm.
    async fn drift(&self, applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError>;

    /// What on the cluster is labelled as Slipway's, whoever's it is: a page of it, after the place where the one before
    /// ended. Needs no Helm.
    async fn managed(&self, after: Option<&str>) -> Result<Managed, TargetError>;

    /// Installs or upgrades without waiting for readiness and without hooks. When it fails, `record` tells what it left.
    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError>;

    /// Does what an apply or a rollback does after Helm, for a revision whose writer may have died in between: puts the
    /// deployment's label onto its objects and removes what failed revisions left. Returns what was removed. The same
    /// again changes nothing.
    async fn complete(&self, request: &CompletionRequest) -> Result<Vec<ObjectReference>, TargetError>;

    /// Recovers a record that a dead writer left `pending-*`: an upgrade or rollback is marked failed, the record of
    /// a first install is deleted, also where it has failed; an uninstall is left to be repeated. Returns what was
    /// done, for people.
    async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError>;

    /// Looks at the readiness of objects; holds a watch for up to `hold` and returns early on a change that matters.
    /// The first of `health_checks` that is about an object's kind judges it.
    async fn observe(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError>;

    /// Reads services, endpoint and outputs. `ingress_url` is the cluster's, if it has one.
    async fn collect(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        outputs: &BTreeMap<String, OutputSource>,
        ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError>;

    /// Marks a deployed revision failed: it did not become ready, or a hook after it failed. Nothing if it is not the
    /// newest one, or not deployed.
    async fn mark_failed(&self, release: &Release, revision: u32, reason: &str) -> Result<(), TargetError>;

    /// The hooks of an event, in Helm's order. Before an install or upgrade this also makes the namespace and the
    /// chart's definitions, if there are any hooks.
    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError>;

    /// Creates a hook, after deleting what its policy says, unless this run of it is there already.
    async fn create_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError>;

    /// The object of this run of a hook, if it was created. The hook's manifest is not needed.
    async fn find_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<Option<MadeHook>, TargetError>;

    /// Looks at a hook; holds a watch for up to `hold` and returns early when it has ended.
    async fn observe_hook(
        &self,
        release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError>;

    /// Deletes a hook's object; one that is absent, or another one of that name, is no error. Volume claims and
    /// definitions stay.
    async fn delete_hook(&self, hook: &MadeHook) -> Result<(), TargetError>;

    /// Uninstalls; a release that is absent is no error. Call again until nothing remains.
    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError>;

    /// The revision that a rollback goes to: `wanted`, or the newest earlier one that was ever deployed.
    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError>;

    /// Rolls back to a revision, without waiting for readiness and without hooks.
    async fn rollback(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError>;

    /// The last lines of the pods of a release, whole; may hold secrets. Of many, some 256 KiB.
    async fn logs(&self, release: &Release) -> Result<String, TargetError>;
}

/// Connects to registered clusters.
#[async_trait]
pub trait Connector: Send + Sync {
    /// A connection for this invocation. `kubeconfig` is there for that kind of target.
    async fn connect(
        &self,
        tenant: &TenantId,
        cluster: &Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError>;
}
