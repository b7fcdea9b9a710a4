//! Blobs as files.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use slipway_ports::{BlobError, Blobs};
use tokio::task::spawn_blocking;

use crate::folder::{remove_file, replace_file};

const LONGEST_KEY: usize = 1024;

/// Blobs below a folder. The file of the key `a/b` is `a/b@`: no part of a key holds an `@`, so that a blob `a` and a
/// folder `a` do not get in each other's way.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    folder: PathBuf,
}

impl FileBlobs {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            folder: data.join("blobs"),
        }
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// Refuses keys that are no plain paths, whatever a file system would make of them.
fn check(key: &str) -> Result<(), Cause> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    if key.len() <= LONGEST_KEY && key.split('/').all(part) {
        return Ok(());
    }
    Err(format!(
        "a key is a path of at most {LONGEST_KEY} bytes, whose parts are letters, digits and _ . : - and not . or .."
    )
    .into())
}

/// Runs `work` where it may wait for the disk.
async fn on_disk<T: Send + 'static>(
    blobs: &FileBlobs,
    operation: &'static str,
    key: &str,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    let result = match check(key) {
        Ok(()) => {
            let path = blobs.folder.join(format!("{key}@"));
            spawn_blocking(move || work(&path))
                .await
                .expect("reading and writing blobs does not panic")
                .map_err(Cause::from)
        }
        Err(error) => Err(error),
    };
    result.map_err(|source| BlobError {
        key: key.to_owned(),
        operation,
        source,
    })
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, key: &str, data: Vec<u8>) -> Result<(), BlobError> {
        on_disk(self, "written", key, move |path| replace_file(path, &data, 0o600)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BlobError> {
        on_disk(self, "read", key, |path| match fs::read(path) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        on_disk(self, "removed", key, remove_file).await
    }
}
