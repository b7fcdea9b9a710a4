//! Parts that are Java libraries. Each folder in `dev/` with a `pom.xml` pins what one of them is copied from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run::{output, workspace};

/// The folder of a part in which its libraries lie.
pub(super) const LIBRARIES: &str = "lib";

/// The file that pins a part.
pub(super) fn project(folder: &str) -> PathBuf {
    workspace().join("dev").join(folder).join("pom.xml")
}

/// Copies the libraries that `dev/<folder>/pom.xml` names, and theirs, into `lib`.
pub(super) fn copy(folder: &str, into: &Path) -> Result<()> {
    output(
        Command::new("mvn")
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(project(folder))
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", into.join(LIBRARIES).display())),
    )?;
    Ok(())
}

/// Compiles `dev/<folder>/<name>.java` against the libraries that lie there already.
pub(super) fn compile(folder: &str, name: &str, into: &Path) -> Result<()> {
    output(
        Command::new("javac")
            .arg("-classpath")
            .arg(into.join(LIBRARIES).join("*"))
            .arg("-d")
            .arg(into)
            .arg(workspace().join("dev").join(folder).join(format!("{name}.java"))),
    )?;
    Ok(())
}
