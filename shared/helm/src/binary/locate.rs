//! Finding a Helm that is new enough.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::HelmSettings;

/// Oldest major version that understands the flags used here.
const OLDEST: u64 = 4;

/// Bytes of what it says of its version that are read.
const LONGEST_VERSION: u64 = 4096;

/// How long `helm version` may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Helm binary that was asked for its version, and how it is run.
#[derive(Debug, Clone)]
pub struct Helm {
    pub(super) path: PathBuf,
    pub(super) settings: HelmSettings,
    version: semver::Version,
    /// A place for every Helm that may run.
    pub(super) places: Arc<Semaphore>,
    /// Of one that keeps a place: what others cannot have until this is dropped.
    _kept: Option<Arc<OwnedSemaphorePermit>>,
}

/// Why there is no usable Helm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelmMissing {
    /// Nothing of that name can be run.
    #[error("Helm cannot be run as '{}': install Helm 4 (https://helm.sh) or give the path of its binary", .path.display())]
    NotFound {
        /// What was tried.
        path: PathBuf,
        /// Why it did not start.
        #[source]
        source: io::Error,
    },
    /// It runs and does not say a version.
    #[error("'{} version' says '{said}', which is not a version: expected a Helm 4 binary", .path.display())]
    NotHelm {
        /// What was run.
        path: PathBuf,
        /// Beginning of its output.
        said: String,
    },
    /// It is too old.
    #[error("'{}' is Helm {version}: Helm 4 or newer is needed", .path.display())]
    TooOld {
        /// What was run.
        path: PathBuf,
        /// Its version.
        version: semver::Version,
    },
}

impl Helm {
    /// Takes the Helm at `path`, or the one on `PATH` if none is given, and asks for its version.
    pub async fn locate(path: Option<&Path>, settings: HelmSettings) -> Result<Self, HelmMissing> {
        // Helm runs in a directory of its own, so a relative path would lead elsewhere.
        let path = path.map_or_else(
            || PathBuf::from("helm"),
            |path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        );
        let not_found = |source| HelmMissing::NotFound {
            path: path.clone(),
            source,
        };
        let mut process = Command::new(&path)
            .args(["version", "--template", "{{.Version}}"])
            // The home of a function cannot be written.
            .envs(
                ["HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
                    .map(|name| (name, &settings.work_directory)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // It ends with this function, whatever it still wants to say.
            .kill_on_drop(true)
            .spawn()
            .map_err(not_found)?;
        let mut said = Vec::new();
        if let Some(stdout) = process.stdout.take() {
            timeout(PATIENCE, stdout.take(LONGEST_VERSION).read_to_end(&mut said))
                .await
                .map_err(|_| not_found(io::ErrorKind::TimedOut.into()))?
                .map_err(not_found)?;
        }
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        let Ok(version) = semver::Version::parse(said.trim_start_matches('v')) else {
            return Err(HelmMissing::NotHelm {
                said: said.chars().take(80).collect(),
                path,
            });
        };
        if version.major < OLDEST {
            return Err(HelmMissing::TooOld { path, version });
        }
        let places = Arc::new(Semaphore::new(settings.processes.max(1)));
        Ok(Self {
            path,
            settings,
            version,
            places,
            _kept: None,
        })
    }

    /// Waits for a place for so long. Nothing is begun without one: the error is of the kind `WouldBlock` then.
    pub(super) async fn place(&self, patience: Duration) -> io::Result<OwnedSemaphorePermit> {
        // Never closed, so that it cannot fail.
        match timeout(patience, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("all {} places for Helm are taken", self.settings.processes.max(1)),
            )),
        }
    }

    /// This Helm with a place of its own, in which it runs as often as is needed, once at a time; others get the place when
    /// what is returned is dropped.
    ///
    /// # Errors
    /// Of the kind `WouldBlock`, when others have all the places for longer than `patience`.
    pub(crate) async fn with_place(&self, patience: Duration) -> io::Result<Self> {
        let kept = self.place(patience).await?;
        Ok(Self {
            places: Arc::new(Semaphore::new(1)),
            _kept: Some(Arc::new(kept)),
            ..self.clone()
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> &semver::Version {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    async fn locate(script: &str) -> Result<Helm, HelmMissing> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helm");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Helm::locate(Some(&path), HelmSettings::new(folder.path())).await
    }

    #[tokio::test]
    async fn a_helm_of_the_wrong_age_or_kind_is_refused_with_its_path() {
        let old = locate("#!/bin/sh\necho v3.19.0\n").await.unwrap_err();
        assert!(old.to_string().contains("is Helm 3.19.0"), "{old}");
        let other = locate("#!/bin/sh\necho hello\n").await.unwrap_err();
        assert!(matches!(other, HelmMissing::NotHelm { .. }), "{other}");
        let flood = locate("#!/bin/sh\nexec yes\n").await.unwrap_err();
        assert!(matches!(flood, HelmMissing::NotHelm { .. }), "{flood}");
        let good = locate("#!/bin/sh\necho v4.2.3\n").await.unwrap();
        assert_eq!(good.version().to_string(), "4.2.3");
        let missing = Helm::locate(Some(Path::new("/nowhere/helm")), HelmSettings::new("/tmp")).await;
        assert!(missing.unwrap_err().to_string().contains("/nowhere/helm"));
    }
}
