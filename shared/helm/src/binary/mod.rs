//! The Helm binary: finding it, running it where it can do no harm, and reading what it says.

mod failure;
mod guard;
mod locate;
mod quoted;
mod workspace;

pub(crate) use failure::{NOT_DELETED, Redactor, is_passing, to_error};
pub(crate) use guard::{Finished, run};
pub use locate::{Helm, HelmMissing};
pub(crate) use workspace::Workspace;

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};

/// How Helm is run.
#[derive(Debug, Clone)]
pub struct HelmSettings {
    /// Folder for the private directories of single invocations; it must exist, and nothing else of the disk is
    /// written. They hold values and kubeconfigs while Helm runs and are removed afterwards, also when this process is
    /// killed.
    pub work_directory: PathBuf,
    /// Most address space that Helm may take, in bytes; 4 GiB by default.
    pub memory_limit: u64,
    /// Most bytes of one file that Helm may write; 256 MiB by default. A repository's index may have tens of MiB.
    pub file_limit: u64,
    /// Time between SIGTERM at a time limit, upon which Helm marks its release failed, and SIGKILL, which leaves it
    /// pending; 10 s by default.
    pub grace: Duration,
    /// Helms that run at the same time; 8 by default. The others wait some seconds for their turn, then come again.
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
            file_limit: 256 << 20,
            grace: Duration::from_secs(10),
            processes: 8,
            environment: BTreeMap::new(),
        }
    }

    /// Removes what invocations left that were killed together with their guard, as when a whole machine stops. Only
    /// for a folder that no other process uses.
    ///
    /// # Errors
    /// When the folder cannot be read, or something in it cannot be removed.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.work_directory)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(workspace::NAME);
            if is_ours && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("slipway-helm-1/cache")).unwrap();
        fs::write(folder.path().join("slipway-helm-1/values.json"), "{}").unwrap();
        fs::create_dir(folder.path().join("charts")).unwrap();
        fs::write(folder.path().join("slipway-helm-file"), "").unwrap();
        HelmSettings::new(folder.path()).remove_leftovers().unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["charts", "slipway-helm-file"]);
    }
}
