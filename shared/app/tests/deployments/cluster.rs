//! A cluster that does what a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use slipway_model::{
    Cluster, ClusterHealth, ClusterTarget, HealthCheck, JobWait, JsonMap, ObjectChange, ObjectPlan,
    ObjectRole, OutputSource, TenantId,
};
use slipway_ports::{
    AppliedRelease, AppliedState, ChartError, ChartSource, CheckedRelease, CollectedRelease,
    CompletionRequest, Connector, Diagnosis, ExposeSecret, FoundDrift, Hook, HookEvent, HookPolicies,
    HookRun, HookSet, HookSource, HookState, MadeHook, Managed, ObjectReference, Observation, PreviewRequest,
    PulledChart, Release, ReleasePreview, ReleaseRecord, ReleaseRequest, ReleaseStatus, RollbackRequest,
    SecretString, Target, TargetError, UninstallRequest, Uninstalled,
};
use slipway_testkit::ManualClock;

use crate::cloud::Cloud;

/// What others do while somebody waits for the cluster's answer to a call of that name.
type Meanwhile = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

#[derive(Clone)]
pub(crate) struct FakeCluster {
    cloud: Arc<Mutex<Cloud>>,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
    clock: Arc<ManualClock>,
    uid: Result<String, TargetError>,
}

impl FakeCluster {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            cloud: Arc::default(),
            meanwhile: Arc::default(),
            clock,
            uid: Ok("uid".to_owned()),
        }
    }

    /// Has that done once, while the next call of that name is on its way, as `apply`; `made hook` is when one is made.
    pub(crate) fn meanwhile(&self, call: &'static str, then: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((call, Box::pin(then)));
    }

    async fn on_the_way(&self, call: &str) {
        let then = self.meanwhile.lock().unwrap().take_if(|(of, _)| *of == call);
        if let Some((_, then)) = then {
            then.await;
        }
    }

    pub(crate) fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap()
    }
}

fn object(release: &Release) -> ObjectReference {
    ObjectReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: release.namespace.clone(),
        name: release.name.clone(),
    }
}

#[async_trait]
impl Target for FakeCluster {
    async fn identity(&self) -> Result<String, TargetError> {
        self.on_the_way("identity").await;
        match self.cloud().away {
            true => Err(TargetError::transient("no route to host")),
            false => self.uid.clone(),
        }
    }

    async fn health(&self) -> Result<ClusterHealth, TargetError> {
        self.on_the_way("health").await;
        let mut cloud = self.cloud();
        cloud.health_looks += 1;
        if let Some(error) = cloud.out_of_reach.clone() {
            return Err(error);
        }
        Ok(ClusterHealth {
            healthy: true,
            message: String::new(),
            version: Some("v1.36.3".to_owned()),
            uid: Some("uid".to_owned()),
            ready_nodes: 1,
            nodes: 1,
            allocatable: None,
            free: cloud.free,
        })
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        self.on_the_way("record").await;
        let cloud = self.cloud();
        if let Some(left) = cloud.half_made.get(&release.name) {
            let left = ObjectReference {
                name: left.clone(),
                ..object(release)
            };
            return Ok(Some(ReleaseRecord {
                revision: 1,
                status: ReleaseStatus::Failed,
                labels: BTreeMap::from([
                    ("slipway-job".to_owned(), "another".to_owned()),
                    ("slipway-deployment".to_owned(), "none".to_owned()),
                ]),
                chart: "chart-1.0.0".to_owned(),
                objects: vec![left],
                kept: Vec::new(),
                hooks: BTreeSet::new(),
                ever_deployed: false,
            }));
        }
        if let Some(labels) = cloud.landing.get(&release.name) {
            return Ok(Some(ReleaseRecord {
                revision: 1,
                status: ReleaseStatus::PendingInstall,
                labels: labels.clone(),
                chart: "chart-1.0.0".to_owned(),
                objects: vec![object(release)],
                kept: Vec::new(),
                hooks: BTreeSet::new(),
                ever_deployed: false,
            }));
        }
        Ok(cloud
            .installed
            .get(&release.name)
            .and(cloud.revisions.get(&release.name))
            .map(|(revision, labels)| ReleaseRecord {
                revision: *revision,
                status: match cloud.is_marked(&release.name, *revision) {
                    _ if cloud.uninstalled.contains(&release.name) => ReleaseStatus::Uninstalled,
                    true => ReleaseStatus::Failed,
                    false => ReleaseStatus::Deployed,
                },
                labels: labels.clone(),
                chart: "chart-1.0.0".to_owned(),
                objects: vec![object(release)],
                kept: cloud
                    .kept
                    .contains(&release.name)
                    .then(|| object(release))
                    .into_iter()
                    .collect(),
                hooks: cloud.events(&release.name),
                ever_deployed: *revision > 1 || !cloud.is_marked(&release.name, *revision),
            }))
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
        self.on_the_way("check").await;
        let taken = {
            let mut cloud = self.cloud();
            if cloud.crowded {
                cloud.turns += 1;
                return Err(TargetError::queued("all 8 places for Helm are taken"));
            }
            cloud.limits.push(("check", request.time_limit));
            cloud.checking
        };
        self.clock.advance(taken);
        let manifest = Value::Object(request.values.clone()).to_string();
        let mut hasher = DefaultHasher::new();
        manifest.hash(&mut hasher);
        Ok(CheckedRelease {
            objects: vec![object(&request.release)],
            hooks: self.cloud().events(&request.release.name),
            manifest_digest: format!("sha256:{:016x}", hasher.finish()),
            manifest,
        })
    }

