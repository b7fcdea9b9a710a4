//! The functions' programs for this machine, and the folder that stands for their layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::run::{cargo, shown, workspace};
use crate::tools;

/// The functions, each a package with a program of its name.
pub const FUNCTIONS: [&str; 11] = [
    "templates-api",
    "deployments-api",
    "executions-api",
    "jobs-api",
    "clusters-api",
    "plan-dag",
    "execute-step",
    "deploy-helm",
    "handle-events",
    "track-deployments",
    "sync-deployments",
];

/// How programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Fast to build.
    Dev,
    /// Fast to run.
    Release,
    /// As they are deployed: small, and slow to build.
    Function,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Function => "function",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Function => "function",
        }
    }
}

/// Builds the functions and `aws-local`, and returns the folder of their programs.
///
/// # Errors
/// When something does not compile.
pub fn build(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "build",
        "--quiet",
        "--profile",
        profile.name(),
        "--package",
        "aws-local",
    ]);
    for function in FUNCTIONS {
        command.args(["--package", function]);
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(&command));
    }
    Ok(target().join(profile.folder()))
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |folder| workspace().join(folder))
}

/// A folder that holds what the layers of deploy-helm hold: `helm/helm`, `kubectl/kubectl` and the bundled charts, as
/// links.
///
/// # Errors
/// When Helm or kubectl cannot be set up, or the folder cannot be written.
pub fn layers() -> Result<PathBuf> {
    let folder = cache::root()?.join("aws-local").join(".layers");
    let _lock = cache::Lock::take(&folder.with_extension("lock"))?;
    for (name, target) in [
        ("helm/helm", tools::helm()?),
        ("kubectl/kubectl", tools::kubectl()?),
        ("charts", workspace().join("charts")),
    ] {
        link(&folder.join(name), &target)?;
    }
    Ok(folder)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::read_link(from).is_ok_and(|target| target == to) {
        return Ok(());
    }
    let parent = from.parent().context("a link lies in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    if fs::symlink_metadata(from).is_ok() {
        fs::remove_file(from).with_context(|| format!("cannot remove {}", from.display()))?;
    }
    symlink(to, from).with_context(|| format!("cannot make the link {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_functions_is_a_function() {
        let mut found: Vec<_> = fs::read_dir(workspace().join("functions"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut known = FUNCTIONS;
        known.sort_unstable();
        assert_eq!(found, known);
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("deep/link");
        for target in ["/one", "/two", "/two"] {
            link(&at, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&at).unwrap(), Path::new(target));
        }
    }
}
