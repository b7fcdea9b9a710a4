//! The simulated cluster as the control plane reaches it.

mod charts;
mod hooks;
mod looks;
mod releases;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use slipway_model::{Cluster, ClusterHealth, HealthCheck, JsonMap, OutputSource, TenantId};
use slipway_ports::{
    AppliedRelease, AppliedState, CheckedRelease, CollectedRelease, CompletionRequest, Connector, FoundDrift,
    Hook, HookEvent, HookRun, HookSet, HookSource, HookState, MadeHook, Managed, ObjectReference,
    Observation, PreviewRequest, Release, ReleasePreview, ReleaseRecord, ReleaseRequest, RollbackRequest,
    SecretString, Target, TargetError, UninstallRequest, Uninstalled,
};

pub(crate) use self::charts::{READABLE, hook_events, plain};
use self::charts::{objects, rendered};
use super::{Request, name_of};
use crate::{coverage::Fault, world::Sim};

/// Connects every registration to the one cluster.
pub(crate) struct SimConnector(pub(crate) Sim);

#[async_trait]
impl Connector for SimConnector {
    async fn connect(
        &self,
        _tenant: &TenantId,
        cluster: &Cluster,
        _kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        let is_refused = {
            let mut world = self.0.world();
            let rate = world.rates.cluster;
            cluster.name == "third" || world.goes_wrong(rate, Fault::ConnectFails)
        };
        if is_refused {
            return Err(TargetError::transient("no token for it is to be had"));
        }
        Ok(Arc::new(SimTarget(self.0.clone())))
    }
}

struct SimTarget(Sim);

/// The longest that one request to the API server may take, in milliseconds.
const REQUEST: i64 = 30_000;

/// What is said of an API server that is away, or that a request does not get to.
pub(crate) const AWAY: &str = "the API server does not answer";

/// What is said of an API server that does not accept the credentials.
pub(crate) const REFUSED: &str = "the API server does not know who asks";

/// What is said while others have all the places for Helm.
pub(crate) const CROWDED: &str = "all places for Helm are taken";

/// What is said of an API server that does not let whoever asks do so.
const FORBIDDEN: &str = "the API server forbids it";

/// How a request fares that a fault may hit.
enum Way {
    There,
    /// It does not get there, or is refused.
    NotThere(TargetError),
    /// It gets there, and its answer is lost.
    Unanswered(TargetError),
}

impl SimTarget {
    /// The way of a call that changes nothing.
    pub(super) async fn look(&self, name: &'static str) -> Result<(), TargetError> {
        self.ask(name, FORBIDDEN).await
    }

    /// As `look`, of an API server that may not know whoever asks.
    async fn look_unless_refused(&self, name: &'static str) -> Result<(), TargetError> {
        self.ask(name, REFUSED).await
    }

    async fn ask(&self, name: &'static str, refusal: &str) -> Result<(), TargetError> {
        match self.way(name, refusal).await {
            Way::There => Ok(()),
            Way::NotThere(error) | Way::Unanswered(error) => Err(error),
        }
    }

    /// The way of a call that changes something: why it seems to fail although it does not, if that is so.
    pub(super) async fn reach(&self, name: &'static str) -> Result<Option<TargetError>, TargetError> {
        match self.way(name, FORBIDDEN).await {
            Way::There => Ok(None),
            Way::NotThere(error) => Err(error),
            Way::Unanswered(error) => Ok(Some(error)),
        }
    }

    /// Waits for Helm's turn, which may not come.
    pub(super) fn turn(&self) -> Result<(), TargetError> {
        let mut world = self.0.world();
        let rate = world.rates.cluster / 2;
        if world.goes_wrong(rate, Fault::Crowded) {
            return Err(TargetError::queued(CROWDED));
        }
        Ok(())
    }

