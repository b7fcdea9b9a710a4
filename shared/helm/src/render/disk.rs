//! What the `render` target keeps, as files: `<folder>/<namespace>/<release>/<revision>/{record.json,manifest.yaml}`.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use slipway_model::DeploymentId;
use slipway_ports::{Release, TargetError};

use super::shelf::{Record, Shelf};
use crate::invocation::refuse_odd_names;

const RECORD: &str = "record.json";
const MANIFEST: &str = "manifest.yaml";
const NAMESPACE: &str = "namespace.json";

#[derive(Serialize, Deserialize)]
struct Namespace {
    deployment: Option<DeploymentId>,
}

/// The folder of one cluster.
pub(super) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn release(&self, release: &Release) -> Result<PathBuf, TargetError> {
        refuse_odd_names(release)?;
        Ok(self.folder.join(&release.namespace).join(&release.name))
    }

    fn revision(&self, release: &Release, revision: u32) -> Result<PathBuf, TargetError> {
        Ok(self.release(release)?.join(revision.to_string()))
    }
}

#[async_trait]
impl Shelf for Disk {
    /// A folder without a record was being made when its writer died: nothing happened.
    async fn history(&self, release: &Release) -> Result<Vec<Record>, TargetError> {
        let folder = self.release(release)?;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &folder, &error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|error| failed("read", &folder, &error))?
                .path()
                .join(RECORD);
            match fs::read(&path) {
                Ok(text) => records.push(serde_json::from_slice::<Record>(&text).map_err(|error| {
                    TargetError::permanent(format!("'{}' is not a release record: {error}", path.display()))
                })?),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(failed("read", &path, &error)),
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.revision));
        Ok(records)
    }

    async fn write_record(&self, release: &Release, record: &Record) -> Result<(), TargetError> {
        let folder = self.revision(release, record.revision)?;
        fs::create_dir_all(&folder).map_err(|error| failed("made", &folder, &error))?;
        let text = serde_json::to_vec_pretty(record).map_err(|error| {
            TargetError::permanent(format!("the release record cannot be written: {error}"))
        })?;
        write_whole(&folder.join(RECORD), &text)
    }

    async fn write_manifest(
        &self,
        release: &Release,
        revision: u32,
        manifest: &str,
    ) -> Result<(), TargetError> {
        write_whole(
            &self.revision(release, revision)?.join(MANIFEST),
            manifest.as_bytes(),
        )
    }

    async fn manifest(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let path = self.revision(release, revision)?.join(MANIFEST);
        fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))
    }

    async fn remove_revisions(&self, release: &Release, revisions: &[u32]) -> Result<(), TargetError> {
        for revision in revisions {
            remove(&self.revision(release, *revision)?)?;
        }
        Ok(())
    }

    async fn remove_release(&self, release: &Release) -> Result<(), TargetError> {
        remove(&self.release(release)?)
    }

    async fn ensure_namespace(
        &self,
        release: &Release,
        deployment: Option<DeploymentId>,
    ) -> Result<bool, TargetError> {
        refuse_odd_names(release)?;
        let folder = self.folder.join(&release.namespace);
        let path = folder.join(NAMESPACE);
        match fs::read(&path) {
            Ok(text) => Ok(deployment.is_some() && made_for(&text) == deployment),
            Err(_) => {
                fs::create_dir_all(&folder).map_err(|error| failed("made", &folder, &error))?;
                let text = serde_json::to_vec(&Namespace { deployment })
                    .map_err(|error| TargetError::permanent(error.to_string()))?;
                write_whole(&path, &text)?;
                Ok(true)
            }
        }
    }

    async fn remove_namespace(&self, release: &Release, deployment: DeploymentId) -> Result<(), TargetError> {
        refuse_odd_names(release)?;
        let folder = self.folder.join(&release.namespace);
        let path = folder.join(NAMESPACE);
        let made = fs::read(&path).ok().and_then(|text| made_for(&text));
        let is_empty = || {
            fs::read_dir(&folder).is_ok_and(|entries| {
                entries
                    .flatten()
                    .all(|entry| entry.file_name().to_str() == Some(NAMESPACE))
            })
        };
        if made == Some(deployment) && is_empty() {
            remove(&folder)?;
        }
        Ok(())
    }
}

fn made_for(text: &[u8]) -> Option<DeploymentId> {
    serde_json::from_slice::<Namespace>(text).ok()?.deployment
}

fn write_whole(path: &Path, contents: &[u8]) -> Result<(), TargetError> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed("written", path, &error))
}

/// Moved aside first, so that what is half removed is never taken for a release.
fn remove(folder: &Path) -> Result<(), TargetError> {
    let Some(parent) = folder.parent().filter(|_| folder.exists()) else {
        return Ok(());
    };
    let take_away = || {
        let aside = tempfile::Builder::new().prefix(".removed-").tempdir_in(parent)?;
        fs::rename(folder, aside.path().join("it"))?;
        aside.close()
    };
    take_away().map_err(|error| failed("removed", folder, &error))
}

fn failed(done: &str, path: &Path, error: &io::Error) -> TargetError {
    TargetError::transient(format!("'{}' cannot be {done}: {error}", path.display()))
}
