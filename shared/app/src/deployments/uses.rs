//! Who uses a template or a cluster, so that neither is deleted under a deployment.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use slipway_model::{ClusterId, DeploymentId, DeploymentStatus, Template, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Session};

use crate::{App, AppError, keys};

/// A creation or registration that takes longer than this was cut short, and a note without a deployment is one of
/// such.
pub(crate) const CREATION: Duration = Duration::from_secs(600);

/// A note that stands beside what is used.
#[derive(Serialize, Deserialize)]
struct Use {
    user: DeploymentId,
    at: Timestamp,
}

impl App {
    /// Notes that a deployment uses its template and clusters, then looks whether they are still there: whoever
    /// deletes one of them meanwhile either sees the note or is seen here.
    ///
    /// # Errors
    /// 409 when one of them is gone.
    pub(crate) async fn use_inputs(
        &self,
        tenant: &TenantId,
        user: DeploymentId,
        template: &Template,
        clusters: &BTreeSet<ClusterId>,
    ) -> Result<(), AppError> {
        let mut session = self.store.session();
        let version = template.version.to_string();
        let note = Use {
            user,
            at: self.clock.now(),
        };
        let template_use = keys::template_use(tenant, &template.name, &version, user);
        session.put(&template_use, Item::of(&note), Guard::Any).await?;
        for cluster in clusters {
            let key = keys::cluster_use(tenant, *cluster, user);
            session.put(&key, Item::of(&note), Guard::Any).await?;
        }
        session.settle().await?;
        let name = &template.name;
        if self
            .load_template(tenant, name, &template.version)
            .await?
            .is_none()
        {
            return Err(AppError::conflict(format!(
                "template '{name}' version {version} was deleted just now"
            )));
        }
        for cluster in clusters {
            if self.store.get(&keys::cluster(tenant, *cluster)).await?.is_none() {
                return Err(AppError::conflict(format!(
                    "cluster {cluster} was deleted just now"
                )));
            }
        }
        Ok(())
    }

    /// Takes the notes of [`use_inputs`](Self::use_inputs) back.
    pub(crate) async fn release_inputs(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        user: DeploymentId,
        templates: &BTreeSet<(String, String)>,
        clusters: &BTreeSet<ClusterId>,
    ) -> Result<(), AppError> {
        for (name, version) in templates {
            let key = keys::template_use(tenant, name, version, user);
            session.delete(&key, Guard::Any).await?;
        }
        for cluster in clusters {
            session
                .delete(&keys::cluster_use(tenant, *cluster, user), Guard::Any)
                .await?;
        }
        Ok(())
    }

    /// A deployment that has a note in `partition` below `prefix`, and lives or is being created.
    pub(crate) async fn user_of(
        &self,
        tenant: &TenantId,
        partition: &str,
        prefix: &str,
    ) -> Result<Option<DeploymentId>, AppError> {
        let mut after = None;
        loop {
            let page = self.store.query(partition, prefix, after.as_deref(), 100).await?;
            for stored in &page.items {
                let note: Use = stored.read()?;
                let lives = match self.load_deployment(tenant, note.user).await? {
                    Some(user) => user.status != DeploymentStatus::Deleted,
                    None => self.clock.now() < note.at.plus(CREATION),
                };
                if lives {
                    return Ok(Some(note.user));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(None);
            }
        }
    }
}