    /// The values stand for the manifest, and secrets in them are not hidden: that is the target's own test.
    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError> {
        let wanted = request.release;
        let checked = self.check(wanted).await?;
        let cloud = self.cloud();
        let name = &wanted.release.name;
        let change = match cloud.installed.get(name) {
            None => ObjectChange::Create,
            Some(values) if *values == wanted.values => ObjectChange::Unchanged,
            Some(_) => ObjectChange::Change,
        };
        let object = object(&wanted.release);
        Ok(ReleasePreview {
            revision: cloud.revisions.get(name).map(|(revision, _)| *revision),
            exists: change != ObjectChange::Create,
            objects: vec![ObjectPlan {
                api_version: object.api_version,
                kind: object.kind,
                namespace: object.namespace,
                name: object.name,
                change,
                role: ObjectRole::Object,
                reason: None,
                diff: None,
                dangers: Vec::new(),
            }],
            refused: Vec::new(),
            notes: Vec::new(),
            manifest_digest: checked.manifest_digest,
            manifest: checked.manifest,
        })
    }

    async fn drift(&self, applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError> {
        let cloud = self.cloud();
        let name = &applied.release.name;
        match cloud.away {
            true => Err(TargetError::transient("no route to host")),
            false => Ok(FoundDrift {
                objects: cloud.drift.get(name).cloned().unwrap_or_default(),
                uncompared: cloud.uncompared.get(name).cloned().unwrap_or_default(),
            }),
        }
    }

    async fn managed(&self, _after: Option<&str>) -> Result<Managed, TargetError> {
        let cloud = self.cloud();
        match cloud.away {
            true => Err(TargetError::transient("no route to host")),
            false => Ok(cloud.managed.clone()),
        }
    }

    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        self.on_the_way("apply").await;
        let mut cloud = self.cloud();
        let name = request.release.name.clone();
        if cloud.crowded {
            return Err(TargetError::queued("all 8 places for Helm are taken"));
        }
        cloud.log.push(format!("apply {name}"));
        cloud.limits.push(("apply", request.time_limit));
        if let Some(why) = cloud.broken.get(&name) {
            return Err(TargetError::permanent(why.clone()));
        }
        if let Some(left) = cloud.flaky.get_mut(&name).filter(|left| **left > 0) {
            *left -= 1;
            return Err(TargetError::transient("too many requests"));
        }
        if cloud.dying.remove(&name) {
            cloud.landing.insert(name, request.labels.clone());
            return Err(TargetError::transient("Helm was killed"));
        }
        cloud.installed.insert(name.clone(), request.values.clone());
        cloud.uninstalled.remove(&name);
        let hooks = cloud.events(&name);
        let entry = cloud.revisions.entry(name.clone()).or_default();
        *entry = (entry.0 + 1, request.labels.clone());
        let entry = entry.clone();
        cloud
            .history
            .insert((name.clone(), entry.0), request.values.clone());
        if cloud.unheard.remove(&name) {
            return Err(TargetError::transient("the connection was lost"));
        }
        Ok(AppliedRelease {
            revision: entry.0,
            objects: vec![object(&request.release)],
            hooks,
            namespace_created: false,
            removed: Vec::new(),
        })
    }

    async fn complete(&self, request: &CompletionRequest) -> Result<Vec<ObjectReference>, TargetError> {
        let name = &request.release.name;
        let mut cloud = self.cloud();
        cloud.log.push(format!("complete {name}"));
        Ok(request.leftovers.clone())
    }

    async fn recover(&self, release: &Release, _revision: u32) -> Result<String, TargetError> {
        let mut cloud = self.cloud();
        cloud.half_made.remove(&release.name);
        if let Some(labels) = cloud.landing.remove(&release.name) {
            cloud.installed.insert(release.name.clone(), JsonMap::new());
            cloud.revisions.insert(release.name.clone(), (1, labels));
        }
        Ok("nothing".to_owned())
    }

