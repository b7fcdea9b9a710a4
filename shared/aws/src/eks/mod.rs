//! EKS clusters: found by name, reached with a token that is minted on the spot.

mod token;

use std::{fmt, sync::Arc};

use aws_credential_types::Credentials;
use aws_sdk_eks::types::{Cluster, ClusterStatus};
use serde_json::json;
use slipway_model::{ClusterTarget, TenantId};
use slipway_ports::{Clock, SecretString, TargetError, chain};

use crate::{clients::Clients, failure::Failure};

pub use token::{TOKEN_LIFETIME, TokenError, mint_token};

/// As short as STS gives: longer than any invocation.
const ROLE_SECONDS: i32 = 900;

/// What STS takes as the name of a session.
const LONGEST_SESSION_NAME: usize = 64;

/// Makes kubeconfigs for EKS clusters.
#[derive(Clone)]
pub struct EksClusters {
    clients: Clients,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for EksClusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EksClusters").finish_non_exhaustive()
    }
}

/// An EKS cluster that cannot be reached. Nothing in it is secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EksError {
    /// It is not an EKS cluster.
    #[error("a cluster of type '{0}' is not reached through EKS: expected type 'eks'")]
    NotEks(&'static str),
    /// The role of another account cannot be taken on.
    #[error(
        "role '{role}' for EKS cluster '{cluster}' cannot be assumed: {reason}; its trust policy must name this control plane's role and the registered external id"
    )]
    Role {
        /// ARN of the role.
        role: String,
        /// Name of the cluster.
        cluster: String,
        /// What STS says.
        reason: String,
        /// Whether a repeat can help.
        transient: bool,
    },
    /// No cluster has that name.
    #[error(
        "there is no EKS cluster '{cluster}' in {region}{account}: check name, region and role of its registration"
    )]
    Absent {
        /// Name of the cluster.
        cluster: String,
        /// AWS region.
        region: String,
        /// Which account was asked, in words that follow the region.
        account: String,
    },
    /// EKS does not say anything about the cluster.
    #[error("EKS cluster '{cluster}' in {region} cannot be described: {reason}")]
    Undescribed {
        /// Name of the cluster.
        cluster: String,
        /// AWS region.
        region: String,
        /// What EKS says.
        reason: String,
        /// Whether a repeat can help.
        transient: bool,
    },
    /// It has no API server, or none yet.
    #[error("EKS cluster '{cluster}' in {region} is {status}: expected ACTIVE")]
    NotActive {
        /// Name of the cluster.
        cluster: String,
        /// AWS region.
        region: String,
        /// Its status.
        status: String,
        /// Whether it may become active by itself.
        transient: bool,
    },
    /// Its description lacks what a kubeconfig needs.
    #[error("EKS cluster '{cluster}' in {region} has no {what}")]
    Incomplete {
        /// Name of the cluster.
        cluster: String,
        /// AWS region.
        region: String,
        /// What is missing.
        what: &'static str,
    },
    /// No token can be made.
    #[error("no token can be minted for EKS cluster '{cluster}'")]
    Token {
        /// Name of the cluster.
        cluster: String,
        /// Why.
        #[source]
        source: TokenError,
    },
}

impl EksError {
    /// Whether a repeat can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Role { transient, .. }
            | Self::Undescribed { transient, .. }
            | Self::NotActive { transient, .. } => *transient,
            _ => false,
        }
    }
}

impl From<EksError> for TargetError {
    fn from(error: EksError) -> Self {
        let message = chain(&error);
        if error.is_transient() {
            Self::transient(message)
        } else {
            Self::permanent(message)
        }
    }
}

impl EksClusters {
    /// Uses the credentials of `clients`, or those of a cluster's own role. `clock` says when tokens are signed.
    pub fn new(clients: Clients, clock: Arc<dyn Clock>) -> Self {
        Self { clients, clock }
    }

    /// A kubeconfig (JSON, which is YAML) with the cluster's address, its certificate authority and a token that is
    /// good for [`TOKEN_LIFETIME`]: for this invocation, never to be kept. It names no program and no file.
    ///
    /// # Errors
    /// When the role is refused, when the cluster is absent or not active.
    pub async fn kubeconfig(
        &self,
        tenant: &TenantId,
        target: &ClusterTarget,
    ) -> Result<SecretString, EksError> {
        let ClusterTarget::Eks {
            name,
            region,
            role_arn,
            external_id,
        } = target
        else {
            return Err(EksError::NotEks(target.as_str()));
        };
        let reach = Reach {
            clusters: self,
            name,
            region,
        };
        let credentials = match role_arn {
            Some(role) => reach.assume(tenant, role, external_id.as_deref()).await?,
            None => self.clients.credentials().clone(),
        };
        let cluster = reach.describe(&credentials, role_arn.as_deref()).await?;
        reach.kubeconfig(&cluster, credentials)
    }
}

