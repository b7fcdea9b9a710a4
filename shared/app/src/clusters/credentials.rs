//! New credentials for a cluster that is registered already.

use serde::Deserialize;
use slipway_model::{Cluster, ClusterTarget, FieldError, Problem, ProblemType, TenantId};
use slipway_ports::{FailureClass, Guard, Put, SecretString, TargetError};
use utoipa::ToSchema;

use super::{
    ClusterType, ConnectError, NewCluster, cluster_item, kubeconfig_secret, no_cluster,
    registering::{Checked, secret},
};
use crate::{App, AppError, Caller, Role, keys};

/// What a cluster is reached with from now on, in the place of all that was named before.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterCredentials {
    /// The kubeconfig, YAML or JSON, of a cluster of that type. It is kept by the secrets store only.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>, format = Password)]
    pub kubeconfig: Option<SecretString>,
    /// Context in the kubeconfig; its current one if absent.
    #[serde(default)]
    pub context: Option<String>,
    /// ARN of the role that is assumed to reach a cluster of type `eks`; the control plane's own role if absent.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for: 2 to 1,224 letters, digits and `_+=,.@:/-`.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl App {
    /// Replaces the credentials of a cluster by others that lead to the same one. Its deployments stay; what connects to
    /// it from now on uses them.
    ///
    /// # Errors
    /// 403 below `admin`, 404, 422 with everything that is wrong, for credentials that the cluster refuses, and for such
    /// as lead to another cluster; 503 while the cluster does not answer.
    pub async fn replace_cluster_credentials(
        &self,
        caller: &Caller,
        id_or_name: &str,
        new: ClusterCredentials,
    ) -> Result<Cluster, AppError> {
        caller.require(Role::Admin)?;
        let tenant = &caller.tenant;
        let found = self.cluster(caller, id_or_name).await?;
        let checked = self.check_credentials(tenant, &found, new)?;
        self.refuse_another_cluster(tenant, &found, &checked).await?;
        if let Some(kubeconfig) = checked.kubeconfig {
            // It names its context itself, so that this one write replaces everything that a connection needs.
            self.secrets
                .put(tenant, &kubeconfig_secret(found.id), kubeconfig)
                .await?;
        }
        let key = keys::cluster(tenant, found.id);
        let mut session = self.store.session();
        loop {
            let Some(stored) = session.get(&key).await? else {
                session.settle().await?;
                // Whoever forgot the cluster meanwhile may have done so before the secret was written.
                self.secrets.delete(tenant, &kubeconfig_secret(found.id)).await?;
                return Err(no_cluster(id_or_name));
            };
            let mut cluster: Cluster = stored.read()?;
            cluster.target = checked.target.clone();
            let item = cluster_item(tenant, &cluster);
            if let Put::Won(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                session.settle().await?;
                tracing::info!(cluster = %cluster.id, by = caller.user_id, "replaced a cluster's credentials");
                return Ok(cluster);
            }
        }
    }

    /// As for a registration of the same cluster with these.
    fn check_credentials(
        &self,
        tenant: &TenantId,
        cluster: &Cluster,
        new: ClusterCredentials,
    ) -> Result<Checked, AppError> {
        let (cluster_type, eks_name, region) = match &cluster.target {
            ClusterTarget::Render => {
                let message = "a render target has no credentials; nothing runs there";
                return Err(refused(vec![FieldError::new("", message)]));
            }
            ClusterTarget::Kubeconfig { .. } => (ClusterType::Kubeconfig, None, None),
            ClusterTarget::Eks { name, region, .. } => {
                (ClusterType::Eks, Some(name.clone()), Some(region.clone()))
            }
        };
        let new = NewCluster {
            name: cluster.name.clone(),
            cluster_type,
            kubeconfig: new.kubeconfig,
            context: new.context,
            eks_name,
            region,
            role_arn: new.role_arn,
            external_id: new.external_id,
            ingress_url: None,
        };
        self.check_cluster(tenant, &new).map_err(refused)
    }

    /// Refuses credentials that do not lead to the cluster that was reached before. Where nobody ever saw which one that
    /// is, and the old ones do not lead there any more, nothing can be compared.
    async fn refuse_another_cluster(
        &self,
        tenant: &TenantId,
        cluster: &Cluster,
        checked: &Checked,
    ) -> Result<(), AppError> {
        let place = match checked.target {
            ClusterTarget::Kubeconfig { .. } => "kubeconfig",
            ClusterTarget::Render | ClusterTarget::Eks { .. } => "role_arn",
        };
        let with_new = Cluster {
            target: checked.target.clone(),
            ..cluster.clone()
        };
        let leads_to = async {
            self.connect_with(tenant, with_new, checked.kubeconfig.as_ref())
                .await?
                .identity()
                .await
        };
        let leads_to = leads_to.await.map_err(|error: TargetError| match error.class() {
            FailureClass::Permanent => {
                let message = format!("the cluster cannot be reached so: {error}");
                refused(vec![FieldError::new(place, message)])
            }
            FailureClass::Transient | FailureClass::TimedOut | FailureClass::Queued => {
                let detail = format!(
                    "cluster '{}' does not answer, so that nobody knows whether these lead to it: {error}",
                    cluster.name
                );
                Problem::new(ProblemType::Unavailable, detail).into()
            }
        })?;
        let known = match self.uid_of(tenant, cluster.id).await? {
            Some(known) => Some(known),
            None => match self.connect(tenant, cluster.id).await {
                Ok(target) => target.identity().await.ok(),
                Err(ConnectError::App(error)) => return Err(error),
                Err(ConnectError::Target(_)) => None,
            },
        };
        if known.is_none_or(|known| known == leads_to) {
            return Ok(());
        }
        let message = format!(
            "leads to another cluster than '{}', on which its deployments are; register that one under a name of its own",
            cluster.name
        );
        Err(refused(vec![FieldError::new(place, message)]))
    }
}

fn refused(errors: Vec<FieldError>) -> AppError {
    AppError::invalid("the cluster's credentials cannot be replaced", errors)
}
