//! Drift: where a cluster differs from what was applied to it, and what nobody owns there. Found by looking; never
//! corrected unasked.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeploymentId, Timestamp};

/// How an object differs from what was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// It is gone.
    Missing,
    /// Somebody else changed fields of it.
    Changed,
    /// Only a revision that failed made it, and it is still there.
    Leftover,
    /// Helm's record of the release is gone, failed, or was written by somebody else.
    Record,
}

/// A field that somebody else changed. Its value is not told: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftedField {
    /// JSON pointer into the object, such as `/spec/replicas`.
    pub path: String,
    /// Who owns the field now, as the API server names field managers; empty if it was removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managers: Vec<String>,
}

/// An object that differs from what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftedObject {
    /// Such as `apps/v1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Such as `Deployment`; `Release` for Helm's record.
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// How it differs.
    pub drift: DriftKind,
    /// Which fields, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DriftedField>,
    /// What happened, for people.
    pub message: String,
}

impl fmt::Display for DriftedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", self.kind, self.name, self.message)
    }
}

/// What is not reported as drift: an object as a whole, or fields of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftIgnore {
    /// Kind of the objects; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the object; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON pointers to fields, with all that is below them; `*` stands for any one part, as in
    /// `/spec/template/spec/containers/*/image`. Without any, the whole object is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What a component's template says about drift.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftSettings {
    /// What is not reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<DriftIgnore>,
}

/// What kind of thing nobody owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrphanKind {
    /// A release that Slipway made.
    Release,
    /// A namespace that Slipway made.
    Namespace,
}

/// Something on a cluster that Slipway made and no deployment owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// What it is.
    pub kind: OrphanKind,
    /// Namespace.
    pub namespace: String,
    /// Name of the release; absent for a namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The deployment that it was made for, as its label says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// Why nobody owns it, for people.
    pub message: String,
}

/// What the last look at a cluster found that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphans {
    /// When the look ended, or failed.
    pub checked_at: Timestamp,
    /// At most 100.
    pub items: Vec<Orphan>,
    /// How many more there are.
    #[serde(default)]
    pub more: u32,
    /// Why the last look failed; then the others are those of the look before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
