//! Connecting to registered clusters.

use std::sync::Arc;

use async_trait::async_trait;
use slipway_model::{Cluster, ClusterTarget as Kind, TenantId};
use slipway_ports::{Connector, ExposeSecret as _, SecretString, Target, TargetError};

use crate::{
    binary::Helm,
    client::Kubernetes,
    cluster::ClusterTarget,
    gate::{Gate, ReleaseGate},
    render::{RenderStore, RenderTarget},
};

/// Connects to clusters with a kubeconfig, and to `render` targets.
pub struct HelmConnector {
    helm: Option<Helm>,
    renders: RenderStore,
    gate: Option<Gate>,
}

impl HelmConnector {
    /// `renders` is where `render` targets keep their manifests; a path stands for [`RenderStore::Directory`].
    pub fn new(helm: Helm, renders: impl Into<RenderStore>) -> Self {
        Self {
            helm: Some(helm),
            renders: renders.into(),
            gate: None,
        }
    }

    /// For a part of the control plane that has no Helm binary. Looking at clusters works: health, records, readiness,
    /// outputs, logs, and uninstalling where Helm has no record any more. Whatever needs Helm is a permanent error that
    /// says so.
    pub fn without_helm(renders: impl Into<RenderStore>) -> Self {
        Self {
            helm: None,
            renders: renders.into(),
            gate: None,
        }
    }

    /// Judges every rendered manifest inside the applying Helm, hooks and definitions included.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// A target with this kubeconfig, however it was come by; for clusters whose credentials are minted.
    pub fn connect_with_kubeconfig(
        &self,
        cluster: &Cluster,
        kubeconfig: &SecretString,
        context: Option<&str>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        let (kubernetes, kubeconfig) = Kubernetes::connect(kubeconfig.expose_secret(), context)?;
        Ok(Arc::new(ClusterTarget {
            helm: self.helm.clone(),
            kubernetes,
            kubeconfig,
            gate: self.gate_of(cluster),
        }))
    }

    fn gate_of(&self, cluster: &Cluster) -> Option<ReleaseGate> {
        self.gate.as_ref().map(|gate| ReleaseGate {
            gate: Arc::clone(gate),
            cluster: cluster.clone(),
        })
    }
}

#[async_trait]
impl Connector for HelmConnector {
    async fn connect(
        &self,
        _tenant: &TenantId,
        cluster: &Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        match &cluster.target {
            Kind::Render => Ok(Arc::new(RenderTarget::new(
                self.helm.clone(),
                self.gate_of(cluster),
                &self.renders,
                cluster.id,
            ))),
            Kind::Kubeconfig { context } => match kubeconfig {
                Some(kubeconfig) => self.connect_with_kubeconfig(cluster, kubeconfig, context.as_deref()),
                None => Err(TargetError::permanent(format!(
                    "the kubeconfig of cluster '{}' is no longer in the secrets store: give it one with `slipway cluster credentials`",
                    cluster.name
                ))),
            },
            Kind::Eks { name, region, .. } => Err(TargetError::permanent(format!(
                "cluster '{}' is the EKS cluster '{name}' in {region}, and this control plane has no AWS: register it with a kubeconfig, or use a control plane on AWS",
                cluster.name
            ))),
        }
    }
}
