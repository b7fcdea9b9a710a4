//! Blobs in memory.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use slipway_ports::{BlobError, Blobs};

/// Blobs in memory.
#[derive(Debug, Default)]
pub struct SimpleBlobs(Mutex<BTreeMap<String, Vec<u8>>>);

impl SimpleBlobs {
    /// Every key, in order.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().expect("nothing panics while it holds the blobs")
    }
}

fn check(operation: &'static str, key: &str) -> Result<(), BlobError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    if key.len() <= 1024 && key.split('/').all(part) {
        return Ok(());
    }
    Err(BlobError {
        key: key.to_owned(),
        operation,
        source: "keys are parts of letters, digits and _ . : - with / between them".into(),
    })
}

#[async_trait]
impl Blobs for SimpleBlobs {
    async fn put(&self, key: &str, data: Vec<u8>) -> Result<(), BlobError> {
        check("written", key)?;
        self.lock().insert(key.to_owned(), data);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BlobError> {
        check("read", key)?;
        Ok(self.lock().get(key).cloned())
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        check("removed", key)?;
        self.lock().remove(key);
        Ok(())
    }
}
