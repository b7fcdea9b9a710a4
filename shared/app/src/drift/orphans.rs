//! What Slipway made on a cluster and no deployment owns.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use slipway_model::{
    Cluster, ClusterId, ClusterTarget, DeploymentId, DeploymentStatus, LookId, Message, Orphan, OrphanKind,
    Orphans, Queue, TenantId,
};
use slipway_ports::{Guard, Item, Key, Managed, ManagedRelease, Put, Session};

use super::PERIOD;
use crate::{App, AppError, clusters::ConnectError, keys};

/// Most orphans that are kept of a cluster.
const MOST_ORPHANS: usize = 100;

/// Jobs that work for no deployment label their releases with this.
const NO_DEPLOYMENT: &str = "none";

/// Whose something is.
enum Owner {
    /// Somebody's, or none of this tenant's business.
    Somebody,
    /// Nobody's, and why.
    Nobody(String),
}

/// A cluster's looks: the one that is going on, and what the last one found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Looks {
    /// The look that is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    going_on: Option<LookId>,
    /// What the look that is going on has found so far.
    #[serde(default)]
    so_far: Vec<Orphan>,
    #[serde(default)]
    more: u32,
    #[serde(default)]
    last: Option<Orphans>,
    /// Which cluster the last look that reached one saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

impl App {
    /// Has a cluster looked at from now on. A repeat changes nothing; on a `render` target nothing is made.
    pub(crate) async fn schedule_orphans(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        cluster: &Cluster,
    ) -> Result<(), AppError> {
        if cluster.target == ClusterTarget::Render {
            return Ok(());
        }
        let item = Item::of(&Looks::default()).due_at(Some(self.clock.now().plus(PERIOD)));
        session
            .put(&keys::orphans(tenant, cluster.id), item, Guard::Absent)
            .await?;
        Ok(())
    }

    /// A cluster whose look is due: it is sent, and the next one is put off by an hour.
    pub(crate) async fn send_orphans(&self, tenant: &TenantId, cluster: ClusterId) -> Result<(), AppError> {
        let mut session = self.store.session();
        if self
            .put_off(session.as_mut(), &keys::orphans(tenant, cluster))
            .await?
        {
            send(session.as_mut(), tenant, cluster, None);
        }
        Ok(session.settle().await?)
    }

    /// What the last look at a cluster found that nobody owns; nothing before the first.
    pub(crate) async fn orphans_of(
        &self,
        tenant: &TenantId,
        cluster: ClusterId,
    ) -> Result<Option<Orphans>, AppError> {
        match self.store.get(&keys::orphans(tenant, cluster)).await? {
            Some(stored) => Ok(stored.read::<Looks>()?.last),
            None => Ok(None),
        }
    }

    /// Which cluster the looks saw; nothing before the first that reached one.
    pub(crate) async fn uid_of(
        &self,
        tenant: &TenantId,
        cluster: ClusterId,
    ) -> Result<Option<String>, AppError> {
        match self.store.get(&keys::orphans(tenant, cluster)).await? {
            Some(stored) => Ok(stored.read::<Looks>()?.uid),
            None => Ok(None),
        }
    }

