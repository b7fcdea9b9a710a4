//! Blobs in S3.

use std::error::Error;

use async_trait::async_trait;
use aws_sdk_s3::{Client, primitives::ByteStream};
use slipway_ports::{BlobError, Blobs, chain};

use crate::failure::Failure;

/// What S3 takes, prefix included.
const LONGEST_KEY: usize = 1024;

/// Blobs as objects `<prefix><key>` of one bucket, encrypted as the bucket says.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
    prefix: String,
}

type Cause = Box<dyn Error + Send + Sync>;

impl S3Blobs {
    /// `prefix` is put before each key, such as `blobs/`; it may be empty. The caller's role needs `s3:ListBucket` on
    /// the bucket too: without it S3 answers that access is denied where an object is absent.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            prefix: prefix.into(),
        }
    }

    /// The object of a key, which must be a plain path.
    fn object(&self, key: &str) -> Result<String, Cause> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
        let room = LONGEST_KEY.saturating_sub(self.prefix.len());
        if key.len() <= room && key.split('/').all(part) {
            return Ok(format!("{}{key}", self.prefix));
        }
        Err(format!(
            "a key is a path of at most {room} bytes, whose parts are letters, digits and _ . : - and not . or .."
        )
        .into())
    }

    async fn write(&self, key: &str, data: Vec<u8>) -> Result<(), Cause> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(self.object(key)?)
            .body(ByteStream::from(data))
            .send()
            .await
            .map_err(|error| self.failed("s3:PutObject", &error))?;
        Ok(())
    }

    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Cause> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.object(key)?)
            .send()
            .await;
        match answer {
            Ok(object) => {
                let data = object
                    .body
                    .collect()
                    .await
                    .map_err(|error| format!("s3:GetObject broke off: {}", chain(&error)))?;
                Ok(Some(data.to_vec()))
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_no_such_key()) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("s3:GetObject", &error)),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), Cause> {
        self.client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.object(key)?)
            .send()
            .await
            .map_err(|error| self.failed("s3:DeleteObject", &error))?;
        Ok(())
    }

    fn failed<E>(
        &self,
        operation: &'static str,
        error: &aws_sdk_s3::error::SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
    ) -> Cause
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + Error + 'static,
    {
        format!("bucket '{}': {}", self.bucket, Failure::of(operation, error)).into()
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &str, data: Vec<u8>) -> Result<(), BlobError> {
        self.write(key, data).await.map_err(|source| BlobError {
            key: key.to_owned(),
            operation: "written",
            source,
        })
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BlobError> {
        self.read(key).await.map_err(|source| BlobError {
            key: key.to_owned(),
            operation: "read",
            source,
        })
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.remove(key).await.map_err(|source| BlobError {
            key: key.to_owned(),
            operation: "removed",
            source,
        })
    }
}
