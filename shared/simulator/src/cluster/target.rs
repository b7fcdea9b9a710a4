//! The simulated cluster as the control plane reaches it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use slipway_model::{
    Cluster, ClusterHealth, DriftedObject, HealthCheck, JobWait, JsonMap, OutputSource, TenantId,
};
use slipway_ports::{
    AppliedRelease, AppliedState, CheckedRelease, CollectedRelease, Connector, Hook, HookEvent, HookPolicies,
    HookRun, HookSet, HookSource, HookState, MadeHook, Managed, ObjectReference, Observation, PreviewRequest,
    Release, ReleasePreview, ReleaseRecord, ReleaseRequest, ReleaseStatus, SecretString, Target, TargetError,
    UninstallRequest, Uninstalled,
};

use super::{Operation, Request, Revision, helm::Process, is_claim, name_of};
use crate::{
    coverage::Fault,
    mutants::Mutant,
    world::{Sim, millis},
};

/// Connects every registration to the one cluster.
pub(crate) struct SimConnector(pub(crate) Sim);

#[async_trait]
impl Connector for SimConnector {
    async fn connect(
        &self,
        _tenant: &TenantId,
        _cluster: &Cluster,
        _kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        Ok(Arc::new(SimTarget(self.0.clone())))
    }
}

struct SimTarget(Sim);

/// The longest that one request to the API server may take, in milliseconds.
const REQUEST: i64 = 30_000;

/// What a chart makes of values: always the same, whoever renders it.
fn rendered(request: &ReleaseRequest) -> String {
    let chart = String::from_utf8_lossy(&request.chart).into_owned();
    let values = Value::Object(request.values.clone()).to_string();
    let sum = values.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{chart} {sum:016x}")
}

fn objects(release: &Release, manifest: &str) -> Vec<ObjectReference> {
    let object = |api_version: &str, kind: &str, name: String| ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: release.namespace.clone(),
        name,
    };
    let mut all = vec![
        object("apps/v1", "Deployment", release.name.clone()),
        object("v1", "Service", release.name.clone()),
        // One whose name changes with the values, so that an upgrade leaves something to take away.
        object(
            "v1",
            "ConfigMap",
            format!("{}-{}", release.name, &manifest[manifest.len() - 6..]),
        ),
    ];
    if manifest.contains("db") || manifest.contains("vector") {
        all.push(object(
            "v1",
            "PersistentVolumeClaim",
            format!("data-{}", release.name),
        ));
    }
    all
}

/// Charts whose names say so have hooks.
fn hook_events(manifest: &str) -> BTreeSet<HookEvent> {
    if manifest.contains("hooked") {
        HookEvent::ALL.into_iter().collect()
    } else {
        BTreeSet::new()
    }
}

impl SimTarget {
    /// The way of a call that changes nothing.
    async fn look(&self, name: &'static str) -> Result<(), TargetError> {
        let latency = self.0.world().latency();
        self.0.pause(latency.min(REQUEST)).await;
        let mut world = self.0.world();
        if latency > REQUEST {
            return Err(TargetError::transient("the API server does not answer in time"));
        }
        if world.trace.is_some() {
            let id = world.current.map_or(0, |task| task.0);
            world.say(format_args!("  [{id}] {name}"));
        }
        let now = world.now;
        world.cloud.settle(now);
        let rate = world.rates.cluster;
        if world.cloud.away_until > now || world.goes_wrong(rate, Fault::ClusterFails) {
            return Err(TargetError::transient("the API server does not answer"));
        }
        Ok(())
    }

    /// A change that is one request.
    async fn change(&self, name: &'static str, request: Request) -> Result<(), TargetError> {
        self.look(name).await?;
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
        Ok(())
    }

    fn applied(revision: Revision) -> AppliedRelease {
        AppliedRelease {
            revision: revision.number,
            hooks: hook_events(&revision.manifest),
            objects: revision.objects,
            namespace_created: false,
            removed: Vec::new(),
        }
    }
}

#[async_trait]
impl Target for SimTarget {
    async fn identity(&self) -> Result<String, TargetError> {
        self.look("identity").await?;
        Ok("uid".to_owned())
    }

