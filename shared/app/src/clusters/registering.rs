//! Registering clusters. Their credentials go to the secrets store only once it is written down that they are there.

use serde::{Deserialize, Serialize};
use slipway_model::{Cluster, ClusterId, ClusterTarget, FieldError, TenantId};
use slipway_ports::{Guard, Item, Put, SecretString, Stored};
use utoipa::ToSchema;

use super::{cluster_item, kubeconfig_secret};
use crate::{App, AppError, Caller, Role, deployments::CREATION, keys, names};

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

pub(super) fn secret<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
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
pub(super) struct Checked {
    pub(super) target: ClusterTarget,
    /// With the context that is meant as its current one.
    pub(super) kubeconfig: Option<SecretString>,
}

impl App {
    /// Registers a cluster.
    ///
    /// # Errors
    /// 403 below `admin`, 409 for a name that is taken, 422 with everything that is wrong.
    pub async fn create_cluster(&self, caller: &Caller, new: NewCluster) -> Result<Cluster, AppError> {
        self.create_cluster_as(caller, ClusterId(self.ids.uuid()), new)
            .await
    }

    /// Registers a cluster under an id. Doing it again, after it was cut short, finds or replaces what was made before.
    ///
    /// # Errors
    /// As [`create_cluster`](Self::create_cluster).
    pub async fn create_cluster_as(
        &self,
        caller: &Caller,
        id: ClusterId,
        new: NewCluster,
    ) -> Result<Cluster, AppError> {
        caller.require(Role::Admin)?;
        let tenant = &caller.tenant;
        let checked = self
            .check_cluster(&caller.tenant, &new)
            .map_err(|errors| AppError::invalid("the cluster cannot be registered", errors))?;
        let name_key = keys::name(tenant, "cluster", &new.name);
        if let Some(taken) = self.store.get(&name_key).await? {
            return self.answer_again(tenant, id, &new.name, &taken).await;
        }
        let now = self.clock.now();
        let cluster = Cluster {
            id,
            name: new.name,
            target: checked.target,
            ingress_url: new.ingress_url,
            created_at: now,
        };
        let registration = keys::registration(tenant, id);
        let mut session = self.store.session();
        // Should this be cut short, the sweeper takes away what nobody was told of, credentials first of all.
        let item = Item::of(&cluster.name).due_at(Some(now.plus(CREATION)));
        session.put(&registration, item, Guard::Any).await?;
        session.settle().await?;
        if let Some(kubeconfig) = checked.kubeconfig {
            self.secrets
                .put(tenant, &kubeconfig_secret(id), kubeconfig)
                .await?;
        }
        let mut session = self.store.session();
        session
            .put(
                &keys::cluster(tenant, id),
                cluster_item(tenant, &cluster),
                Guard::Any,
            )
            .await?;
        self.schedule_orphans(session.as_mut(), tenant, &cluster).await?;
        // The name comes last: whoever finds it finds the cluster.
        let put = session.put(&name_key, Item::of(&id), Guard::Absent).await?;
        if let Put::Lost(Some(taken)) = &put
            && taken.read::<ClusterId>()? != id
        {
            session.settle().await?;
            self.take_registration_back(tenant, id).await?;
            return Err(name_taken(&cluster.name, taken.read()?));
        }
        if let Put::Lost(None) = put {
            session.settle().await?;
            self.take_registration_back(tenant, id).await?;
            return Err(AppError::conflict("the name was freed just now; try again"));
        }
        session.delete(&registration, Guard::Any).await?;
        session.settle().await?;
        Ok(cluster)
    }

    /// A name that is taken: by this very cluster, where the caller did not hear that it was registered.
    async fn answer_again(
        &self,
        tenant: &TenantId,
        id: ClusterId,
        name: &str,
        taken: &Stored,
    ) -> Result<Cluster, AppError> {
        let holder: ClusterId = taken.read()?;
        match self.find_cluster(tenant, &holder.to_string()).await? {
            Some(cluster) if holder == id => Ok(cluster),
            _ => Err(name_taken(name, holder)),
        }
    }

    /// A registration that did not end in its time: what was made is taken away, unless it got its name.
    pub(crate) async fn take_registration_back(
        &self,
        tenant: &TenantId,
        id: ClusterId,
    ) -> Result<(), AppError> {
        let key = keys::registration(tenant, id);
        let Some(registration) = self.store.get(&key).await? else {
            return Ok(());
        };
        let name: String = registration.read()?;
        if self.cluster_of_name(tenant, &name).await? != Some(id) {
            match self.find_cluster(tenant, &id.to_string()).await? {
                Some(cluster) => match self.forget_cluster(tenant, &cluster).await {
                    Err(AppError::Problem(used)) => {
                        // It works, and is reached by its id.
                        tracing::warn!(cluster = %id, why = used.detail, "a cluster without its name stays");
                    }
                    forgotten => forgotten?,
                },
                None => self.forget_credentials(tenant, id, &name).await?,
            }
        }
        let mut session = self.store.session();
        session.delete(&key, Guard::Version(registration.version)).await?;
        Ok(session.settle().await?)
    }

    /// Everything that is wrong, or what is to be kept.
    pub(super) fn check_cluster(
        &self,
        tenant: &TenantId,
        new: &NewCluster,
    ) -> Result<Checked, Vec<FieldError>> {
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
            Err(errors)
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

fn name_taken(name: &str, holder: ClusterId) -> AppError {
    AppError::conflict(format!("there is a cluster named '{name}' already: {holder}"))
}
