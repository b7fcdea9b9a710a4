//! Credentials and private certificate authorities of registries, by host.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;
use slipway_model::TenantId;
use slipway_ports::{ExposeSecret as _, Secrets};

use crate::binary::Workspace;

/// What is kept for a host as JSON under the secret `registries/<host>`, the `:` before a port being a `_`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostAccess {
    /// User name; absent for a host that needs none.
    #[serde(default)]
    pub(super) username: Option<String>,
    /// Password or token.
    #[serde(default)]
    pub(super) password: Option<String>,
    /// Certificates of a private authority, PEM.
    #[serde(default)]
    pub(super) ca: Option<String>,
}

impl HostAccess {
    /// What the secrets store has for a host. The error never holds the secret.
    pub(super) async fn of(
        secrets: &dyn Secrets,
        tenant: &TenantId,
        host: &str,
    ) -> Result<Option<Self>, String> {
        let name = format!("registries/{}", host.replace(':', "_"));
        let secret = secrets
            .get(tenant, &name)
            .await
            .map_err(|error| format!("the credentials of '{host}' cannot be read: {error}"))?;
        match secret {
            None => Ok(None),
            Some(secret) => serde_json::from_str(secret.expose_secret())
                .map(Some)
                .map_err(|_| {
                    format!(
                        "the secret '{name}' is not as expected: a JSON object with username, password and ca"
                    )
                }),
        }
    }

    /// Writes the file that Helm reads registry credentials from.
    pub(super) fn write_registry_config(&self, workspace: &Workspace, host: &str) -> std::io::Result<()> {
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
            let config = json!({"auths": {host: {"auth": auth}}});
            workspace.write("registry.json", config.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Writes the file of one repository, so that no credential stands among the arguments.
    pub(super) fn write_repositories(
        &self,
        workspace: &Workspace,
        url: &str,
    ) -> std::io::Result<std::path::PathBuf> {
        let ca = match &self.ca {
            Some(ca) => Some(workspace.write("ca.pem", ca.as_bytes())?),
            None => None,
        };
        let repositories = json!({
            "apiVersion": "",
            "generated": "0001-01-01T00:00:00Z",
            "repositories": [{
                "name": "source",
                "url": url,
                "username": self.username.as_deref().unwrap_or_default(),
                "password": self.password.as_deref().unwrap_or_default(),
                "caFile": ca.map(|path| path.display().to_string()).unwrap_or_default(),
            }],
        });
        workspace.write("repositories.yaml", repositories.to_string().as_bytes())
    }
}
