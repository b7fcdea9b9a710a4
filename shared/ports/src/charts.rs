//! Where charts come from, and where large data is kept.

use std::error::Error;

use async_trait::async_trait;
use slipway_model::TenantId;

/// A packaged chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledChart {
    /// The name in its `Chart.yaml`.
    pub name: String,
    /// The exact version.
    pub version: String,
    /// `sha256:<hex>` of the archive.
    pub digest: String,
    /// The `.tgz`.
    pub archive: Vec<u8>,
}

/// Charts by reference.
#[async_trait]
pub trait ChartSource: Send + Sync {
    /// Fetches the chart that `reference` names, in the newest version that meets `version` (a semantic version
    /// constraint; the newest stable one if absent). The archive was checked: no links, no paths that leave it, no
    /// non-local `$ref` in a values schema.
    async fn pull(
        &self,
        tenant: &TenantId,
        reference: &str,
        version: Option<&str>,
    ) -> Result<PulledChart, ChartError>;
}

/// Why a chart could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// Not allowed, not there, or not a chart: repeating is pointless.
    #[error("chart '{reference}' cannot be used: {reason}")]
    Refused {
        /// Which.
        reference: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// Where it comes from does not answer: worth repeating.
    #[error("chart '{reference}' cannot be fetched: {reason}")]
    Unavailable {
        /// Which.
        reference: String,
        /// What was seen.
        reason: String,
    },
    /// Others have all the places for what fetches it: worth repeating, and no failure.
    #[error("chart '{reference}' waits to be fetched: {reason}")]
    Queued {
        /// Which.
        reference: String,
        /// What it waits for.
        reason: String,
    },
}

/// Large data under a key: charts, plans, manifests.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Writes or replaces. Keys are paths of `[A-Za-z0-9/_.:-]`.
    async fn put(&self, key: &str, data: Vec<u8>) -> Result<(), BlobError>;

    /// Reads.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BlobError>;

    /// Removes; what is absent is no error.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
}

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("blob '{key}' cannot be {operation}")]
pub struct BlobError {
    /// Which.
    pub key: String,
    /// `read`, `written` or `removed`.
    pub operation: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
