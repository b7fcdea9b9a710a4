//! What the `render` target keeps, wherever it keeps it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use slipway_model::{ClusterId, DeploymentId};
use slipway_ports::{Blobs, ObjectReference, Release, ReleaseStatus, TargetError};

use super::{blobs::BlobShelf, disk::Disk};

/// As many revisions as Helm keeps.
const HISTORY: usize = 10;

/// Where `render` targets keep their manifests. What came from secrets is blanked in them, and values are not kept.
#[derive(Clone)]
#[non_exhaustive]
pub enum RenderStore {
    /// In a folder: `<folder>/<cluster id>/<namespace>/<release>/<revision>/manifest.yaml`.
    Directory(PathBuf),
    /// As blobs whose keys begin with the text, which ends with a slash or is empty:
    /// `<text><cluster id>/<namespace>/<release>/<revision>/manifest.yaml`.
    Blobs(Arc<dyn Blobs>, String),
}

impl fmt::Debug for RenderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(folder) => f.debug_tuple("Directory").field(folder).finish(),
            Self::Blobs(_, prefix) => f.debug_tuple("Blobs").field(prefix).finish(),
        }
    }
}

impl From<PathBuf> for RenderStore {
    fn from(folder: PathBuf) -> Self {
        Self::Directory(folder)
    }
}

impl From<&Path> for RenderStore {
    fn from(folder: &Path) -> Self {
        Self::Directory(folder.to_owned())
    }
}

impl RenderStore {
    /// The part of one cluster.
    pub(super) fn shelf(&self, id: ClusterId) -> Box<dyn Shelf> {
        match self {
            Self::Directory(folder) => Box::new(Disk::new(folder.join(id.to_string()))),
            Self::Blobs(blobs, prefix) => {
                Box::new(BlobShelf::new(Arc::clone(blobs), format!("{prefix}{id}")))
            }
        }
    }
}

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
    /// Whether everything is blanked in its manifest that came from secrets. Once it was only the data of Secrets.
    #[serde(default)]
    pub(super) blanked: bool,
    /// What happened, for people.
    #[serde(default)]
    pub(super) description: String,
}

/// The releases of one cluster. A release has one writer at a time, the holder of its lease; a namespace may have many.
#[async_trait]
pub(super) trait Shelf: Send + Sync {
    /// All revisions, newest first.
    async fn history(&self, release: &Release) -> Result<Vec<Record>, TargetError>;

    /// Writes a revision's record, whole or not at all.
    async fn write_record(&self, release: &Release, record: &Record) -> Result<(), TargetError>;

    /// Writes the manifest of a revision that has a record.
    async fn write_manifest(
        &self,
        release: &Release,
        revision: u32,
        manifest: &str,
    ) -> Result<(), TargetError>;

    /// Reads a revision's manifest.
    async fn manifest(&self, release: &Release, revision: u32) -> Result<String, TargetError>;

    /// Removes revisions; what is absent is no error.
    async fn remove_revisions(&self, release: &Release, revisions: &[u32]) -> Result<(), TargetError>;

    /// Removes a release; what is absent is no error.
    async fn remove_release(&self, release: &Release) -> Result<(), TargetError>;

    /// Makes the namespace if it is missing; true if it was made for the deployment, now or before.
    async fn ensure_namespace(
        &self,
        release: &Release,
        deployment: Option<DeploymentId>,
    ) -> Result<bool, TargetError>;

    /// Removes the namespace if it was made for the deployment and no release is left in it.
    async fn remove_namespace(&self, release: &Release, deployment: DeploymentId) -> Result<(), TargetError>;

