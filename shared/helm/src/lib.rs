//! Helm releases: the Helm 4 binary driven safely, readiness and services read from the Kubernetes API, and the
//! `render` target, which has no cluster and keeps manifests on disk.

mod archive;
mod binary;
mod charts;
mod client;
mod cluster;
mod collect;
mod connector;
mod gate;
mod invocation;
mod manifest;
mod readiness;
mod release;
mod render;

pub use archive::{ArchiveError, CheckedArchive, LARGEST_ARCHIVE, check_archive, package_directory};
pub use binary::{Helm, HelmMissing, HelmSettings};
pub use charts::{BundledCharts, Charts};
pub use client::check_kubeconfig;
pub use connector::HelmConnector;
pub use gate::Gate;
pub use render::RenderStore;

/// An error with everything that led to it, for a message to people.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the source's text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
