//! Secrets, blobs and charts.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use slipway_model::TenantId;
use slipway_ports::{
    BlobError, Blobs, ChartError, ChartSource, ExposeSecret, PulledChart, SecretError, SecretString, Secrets,
};

use crate::{mutants::Mutant, store::broken, tasks::Fate, world::Sim};

/// What every secret of a run holds, and nothing else may.
pub(crate) const SECRET: &str = "S3CR3T-of-the-run";

/// Stored secrets.
#[derive(Debug, Default)]
pub(crate) struct Vault(pub(crate) BTreeMap<String, String>);

/// Stored blobs.
#[derive(Debug, Default)]
pub(crate) struct Folder(pub(crate) BTreeMap<String, Arc<Vec<u8>>>);

pub(crate) struct SimSecrets(pub(crate) Sim);

impl SimSecrets {
    async fn call(&self, operation: &'static str, name: &str) -> Result<Fate, SecretError> {
        match self.0.call("secret").await {
            Fate::Refused => Err(self.failed(operation, name)),
            fate => Ok(fate),
        }
    }

    fn failed(&self, operation: &'static str, name: &str) -> SecretError {
        SecretError {
            operation,
            name: name.to_owned(),
            source: Box::new(broken(&mut self.0.world())),
        }
    }
}

#[async_trait]
impl Secrets for SimSecrets {
    async fn put(&self, tenant: &TenantId, name: &str, value: SecretString) -> Result<(), SecretError> {
        let fate = self.call("write", name).await?;
        let key = format!("{tenant}/{name}");
        self.0
            .world()
            .vault
            .0
            .insert(key, value.expose_secret().to_owned());
        match fate {
            Fate::Well => Ok(()),
            _ => Err(self.failed("write", name)),
        }
    }

    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, SecretError> {
        let fate = self.call("read", name).await?;
        if fate != Fate::Well {
            return Err(self.failed("read", name));
        }
        let key = format!("{tenant}/{name}");
        Ok(self
            .0
            .world()
            .vault
            .0
            .get(&key)
            .map(|text| SecretString::from(text.as_str())))
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<(), SecretError> {
        let fate = self.call("delete", name).await?;
        self.0.world().vault.0.remove(&format!("{tenant}/{name}"));
        match fate {
            Fate::Well => Ok(()),
            _ => Err(self.failed("delete", name)),
        }
    }
}

pub(crate) struct SimBlobs(pub(crate) Sim);

impl SimBlobs {
    fn failed(&self, operation: &'static str, key: &str) -> BlobError {
        BlobError {
            key: key.to_owned(),
            operation,
            source: Box::new(broken(&mut self.0.world())),
        }
    }
}

#[async_trait]
impl Blobs for SimBlobs {
    async fn put(&self, key: &str, data: Vec<u8>) -> Result<(), BlobError> {
        let fate = self.0.call("put blob").await;
        if fate == Fate::Refused {
            return Err(self.failed("written", key));
        }
        {
            let mut world = self.0.world();
            if let Ok(text) = std::str::from_utf8(&data) {
                world.check_body("blob", text);
            }
            world.folder.0.insert(key.to_owned(), Arc::new(data));
        }
        match fate {
            Fate::Well => Ok(()),
            _ => Err(self.failed("written", key)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BlobError> {
        if self.0.call("get blob").await != Fate::Well {
            return Err(self.failed("read", key));
        }
        let found = self.0.world().folder.0.get(key).map(|data| data.as_ref().clone());
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        if self.0.call("delete blob").await == Fate::Refused {
            return Err(self.failed("removed", key));
        }
        self.0.world().folder.0.remove(key);
        Ok(())
    }
}

/// Every reference names a chart, but for those that say otherwise.
pub(crate) struct SimCharts(pub(crate) Sim);

#[async_trait]
impl ChartSource for SimCharts {
    async fn pull(
        &self,
        _tenant: &TenantId,
        reference: &str,
        version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        if self.0.call("pull").await != Fate::Well {
            return Err(ChartError::Unavailable {
                reference: reference.to_owned(),
                reason: "the registry does not answer".to_owned(),
            });
        }
        if reference.ends_with("nowhere") {
            let panics = self.0.world().has(Mutant::ChartsPanic);
            assert!(!panics, "{reference} is nowhere");
            return Err(ChartError::Refused {
                reference: reference.to_owned(),
                reason: "there is no such chart".to_owned(),
            });
        }
        let name = reference.rsplit('/').next().unwrap_or(reference).to_owned();
        let version = version.unwrap_or("1.0.0").to_owned();
        Ok(PulledChart {
            digest: format!("sha256:{name}-{version}"),
            archive: format!("{name}-{version}").into_bytes(),
            name,
            version,
        })
    }
}
