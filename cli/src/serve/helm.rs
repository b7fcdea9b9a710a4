//! Helm, looked for when it is first needed: a control plane starts without waiting for it, and one that runs DAGs
//! without charts never does.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use slipway_helm::{BundledCharts, Charts, Helm, HelmConnector, HelmSettings};
use slipway_model::{Cluster, TenantId};
use slipway_ports::{
    ChartError, ChartSource, Connector, PulledChart, SecretString, Secrets, Target, TargetError,
};
use tokio::sync::OnceCell;

use super::charts;

/// Where Helm is and what it works with.
pub(super) struct LazyHelm {
    pub(super) data: PathBuf,
    pub(super) binary: Option<PathBuf>,
    pub(super) plain_http: Vec<String>,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) found: OnceCell<Found>,
}

/// What works once Helm was found.
pub(super) struct Found {
    connector: HelmConnector,
    charts: Charts,
    version: String,
}

impl LazyHelm {
    /// Looks for Helm. A search that fails is made again the next time.
    async fn find(&self) -> Result<&Found, String> {
        self.found.get_or_try_init(|| self.search()).await
    }

    async fn search(&self) -> Result<Found, String> {
        let work = self.data.join("helm");
        std::fs::create_dir_all(&work)
            .map_err(|error| format!("{} cannot be made: {error}", work.display()))?;
        let helm = Helm::locate(self.binary.as_deref(), HelmSettings::new(&work))
            .await
            .map_err(|error| format!("{error}; SLIPWAY_HELM names the binary"))?;
        let folder = charts::unpack(&self.data).map_err(|error| {
            format!(
                "the bundled charts cannot be laid out in {}: {error}",
                self.data.display()
            )
        })?;
        let version = helm.version().to_string();
        let charts = Charts::new(helm.clone(), BundledCharts::Directory(folder))
            .with_plain_http(self.plain_http.iter().cloned())
            .with_secrets(Arc::clone(&self.secrets));
        Ok(Found {
            connector: HelmConnector::new(helm, self.data.join("render")),
            charts,
            version,
        })
    }

    /// Says in the log whether there is a Helm.
    pub(super) async fn report(&self) {
        match self.find().await {
            Ok(found) => tracing::info!(version = found.version, "Helm is there"),
            Err(reason) => tracing::warn!(reason, "nothing can be deployed until Helm is there"),
        }
    }
}

#[async_trait]
impl Connector for LazyHelm {
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
impl ChartSource for LazyHelm {
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
