//! Helm, asked for its version when it is first needed: a cold start does not wait for that.

use std::{env, fmt, fs, path::Path, sync::Arc};

use async_trait::async_trait;
use slipway_aws::EksClusters;
use slipway_helm::{BundledCharts, Charts, Helm, HelmConnector, HelmSettings, RenderStore};
use slipway_model::{Cluster, TenantId};
use slipway_policy::HostPolicy;
use slipway_ports::{
    ChartError, ChartSource, Connector, PulledChart, SecretString, Secrets, Target, TargetError,
};
use tokio::sync::OnceCell;

use crate::{connector::AwsConnector, settings::HelmPlaces};

/// Helms that run at the same time in one function: more would have too little memory each.
const PROCESSES: usize = 2;

/// MiB of address space that each may take. Reading a repository's index of 23 MiB takes 650 MiB of memory, and succeeds
/// always with 1,952 MiB of address space and seldom with 1,856. A check of the template compares it with the function's
/// memory.
const MEMORY_MIB: u64 = 2016;

/// Clusters and charts by way of Helm.
pub struct LateHelm {
    pub(crate) places: HelmPlaces,
    pub(crate) hosts: HostPolicy,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) renders: RenderStore,
    pub(crate) eks: EksClusters,
    pub(crate) found: OnceCell<Found>,
}

impl fmt::Debug for LateHelm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateHelm")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

/// What works once Helm was found.
pub(crate) struct Found {
    connector: AwsConnector,
    charts: Charts,
}

impl LateHelm {
    /// Looks for Helm. A search that fails is made again the next time.
    async fn find(&self) -> Result<&Found, String> {
        // The only place that a function can write to.
        let work = env::temp_dir().join("slipway-helm");
        self.found.get_or_try_init(|| self.search(&work)).await
    }

    async fn search(&self, work: &Path) -> Result<Found, String> {
        let helm = Helm::locate(Some(&self.places.binary), settings(work)?)
            .await
            .map_err(|error| format!("{error}; SLIPWAY_HELM names the binary"))?;
        tracing::info!(version = %helm.version(), "Helm is there");
        let hosts = self.hosts.clone();
        let charts = Charts::new(helm.clone(), BundledCharts::Directory(self.places.charts.clone()))
            .with_hosts(Arc::new(move |host| hosts.judge(host)))
            .with_secrets(Arc::clone(&self.secrets));
        let connector = AwsConnector::new(HelmConnector::new(helm, self.renders.clone()), self.eks.clone());
        Ok(Found { connector, charts })
    }
}

/// How Helm is run, in a folder that no other process uses.
fn settings(work: &Path) -> Result<HelmSettings, String> {
    fs::create_dir_all(work).map_err(|error| format!("{} cannot be made: {error}", work.display()))?;
    let settings = HelmSettings {
        processes: PROCESSES,
        memory_limit: MEMORY_MIB << 20,
        ..HelmSettings::new(work)
    };
    // The folder outlives the process when the function is reset. Values, kubeconfigs and credentials do not.
    settings
        .remove_leftovers()
        .map_err(|error| format!("{} cannot be tidied up: {error}", work.display()))?;
    Ok(settings)
}

#[async_trait]
impl Connector for LateHelm {
    async fn connect(
        &self,
        tenant: &TenantId,
        cluster: &Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        let found = self.find().await.map_err(TargetError::transient)?;
        found.connector.connect(tenant, cluster, kubeconfig).await
    }
}

#[async_trait]
impl ChartSource for LateHelm {
    async fn pull(
        &self,
        tenant: &TenantId,
        reference: &str,
        version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        match self.find().await {
            Ok(found) => found.charts.pull(tenant, reference, version).await,
            Err(reason) => Err(ChartError::Unavailable {
                reference: reference.to_owned(),
                reason,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_left_that_was_reset_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("slipway-helm");
        let left = work.join("slipway-helm-x");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("kubeconfig"), "users: []").unwrap();
        let settings = settings(&work).unwrap();
        assert!(!left.exists());
        assert!(settings.memory_limit <= 2 << 30, "the memory of the function");
    }
}
