//! Looking at what others have done to what Slipway deployed: once an hour and whenever somebody asks, a message per
//! component and per cluster.
//! What is found is written down and told; a cluster is never changed for it.

mod asking;
mod components;
mod orphans;
mod records;

pub use asking::LookRequested;
pub use records::{ComponentDrift, DeploymentDrift};

use std::time::Duration;

/// How often a deployment and a cluster are looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(3600);