    async fn way(&self, name: &'static str, refusal: &str) -> Way {
        let away = || TargetError::transient(AWAY);
        let latency = self.0.world().latency();
        self.0.pause(latency.min(REQUEST)).await;
        let mut world = self.0.world();
        if latency > REQUEST {
            let late = TargetError::transient(format!("{AWAY} in time"));
            return match world.choices.below(2) {
                0 => Way::NotThere(late),
                _ => Way::Unanswered(late),
            };
        }
        if world.trace.is_some() {
            let id = world.current.map_or(0, |task| task.0);
            world.say(format_args!("  [{id}] {name}"));
        }
        let now = world.now;
        world.cloud.settle(now);
        let rate = world.rates.cluster;
        if world.cloud.away_until > now {
            return Way::NotThere(away());
        }
        if world.goes_wrong(rate, Fault::ClusterFails) {
            return match world.choices.below(4) {
                0 => Way::NotThere(away()),
                1 | 2 => Way::Unanswered(away()),
                _ => Way::NotThere(TargetError::permanent(refusal)),
            };
        }
        Way::There
    }

    /// A change that is one request.
    pub(super) async fn change(&self, name: &'static str, request: Request) -> Result<(), TargetError> {
        let lost = self.reach(name).await?;
        let mut world = self.0.world();
        let release = match &request {
            Request::Mark { release, .. }
            | Request::Forget { release, .. }
            | Request::Delete { release, .. } => Some(release.clone()),
            _ => None,
        };
        if let Some(release) = release {
            world.check_helm_writes(&release);
        }
        let _ = world.perform(&request);
        lost.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Target for SimTarget {
    async fn identity(&self) -> Result<String, TargetError> {
        self.look("identity").await?;
        Ok("uid".to_owned())
    }

    async fn health(&self) -> Result<ClusterHealth, TargetError> {
        self.look_unless_refused("health").await?;
        Ok(ClusterHealth {
            healthy: true,
            message: String::new(),
            version: Some("v1.36.1".to_owned()),
            uid: Some("uid".to_owned()),
            ready_nodes: 1,
            nodes: 1,
            allocatable: None,
            free: None,
        })
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        self.newest_record(release).await
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
        self.turn()?;
        self.look("check").await?;
        let manifest = rendered(request);
        Ok(CheckedRelease {
            objects: objects(&request.release, &manifest),
            hooks: hook_events(&manifest),
            manifest_digest: format!("sha256:{manifest}"),
            manifest,
        })
    }

    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        self.deploy(request).await
    }

    async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        self.recover_record(release, revision).await
    }

    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError> {
        self.preview_release(request).await
    }

    async fn drift(&self, applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError> {
        let objects = self.differences(applied).await?;
        let uncompared = Vec::new();
        Ok(FoundDrift { objects, uncompared })
    }

    async fn managed(&self, after: Option<&str>) -> Result<Managed, TargetError> {
        self.page_of_managed(after).await
    }

    async fn observe(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        _health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        self.watch_objects(release, objects, hold).await
    }

    async fn collect(
        &self,
        release: &Release,
        _objects: &[ObjectReference],
        _outputs: &BTreeMap<String, OutputSource>,
        _ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        self.look("collect").await?;
        Ok(CollectedRelease {
            services: vec![release.name.clone()],
            endpoint_url: format!("http://{}.{}:80", release.name, release.namespace),
            outputs: JsonMap::from_iter([("made_by".to_owned(), json!(release.name))]),
        })
    }

    async fn complete(&self, request: &CompletionRequest) -> Result<Vec<ObjectReference>, TargetError> {
        self.complete_revision(request).await
    }

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        self.remove(request).await
    }

    async fn mark_failed(&self, release: &Release, revision: u32, _reason: &str) -> Result<(), TargetError> {
        self.mark_newest_failed(release, revision).await
    }

    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        self.hooks_of(release, event, source).await
    }

    async fn create_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        self.begin_hook(run, hook).await
    }

    async fn find_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<Option<MadeHook>, TargetError> {
        self.hook_of_run(run, hook).await
    }

    async fn observe_hook(
        &self,
        _release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError> {
        self.watch_hook(hook, hold).await
    }

    async fn delete_hook(&self, hook: &MadeHook) -> Result<(), TargetError> {
        self.forget_hook(hook).await
    }

    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError> {
        self.revision_before(release, wanted).await
    }

    async fn rollback(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError> {
        self.go_back(request).await
    }

    async fn logs(&self, release: &Release) -> Result<String, TargetError> {
        self.look("logs").await?;
        let world = self.0.world();
        let newest = world.cloud.newest(&name_of(release));
        Ok(newest.map_or_else(String::new, |newest| world.cloud.says(&newest.manifest)))
    }
}
