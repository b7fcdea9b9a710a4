//! The preview: what starting or changing a deployment would do, tried where Helm is, and nothing changed.

mod ask;
mod component;
mod make;
mod removed;
mod rendering;
mod requests;
mod size;

use serde::{Deserialize, Serialize};
use slipway_model::{
    ClusterId, Dag, Danger, ObjectChange, ObjectPlan, ObjectRole, PlanRequestId, TemplateReference, Timestamp,
};
use utoipa::ToSchema;

pub use self::requests::PlanRequested;
use crate::drift::DeploymentDrift;

/// What starting or changing a deployment would do. It is of a moment: a cluster may change right after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentPlan {
    /// The DAG; absent when there is none to be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<Dag>,
    /// Why nothing can be planned, a sentence each; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What each component would get, in the order of the DAG; what the template does not have any more comes last.
    pub components: Vec<ComponentPlan>,
    /// All of it, counted.
    pub summary: PlanSummary,
    /// The generation of the deployment that this was compared with.
    pub generation: u64,
    /// The template version that was planned.
    pub template: TemplateReference,
    /// When this was found.
    pub generated_at: Timestamp,
    /// Why it is not true any more, once the deployment has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<String>,
    /// Where what runs differs from what was applied; absent unless the deployment runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DeploymentDrift>,
    /// The request that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<PlanRequestId>,
}

/// A plan, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PlanSummary {
    /// Objects that would be made.
    pub create: u32,
    /// Objects that would change.
    pub change: u32,
    /// Objects that would be deleted and made again.
    pub replace: u32,
    /// Objects that would be deleted.
    pub delete: u32,
    /// Objects that would stay as they are.
    pub unchanged: u32,
    /// Hooks that would run.
    pub hooks: u32,
    /// Components of which it cannot be told yet.
    pub deferred: u32,
    /// Components that would fail.
    pub refused: u32,
    /// Dangers that are called out.
    pub dangers: u32,
}

/// What a component would get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComponentPlan {
    /// The component.
    pub component: String,
    /// Where it goes.
    pub cluster_id: ClusterId,
    /// Helm release.
    pub release_name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// What would happen to the release.
    pub change: ComponentChange,
    /// Why it is deferred, refused or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The Helm revision that it was compared with; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The chart, `name-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// What would become of each object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectPlan>,
    /// What is lost or opened beside what is said of single objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangers: Vec<Danger>,
    /// What else there is to know, such as what could not be asked from the cluster, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// `sha256:<hex>` of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
    /// The manifest, with everything blanked that came from secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// What would happen to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentChange {
    /// It is installed.
    Create,
    /// Objects of it change.
    Change,
    /// Nothing of it changes.
    Unchanged,
    /// Objects of it are deleted and made again, because a field of them cannot change.
    Replace,
    /// It is uninstalled.
    Delete,
    /// It cannot be told before other steps have run, or there was no time to look at it.
    Deferred,
    /// It would fail.
    Refused,
}

impl PlanSummary {
    fn of(components: &[ComponentPlan]) -> Self {
        let mut summary = Self::default();
        for component in components {
            match component.change {
                ComponentChange::Deferred => summary.deferred += 1,
                ComponentChange::Refused => summary.refused += 1,
                _ => {}
            }
            let count = |list: &[Danger]| u32::try_from(list.len()).unwrap_or(u32::MAX);
            summary.dangers += count(&component.dangers);
            for object in &component.objects {
                summary.dangers += count(&object.dangers);
                match object.change {
                    ObjectChange::Create => summary.create += 1,
                    ObjectChange::Change => summary.change += 1,
                    ObjectChange::Replace => summary.replace += 1,
                    ObjectChange::Delete => summary.delete += 1,
                    ObjectChange::Unchanged => summary.unchanged += 1,
                    ObjectChange::Run => summary.hooks += 1,
                }
            }
        }
        summary
    }
}

impl ComponentChange {
    /// What a release's objects mean for the whole of it.
    fn of(objects: &[ObjectPlan], exists: bool) -> Self {
        let has = |change: ObjectChange| {
            objects
                .iter()
                .any(|object| object.role != ObjectRole::Hook && object.change == change)
        };
        if !exists {
            Self::Create
        } else if has(ObjectChange::Replace) {
            Self::Replace
        } else if has(ObjectChange::Create) || has(ObjectChange::Change) || has(ObjectChange::Delete) {
            Self::Change
        } else {
            Self::Unchanged
        }
    }
}
