//! What a function has that is not given a way to clusters, charts or the outside.

use std::sync::Arc;

use async_trait::async_trait;
use slipway_model::{Cluster, TenantId};
use slipway_ports::{
    ChartError, ChartSource, Connector, HttpAnswer, HttpCall, Outside, OutsideError, PulledChart,
    SecretString, Target, TargetError,
};

/// Leads nowhere. Messages that need more are for another function.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Nowhere;

#[async_trait]
impl Connector for Nowhere {
    async fn connect(
        &self,
        _tenant: &TenantId,
        cluster: &Cluster,
        _kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        Err(TargetError::permanent(format!(
            "this function does not reach cluster '{}': functions that work on clusters do",
            cluster.name
        )))
    }
}

#[async_trait]
impl ChartSource for Nowhere {
    async fn pull(
        &self,
        _tenant: &TenantId,
        reference: &str,
        _version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        Err(ChartError::Refused {
            reference: reference.to_owned(),
            reason: "this function pulls no charts: deploy-helm does".to_owned(),
        })
    }
}

#[async_trait]
impl Outside for Nowhere {
    async fn http(&self, _call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        Err(OutsideError::Refused(
            "this function makes no calls to the outside: functions that run steps do".to_owned(),
        ))
    }

    async fn publish(&self, topic: &str, _subject: &str, _message: &str) -> Result<(), OutsideError> {
        Err(OutsideError::Refused(format!(
            "this function does not publish to '{topic}': functions that run steps do"
        )))
    }
}
