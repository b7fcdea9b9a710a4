//! What was found, as it is stored and as it is shown.

use serde::{Deserialize, Serialize};
use slipway_model::{ComponentDeployment, ComponentStatus, Deployment, DriftedObject, Timestamp};
use slipway_ports::{Guard, Item, Session};
use utoipa::ToSchema;

use super::PERIOD;
use crate::{App, AppError, keys};

/// Most objects that are kept of one component.
const MOST_OBJECTS: usize = 50;

/// Where a deployment differs from what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentDrift {
    /// When it was looked at; of several components, the earliest.
    pub checked_at: Timestamp,
    /// What differs; nothing if all is as it was applied.
    pub objects: Vec<ComponentDrift>,
    /// What could not be looked at, and why, a sentence for each component.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Components that run and have not been looked at yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

/// An object that differs from what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentDrift {
    /// The component.
    pub component: String,
    /// What differs.
    #[serde(flatten)]
    pub object: DriftedObject,
}

/// Whether a component has a release that is compared with what was applied.
pub(super) fn is_looked_at(component: &ComponentDeployment) -> bool {
    !component.removed && component.status == ComponentStatus::Running
}

/// What the last look at a component found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) component: String,
    /// The generation that was looked at: what was found says nothing about another one.
    pub(super) generation: u64,
    pub(super) checked_at: Timestamp,
    pub(super) objects: Vec<DriftedObject>,
    /// What the last look did not see, and why; of that the objects are those of the look before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Found {
    pub(super) fn new(
        component: &str,
        generation: u64,
        now: Timestamp,
        mut objects: Vec<DriftedObject>,
    ) -> Self {
        objects.truncate(MOST_OBJECTS);
        Self {
            component: component.to_owned(),
            generation,
            checked_at: now,
            objects,
            error: None,
        }
    }
}

/// What the schedule of a deployment's looks holds: that it is there is all that matters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Scheduled {}

impl App {
    /// Has a deployment that runs looked at from now on. A repeat changes nothing.
    pub(crate) async fn schedule_drift(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
    ) -> Result<(), AppError> {
        let key = keys::drift(&deployment.tenant, deployment.id);
        let item = Item::of(&Scheduled {}).due_at(Some(self.clock.now().plus(PERIOD)));
        session.put(&key, item, Guard::Absent).await?;
        Ok(())
    }

    /// What the last looks at these components found at the present generation; nothing before the first.
    pub(crate) async fn drift_of(
        &self,
        deployment: &Deployment,
        components: &[ComponentDeployment],
    ) -> Result<Option<DeploymentDrift>, AppError> {
        let mut unseen: Vec<String> = components
            .iter()
            .filter(|one| is_looked_at(one))
            .map(|one| one.component_name.clone())
            .collect();
        let partition = keys::deployment(&deployment.tenant, deployment.id).partition;
        let mut drift: Option<DeploymentDrift> = None;
        let mut after = None;
        loop {
            let page = self
                .store
                .query(&partition, keys::DRIFTS, after.as_deref(), 100)
                .await?;
            for stored in &page.items {
                let found: Found = stored.read()?;
                if found.generation != deployment.generation {
                    continue;
                }
                let Some(at) = unseen.iter().position(|name| *name == found.component) else {
                    continue;
                };
                unseen.remove(at);
                let all = drift.get_or_insert_with(|| DeploymentDrift {
                    checked_at: found.checked_at,
                    objects: Vec::new(),
                    errors: Vec::new(),
                    unseen: Vec::new(),
                });
                all.checked_at = all.checked_at.min(found.checked_at);
                if let Some(error) = found.error {
                    all.errors.push(format!("{}: {error}", found.component));
                }
                let component = found.component;
                all.objects
                    .extend(found.objects.into_iter().map(|object| ComponentDrift {
                        component: component.clone(),
                        object,
                    }));
            }
            after = page.next;
            if after.is_none() {
                return Ok(drift.map(|drift| DeploymentDrift { unseen, ..drift }));
            }
        }
    }
}