    async fn health(&self) -> ClusterHealth {
        let answers = self.look("health").await;
        ClusterHealth {
            healthy: answers.is_ok(),
            message: answers.err().map(|error| error.0.message).unwrap_or_default(),
            version: Some("v1.36.1".to_owned()),
            uid: Some("uid".to_owned()),
            ready_nodes: 1,
            nodes: 1,
            allocatable: None,
            free: None,
        }
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        self.look("record").await?;
        let world = self.0.world();
        let name = name_of(release);
        let ever = world
            .cloud
            .releases
            .get(&name)
            .is_some_and(|all| all.iter().any(|revision| revision.was_deployed));
        Ok(world.cloud.newest(&name).map(|newest| ReleaseRecord {
            revision: newest.number,
            status: newest.status,
            labels: newest.labels.clone(),
            chart: newest.manifest.clone(),
            objects: newest.objects.clone(),
            hooks: hook_events(&newest.manifest),
            ever_deployed: ever,
        }))
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
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
        let manifest = rendered(request);
        let operation = Operation::Deploy {
            objects: objects(&request.release, &manifest),
            manifest,
            labels: request.labels.clone(),
            deployment: request.deployment,
            create_namespace: request.create_namespace,
            leftovers: request.leftovers.clone(),
        };
        let limit = millis(request.time_limit);
        let revision = Process::start(&self.0, &name_of(&request.release), operation, limit).await?;
        Ok(Self::applied(revision))
    }

