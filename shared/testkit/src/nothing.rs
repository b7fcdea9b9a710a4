//! Ports with nothing behind them, for tests and measurements that do not get that far.

use std::sync::Arc;

use async_trait::async_trait;
use slipway_model::{Cluster, TenantId};
use slipway_ports::{
    ChartError, ChartSource, Connector, HttpAnswer, HttpCall, Outside, OutsideError, PulledChart,
    SecretString, Target, TargetError,
};

/// No chart exists.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCharts;

#[async_trait]
impl ChartSource for NoCharts {
    async fn pull(
        &self,
        _tenant: &TenantId,
        reference: &str,
        _version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        Err(ChartError::Refused {
            reference: reference.to_owned(),
            reason: "there are no charts here".to_owned(),
        })
    }
}

/// No cluster can be reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClusters;

#[async_trait]
impl Connector for NoClusters {
    async fn connect(
        &self,
        _tenant: &TenantId,
        cluster: &Cluster,
        _kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        Err(TargetError::transient(format!(
            "cluster '{}' cannot be reached from here",
            cluster.name
        )))
    }
}

/// Nobody answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOutside;

#[async_trait]
impl Outside for NoOutside {
    async fn http(&self, _call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        Err(OutsideError::Refused("there is no network here".to_owned()))
    }

    async fn publish(&self, _topic: &str, _subject: &str, _message: &str) -> Result<(), OutsideError> {
        Err(OutsideError::Refused("there is no network here".to_owned()))
    }
}
