//! Connecting to clusters from a function.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use slipway_aws::EksClusters;
use slipway_helm::HelmConnector;
use slipway_model::{Cluster, ClusterTarget, TenantId};
use slipway_ports::{Connector, SecretString, Target, TargetError};

/// Connects to EKS clusters with a token that is minted for each connection, and to all others as Helm's connector
/// does. A token outlives every invocation and is never kept for another.
pub struct AwsConnector {
    helm: HelmConnector,
    eks: EksClusters,
}

impl fmt::Debug for AwsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsConnector").finish_non_exhaustive()
    }
}

impl AwsConnector {
    /// `helm` works with the kubeconfigs that `eks` makes.
    pub fn new(helm: HelmConnector, eks: EksClusters) -> Self {
        Self { helm, eks }
    }
}

#[async_trait]
impl Connector for AwsConnector {
    async fn connect(
        &self,
        tenant: &TenantId,
        cluster: &Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        match &cluster.target {
            ClusterTarget::Eks { .. } => {
                let minted = self.eks.kubeconfig(tenant, &cluster.target).await?;
                self.helm.connect_with_kubeconfig(cluster, &minted, None)
            }
            ClusterTarget::Render | ClusterTarget::Kubeconfig { .. } => {
                self.helm.connect(tenant, cluster, kubeconfig).await
            }
        }
    }
}
