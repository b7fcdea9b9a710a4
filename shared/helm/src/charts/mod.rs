//! Charts by reference: bundled, from OCI registries, from HTTPS repositories.

mod constraint;
mod credentials;
mod index;
mod reference;
mod source;

pub use source::{BundledCharts, Charts, HostRule};