    async fn observe(
        &self,
        release: &Release,
        _objects: &[ObjectReference],
        _health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        self.on_the_way("observe").await;
        let ready = !self.cloud().stuck.contains(&release.name);
        if !ready {
            self.clock.advance(hold);
        }
        let printed = self.cloud().printed(&release.name);
        let waits = JobWait {
            object: object(release).to_string(),
            reason: "crash loop".to_owned(),
            message: printed.clone(),
        };
        let waiting = if ready || printed.is_empty() {
            Vec::new()
        } else {
            vec![waits]
        };
        Ok(Observation {
            ready,
            waiting,
            failed: None,
            diagnosis: Diagnosis::of(printed),
        })
    }

    async fn collect(
        &self,
        release: &Release,
        _objects: &[ObjectReference],
        _outputs: &BTreeMap<String, OutputSource>,
        _ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        if let Some(why) = self.cloud().broken.get(&format!("collect {}", release.name)) {
            return Err(TargetError::permanent(why.clone()));
        }
        if let Some(what) = self.cloud().awaited.get(&release.name) {
            return Err(TargetError::transient(what.clone()));
        }
        let elsewhere = self.cloud().endpoints.get(&release.name).cloned();
        let by_name = || format!("http://{}.{}.svc:80", release.name, release.namespace);
        Ok(CollectedRelease {
            services: vec![release.name.clone()],
            endpoint_url: elsewhere.unwrap_or_else(by_name),
            outputs: match self.cloud().printed(&release.name) {
                printed if printed.is_empty() => JsonMap::new(),
                printed => JsonMap::from_iter([("printed".to_owned(), printed.into())]),
            },
        })
    }

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        self.on_the_way("uninstall").await;
        let mut cloud = self.cloud();
        let name = &request.release.name;
        if cloud.crowded {
            return Err(TargetError::queued("all 8 places for Helm are taken"));
        }
        let part = if request.keep_record { "objects of " } else { "" };
        cloud.log.push(format!("uninstall {part}{name}"));
        if let Some(why) = cloud.broken.get(&format!("uninstall {name}")) {
            return Err(TargetError::permanent(why.clone()));
        }
        cloud.uninstalled.insert(name.clone());
        if cloud.lingering.contains(name) {
            let pod = |object: String| JobWait {
                object,
                reason: "terminating".to_owned(),
                message: String::new(),
            };
            let crowd = (0..cloud.crowd).map(|number| pod(format!("Pod/{name}-{number}")));
            let remaining = std::iter::once(pod(format!("Pod/{name}"))).chain(crowd).collect();
            return Ok(Uninstalled { remaining });
        }
        if !request.keep_record {
            cloud.installed.remove(name);
            cloud.uninstalled.remove(name);
        }
        Ok(Uninstalled::default())
    }

    async fn mark_failed(&self, release: &Release, revision: u32, reason: &str) -> Result<(), TargetError> {
        self.on_the_way("mark_failed").await;
        let mut cloud = self.cloud();
        if let Some(why) = cloud.broken.get(&format!("mark_failed {}", release.name)) {
            return Err(TargetError::transient(why.clone()));
        }
        let told = format!("{} {revision}: {reason}", release.name);
        cloud.marked.push(told);
        Ok(())
    }

    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        self.on_the_way("hooks").await;
        if self.cloud().crowded && matches!(source, HookSource::Rendered(_)) {
            return Err(TargetError::queued("all 8 places for Helm are taken"));
        }
        let names = self
            .cloud()
            .hooks
            .get(&format!("{} {event}", release.name))
            .cloned();
        let hook = |name: String| Hook {
            object: ObjectReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                namespace: release.namespace.clone(),
                name,
            },
            policies: HookPolicies {
                delete_before: true,
                delete_succeeded: true,
                delete_failed: self.cloud().deletes_failed,
                log_succeeded: event == HookEvent::Test,
                ..HookPolicies::default()
            },
            manifest: String::new(),
        };
        Ok(HookSet {
            hooks: names.unwrap_or_default().into_iter().map(hook).collect(),
            note: String::new(),
        })
    }

    async fn create_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        let uid = format!("{} {} {}", run.job, run.event, run.number);
        {
            let mut cloud = self.cloud();
            if let Some(why) = cloud.broken.get(&format!("hook {}", hook.object.name)) {
                return Err(TargetError::permanent(why.clone()));
            }
            if cloud.made.insert(uid.clone(), hook.object.name.clone()).is_none() {
                cloud.log.push(format!("hook {}", hook.object.name));
            }
        }
        self.on_the_way("made hook").await;
        Ok(MadeHook {
            object: hook.object.clone(),
            uid,
            policies: hook.policies,
        })
    }

    async fn find_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<Option<MadeHook>, TargetError> {
        let uid = format!("{} {} {}", run.job, run.event, run.number);
        let name = self.cloud().made.get(&uid).cloned();
        Ok(name.map(|name| MadeHook {
            object: ObjectReference {
                name,
                ..hook.object.clone()
            },
            uid,
            policies: hook.policies,
        }))
    }

    async fn observe_hook(
        &self,
        release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError> {
        let name = &hook.object.name;
        if let Some(why) = self.cloud().broken.get(&format!("observe {name}")) {
            return Err(TargetError::permanent(why.clone()));
        }
        if self.cloud().hanging.contains(name) {
            self.clock.advance(hold);
            return Ok(HookState::Running {
                wait: JobWait {
                    object: hook.object.to_string(),
                    reason: "running".to_owned(),
                    message: "0 of 1 runs are done".to_owned(),
                },
                diagnosis: Diagnosis::default(),
            });
        }
        let log = format!("{name} said so{}", self.cloud().printed(&release.name));
        Ok(match self.cloud().failing.contains(name) {
            true => HookState::Failed {
                reason: "the job failed (container main ended with exit code 3)".to_owned(),
                log,
            },
            false => HookState::Succeeded { log },
        })
    }

    async fn delete_hook(&self, hook: &MadeHook) -> Result<(), TargetError> {
        let mut cloud = self.cloud();
        if let Some(why) = cloud.broken.get(&format!("delete {}", hook.object.name)) {
            return Err(TargetError::permanent(why.clone()));
        }
        cloud.made.remove(&hook.uid);
        Ok(())
    }

    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError> {
        let mut cloud = self.cloud();
        if cloud.forgetful.remove(&release.name) {
            return Err(TargetError::transient("no route to host"));
        }
        let newest = cloud.revisions.get(&release.name).map(|entry| entry.0);
        let before = |newest| {
            (1..newest)
                .rev()
                .find(|one| !cloud.is_marked(&release.name, *one))
        };
        let wanted = wanted.or_else(|| newest.and_then(before));
        wanted.ok_or_else(|| TargetError::permanent(format!("no rollback of {release}")))
    }

    async fn rollback(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError> {
        self.on_the_way("rollback").await;
        let (release, revision) = (&request.release, request.revision);
        let mut cloud = self.cloud();
        let name = release.name.clone();
        cloud.log.push(format!("rollback {name} to {revision}"));
        if let Some(why) = cloud.broken.get(&format!("rollback {name}")) {
            return Err(TargetError::permanent(why.clone()));
        }
        let Some(values) = cloud.history.get(&(name.clone(), revision)).cloned() else {
            return Err(TargetError::permanent(format!(
                "no revision {revision} of {release}"
            )));
        };
        cloud.installed.insert(name.clone(), values.clone());
        let hooks = cloud.events(&name);
        let entry = cloud.revisions.entry(name.clone()).or_default();
        *entry = (entry.0 + 1, request.labels.clone());
        let made = entry.0;
        cloud.history.insert((name, made), values);
        Ok(AppliedRelease {
            revision: made,
            objects: vec![object(release)],
            hooks,
            namespace_created: false,
            removed: Vec::new(),
        })
    }

    async fn logs(&self, release: &Release) -> Result<String, TargetError> {
        Ok(self.cloud().printed(&release.name))
    }
}

#[async_trait]
impl Connector for FakeCluster {
    async fn connect(
        &self,
        _tenant: &TenantId,
        cluster: &Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        let mut connected = self.clone();
        let mut cloud = self.cloud();
        if let ClusterTarget::Kubeconfig { context } = &cluster.target {
            cloud.contexts.push(context.clone());
        }
        let kubeconfig = kubeconfig.map(ExposeSecret::expose_secret).unwrap_or_default();
        let credentials = format!("{kubeconfig} {:?}", cluster.target);
        if let Some((_, uid)) = cloud
            .leads_to
            .iter()
            .find(|(part, _)| credentials.contains(*part))
        {
            connected.uid.clone_from(uid);
        }
        Ok(Arc::new(connected))
    }
}

pub(crate) struct AnyChart;

#[async_trait]
impl ChartSource for AnyChart {
    async fn pull(
        &self,
        _tenant: &TenantId,
        reference: &str,
        version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        Ok(PulledChart {
            name: reference.rsplit('/').next().unwrap_or_default().to_owned(),
            version: version.unwrap_or("1.0.0").to_owned(),
            digest: "sha256:00".to_owned(),
            archive: Vec::new(),
        })
    }
}
