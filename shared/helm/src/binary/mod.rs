//! The Helm binary: finding it, running it where it can do no harm, and reading what it says.

mod failure;
mod guard;
mod locate;
mod workspace;

pub(crate) use failure::{Redactor, to_error};
pub(crate) use guard::{Finished, run};
pub use locate::{Helm, HelmMissing};
pub(crate) use workspace::Workspace;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// How Helm is run.
#[derive(Debug, Clone)]
pub struct HelmSettings {
    /// Folder for the private directories of single invocations; it must exist. They hold values and kubeconfigs
    /// while Helm runs and are removed afterwards, also when this process is killed.
    pub work_directory: PathBuf,
    /// Most address space that Helm may take, in bytes; 4 GiB by default.
    pub memory_limit: u64,
    /// Time between SIGTERM at a time limit, upon which Helm marks its release failed, and SIGKILL, which leaves it
    /// pending; 10 s by default.
    pub grace: Duration,
    /// Helms that run at the same time; 8 by default. The others wait their turn.
    pub processes: usize,
    /// Variables that Helm sees besides its own, such as `HTTPS_PROXY`. Never secrets.
    pub environment: BTreeMap<String, String>,
}

impl HelmSettings {
    /// Settings with the default limits.
    pub fn new(work_directory: impl Into<PathBuf>) -> Self {
        Self {
            work_directory: work_directory.into(),
            memory_limit: 4 << 30,
            grace: Duration::from_secs(10),
            processes: 8,
            environment: BTreeMap::new(),
        }
    }
}
