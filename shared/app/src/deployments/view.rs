//! Looking at deployments.

use serde::{Deserialize, Serialize};
use slipway_model::{ComponentDeployment, Deployment, DeploymentStatus};
use utoipa::ToSchema;

use crate::{App, AppError, Caller, ListQuery, Page, drift::DeploymentDrift, keys};

/// A deployment with its components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// Its components, in the template's order.
    pub components: Vec<ComponentDeployment>,
    /// Where it differs from what was applied, as the last look at its present generation found; absent before the
    /// first, which comes an hour after it was brought up, or when somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DeploymentDrift>,
}

impl App {
    /// Deployments, newest first, of a status, template or cluster if the query says so.
    ///
    /// # Errors
    /// 400 for a bad cursor, 422 for a bad limit or status.
    pub async fn deployments(
        &self,
        caller: &Caller,
        query: &ListQuery,
    ) -> Result<Page<Deployment>, AppError> {
        let (after, limit) = (query.position()?, query.page_size()?);
        let mut filters = Vec::new();
        if let Some(status) = query.status_word::<DeploymentStatus>()? {
            filters.push(("status".to_owned(), status));
        }
        if let Some(template) = &query.template {
            filters.push(("template".to_owned(), template.clone()));
        }
        if let Some(wanted) = &query.cluster {
            let Some(cluster) = self.find_cluster(&caller.tenant, wanted).await? else {
                return Ok(Page {
                    items: Vec::new(),
                    next_cursor: None,
                });
            };
            filters.push(("cluster".to_owned(), cluster.id.to_string()));
        }
        let list = keys::list(&caller.tenant, "deployments");
        let page = self.store.list(&list, &filters, after.as_deref(), limit).await?;
        Page::read(&page)
    }

    /// One deployment with its components, by name or id.
    ///
    /// # Errors
    /// 404.
    pub async fn deployment(&self, caller: &Caller, id_or_name: &str) -> Result<DeploymentView, AppError> {
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        self.view(deployment).await
    }

    pub(crate) async fn view(&self, deployment: Deployment) -> Result<DeploymentView, AppError> {
        let components = self.components_of(&deployment).await?;
        let drift = match deployment.status {
            DeploymentStatus::Running => self.drift_of(&deployment, &components).await?,
            _ => None,
        };
        Ok(DeploymentView {
            deployment,
            components,
            drift,
        })
    }
}
