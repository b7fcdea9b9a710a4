//! The private directory of one invocation of Helm.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use slipway_model::JsonMap;

use super::Helm;

/// How the names of these directories begin.
pub(super) const NAME: &str = "slipway-helm-";

/// A directory with mode 0700 that goes away with the value, and through the guard when this process is killed.
#[derive(Debug)]
pub(crate) struct Workspace {
    directory: tempfile::TempDir,
}

impl Workspace {
    /// Makes one, with the folders that Helm keeps things in.
    pub(crate) fn new(helm: &Helm) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(NAME)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&helm.settings.work_directory)?;
        for name in ["cache", "config", "data", "plugins", "tmp"] {
            fs::create_dir(directory.path().join(name))?;
        }
        Ok(Self { directory })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file that only we can read, and returns its path.
    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(contents)?;
        Ok(path)
    }

    /// Writes chart values as JSON, which Helm reads as YAML.
    pub(crate) fn write_values(&self, values: &JsonMap) -> io::Result<PathBuf> {
        self.write("values.json", &serde_json::to_vec(values)?)
    }
}