    async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let name = name_of(release);
        self.look("recover").await?;
        let found = {
            let world = self.0.world();
            let all = world.cloud.releases.get(&name).cloned().unwrap_or_default();
            let ever = all.iter().any(|one| one.was_deployed);
            let status = all
                .iter()
                .find(|one| one.number == revision)
                .map(|one| one.status);
            status.map(|status| (status, ever, all))
        };
        let marks = self.0.world().has(Mutant::MarkFirstInstallFailed);
        let Some((status, ever, all)) = found else {
            return Ok("nothing was to be recovered".to_owned());
        };
        let is_open = status == ReleaseStatus::Failed || status == ReleaseStatus::PendingInstall;
        if !ever && is_open && !marks {
            for one in all {
                let forget = Request::Forget {
                    release: name.clone(),
                    number: one.number,
                };
                self.change("recover", forget).await?;
            }
            return Ok(format!(
                "the records of the first install up to {revision} were deleted"
            ));
        }
        if !status.is_pending() || status == ReleaseStatus::Uninstalling {
            return Ok("nothing was to be recovered".to_owned());
        }
        let mark = Request::Mark {
            release: name,
            number: revision,
            status: ReleaseStatus::Failed,
        };
        self.change("recover", mark).await?;
        Ok(format!("revision {revision} was marked failed"))
    }

    async fn preview(&self, request: &PreviewRequest<'_>) -> Result<ReleasePreview, TargetError> {
        self.look("preview").await?;
        let manifest = rendered(request.release);
        let name = name_of(&request.release.release);
        let world = self.0.world();
        let newest = world.cloud.newest(&name);
        Ok(ReleasePreview {
            revision: newest.map(|newest| newest.number),
            exists: newest.is_some_and(|newest| newest.was_deployed),
            manifest_digest: format!("sha256:{manifest}"),
            manifest,
            ..ReleasePreview::default()
        })
    }

    async fn drift(&self, _applied: &AppliedState<'_>) -> Result<Vec<DriftedObject>, TargetError> {
        self.look("drift").await?;
        Ok(Vec::new())
    }

    async fn managed(&self, _after: Option<&str>) -> Result<Managed, TargetError> {
        self.look("managed").await?;
        Ok(Managed::default())
    }

    async fn observe(
        &self,
        _release: &Release,
        objects: &[ObjectReference],
        _health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        self.look("observe").await?;
        if self.0.world().has(Mutant::ReadyTooEarly) {
            return Ok(Observation {
                ready: true,
                ..Observation::default()
            });
        }
        let end = self.0.world().now + millis(hold);
        loop {
            let (waiting, next) = {
                let world = self.0.world();
                let now = world.now;
                let waiting: Vec<(JobWait, bool)> = objects
                    .iter()
                    .filter_map(|object| world.cloud.wait(object, now))
                    .collect();
                let next = objects
                    .iter()
                    .filter_map(|object| world.cloud.objects.get(object)?.ready_at)
                    .filter(|at| *at > now)
                    .max();
                (waiting, next)
            };
            let now = self.0.world().now;
            let failed = waiting
                .iter()
                .find(|(_, failed)| *failed)
                .map(|(wait, _)| wait.clone());
            if waiting.is_empty() || failed.is_some() || now >= end {
                return Ok(Observation {
                    ready: waiting.is_empty(),
                    waiting: waiting.into_iter().map(|(wait, _)| wait).collect(),
                    failed,
                    diagnosis: String::new(),
                });
            }
            let until = next.map_or(end, |next| next.min(end));
            self.0.pause(until - now).await;
        }
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

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        let name = name_of(&request.release);
        let end = self.0.world().now + millis(request.time_limit);
        self.look("uninstall").await?;
        let (known, is_there) = {
            let world = self.0.world();
            let mut known: Vec<ObjectReference> = world
                .cloud
                .releases
                .get(&name)
                .into_iter()
                .flatten()
                .flat_map(|revision| revision.objects.clone())
                .collect();
            known.extend(request.leftovers.iter().cloned());
            known.extend(world.cloud.objects_of(&name).map(|(object, _)| object.clone()));
            if !world.has(Mutant::DeleteClaims) {
                known.retain(|object| !is_claim(object));
            }
            known.sort();
            known.dedup();
            let kept = world.cloud.newest(&name).map(|newest| newest.status);
            let is_there = match kept {
                None => false,
                Some(ReleaseStatus::Uninstalled) => !request.keep_record,
                Some(_) => true,
            };
            (known, is_there)
        };
        if is_there {
            let limit = end - self.0.world().now;
            let operation = Operation::Uninstall {
                keep_record: request.keep_record,
            };
            Process::start(&self.0, &name, operation, limit).await?;
        }
        for object in &known {
            if self.0.world().now >= end {
                return Err(TargetError::transient(
                    "the uninstall took too long and goes on later",
                ));
            }
            let is_there = self.0.world().cloud.objects.contains_key(object);
            if is_there {
                let delete = Request::Delete {
                    release: name.clone(),
                    object: object.clone(),
                };
                self.change("delete", delete).await?;
            }
        }
        let remaining: Vec<JobWait> = {
            let mut world = self.0.world();
            let now = world.now;
            world.cloud.settle(now);
            known
                .iter()
                .filter(|object| {
                    world
                        .cloud
                        .objects
                        .get(object)
                        .is_some_and(|found| found.release == name)
                })
                .map(|object| JobWait {
                    object: object.to_string(),
                    reason: "finalizers".to_owned(),
                    message: String::new(),
                })
                .collect()
        };
        if self.0.world().has(Mutant::UninstallLies) {
            return Ok(Uninstalled::default());
        }
        if let Some(deployment) = request
            .namespace_of
            .filter(|_| remaining.is_empty() && !request.keep_record)
        {
            let request = Request::DeleteNamespace {
                name: request.release.namespace.clone(),
                deployment,
            };
            self.change("delete namespace", request).await?;
        }
        Ok(Uninstalled { remaining })
    }

    async fn mark_failed(&self, release: &Release, revision: u32, _reason: &str) -> Result<(), TargetError> {
        let name = name_of(release);
        self.look("mark failed").await?;
        let is_it = self
            .0
            .world()
            .cloud
            .newest(&name)
            .is_some_and(|newest| newest.number == revision && newest.status == ReleaseStatus::Deployed);
        if is_it {
            let mark = Request::Mark {
                release: name,
                number: revision,
                status: ReleaseStatus::Failed,
            };
            self.change("mark failed", mark).await?;
        }
        Ok(())
    }

    async fn hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        self.look("hooks").await?;
        let name = name_of(release);
        let manifest = match source {
            HookSource::Rendered(request) => rendered(request),
            HookSource::Revision(number) => {
                let world = self.0.world();
                let found = world
                    .cloud
                    .releases
                    .get(&name)
                    .and_then(|all| all.iter().find(|one| one.number == number))
                    .map(|one| one.manifest.clone());
                found.ok_or_else(|| TargetError::permanent("there is no such revision"))?
            }
        };
        if !hook_events(&manifest).contains(&event) {
            return Ok(HookSet::default());
        }
        if let HookSource::Rendered(request) = source
            && request.create_namespace
        {
            let make = Request::MakeNamespace {
                name: release.namespace.clone(),
                deployment: request.deployment,
            };
            self.change("make namespace", make).await?;
        }
        let object = ObjectReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: release.namespace.clone(),
            name: format!("{}-{event}", release.name),
        };
        let hook = Hook {
            object,
            policies: HookPolicies {
                delete_before: true,
                delete_succeeded: true,
                ..HookPolicies::default()
            },
            manifest: String::new(),
        };
        Ok(HookSet {
            hooks: vec![hook],
            note: String::new(),
        })
    }

    async fn create_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        self.look("create hook").await?;
        let mut world = self.0.world();
        let name = name_of(run.release);
        world.check_helm_writes(&name);
        let uid = format!("{} {} {}", run.job, run.event, run.number);
        world.make_hook(&name, &hook.object, &uid);
        Ok(MadeHook {
            object: hook.object.clone(),
            uid,
            policies: hook.policies,
        })
    }

    async fn observe_hook(
        &self,
        _release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError> {
        self.look("observe hook").await?;
        let end = self.0.world().now + millis(hold);
        loop {
            let (now, found) = {
                let world = self.0.world();
                (world.now, world.cloud.hooks.get(&hook.object).cloned())
            };
            let Some(found) = found.filter(|found| found.uid == hook.uid) else {
                return Ok(HookState::Failed {
                    reason: "the hook is gone".to_owned(),
                    log: String::new(),
                });
            };
            let done = found.ends_at.is_some_and(|at| at <= now);
            if done && found.fails {
                return Ok(HookState::Failed {
                    reason: "the hook failed with exit code 3".to_owned(),
                    log: String::new(),
                });
            }
            if done {
                return Ok(HookState::Succeeded { log: String::new() });
            }
            if now >= end {
                return Ok(HookState::Running {
                    wait: JobWait {
                        object: hook.object.to_string(),
                        reason: "running".to_owned(),
                        message: String::new(),
                    },
                    diagnosis: String::new(),
                });
            }
            let until = found.ends_at.map_or(end, |at| at.min(end));
            self.0.pause(until - now).await;
        }
    }

    async fn delete_hook(&self, hook: &MadeHook) -> Result<(), TargetError> {
        self.look("delete hook").await?;
        let mut world = self.0.world();
        if world
            .cloud
            .hooks
            .get(&hook.object)
            .is_some_and(|found| found.uid == hook.uid)
        {
            world.cloud.hooks.remove(&hook.object);
        }
        Ok(())
    }

    async fn rollback_target(&self, release: &Release, wanted: Option<u32>) -> Result<u32, TargetError> {
        self.look("rollback target").await?;
        let world = self.0.world();
        let name = name_of(release);
        let all = world.cloud.releases.get(&name).map_or(&[][..], Vec::as_slice);
        let newest = all.iter().map(|one| one.number).max().unwrap_or_default();
        let found = match wanted {
            Some(wanted) => all.iter().map(|one| one.number).find(|number| *number == wanted),
            None => all
                .iter()
                .filter(|one| one.number < newest && one.was_deployed)
                .map(|one| one.number)
                .max(),
        };
        found
            .ok_or_else(|| TargetError::permanent(format!("release {release} has no revision to go back to")))
    }

    async fn rollback(
        &self,
        release: &Release,
        revision: u32,
        labels: &BTreeMap<String, String>,
        time_limit: Duration,
    ) -> Result<AppliedRelease, TargetError> {
        let operation = Operation::Rollback {
            to: revision,
            labels: labels.clone(),
        };
        let limit = millis(time_limit);
        let revision = Process::start(&self.0, &name_of(release), operation, limit).await?;
        Ok(Self::applied(revision))
    }

    async fn logs(&self, _release: &Release) -> Result<String, TargetError> {
        self.look("logs").await?;
        Ok(String::new())
    }
}
