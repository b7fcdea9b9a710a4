//! Registered clusters.

mod credentials;
mod registering;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use slipway_model::{Cluster, ClusterHealth, ClusterId, ClusterTarget, Orphans, TenantId};
use slipway_ports::{Guard, Item, Listing, SecretString, Target, TargetError};
use utoipa::ToSchema;

pub use self::{
    credentials::ClusterCredentials,
    registering::{ClusterType, NewCluster},
};
use crate::{App, AppError, Caller, ListQuery, Page, Role, keys, names};

/// Why there is no connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// A part of the control plane.
    #[error(transparent)]
    App(#[from] AppError),
    /// The cluster, or its registration.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What works on a cluster takes a part of the control plane that does not answer like a cluster that does not.
impl From<ConnectError> for TargetError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::App(AppError::Problem(problem)) => Self::permanent(problem.detail),
            ConnectError::App(error) => Self::transient(error.to_problem().detail),
            ConnectError::Target(error) => error,
        }
    }
}

/// How a cluster stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterHealthView {
    /// What a look at it saw.
    #[serde(flatten)]
    pub health: ClusterHealth,
    /// What Slipway made on it and nobody owns; absent before the first of the hourly looks, and on `render` targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans: Option<Orphans>,
}

impl App {
    /// Registered clusters, newest first.
    ///
    /// # Errors
    /// 400 for a bad cursor, 422 for a bad limit.
    pub async fn clusters(&self, caller: &Caller, query: &ListQuery) -> Result<Page<Cluster>, AppError> {
        let list = keys::list(&caller.tenant, "clusters");
        let (after, limit) = (query.position()?, query.page_size()?);
        let page = self.store.list(&list, &[], after.as_deref(), limit).await?;
        Page::read(&page)
    }

    /// One cluster, by name or id.
    ///
    /// # Errors
    /// 404.
    pub async fn cluster(&self, caller: &Caller, id_or_name: &str) -> Result<Cluster, AppError> {
        self.find_cluster(&caller.tenant, id_or_name)
            .await?
            .ok_or_else(|| no_cluster(id_or_name))
    }

