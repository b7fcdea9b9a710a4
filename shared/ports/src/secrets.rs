//! Secrets: stored at once, referred to by name, resolved only where they are used.

use std::error::Error;

use async_trait::async_trait;
use secrecy::SecretString;
use slipway_model::TenantId;

/// The secrets store: Secrets Manager, or an encrypted file.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Stores or replaces a secret. Names are 1 to 200 of `[A-Za-z0-9/_.-]`.
    async fn put(&self, tenant: &TenantId, name: &str, value: SecretString) -> Result<(), SecretError>;

    /// The secret, if there is one.
    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, SecretError>;

    /// Removes a secret; one that is absent is no error.
    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<(), SecretError>;
}

/// Why a secret could not be read or written. Never holds the secret.
#[derive(Debug, thiserror::Error)]
#[error("the secrets store cannot {operation} '{name}'")]
pub struct SecretError {
    /// `read`, `write` or `delete`.
    pub operation: &'static str,
    /// Which secret.
    pub name: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