    /// Removes revisions beyond those that are kept; the one that is deployed always is.
    async fn prune(&self, release: &Release) -> Result<(), TargetError> {
        let old: Vec<u32> = self
            .history(release)
            .await?
            .iter()
            .skip(HISTORY)
            .filter(|record| record.status != ReleaseStatus::Deployed)
            .map(|record| record.revision)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        self.remove_revisions(release, &old).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use slipway_testkit::memory::SimpleBlobs;

    use super::*;

    /// A shelf, and what must live as long.
    type Made = (Box<dyn Shelf>, tempfile::TempDir);

    fn id() -> ClusterId {
        "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap()
    }

    /// One shelf of each kind.
    fn shelves() -> [Made; 2] {
        let (folder, unused) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = RenderStore::from(folder.path()).shelf(id());
        let blobs = RenderStore::Blobs(Arc::new(SimpleBlobs::default()), "render/".to_owned()).shelf(id());
        [(disk, folder), (blobs, unused)]
    }

    fn release(name: &str) -> Release {
        Release {
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    fn record(revision: u32, status: ReleaseStatus) -> Record {
        Record {
            revision,
            status,
            labels: BTreeMap::new(),
            chart: "c-1.0.0".into(),
            objects: Vec::new(),
            blanked: true,
            description: String::new(),
        }
    }

    async fn kept(shelf: &dyn Shelf, release: &Release) -> Vec<u32> {
        let history = shelf.history(release).await.unwrap();
        history.iter().map(|record| record.revision).collect()
    }

    #[tokio::test]
    async fn history_is_newest_first_kept_short_and_never_without_what_is_deployed() {
        for (shelf, _folder) in shelves() {
            let release = release("rel");
            assert!(shelf.history(&release).await.unwrap().is_empty());
            for revision in 1..=14 {
                let status = if revision == 2 {
                    ReleaseStatus::Deployed
                } else {
                    ReleaseStatus::Failed
                };
                shelf
                    .write_record(&release, &record(revision, status))
                    .await
                    .unwrap();
                shelf
                    .write_manifest(&release, revision, &format!("n: {revision}\n"))
                    .await
                    .unwrap();
            }
            shelf.prune(&release).await.unwrap();
            assert_eq!(
                kept(&*shelf, &release).await,
                [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 2]
            );
            assert_eq!(shelf.manifest(&release, 2).await.unwrap(), "n: 2\n");
            assert!(shelf.manifest(&release, 3).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_record_is_replaced_and_releases_do_not_mix() {
        for (shelf, _folder) in shelves() {
            let (one, other) = (release("one"), release("one-b"));
            shelf
                .write_record(&one, &record(1, ReleaseStatus::PendingInstall))
                .await
                .unwrap();
            shelf
                .write_record(&other, &record(7, ReleaseStatus::Failed))
                .await
                .unwrap();
            shelf
                .write_record(&one, &record(1, ReleaseStatus::Deployed))
                .await
                .unwrap();
            assert_eq!(
                shelf.history(&one).await.unwrap(),
                [record(1, ReleaseStatus::Deployed)]
            );
            shelf.remove_revisions(&other, &[7, 8]).await.unwrap();
            assert_eq!(kept(&*shelf, &other).await, Vec::<u32>::new());
            assert_eq!(kept(&*shelf, &one).await, [1]);
        }
    }

    #[tokio::test]
    async fn a_removed_release_is_gone_with_its_manifests_and_may_come_again() {
        for (shelf, _folder) in shelves() {
            let release = release("rel");
            for _ in 0..2 {
                shelf
                    .write_record(&release, &record(1, ReleaseStatus::Deployed))
                    .await
                    .unwrap();
                shelf.write_manifest(&release, 1, "a: 1\n").await.unwrap();
                shelf.remove_release(&release).await.unwrap();
                assert_eq!(kept(&*shelf, &release).await, Vec::<u32>::new());
                assert!(shelf.manifest(&release, 1).await.is_err());
                shelf.remove_release(&release).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_namespace_goes_with_its_last_release_and_only_for_its_deployment() {
        for (shelf, _folder) in shelves() {
            let (first, second) = (release("first"), release("second"));
            let own: DeploymentId = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap();
            let other: DeploymentId = "9f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap();
            assert!(shelf.ensure_namespace(&first, Some(own)).await.unwrap());
            assert!(shelf.ensure_namespace(&first, Some(own)).await.unwrap());
            assert!(!shelf.ensure_namespace(&first, Some(other)).await.unwrap());
            assert!(!shelf.ensure_namespace(&first, None).await.unwrap());
            for release in [&first, &second] {
                shelf
                    .write_record(release, &record(1, ReleaseStatus::Deployed))
                    .await
                    .unwrap();
            }
            // While a namespace is there, another deployment does not make it.
            let is_there = async || !shelf.ensure_namespace(&first, Some(other)).await.unwrap();
            for release in [&first, &second] {
                shelf.remove_namespace(release, own).await.unwrap();
                assert!(is_there().await);
                shelf.remove_release(release).await.unwrap();
            }
            shelf.remove_namespace(&first, other).await.unwrap();
            assert!(is_there().await);
            shelf.remove_namespace(&first, own).await.unwrap();
            assert!(!is_there().await);
        }
    }

    #[tokio::test]
    async fn names_cannot_lead_elsewhere() {
        for (shelf, _folder) in shelves() {
            for (namespace, name) in [("..", "a"), ("a", "../b"), ("a/b", "c"), ("", "c"), ("a", "")] {
                let release = Release {
                    namespace: namespace.into(),
                    name: name.into(),
                };
                assert!(shelf.history(&release).await.is_err(), "{release}");
                assert!(shelf.ensure_namespace(&release, None).await.is_err(), "{release}");
                assert!(shelf.remove_release(&release).await.is_err(), "{release}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_of_a_removed_release_and_its_namespace_stays_in_the_blobs() {
        let blobs = Arc::new(SimpleBlobs::default());
        let shelf = RenderStore::Blobs(blobs.clone(), "render/".to_owned()).shelf(id());
        let (release, own) = (
            release("rel"),
            "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap(),
        );
        shelf.ensure_namespace(&release, Some(own)).await.unwrap();
        for revision in [1, 2] {
            shelf
                .write_record(&release, &record(revision, ReleaseStatus::Deployed))
                .await
                .unwrap();
            shelf.write_manifest(&release, revision, "a: 1\n").await.unwrap();
        }
        let root = format!("render/{}/ns", id());
        assert_eq!(
            blobs.keys(),
            [
                format!("{root}/namespace.json"),
                format!("{root}/rel/1/manifest.yaml"),
                format!("{root}/rel/2/manifest.yaml"),
                format!("{root}/rel/index.json"),
            ]
        );
        shelf.remove_release(&release).await.unwrap();
        shelf.remove_namespace(&release, own).await.unwrap();
        assert_eq!(blobs.keys(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_folder_without_a_record_is_no_revision() {
        let [(disk, folder), _] = shelves();
        let release = release("rel");
        disk.write_record(&release, &record(1, ReleaseStatus::Failed))
            .await
            .unwrap();
        fs::create_dir(folder.path().join(format!("{}/ns/rel/2", id()))).unwrap();
        assert_eq!(kept(&*disk, &release).await, [1]);
    }
}
