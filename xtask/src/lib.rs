//! What the chores of this repository are made of: the real parts (Helm, a Kubernetes API server, an OCI registry)
//! set up once per machine, and the means to start and end them.
//!
//! It is a library so that the tests start the same cluster and the same registry as `cargo xtask` does. Everything
//! here blocks, writes its progress to standard error, and keeps what it builds in one cache folder outside the
//! checkout (see [`cache`]).

pub mod aws_local;
pub mod aws_parts;
pub mod bench;
pub mod cache;
pub mod checks;
pub mod cluster;
pub mod coverage;
pub mod demo;
pub mod image;
pub mod infra;
pub mod net;
pub mod nightly;
pub mod package;
pub mod process;
pub mod registry;
pub mod run;
pub mod simulate;
pub mod test_run;
pub mod tools;
pub mod wait;
