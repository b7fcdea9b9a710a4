//! Deployments from creation to deletion, over the ports in memory and a cluster that does what a test says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bases;
mod blocked;
mod cancelling;
mod chaos;
mod cloud;
mod cluster;
mod clusters;
mod creating;
mod dead_letters;
mod decided;
mod deleting;
mod doubled;
mod drifting;
mod economy;
mod ending;
mod events;
mod executions;
mod flaky;
mod hooks;
mod hooks_left;
mod keeping;
mod legacy;
mod letters;
mod letting_go;
mod lingering;
mod lists;
mod losing;
mod masking;
mod planners;
mod planning;
mod previews;
mod releases;
mod removing;
mod retention;
mod running;
mod stopping;
mod superseding;
mod sweeping;
mod telling;
mod templates;
mod undoing;
mod undoing_newer;
mod upgrading;
mod world;
