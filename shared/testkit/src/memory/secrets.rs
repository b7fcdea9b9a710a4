//! Secrets in memory.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use slipway_model::TenantId;
use slipway_ports::{ExposeSecret, SecretError, SecretString, Secrets};

/// Secrets in memory.
#[derive(Debug, Default)]
pub struct SimpleSecrets(Mutex<BTreeMap<(TenantId, String), SecretString>>);

impl SimpleSecrets {
    /// The names of all secrets, in order.
    #[expect(
        clippy::missing_panics_doc,
        reason = "nothing panics while it holds the secrets"
    )]
    pub fn names(&self) -> Vec<String> {
        let secrets = self.0.lock().expect("nothing panics while it holds the secrets");
        secrets.keys().map(|(_, name)| name.clone()).collect()
    }

    fn of(
        &self,
        operation: &'static str,
        tenant: &TenantId,
        name: &str,
        then: impl FnOnce(
            &mut BTreeMap<(TenantId, String), SecretString>,
            (TenantId, String),
        ) -> Option<SecretString>,
    ) -> Result<Option<SecretString>, SecretError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
        if name.is_empty() || name.len() > 200 || !name.bytes().all(allowed) {
            return Err(SecretError {
                operation,
                name: name.to_owned(),
                source: "names are 1 to 200 letters, digits and / _ . -".into(),
            });
        }
        let mut secrets = self.0.lock().expect("nothing panics while it holds the secrets");
        Ok(then(&mut secrets, (tenant.clone(), name.to_owned())))
    }
}

#[async_trait]
impl Secrets for SimpleSecrets {
    async fn put(&self, tenant: &TenantId, name: &str, value: SecretString) -> Result<(), SecretError> {
        self.of("write", tenant, name, |secrets, key| secrets.insert(key, value))?;
        Ok(())
    }

    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, SecretError> {
        self.of("read", tenant, name, |secrets, key| {
            let value = secrets.get(&key)?;
            Some(value.expose_secret().to_owned().into())
        })
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<(), SecretError> {
        self.of("delete", tenant, name, |secrets, key| secrets.remove(&key))?;
        Ok(())
    }
}