    /// Looks at one page of what is labelled as Slipway's on a cluster: the first one begins a look. Later ones of a look that
    /// has ended, or that another one has taken the place of, change nothing.
    pub(crate) async fn look_for_orphans(
        &self,
        tenant: &TenantId,
        cluster: ClusterId,
        after: Option<&str>,
        look: Option<LookId>,
    ) -> Result<(), AppError> {
        let key = keys::orphans(tenant, cluster);
        if self.find_cluster(tenant, &cluster.to_string()).await?.is_none() {
            let mut session = self.store.session();
            session.delete(&key, Guard::Any).await?;
            return Ok(session.settle().await?);
        }
        let look = match (after, look) {
            (None, _) => LookId(self.ids.uuid()),
            (Some(_), Some(look)) => look,
            // Nobody can tell any more what it goes on with.
            (Some(_), None) => return Ok(()),
        };
        let page = match self.managed_on(tenant, cluster, after).await {
            Ok(page) => page,
            Err(ConnectError::App(error)) => return Err(error),
            Err(ConnectError::Target(error)) => {
                tracing::info!(%cluster, %error, "a cluster could not be looked at for what nobody owns");
                return self.keep_failed_look(&key, error.to_string()).await;
            }
        };
        let found = self.orphans_in(tenant, &page.0, &page.1).await?;
        let mut session = self.store.session();
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(());
            };
            let mut looks: Looks = stored.read()?;
            if after.is_none() {
                looks.going_on = Some(look);
                looks.so_far.clear();
                looks.more = 0;
            }
            if looks.going_on != Some(look) {
                return Ok(());
            }
            looks.uid = Some(page.1.clone());
            for orphan in &found {
                if looks.so_far.contains(orphan) {
                    continue;
                }
                match looks.so_far.len() < MOST_ORPHANS {
                    true => looks.so_far.push(orphan.clone()),
                    false => looks.more += 1,
                }
            }
            if page.0.next.is_none() {
                looks.going_on = None;
                looks.last = Some(Orphans {
                    checked_at: self.clock.now(),
                    items: std::mem::take(&mut looks.so_far),
                    more: std::mem::take(&mut looks.more),
                    error: None,
                });
            }
            let item = Item::of(&looks).due_at(Some(self.clock.now().plus(PERIOD)));
            if let Put::Lost(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                continue;
            }
            if let Some(next) = page.0.next.clone() {
                send(session.as_mut(), tenant, cluster, Some((next, look)));
            }
            return Ok(session.settle().await?);
        }
    }

    /// Writes down that a look failed, and keeps what the look before found.
    async fn keep_failed_look(&self, key: &Key, error: String) -> Result<(), AppError> {
        let mut session = self.store.session();
        loop {
            let Some(stored) = session.get(key).await? else {
                return Ok(());
            };
            let mut looks: Looks = stored.read()?;
            let before = looks.last.take();
            looks.last = Some(Orphans {
                checked_at: self.clock.now(),
                items: before.as_ref().map(|last| last.items.clone()).unwrap_or_default(),
                more: before.map(|last| last.more).unwrap_or_default(),
                error: Some(error.clone()),
            });
            let item = Item::of(&looks).due_at(Some(self.clock.now().plus(PERIOD)));
            if let Put::Won(_) = session.put(key, item, Guard::Version(stored.version)).await? {
                return Ok(session.settle().await?);
            }
        }
    }

    async fn managed_on(
        &self,
        tenant: &TenantId,
        cluster: ClusterId,
        after: Option<&str>,
    ) -> Result<(Managed, String), ConnectError> {
        let target = self.connect(tenant, cluster).await?;
        Ok((target.managed(after).await?, target.identity().await?))
    }

    async fn orphans_in(
        &self,
        tenant: &TenantId,
        page: &Managed,
        cluster_uid: &str,
    ) -> Result<Vec<Orphan>, AppError> {
        let mut found = Vec::new();
        for release in &page.releases {
            if let Owner::Nobody(message) = self.owner_of_release(tenant, release, cluster_uid).await? {
                found.push(Orphan {
                    kind: OrphanKind::Release,
                    namespace: release.release.namespace.clone(),
                    release: Some(release.release.name.clone()),
                    deployment_id: release.deployment.parse().ok(),
                    message,
                });
            }
        }
        for namespace in &page.namespaces {
            let Ok(deployment) = namespace.deployment.parse::<DeploymentId>() else {
                continue;
            };
            let mut owner = self.owner_of(tenant, deployment).await?;
            if page.releases.iter().any(|release| {
                release.deployment == namespace.deployment && release.release.namespace == namespace.name
            }) && !found.iter().any(|orphan| orphan.namespace == namespace.name)
            {
                // Its releases are somebody's, and so is it.
                owner = Owner::Somebody;
            }
            if let Owner::Nobody(message) = owner {
                found.push(Orphan {
                    kind: OrphanKind::Namespace,
                    namespace: namespace.name.clone(),
                    release: None,
                    deployment_id: Some(deployment),
                    message,
                });
            }
        }
        Ok(found)
    }

    async fn owner_of_release(
        &self,
        tenant: &TenantId,
        release: &ManagedRelease,
        cluster_uid: &str,
    ) -> Result<Owner, AppError> {
        if release.deployment == NO_DEPLOYMENT {
            return Ok(Owner::Somebody);
        }
        let Ok(id) = release.deployment.parse::<DeploymentId>() else {
            return Ok(Owner::Nobody("its record names no deployment".to_owned()));
        };
        let Some(deployment) = self.load_deployment(tenant, id).await? else {
            let writer = self.release_tenant(cluster_uid, &release.release).await?;
            return Ok(match writer {
                Some(writer) if writer != *tenant => Owner::Somebody,
                _ => self.owner_of(tenant, id).await?,
            });
        };
        if deployment.status == DeploymentStatus::Deleted {
            return self.owner_of(tenant, id).await;
        }
        let components = self.components_of(&deployment).await?;
        let is_known = deployment.status.is_in_flight()
            || components
                .iter()
                .any(|component| !component.disabled && component.release_name == release.release.name);
        Ok(if is_known {
            Owner::Somebody
        } else {
            let name = &deployment.name;
            Owner::Nobody(format!("deployment '{name}' does not have it any more"))
        })
    }

    /// Whose what is labelled with a deployment is.
    async fn owner_of(&self, tenant: &TenantId, id: DeploymentId) -> Result<Owner, AppError> {
        Ok(match self.load_deployment(tenant, id).await? {
            Some(deployment) if deployment.status == DeploymentStatus::Deleted => {
                Owner::Nobody(format!("deployment '{}' was deleted", deployment.name))
            }
            Some(_) => Owner::Somebody,
            None => Owner::Nobody(format!(
                "deployment {id} does not exist here: it was forgotten, or another control plane made it"
            )),
        })
    }
}

pub(super) fn send(
    session: &mut dyn Session,
    tenant: &TenantId,
    cluster: ClusterId,
    next: Option<(String, LookId)>,
) {
    let (after, look) = next.unzip();
    let message = Message::Orphans {
        tenant: tenant.clone(),
        cluster,
        after,
        look,
    };
    session.send(Queue::ExecuteStep, message, Duration::ZERO);
}
