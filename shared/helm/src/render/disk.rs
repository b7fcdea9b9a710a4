//! What the `render` target keeps: `<folder>/<namespace>/<release>/<revision>/{record.json,manifest.yaml}`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use slipway_model::DeploymentId;
use slipway_ports::{ObjectReference, Release, ReleaseStatus, TargetError};

use crate::invocation::refuse_odd_names;

const RECORD: &str = "record.json";
const MANIFEST: &str = "manifest.yaml";
const NAMESPACE: &str = "namespace.json";

/// As many revisions as Helm keeps.
const HISTORY: usize = 10;

/// One revision. Values are not kept, because they may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) revision: u32,
    pub(super) status: ReleaseStatus,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) chart: String,
    #[serde(default)]
    pub(super) objects: Vec<ObjectReference>,
    /// What happened, for people.
    #[serde(default)]
    pub(super) description: String,
}

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

    /// All revisions, newest first. A folder without a record was being made when its writer died: nothing happened.
    pub(super) fn history(&self, release: &Release) -> Result<Vec<Record>, TargetError> {
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

    /// Writes a revision's record, whole or not at all.
    pub(super) fn write_record(&self, release: &Release, record: &Record) -> Result<(), TargetError> {
        let folder = self.revision(release, record.revision)?;
        fs::create_dir_all(&folder).map_err(|error| failed("made", &folder, &error))?;
        let text = serde_json::to_vec_pretty(record).map_err(|error| {
            TargetError::permanent(format!("the release record cannot be written: {error}"))
        })?;
        write_whole(&folder.join(RECORD), &text)
    }

    /// Writes a revision's manifest.
    pub(super) fn write_manifest(
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

    /// Reads a revision's manifest.
    pub(super) fn manifest(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let path = self.revision(release, revision)?.join(MANIFEST);
        fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))
    }

    /// Removes one revision.
    pub(super) fn remove_revision(&self, release: &Release, revision: u32) -> Result<(), TargetError> {
        remove(&self.revision(release, revision)?)
    }

    /// Removes revisions beyond those that are kept; the one that is deployed always is.
    pub(super) fn prune(&self, release: &Release) -> Result<(), TargetError> {
        let history = self.history(release)?;
        for record in history.iter().skip(HISTORY) {
            if record.status != ReleaseStatus::Deployed {
                self.remove_revision(release, record.revision)?;
            }
        }
        Ok(())
    }

    /// Removes a release; what is absent is no error.
    pub(super) fn remove_release(&self, release: &Release) -> Result<(), TargetError> {
        remove(&self.release(release)?)
    }

    /// Makes the namespace if it is missing; true if it was made for the deployment, now or before.
    pub(super) fn ensure_namespace(
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

    /// Removes the namespace if it was made for the deployment and no release is left in it.
    pub(super) fn remove_namespace(
        &self,
        release: &Release,
        deployment: DeploymentId,
    ) -> Result<(), TargetError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release {
            namespace: "ns".into(),
            name: "rel".into(),
        }
    }

    fn record(revision: u32, status: ReleaseStatus) -> Record {
        Record {
            revision,
            status,
            labels: BTreeMap::new(),
            chart: "c-1.0.0".into(),
            objects: Vec::new(),
            description: String::new(),
        }
    }

    #[test]
    fn history_is_newest_first_kept_short_and_never_without_what_is_deployed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned());
        assert!(disk.history(&release()).unwrap().is_empty());
        for revision in 1..=14 {
            let status = if revision == 2 {
                ReleaseStatus::Deployed
            } else {
                ReleaseStatus::Failed
            };
            disk.write_record(&release(), &record(revision, status)).unwrap();
        }
        fs::create_dir(folder.path().join("ns/rel/15")).unwrap();
        disk.prune(&release()).unwrap();
        let kept: Vec<u32> = disk
            .history(&release())
            .unwrap()
            .iter()
            .map(|record| record.revision)
            .collect();
        assert_eq!(kept, [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 2]);
    }

    #[test]
    fn a_namespace_goes_with_its_last_release_and_only_for_its_deployment() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned());
        let own: DeploymentId = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap();
        let other: DeploymentId = "9f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap();
        assert!(disk.ensure_namespace(&release(), Some(own)).unwrap());
        assert!(disk.ensure_namespace(&release(), Some(own)).unwrap());
        assert!(!disk.ensure_namespace(&release(), Some(other)).unwrap());
        disk.write_record(&release(), &record(1, ReleaseStatus::Deployed))
            .unwrap();
        let is_there = || folder.path().join("ns").exists();
        disk.remove_namespace(&release(), own).unwrap();
        assert!(is_there());
        disk.remove_release(&release()).unwrap();
        disk.remove_namespace(&release(), other).unwrap();
        assert!(is_there());
        disk.remove_namespace(&release(), own).unwrap();
        assert!(!is_there());
    }

    #[test]
    fn names_cannot_lead_out_of_the_folder() {
        let disk = Disk::new("/nowhere".into());
        for (namespace, name) in [("..", "a"), ("a", "../b"), ("a/b", "c"), ("", "c"), ("a", "")] {
            let release = Release {
                namespace: namespace.into(),
                name: name.into(),
            };
            assert!(disk.history(&release).is_err(), "{release}");
        }
    }
}
