//! A cluster that does what a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use slipway_model::{Cluster, ClusterHealth, JobWait, JsonMap, OutputSource, TenantId};
use slipway_ports::{
    AppliedRelease, ChartError, ChartSource, CheckedRelease, CollectedRelease, Connector, ObjectReference,
    Observation, PulledChart, Release, ReleaseRecord, ReleaseRequest, ReleaseStatus, SecretString, Target,
    TargetError, UninstallRequest, Uninstalled,
};
use slipway_testkit::ManualClock;

/// What the cluster does, and what was done to it.
#[derive(Default)]
pub(crate) struct Cloud {
    /// Release → why Helm fails.
    pub(crate) broken: BTreeMap<String, String>,
    /// Releases that never become ready.
    pub(crate) stuck: BTreeSet<String>,
    /// Release → values, of what is installed.
    pub(crate) installed: BTreeMap<String, JsonMap>,
    revisions: BTreeMap<String, (u32, BTreeMap<String, String>)>,
    /// `apply NAME`, `uninstall NAME`, in order.
    pub(crate) log: Vec<String>,
    /// Releases whose objects stay for a while when they are uninstalled.
    pub(crate) lingering: BTreeSet<String>,
    /// Whether no call reaches it.
    pub(crate) away: bool,
    /// Why it does not answer.
    pub(crate) out_of_reach: Option<String>,
}

#[derive(Clone)]
pub(crate) struct FakeCluster {
    cloud: Arc<Mutex<Cloud>>,
    clock: Arc<ManualClock>,
}

impl FakeCluster {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            cloud: Arc::default(),
            clock,
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
        match self.cloud().away {
            true => Err(TargetError::transient("no route to host")),
            false => Ok("uid".to_owned()),
        }
    }

    async fn health(&self) -> ClusterHealth {
        let away = self.cloud().out_of_reach.clone();
        ClusterHealth {
            healthy: away.is_none(),
            message: away.unwrap_or_default(),
            version: Some("v1.36.3".to_owned()),
            uid: Some("uid".to_owned()),
            ready_nodes: 1,
            nodes: 1,
            allocatable: None,
            free: None,
        }
    }

    async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        let cloud = self.cloud();
        Ok(cloud
            .installed
            .get(&release.name)
            .and(cloud.revisions.get(&release.name))
            .map(|(revision, labels)| ReleaseRecord {
                revision: *revision,
                status: ReleaseStatus::Deployed,
                labels: labels.clone(),
                chart: "chart-1.0.0".to_owned(),
                objects: vec![object(release)],
                ever_deployed: true,
            }))
    }

    async fn check(&self, request: &ReleaseRequest) -> Result<CheckedRelease, TargetError> {
        let manifest = Value::Object(request.values.clone()).to_string();
        let mut hasher = DefaultHasher::new();
        manifest.hash(&mut hasher);
        Ok(CheckedRelease {
            objects: vec![object(&request.release)],
            manifest_digest: format!("sha256:{:016x}", hasher.finish()),
            manifest,
        })
    }

    async fn apply(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        let mut cloud = self.cloud();
        let name = request.release.name.clone();
        cloud.log.push(format!("apply {name}"));
        if let Some(why) = cloud.broken.get(&name) {
            return Err(TargetError::permanent(why.clone()));
        }
        cloud.installed.insert(name.clone(), request.values.clone());
        let entry = cloud.revisions.entry(name).or_default();
        *entry = (entry.0 + 1, request.labels.clone());
        Ok(AppliedRelease {
            revision: entry.0,
            objects: vec![object(&request.release)],
            namespace_created: false,
        })
    }

    async fn recover(&self, _release: &Release, _revision: u32) -> Result<String, TargetError> {
        Ok("nothing".to_owned())
    }

    async fn observe(
        &self,
        release: &Release,
        _objects: &[ObjectReference],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        let ready = !self.cloud().stuck.contains(&release.name);
        if !ready {
            self.clock.advance(hold);
        }
        Ok(Observation {
            ready,
            ..Observation::default()
        })
    }

    async fn collect(
        &self,
        release: &Release,
        _objects: &[ObjectReference],
        _outputs: &BTreeMap<String, OutputSource>,
        _ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        Ok(CollectedRelease {
            services: vec![release.name.clone()],
            endpoint_url: format!("http://{}.{}.svc:80", release.name, release.namespace),
            outputs: JsonMap::new(),
        })
    }

    async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        let mut cloud = self.cloud();
        let name = &request.release.name;
        cloud.log.push(format!("uninstall {name}"));
        if let Some(why) = cloud.broken.get(&format!("uninstall {name}")) {
            return Err(TargetError::permanent(why.clone()));
        }
        if cloud.lingering.contains(name) {
            let remaining = vec![JobWait {
                object: format!("Pod/{name}"),
                reason: "terminating".to_owned(),
                message: String::new(),
            }];
            return Ok(Uninstalled { remaining });
        }
        cloud.installed.remove(name);
        Ok(Uninstalled::default())
    }

    async fn rollback(
        &self,
        release: &Release,
        _revision: Option<u32>,
        _labels: &BTreeMap<String, String>,
        _time_limit: Duration,
    ) -> Result<AppliedRelease, TargetError> {
        Err(TargetError::permanent(format!("no rollback of {release}")))
    }

    async fn test(&self, _release: &Release, _time_limit: Duration) -> Result<String, TargetError> {
        Ok(String::new())
    }

    async fn logs(&self, _release: &Release) -> Result<String, TargetError> {
        Ok(String::new())
    }
}

#[async_trait]
impl Connector for FakeCluster {
    async fn connect(
        &self,
        _tenant: &TenantId,
        _cluster: &Cluster,
        _kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        Ok(Arc::new(self.clone()))
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
