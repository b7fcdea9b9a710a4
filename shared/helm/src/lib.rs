//! Helm releases: the Helm 4 binary driven safely, readiness and services read from the Kubernetes API, and the
//! `render` target, which has no cluster and keeps manifests on disk.

mod archive;
mod binary;
mod charts;
mod client;
mod cluster;
mod collect;
mod connector;
mod definitions;
mod difference;
mod gate;
mod invocation;
mod manifest;
mod readiness;
mod release;
mod render;

pub use archive::{ArchiveError, CheckedArchive, LARGEST_ARCHIVE, check_archive, package_directory};
pub use binary::{Helm, HelmMissing, HelmSettings};
pub use charts::{BundledCharts, Charts, HostRule};
pub use client::check_kubeconfig;
pub use connector::HelmConnector;
pub use gate::Gate;
pub use render::RenderStore;

use slipway_ports::chain;