/// One cluster that is being reached.
struct Reach<'a> {
    clusters: &'a EksClusters,
    name: &'a str,
    region: &'a str,
}

impl Reach<'_> {
    /// Takes on the cluster's role, in a session that names slipway and the tenant in the other account's logs.
    async fn assume(
        &self,
        tenant: &TenantId,
        role: &str,
        external_id: Option<&str>,
    ) -> Result<Credentials, EksError> {
        let mut session = format!("slipway-{tenant}");
        session.truncate(LONGEST_SESSION_NAME);
        let refused = |reason, transient| EksError::Role {
            role: role.to_owned(),
            cluster: self.name.to_owned(),
            reason,
            transient,
        };
        let answer = self
            .clusters
            .clients
            .sts(self.region)
            .assume_role()
            .role_arn(role)
            .role_session_name(session)
            .set_external_id(external_id.map(str::to_owned))
            .duration_seconds(ROLE_SECONDS)
            .send()
            .await
            .map_err(|error| {
                let failure = Failure::of("sts:AssumeRole", &error);
                refused(failure.to_string(), failure.is_transient())
            })?;
        let given = answer
            .credentials
            .ok_or_else(|| refused("sts:AssumeRole answered without credentials".to_owned(), true))?;
        let expires = given.expiration.try_into().ok();
        Ok(Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            expires,
            "slipway-eks",
        ))
    }

    async fn describe(&self, credentials: &Credentials, role: Option<&str>) -> Result<Cluster, EksError> {
        let absent = || EksError::Absent {
            cluster: self.name.to_owned(),
            region: self.region.to_owned(),
            account: match role.and_then(|role| role.split(':').nth(4)) {
                Some(account) => format!(" of account {account}"),
                None => " of this account".to_owned(),
            },
        };
        let answer = self
            .clusters
            .clients
            .eks(self.region, Some(credentials.clone()))
            .describe_cluster()
            .name(self.name)
            .send()
            .await;
        match answer {
            Ok(answer) => answer.cluster.ok_or_else(absent),
            Err(error) => {
                let failure = Failure::of("eks:DescribeCluster", &error);
                if failure.code() == "ResourceNotFoundException" {
                    return Err(absent());
                }
                Err(EksError::Undescribed {
                    cluster: self.name.to_owned(),
                    region: self.region.to_owned(),
                    reason: failure.to_string(),
                    transient: failure.is_transient(),
                })
            }
        }
    }

    fn kubeconfig(&self, cluster: &Cluster, credentials: Credentials) -> Result<SecretString, EksError> {
        match cluster.status() {
            // The API server of a cluster that is being updated goes on answering.
            Some(ClusterStatus::Active | ClusterStatus::Updating) => {}
            other => {
                let transient = matches!(other, Some(ClusterStatus::Creating | ClusterStatus::Pending));
                return Err(EksError::NotActive {
                    cluster: self.name.to_owned(),
                    region: self.region.to_owned(),
                    status: other.map_or("without a status", ClusterStatus::as_str).to_owned(),
                    transient,
                });
            }
        }
        let incomplete = |what| EksError::Incomplete {
            cluster: self.name.to_owned(),
            region: self.region.to_owned(),
            what,
        };
        // The token goes to whoever is there, so it goes over TLS or not at all.
        let server = cluster
            .endpoint()
            .filter(|endpoint| endpoint.starts_with("https://"))
            .ok_or_else(|| incomplete("HTTPS endpoint"))?;
        let authority = cluster
            .certificate_authority()
            .and_then(|authority| authority.data())
            .filter(|data| !data.is_empty())
            .ok_or_else(|| incomplete("certificate authority"))?;
        let token =
            mint_token(self.region, self.name, credentials, self.clusters.clock.now()).map_err(|source| {
                EksError::Token {
                    cluster: self.name.to_owned(),
                    source,
                }
            })?;
        Ok(kubeconfig(self.name, server, authority, &token))
    }
}

fn kubeconfig(name: &str, server: &str, authority: &str, token: &SecretString) -> SecretString {
    use slipway_ports::ExposeSecret as _;

    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": {"server": server, "certificate-authority-data": authority},
        }],
        "users": [{"name": name, "user": {"token": token.expose_secret()}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    })
    .to_string()
    .into()
}
