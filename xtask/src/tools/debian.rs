//! Programs that only Debian builds: its packages are unpacked into the cache, not installed, so that no service is
//! started and no root is needed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{output, say};

/// Downloads packages of the machine's own Debian release and unpacks them into a folder.
pub(super) fn unpack(packages: &[&str], into: &Path) -> Result<()> {
    let downloads = tempfile::tempdir().context("cannot create a folder for the download")?;
    let download = || {
        output(
            Command::new("apt-get")
                .current_dir(downloads.path())
                .args(["--quiet", "download"])
                .args(packages),
        )
    };
    if download().is_err() {
        say("apt-get knows no such package yet: updating its lists");
        output(Command::new("apt-get").args(["--quiet", "update"]))
            .context("the package lists are missing or old, and updating them needs root")?;
        download()?;
    }
    for entry in fs::read_dir(downloads.path())? {
        output(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(into))?;
    }
    Ok(())
}
