//! What a plan says about the objects of a release.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What would become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectChange {
    /// It is made.
    Create,
    /// Fields of it change.
    Change,
    /// It stays as it is.
    Unchanged,
    /// It is deleted and made again, because a field of it cannot change.
    Replace,
    /// It is deleted.
    Delete,
    /// It is a hook, which is made for as long as it runs.
    Run,
}

/// What part of a release an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectRole {
    /// It stays for as long as the release has it.
    #[default]
    Object,
    /// It runs before or after the change.
    Hook,
    /// A custom resource definition of the chart's `crds/` folder, which outlives the release.
    Definition,
    /// The namespace of the release.
    Namespace,
}

/// What would become of one object of a release. No text of it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectPlan {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What would become of it.
    pub change: ObjectChange,
    /// What part of the release it is.
    #[serde(default)]
    pub role: ObjectRole,
    /// Why it is replaced, deleted or run, or what could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Unified diff of its manifest; values that came from secrets are `(hidden)`, and `(hidden, changed)` where
    /// they change. Absent where nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// What is lost or opened by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangers: Vec<Danger>,
}

/// Something that a change would lose or open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Danger {
    /// What kind.
    pub kind: DangerKind,
    /// Which object and what about it, for people.
    pub message: String,
}

impl Danger {
    /// A danger, in words.
    pub fn new(kind: DangerKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// The kinds of danger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DangerKind {
    /// A volume claim is deleted, replaced or shrunk, or a volume: its data may go with it.
    Data,
    /// A custom resource definition is deleted, replaced or stops serving a version: its custom resources go with it.
    Definition,
    /// Something becomes reachable from outside, or reaches its node.
    Exposure,
    /// A workload is scaled to nothing.
    ScaledToZero,
    /// A namespace is deleted with all that lives in it.
    Namespace,
    /// The template does not have a component any more: its release is uninstalled.
    ComponentRemoved,
    /// Something is stopped before its successor runs.
    Interruption,
}