    /// A look at a cluster now, and what the last of the hourly looks found on it that nobody owns.
    ///
    /// # Errors
    /// 404. A cluster that does not answer is an unhealthy one, not an error.
    pub async fn cluster_health(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<ClusterHealthView, AppError> {
        let cluster = self.cluster(caller, id_or_name).await?;
        let orphans = self.orphans_of(&caller.tenant, cluster.id).await?;
        let health = self.health_now(caller, &cluster).await?;
        Ok(ClusterHealthView { health, orphans })
    }

    async fn health_now(&self, caller: &Caller, cluster: &Cluster) -> Result<ClusterHealth, AppError> {
        let seen = match self.connect(&caller.tenant, cluster.id).await {
            Ok(target) => target.health().await,
            Err(ConnectError::App(error)) => return Err(error),
            Err(ConnectError::Target(error)) => Err(error),
        };
        Ok(seen.unwrap_or_else(|error| ClusterHealth {
            healthy: false,
            message: error.to_string(),
            version: None,
            uid: None,
            ready_nodes: 0,
            nodes: 0,
            allocatable: None,
            free: None,
        }))
    }

    /// Forgets a cluster and its credentials. What runs on it goes on running. Where that was cut short, asking again by
    /// name does the rest.
    ///
    /// # Errors
    /// 403 below `admin`, 404, 409 while a deployment that is not `DELETED` uses it.
    pub async fn delete_cluster(&self, caller: &Caller, id_or_name: &str) -> Result<(), AppError> {
        caller.require(Role::Admin)?;
        let tenant = &caller.tenant;
        let Some(cluster) = self.find_cluster(tenant, id_or_name).await? else {
            return match self.cluster_of_name(tenant, id_or_name).await? {
                Some(id) => self.forget_credentials(tenant, id, id_or_name).await,
                None => Err(no_cluster(id_or_name)),
            };
        };
        self.forget_cluster(tenant, &cluster).await
    }

    /// Forgets a cluster, unless it is used.
    async fn forget_cluster(&self, tenant: &TenantId, cluster: &Cluster) -> Result<(), AppError> {
        self.refuse_used_cluster(tenant, cluster).await?;
        let key = keys::cluster(tenant, cluster.id);
        let mut session = self.store.session();
        session.delete(&key, Guard::Any).await?;
        session.settle().await?;
        // A deployment that was being created meanwhile either saw that the cluster is gone, or is seen here.
        if let Err(used) = self.refuse_used_cluster(tenant, cluster).await {
            let mut session = self.store.session();
            session
                .put(&key, cluster_item(tenant, cluster), Guard::Absent)
                .await?;
            session.settle().await?;
            return Err(used);
        }
        self.forget_credentials(tenant, cluster.id, &cluster.name).await
    }

    /// The name goes last: it leads whoever asks again to what is left.
    async fn forget_credentials(&self, tenant: &TenantId, id: ClusterId, name: &str) -> Result<(), AppError> {
        self.secrets.delete(tenant, &kubeconfig_secret(id)).await?;
        let name_key = keys::name(tenant, "cluster", name);
        let mut session = self.store.session();
        if let Some(stored) = session.get(&name_key).await?
            && stored.read::<ClusterId>()? == id
        {
            session.delete(&name_key, Guard::Version(stored.version)).await?;
        }
        Ok(session.settle().await?)
    }

    async fn refuse_used_cluster(&self, tenant: &TenantId, cluster: &Cluster) -> Result<(), AppError> {
        let partition = keys::cluster(tenant, cluster.id).partition;
        let Some(user) = self.user_of(tenant, &partition, keys::CLUSTER_USES).await? else {
            return Ok(());
        };
        Err(AppError::conflict(format!(
            "cluster '{}' is used by deployment {user}; delete the deployment first (with keep_releases=true if the \
             cluster is gone)",
            cluster.name
        )))
    }

    /// A cluster by name or id, if there is one.
    pub(crate) async fn find_cluster(
        &self,
        tenant: &TenantId,
        id_or_name: &str,
    ) -> Result<Option<Cluster>, AppError> {
        let id = match id_or_name.parse::<ClusterId>() {
            Ok(id) => id,
            Err(_) => match self.cluster_of_name(tenant, id_or_name).await? {
                Some(id) => id,
                None => return Ok(None),
            },
        };
        match self.store.get(&keys::cluster(tenant, id)).await? {
            Some(stored) => Ok(Some(stored.read()?)),
            None => Ok(None),
        }
    }

    /// Which cluster has a name, or had it until it was forgotten in part.
    async fn cluster_of_name(&self, tenant: &TenantId, name: &str) -> Result<Option<ClusterId>, AppError> {
        if names::check_label(name, 63).is_err() {
            return Ok(None);
        }
        match self.store.get(&keys::name(tenant, "cluster", name)).await? {
            Some(stored) => Ok(Some(stored.read()?)),
            None => Ok(None),
        }
    }

    /// A connection to a cluster for this invocation.
    pub(crate) async fn connect(
        &self,
        tenant: &TenantId,
        id: ClusterId,
    ) -> Result<Arc<dyn Target>, ConnectError> {
        let cluster = self
            .find_cluster(tenant, &id.to_string())
            .await?
            .ok_or_else(|| TargetError::permanent(format!("cluster {id} is not registered any more")))?;
        let kubeconfig = match cluster.target {
            ClusterTarget::Kubeconfig { .. } => {
                let name = kubeconfig_secret(id);
                let kept = self.secrets.get(tenant, &name).await.map_err(AppError::from)?;
                Some(kept.ok_or_else(|| {
                    TargetError::permanent(format!(
                        "the kubeconfig of cluster '{}' is gone; give it one with `slipway cluster credentials`",
                        cluster.name
                    ))
                })?)
            }
            ClusterTarget::Render | ClusterTarget::Eks { .. } => None,
        };
        Ok(self.connect_with(tenant, cluster, kubeconfig.as_ref()).await?)
    }

    /// A connection to a cluster with these credentials. A kubeconfig that was checked has the context that is meant as its
    /// current one, so that it alone decides, whatever the record says that is written after it.
    async fn connect_with(
        &self,
        tenant: &TenantId,
        mut cluster: Cluster,
        kubeconfig: Option<&SecretString>,
    ) -> Result<Arc<dyn Target>, TargetError> {
        if let ClusterTarget::Kubeconfig { context } = &mut cluster.target {
            *context = None;
        }
        self.connector.connect(tenant, &cluster, kubeconfig).await
    }
}

fn kubeconfig_secret(id: ClusterId) -> String {
    format!("cluster/{id}/kubeconfig")
}

fn cluster_item(tenant: &TenantId, cluster: &Cluster) -> Item {
    Item::of(cluster).listed(Listing {
        list: keys::list(tenant, "clusters"),
        position: keys::position(cluster.created_at, cluster.id),
        attributes: BTreeMap::new(),
    })
}

fn no_cluster(id_or_name: &str) -> AppError {
    AppError::not_found(format_args!("cluster '{}'", names::shown(id_or_name)))
}
