//! What the real control plane does when the things around it break: Helm, the cluster's API server, the disk, the clock,
//! the crowd.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod api_servers;
mod crowd;
mod disk;
mod helms;
