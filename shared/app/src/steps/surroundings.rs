//! What actions reach.

use async_trait::async_trait;
use slipway_actions::Surroundings;
use slipway_model::{Catalog, Cluster, ClusterHealth, TenantId};
use slipway_ports::{Outside, TargetError};

use crate::{App, clusters::ConnectError};

/// The surroundings of one tenant's actions.
pub(crate) struct TenantSurroundings<'a> {
    pub(crate) app: &'a App,
    pub(crate) tenant: &'a TenantId,
}

#[async_trait]
impl Surroundings for TenantSurroundings<'_> {
    async fn cluster(&self, id_or_name: &str) -> Result<Cluster, TargetError> {
        let found = self.app.find_cluster(self.tenant, id_or_name).await;
        found.map_err(ConnectError::from)?.ok_or_else(|| {
            TargetError::permanent(format!(
                "there is no cluster '{}'; register it first",
                crate::shown(id_or_name)
            ))
        })
    }

    async fn health(&self, cluster: &Cluster) -> Result<ClusterHealth, TargetError> {
        let target = self.app.connect(self.tenant, cluster.id).await?;
        target.health().await
    }

    fn catalog(&self) -> &Catalog {
        &self.app.catalog
    }

    fn outside(&self) -> &dyn Outside {
        self.app.outside.as_ref()
    }
}
