//! The stored records of deployments: how they are found and changed.

use std::{collections::BTreeMap, time::Duration};

use serde::de::DeserializeOwned;
use slipway_model::{ComponentDeployment, Deployment, DeploymentId, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Listing, Put, Session};

use crate::{App, AppError, keys, names};

/// The longest name of a deployment: with a component's it has to make a release name that people recognise.
pub(crate) const LONGEST_NAME: usize = 40;

/// Whether a deployment can have that name: 1 to 40 lower-case letters, digits and `-`, beginning and ending with a letter
/// or digit, and no UUID.
///
/// # Errors
/// What would be right.
pub fn check_deployment_name(name: &str) -> Result<(), String> {
    names::check_name(name, LONGEST_NAME)
}

/// Whatever changed a deployment may have been cut short before everything followed: the sweeper looks at it after
/// this long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A deployment as it is stored: in the list of deployments.
pub(crate) fn deployment_item(deployment: &Deployment) -> Item {
    let attributes = BTreeMap::from([
        ("status".to_owned(), deployment.status.as_str().to_owned()),
        ("template".to_owned(), deployment.template.name.clone()),
        ("cluster".to_owned(), deployment.cluster_id.to_string()),
    ]);
    Item::of(deployment).listed(Listing {
        list: keys::list(&deployment.tenant, "deployments"),
        position: keys::position(deployment.created_at, deployment.id),
        attributes,
    })
}

/// When the sweeper looks at a deployment that has changed now.
pub(crate) fn look_again(now: Timestamp) -> Option<Timestamp> {
    Some(now.plus(LOOK_AGAIN))
}

impl App {
    /// A deployment by id.
    pub(crate) async fn load_deployment(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
    ) -> Result<Option<Deployment>, AppError> {
        match self.store.get(&keys::deployment(tenant, id)).await? {
            Some(stored) => Ok(Some(stored.read()?)),
            None => Ok(None),
        }
    }

    /// A deployment by name or id.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find_deployment(
        &self,
        tenant: &TenantId,
        id_or_name: &str,
    ) -> Result<Deployment, AppError> {
        let missing = || AppError::not_found(format_args!("deployment '{}'", names::shown(id_or_name)));
        let id = match id_or_name.parse::<DeploymentId>() {
            Ok(id) => id,
            Err(_) => {
                names::check_label(id_or_name, LONGEST_NAME).map_err(|_| missing())?;
                let holder = self
                    .store
                    .get(&keys::name(tenant, "deployment", id_or_name))
                    .await?;
                holder.ok_or_else(missing)?.read()?
            }
        };
        self.load_deployment(tenant, id).await?.ok_or_else(missing)
    }

    /// Changes a deployment, however many others change it at the same time: `change` is repeated on what it is
    /// then, and says whether there is something to write. Returns the deployment as it is now and whether this
    /// call changed it; nothing if there is no such deployment.
    pub(crate) async fn update_deployment(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        id: DeploymentId,
        mut change: impl FnMut(&mut Deployment) -> Result<bool, AppError> + Send,
    ) -> Result<Option<(Deployment, bool)>, AppError> {
        let key = keys::deployment(tenant, id);
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(None);
            };
            let mut deployment: Deployment = stored.read()?;
            if !change(&mut deployment)? {
                return Ok(Some((deployment, false)));
            }
            let now = self.clock.now();
            deployment.updated_at = now;
            let item = deployment_item(&deployment).due_at(look_again(now));
            if let Put::Won(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                return Ok(Some((deployment, true)));
            }
        }
    }

    /// Changes a component as [`update_deployment`](Self::update_deployment) changes a deployment. Whether there is
    /// such a component.
    pub(crate) async fn update_component(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        name: &str,
        mut change: impl FnMut(&mut ComponentDeployment) -> bool + Send,
    ) -> Result<bool, AppError> {
        let key = keys::component(&deployment.tenant, deployment.id, name);
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(false);
            };
            let mut component: ComponentDeployment = stored.read()?;
            if !change(&mut component) {
                return Ok(true);
            }
            component.updated_at = self.clock.now();
            let item = Item::of(&component);
            if let Put::Won(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                return Ok(true);
            }
        }
    }

    /// The components of a deployment, in the template's order, those that it does not have any more last.
    pub(crate) async fn components_of(
        &self,
        deployment: &Deployment,
    ) -> Result<Vec<ComponentDeployment>, AppError> {
        let mut components: Vec<ComponentDeployment> = self.all_of(deployment, keys::COMPONENTS).await?;
        components.sort_by(|a, b| {
            (a.removed, a.position, &a.component_name).cmp(&(b.removed, b.position, &b.component_name))
        });
        Ok(components)
    }
    /// What stands beside a deployment under sort keys that begin so, in their order.
    pub(crate) async fn all_of<T: DeserializeOwned>(
        &self,
        deployment: &Deployment,
        prefix: &str,
    ) -> Result<Vec<T>, AppError> {
        let partition = keys::deployment(&deployment.tenant, deployment.id).partition;
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .query(&partition, prefix, after.as_deref(), 100)
                .await?;
            for stored in &page.items {
                all.push(stored.read()?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
