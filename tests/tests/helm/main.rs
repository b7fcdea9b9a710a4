//! Helm and what it does: without a cluster, with registries, on a real API server.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod bare;
mod charts;
mod claims;
mod cluster;
mod definitions;
mod diagnosis;
mod plain;
mod plans;
mod releases;
mod removal;
mod render;
mod states;
mod support;
mod traps;
mod waiting;
