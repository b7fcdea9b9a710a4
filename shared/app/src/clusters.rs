//! Registered clusters.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use slipway_model::{Cluster, ClusterHealth, ClusterId, ClusterTarget, FieldError, Orphans, TenantId};
use slipway_ports::{Guard, Item, Listing, Put, SecretString, Stored, Target, TargetError};
use utoipa::ToSchema;

use crate::{App, AppError, Caller, ListQuery, Page, Role, keys, names};

/// A cluster to register.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCluster {
    /// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, unique per tenant.
    pub name: String,
    /// What it is: `render`, `kubeconfig` or `eks`.
    #[serde(rename = "type")]
    pub cluster_type: ClusterType,
    /// The kubeconfig, YAML or JSON, of a cluster of that type. It is kept by the secrets store only.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>, format = Password)]
    pub kubeconfig: Option<SecretString>,
    /// Context in the kubeconfig; its current one if absent.
    #[serde(default)]
    pub context: Option<String>,
    /// The name that EKS knows a cluster of type `eks` by; the cluster's name if absent.
    #[serde(default)]
    pub eks_name: Option<String>,
    /// AWS region of a cluster of type `eks`, such as `eu-central-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// ARN of the role that is assumed to reach a cluster of type `eks`, such as one in another account.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for: 2 to 1,224 letters, digits and `_+=,.@:/-`.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Base URL under which services are reached from outside, when there is one.
    #[serde(default)]
    pub ingress_url: Option<String>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// What a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterType {
    /// No cluster: charts are rendered for real and kept on disk.
    Render,
    /// Reached with a kubeconfig.
    Kubeconfig,
    /// An EKS cluster.
    Eks,
}

/// A registration that was checked.
struct Checked {
    target: ClusterTarget,
    kubeconfig: Option<SecretString>,
}

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
    /// Registers a cluster.
    ///
    /// # Errors
    /// 403 below `admin`, 409 for a name that is taken, 422 with everything that is wrong.
    pub async fn create_cluster(&self, caller: &Caller, new: NewCluster) -> Result<Cluster, AppError> {
        caller.require(Role::Admin)?;
        let tenant = &caller.tenant;
        let checked = self.check_cluster(&caller.tenant, &new)?;
        let name_key = keys::name(tenant, "cluster", &new.name);
        if let Some(taken) = self.store.get(&name_key).await? {
            return Err(cluster_name_taken(&new.name, &taken)?);
        }
        let cluster = Cluster {
            id: ClusterId(self.ids.uuid()),
            name: new.name,
            target: checked.target,
            ingress_url: new.ingress_url,
            created_at: self.clock.now(),
        };
        let secret = kubeconfig_secret(cluster.id);
        if let Some(kubeconfig) = checked.kubeconfig {
            self.secrets.put(tenant, &secret, kubeconfig).await?;
        }
        let key = keys::cluster(tenant, cluster.id);
        let mut session = self.store.session();
        session
            .put(&key, cluster_item(tenant, &cluster), Guard::Absent)
            .await?;
        self.schedule_orphans(session.as_mut(), tenant, &cluster).await?;
        // The name comes last: whoever finds it finds the cluster.
        match session
            .put(&name_key, Item::of(&cluster.id), Guard::Absent)
            .await?
        {
            Put::Won(_) => session.settle().await?,
            Put::Lost(taken) => {
                session.delete(&key, Guard::Any).await?;
                session.settle().await?;
                self.secrets.delete(tenant, &secret).await?;
                return Err(match taken {
                    Some(taken) => cluster_name_taken(&cluster.name, &taken)?,
                    None => AppError::conflict("the name was freed just now; try again"),
                });
            }
        }
        Ok(cluster)
    }

    fn check_cluster(&self, tenant: &TenantId, new: &NewCluster) -> Result<Checked, AppError> {
        let mut errors = Vec::new();
        if let Err(message) = names::check_name(&new.name, 63) {
            errors.push(FieldError::new("name", message));
        }
        if let Some(url) = &new.ingress_url
            && !names::is_http_url(url)
        {
            errors.push(FieldError::new(
                "ingress_url",
                "expected an http or https URL such as https://apps.example.com",
            ));
        }
        let mut only_for = |field: &str, given: bool, wanted: ClusterType, word: &str| {
            if given && new.cluster_type != wanted {
                errors.push(FieldError::new(
                    field,
                    format!("only for clusters of type {word}"),
                ));
            }
        };
        only_for(
            "kubeconfig",
            new.kubeconfig.is_some(),
            ClusterType::Kubeconfig,
            "kubeconfig",
        );
        only_for(
            "context",
            new.context.is_some(),
            ClusterType::Kubeconfig,
            "kubeconfig",
        );
        only_for("eks_name", new.eks_name.is_some(), ClusterType::Eks, "eks");
        only_for("region", new.region.is_some(), ClusterType::Eks, "eks");
        only_for("role_arn", new.role_arn.is_some(), ClusterType::Eks, "eks");
        only_for("external_id", new.external_id.is_some(), ClusterType::Eks, "eks");
        let mut kubeconfig = None;
        let target = match new.cluster_type {
            ClusterType::Render => ClusterTarget::Render,
            ClusterType::Kubeconfig => {
                kubeconfig = check_kubeconfig(new, &mut errors);
                ClusterTarget::Kubeconfig {
                    context: new.context.clone(),
                }
            }
            ClusterType::Eks => self.check_eks(tenant, new, &mut errors),
        };
        if errors.is_empty() {
            Ok(Checked { target, kubeconfig })
        } else {
            Err(AppError::invalid("the cluster cannot be registered", errors))
        }
    }

    fn check_eks(&self, tenant: &TenantId, new: &NewCluster, errors: &mut Vec<FieldError>) -> ClusterTarget {
        if !self.settings.eks {
            errors.push(FieldError::new(
                "type",
                "this server cannot reach EKS clusters; register the cluster with a kubeconfig",
            ));
        }
        let name = new.eks_name.clone().unwrap_or_else(|| new.name.clone());
        let named = name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= 100
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !named {
            errors.push(FieldError::new(
                "eks_name",
                "expected 1 to 100 letters, digits, - and _, beginning with a letter or digit",
            ));
        }
        let region = new.region.clone().unwrap_or_default();
        let is_region = region.len() <= 32
            && region.matches('-').count() >= 2
            && region
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_region {
            errors.push(FieldError::new(
                "region",
                "expected an AWS region such as eu-central-1",
            ));
        }
        check_role(new, errors);
        // The control plane's own role reaches clusters whoever asks; only an external id, which nobody else knows, tells
        // that a role is the caller's.
        if *tenant != TenantId::local() && (new.role_arn.is_none() || new.external_id.is_none()) {
            errors.push(FieldError::new(
                "role_arn",
                "tenants other than 'local' reach EKS clusters through a role of their own: name it, and the external_id \
                 that its trust policy asks for",
            ));
        }
        ClusterTarget::Eks {
            name,
            region,
            role_arn: new.role_arn.clone(),
            external_id: new.external_id.clone(),
        }
    }

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
        self.refuse_used_cluster(tenant, &cluster).await?;
        let key = keys::cluster(tenant, cluster.id);
        let mut session = self.store.session();
        session.delete(&key, Guard::Any).await?;
        session.settle().await?;
        // A deployment that was being created meanwhile either saw that the cluster is gone, or is seen here.
        if let Err(used) = self.refuse_used_cluster(tenant, &cluster).await {
            let mut session = self.store.session();
            session
                .put(&key, cluster_item(tenant, &cluster), Guard::Absent)
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
            "cluster '{}' is used by deployment {user}; delete the deployment first",
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
                        "the kubeconfig of cluster '{}' is gone; register the cluster again",
                        cluster.name
                    ))
                })?)
            }
            ClusterTarget::Render | ClusterTarget::Eks { .. } => None,
        };
        Ok(self
            .connector
            .connect(tenant, &cluster, kubeconfig.as_ref())
            .await?)
    }
}

