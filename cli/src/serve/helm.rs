//! Helm, looked for when it is first needed: a control plane starts without waiting for it, and one that runs DAGs
//! without charts never does.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use slipway_helm::{BundledCharts, Charts, Helm, HelmConnector, HelmSettings};
use slipway_model::{Cluster, TenantId};
use slipway_policy::HostPolicy;
use slipway_ports::{
    ChartError, ChartSource, Connector, PulledChart, SecretString, Secrets, Target, TargetError,
};
use tokio::sync::{Mutex, OnceCell};

use super::charts;

/// When a search for Helm that failed is made again.
const SEARCH_AGAIN: Duration = Duration::from_secs(10);

/// Where Helm is and what it works with.
pub(super) struct LazyHelm {
    pub(super) data: PathBuf,
    pub(super) binary: Option<PathBuf>,
    pub(super) hosts: HostPolicy,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) found: OnceCell<Found>,
    /// When and why the last search failed.
    pub(super) failed: Mutex<Option<(Instant, String)>>,
}

/// What works once Helm was found.
pub(super) struct Found {
    connector: HelmConnector,
    charts: Charts,
    version: String,
}

impl LazyHelm {
    /// Looks for Helm. A search that fails is made again after a while: who waits for one that hangs does not wait for
    /// the next, too.
    async fn find(&self) -> Result<&Found, String> {
        self.found
            .get_or_try_init(|| async {
                let mut failed = self.failed.lock().await;
                if let Some((at, reason)) = &*failed
                    && at.elapsed() < SEARCH_AGAIN
                {
                    return Err(reason.clone());
                }
                let found = self.search().await;
                *failed = found
                    .as_ref()
                    .err()
                    .map(|reason| (Instant::now(), reason.clone()));
                found
            })
            .await
    }

    async fn search(&self) -> Result<Found, String> {
        let work = self.data.join("helm");
        std::fs::create_dir_all(&work)
            .map_err(|error| format!("{} cannot be made: {error}", work.display()))?;
        let settings = HelmSettings::new(&work);
        // Values and kubeconfigs of invocations that were killed with the process before this one.
        settings
            .remove_leftovers()
            .map_err(|error| format!("{} cannot be tidied up: {error}", work.display()))?;
        let helm = Helm::locate(self.binary.as_deref(), settings)
            .await
            .map_err(|error| format!("{error}; SLIPWAY_HELM names the binary"))?;
        let folder = charts::unpack(&self.data).map_err(|error| {
            format!(
                "the bundled charts cannot be laid out in {}: {error}",
                self.data.display()
            )
        })?;
        let version = helm.version().to_string();
        let hosts = self.hosts.clone();
        let charts = Charts::new(helm.clone(), BundledCharts::Directory(folder))
            .with_hosts(Arc::new(move |host| hosts.judge(host)))
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use slipway_embedded::{Embedded, Options};

    use super::*;

    /// A data folder with a program in it that stands for Helm.
    fn lazy(folder: &std::path::Path, script: &str) -> LazyHelm {
        let binary = folder.join("program");
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let embedded = Embedded::open(&folder.join("data"), Options::default()).unwrap();
        LazyHelm {
            data: folder.join("data"),
            binary: Some(binary),
            hosts: HostPolicy::default(),
            secrets: embedded.secrets(),
            found: OnceCell::new(),
            failed: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn what_helm_was_given_is_gone_when_the_next_process_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let helm = lazy(folder.path(), "#!/bin/sh\necho v4.2.3\n");
        let left = folder.path().join("data/helm/slipway-helm-of-before");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("kubeconfig"), "token").unwrap();
        assert!(helm.find().await.is_ok());
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn a_search_that_failed_is_not_made_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let helm = lazy(folder.path(), "#!/bin/sh\necho >>\"$0.runs\"\necho nothing\n");
        for _ in 0..3 {
            let reason = helm.find().await.err().unwrap();
            assert!(reason.contains("SLIPWAY_HELM"), "{reason}");
        }
        let runs = fs::read_to_string(folder.path().join("program.runs")).unwrap();
        assert_eq!(runs.lines().count(), 1);
    }
}
