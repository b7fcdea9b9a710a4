//! Registered clusters.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ClusterId, Timestamp};

/// What a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClusterTarget {
    /// No cluster: charts are rendered for real and kept on disk.
    Render,
    /// Reached with a kubeconfig, which the secrets port keeps.
    Kubeconfig {
        /// Context in the kubeconfig; its current one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// An EKS cluster, reached with tokens minted per invocation.
    Eks {
        /// EKS cluster name.
        name: String,
        /// AWS region, such as `eu-central-1`.
        region: String,
        /// ARN of the role that is assumed to reach it, for a cluster of another account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role_arn: Option<String>,
        /// External id that the role's trust policy asks for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        external_id: Option<String>,
    },
}

impl ClusterTarget {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Render => "render",
            Self::Kubeconfig { .. } => "kubeconfig",
            Self::Eks { .. } => "eks",
        }
    }
}

/// A registered cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Unique per tenant.
    pub name: String,
    /// What it is.
    pub target: ClusterTarget,
    /// Base URL under which services are reached from outside, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_url: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// What a look at a cluster saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterHealth {
    /// Whether the API server answered and said that it is ready.
    pub healthy: bool,
    /// Why not, or what should be known (a `render` target says that no cluster is there).
    pub message: String,
    /// Server version, such as `v1.36.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// UID of the `kube-system` namespace: two registrations of one cluster share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Nodes that are ready, of all.
    pub ready_nodes: u32,
    /// Nodes in all.
    pub nodes: u32,
    /// What the nodes can give in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<Capacity>,
    /// What no pod has requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<Capacity>,
}

/// Amounts of what a use case may need.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_millicores: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Whole GPUs.
    pub gpus: u64,
}

/// An amount as Kubernetes writes it: `4`, `500m`, `16Gi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawQuantity", into = "String")]
pub struct Quantity {
    text: String,
    thousandths: u128,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawQuantity {
    Integer(u64),
    Number(f64),
    Text(String),
}

impl TryFrom<RawQuantity> for Quantity {
    type Error = String;

    fn try_from(raw: RawQuantity) -> Result<Self, Self::Error> {
        match raw {
            RawQuantity::Integer(number) => number.to_string().parse(),
            RawQuantity::Number(number) => number.to_string().parse(),
            RawQuantity::Text(text) => text.parse(),
        }
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

impl Quantity {
    /// Thousandths, as CPU is counted.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.thousandths).unwrap_or(u64::MAX)
    }

    /// Whole units, rounded up, as memory and GPUs are counted.
    pub fn units(&self) -> u64 {
        u64::try_from(self.thousandths.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || {
            format!(
                "'{text}' is not a quantity: expected a number with an optional suffix, such as 4, 500m or 16Gi"
            )
        };
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let scale: u128 = match suffix {
            "m" => 1,
            "" => 1000,
            "k" => 1_000_000,
            "M" => 1_000_000_000,
            "G" => 1_000_000_000_000,
            "T" => 1_000_000_000_000_000,
            "P" => 1_000_000_000_000_000_000,
            "Ki" => 1000 << 10,
            "Mi" => 1000 << 20,
            "Gi" => 1000 << 30,
            "Ti" => 1000 << 40,
            "Pi" => 1000 << 50,
            _ => return Err(refused()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || number.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
            return Err(refused());
        }
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| refused())?;
        let places = u32::try_from(fraction.len()).map_err(|_| refused())?;
        Ok(Self {
            text: text.to_owned(),
            thousandths: (digits * scale).div_ceil(10u128.pow(places)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        let read = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(read("500m").millis(), 500);
        assert_eq!(read("1.5").millis(), 1500);
        assert_eq!(read("16Gi").units(), 17_179_869_184);
        assert_eq!(read("0.5Gi").units(), 536_870_912);
        for bad in ["", "Gi", "-1", "1e400", "4 cores", "1.2.3", "."] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }
}