fn check_role(new: &NewCluster, errors: &mut Vec<FieldError>) {
    if new.role_arn.as_deref().is_some_and(|arn| !is_role_arn(arn)) {
        errors.push(FieldError::new(
            "role_arn",
            "expected the ARN of a role such as arn:aws:iam::123456789012:role/slipway",
        ));
    }
    let Some(external_id) = &new.external_id else {
        return;
    };
    let is_external_id = (2..=1224).contains(&external_id.len())
        && external_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte));
    if !is_external_id {
        errors.push(FieldError::new(
            "external_id",
            "expected 2 to 1224 letters, digits and _ + = , . @ : / -",
        ));
    }
    if new.role_arn.is_none() {
        errors.push(FieldError::new(
            "external_id",
            "only together with role_arn, whose trust policy asks for it",
        ));
    }
}

fn is_role_arn(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts[..] else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    let is_partition = partition == "aws"
        || partition
            .strip_prefix("aws-")
            .is_some_and(|rest| !rest.is_empty());
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_role = |path: &str| {
        path.split('/')
            .all(|part| !part.is_empty() && part.bytes().all(plain))
    };
    is_partition
        && partition
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && is_account
        && arn.len() <= 2048
        && resource.strip_prefix("role/").is_some_and(is_role)
}

fn check_kubeconfig(new: &NewCluster, errors: &mut Vec<FieldError>) -> Option<SecretString> {
    use slipway_ports::ExposeSecret;

    let Some(kubeconfig) = &new.kubeconfig else {
        errors.push(FieldError::new(
            "kubeconfig",
            "a cluster of type kubeconfig needs one",
        ));
        return None;
    };
    match slipway_policy::check_kubeconfig(kubeconfig.expose_secret(), new.context.as_deref()) {
        Ok(checked) => Some(checked.into()),
        Err(found) => {
            errors.extend(found.into_iter().map(|error| {
                let dot = if error.path.is_empty() { "" } else { "." };
                FieldError::new(format!("kubeconfig{dot}{}", error.path), error.message)
            }));
            None
        }
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

fn cluster_name_taken(name: &str, taken: &Stored) -> Result<AppError, AppError> {
    let other: ClusterId = taken.read()?;
    Ok(AppError::conflict(format!(
        "there is a cluster named '{name}' already: {other}"
    )))
}

fn no_cluster(id_or_name: &str) -> AppError {
    AppError::not_found(format_args!("cluster '{}'", names::shown(id_or_name)))
}
