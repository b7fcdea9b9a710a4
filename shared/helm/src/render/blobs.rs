//! What the `render` target keeps, as blobs. Blobs cannot be listed, so each release has an index of its revisions,
//! and each namespace a list of its releases.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use slipway_model::DeploymentId;
use slipway_ports::{BlobError, Blobs, Release, TargetError};

use super::shelf::{Record, Shelf};
use crate::invocation::refuse_odd_names;

/// The blobs of one cluster:
/// `<prefix>/<namespace>/{namespace.json,<release>/index.json,<release>/<revision>/manifest.yaml}`.
pub(super) struct BlobShelf {
    blobs: Arc<dyn Blobs>,
    prefix: String,
}

/// The revisions of a release.
#[derive(Default, Serialize, Deserialize)]
struct Index {
    /// Newest first.
    records: Vec<Record>,
    /// Revisions that are no more, and whose manifests may still be there.
    #[serde(default)]
    gone: BTreeSet<u32>,
}

/// A namespace. Two releases that come or go at the same time may overwrite each other's line in the list. Then the
/// namespace may be taken for empty too early, or never, and is only told to be new once more: releases do not depend
/// on it.
#[derive(Default, Serialize, Deserialize)]
struct Namespace {
    deployment: Option<DeploymentId>,
    #[serde(default)]
    releases: BTreeSet<String>,
}

impl BlobShelf {
    pub(super) fn new(blobs: Arc<dyn Blobs>, prefix: String) -> Self {
        Self { blobs, prefix }
    }

    fn folder(&self, release: &Release) -> Result<String, TargetError> {
        refuse_odd_names(release)?;
        Ok(format!("{}/{}/{}", self.prefix, release.namespace, release.name))
    }

    fn index_key(&self, release: &Release) -> Result<String, TargetError> {
        Ok(format!("{}/index.json", self.folder(release)?))
    }

    fn manifest_key(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        Ok(format!("{}/{revision}/manifest.yaml", self.folder(release)?))
    }

    fn namespace_key(&self, release: &Release) -> Result<String, TargetError> {
        refuse_odd_names(release)?;
        Ok(format!("{}/{}/namespace.json", self.prefix, release.namespace))
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, TargetError> {
        match self.blobs.get(key).await.map_err(|error| failed(&error))? {
            None => Ok(None),
            Some(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                TargetError::permanent(format!(
                    "blob '{key}' is not what a render target writes: {error}"
                ))
            }),
        }
    }

    async fn write(&self, key: &str, value: &impl Serialize) -> Result<(), TargetError> {
        let text = serde_json::to_vec(value)
            .map_err(|error| TargetError::permanent(format!("blob '{key}' cannot be written: {error}")))?;
        self.blobs.put(key, text).await.map_err(|error| failed(&error))
    }

    async fn remove(&self, key: &str) -> Result<(), TargetError> {
        self.blobs.delete(key).await.map_err(|error| failed(&error))
    }

    async fn index(&self, release: &Release) -> Result<Option<Index>, TargetError> {
        self.read(&self.index_key(release)?).await
    }

    async fn namespace(&self, release: &Release) -> Result<Option<Namespace>, TargetError> {
        self.read(&self.namespace_key(release)?).await
    }

    /// Takes revisions out of the index before their manifests go, so that what is half removed is never taken for a
    /// revision.
    async fn retire(
        &self,
        release: &Release,
        index: &mut Index,
        is_old: impl Fn(u32) -> bool + Send,
    ) -> Result<(), TargetError> {
        let old: Vec<u32> = index
            .records
            .iter()
            .map(|record| record.revision)
            .filter(|revision| is_old(*revision))
            .collect();
        index.gone.extend(&old);
        index.records.retain(|record| !old.contains(&record.revision));
        self.write(&self.index_key(release)?, index).await?;
        for revision in &index.gone {
            self.remove(&self.manifest_key(release, *revision)?).await?;
        }
        index.gone.clear();
        Ok(())
    }
}

#[async_trait]
impl Shelf for BlobShelf {
    async fn history(&self, release: &Release) -> Result<Vec<Record>, TargetError> {
        Ok(self.index(release).await?.unwrap_or_default().records)
    }

    async fn write_record(&self, release: &Release, record: &Record) -> Result<(), TargetError> {
        let mut index = match self.index(release).await? {
            Some(index) => index,
            None => {
                let mut namespace = self.namespace(release).await?.unwrap_or_default();
                if namespace.releases.insert(release.name.clone()) {
                    self.write(&self.namespace_key(release)?, &namespace).await?;
                }
                Index::default()
            }
        };
        index.records.retain(|other| other.revision != record.revision);
        index.records.push(record.clone());
        index
            .records
            .sort_by_key(|record| std::cmp::Reverse(record.revision));
        index.gone.remove(&record.revision);
        self.write(&self.index_key(release)?, &index).await
    }

    async fn write_manifest(
        &self,
        release: &Release,
        revision: u32,
        manifest: &str,
    ) -> Result<(), TargetError> {
        let key = self.manifest_key(release, revision)?;
        self.blobs
            .put(&key, manifest.as_bytes().to_vec())
            .await
            .map_err(|error| failed(&error))
    }

    async fn manifest(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let key = self.manifest_key(release, revision)?;
        let text = self.blobs.get(&key).await.map_err(|error| failed(&error))?;
        let text = text.ok_or_else(|| TargetError::transient(format!("blob '{key}' is not there")))?;
        String::from_utf8(text).map_err(|_| TargetError::permanent(format!("blob '{key}' is not text")))
    }

    async fn remove_revisions(&self, release: &Release, revisions: &[u32]) -> Result<(), TargetError> {
        let Some(mut index) = self.index(release).await? else {
            return Ok(());
        };
        self.retire(release, &mut index, |revision| revisions.contains(&revision))
            .await?;
        self.write(&self.index_key(release)?, &index).await
    }

    async fn remove_release(&self, release: &Release) -> Result<(), TargetError> {
        if let Some(mut index) = self.index(release).await? {
            self.retire(release, &mut index, |_| true).await?;
            self.remove(&self.index_key(release)?).await?;
        }
        let Some(mut namespace) = self.namespace(release).await? else {
            return Ok(());
        };
        if namespace.releases.remove(&release.name) {
            self.write(&self.namespace_key(release)?, &namespace).await?;
        }
        Ok(())
    }

    async fn ensure_namespace(
        &self,
        release: &Release,
        deployment: Option<DeploymentId>,
    ) -> Result<bool, TargetError> {
        if let Some(namespace) = self.namespace(release).await? {
            return Ok(deployment.is_some() && namespace.deployment == deployment);
        }
        let namespace = Namespace {
            deployment,
            releases: BTreeSet::new(),
        };
        self.write(&self.namespace_key(release)?, &namespace).await?;
        Ok(true)
    }

    async fn remove_namespace(&self, release: &Release, deployment: DeploymentId) -> Result<(), TargetError> {
        match self.namespace(release).await? {
            Some(namespace) if namespace.deployment == Some(deployment) && namespace.releases.is_empty() => {
                self.remove(&self.namespace_key(release)?).await
            }
            _ => Ok(()),
        }
    }
}

fn failed(error: &BlobError) -> TargetError {
    TargetError::transient(crate::chain(error))
}
