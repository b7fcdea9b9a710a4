//! Templates: components, parameters and an order.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{DagSettings, DriftSettings, HealthCheck, JsonMap, OutputSource, Quantity, Retry};

/// A published template; immutable per (name, version).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub name: String,
    /// For people; the name if absent.
    #[serde(default)]
    pub display_name: String,
    /// A semantic version.
    #[schema(value_type = String)]
    pub version: semver::Version,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Free text that lists group by, such as `agent`.
    #[serde(default)]
    pub category: String,
    /// Free words.
    #[serde(default)]
    pub tags: Vec<String>,
    /// 1 to 500 components.
    pub components: Vec<Component>,
    /// What a deployment may set, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What the cluster must have free.
    #[serde(default)]
    pub resources: ResourcesPair,
    /// Each entry comes after the one before; without it, independent components run side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_order: Option<Vec<OrderEntry>>,
    /// Settings of the generated DAG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<DagSettings>,
}

impl Template {
    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }
}

/// One slot of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `[a-z][a-z0-9_]{0,62}`; the id of its step.
    pub name: String,
    /// For people; the name if absent.
    #[serde(default)]
    pub display_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What kind of slot it is.
    #[serde(rename = "type")]
    pub component_type: ComponentType,
    /// Whether a deployment must fill it.
    #[serde(default = "yes")]
    pub required: bool,
    /// The catalog component that fills it unless the deployment selects another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_component: Option<String>,
    /// The catalog components that may fill it; empty: any that the catalog has for its type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatible_components: Vec<String>,
    /// The chart; required for `helm`, refused otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,
    /// Components that must be done before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Bare expression over `parameters` and `selections`; false skips the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Seconds for readiness, the job and the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How often and when a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The component's own outputs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSource>,
    /// When custom resources of its chart are ready, where they do not say so by a `Ready` condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// What is done with the chart's `crds/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crds: Option<CrdPolicy>,
    /// What is done when an immutable field changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<ImmutablePolicy>,
    /// Whether a release of that name that Slipway did not make may be taken over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
    /// Whether a failed first install is uninstalled; true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_failure: Option<bool>,
    /// Whether `helm test` runs before the dependants start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub test: bool,
    /// Another cluster than the deployment's, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What the hourly comparison with the cluster leaves alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftSettings>,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The kinds of slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentType {
    /// A model server.
    Model,
    /// A language model.
    Llm,
    /// An embedding model.
    Embedder,
    /// A reranking model.
    Reranker,
    /// A vector database.
    VectorDb,
    /// A memory store.
    MemoryStore,
    /// Any Helm chart.
    Helm,
}

impl ComponentType {
    /// Every type, in the order of the documents.
    pub const ALL: [Self; 7] = [
        Self::Model,
        Self::Llm,
        Self::Embedder,
        Self::Reranker,
        Self::VectorDb,
        Self::MemoryStore,
        Self::Helm,
    ];

    /// The word in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Llm => "llm",
            Self::Embedder => "embedder",
            Self::Reranker => "reranker",
            Self::VectorDb => "vector_db",
            Self::MemoryStore => "memory_store",
            Self::Helm => "helm",
        }
    }
}

impl fmt::Display for ComponentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A chart and the values that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// `oci://…`, `https://…` or `charts/…`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// A semantic version constraint; the newest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Values; expressions may stand anywhere in them.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub values: JsonMap,
    /// Release name; `<deployment>-<component>` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_name: Option<String>,
}

/// A parameter's type and limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its type.
    #[serde(rename = "type")]
    pub parameter_type: ParameterType,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The value if the deployment gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Least number, or least length of a string.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written"
    )]
    pub min: Option<f64>,
    /// Greatest number, or greatest length of a string.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written"
    )]
    pub max: Option<f64>,
    /// The values that are allowed.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Value>>,
    /// A regular expression that the whole string must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Whether a deployment must give it when there is no default.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// Whether its value goes to the secrets store and is resolved only where it is used.
    #[serde(default, skip_serializing_if = "is_false")]
    pub secret: bool,
}

/// A limit that is a whole number is shown as one: `128`, as people write it, and not `128.0`.
fn as_written<S: serde::Serializer>(limit: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    // Up to here every whole number has a floating-point number of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match *limit {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and inside the exact range"
        )]
        Some(limit) if limit.fract() == 0.0 && limit.abs() <= EXACT => serializer.serialize_i64(limit as i64),
        Some(limit) => serializer.serialize_f64(limit),
        None => serializer.serialize_none(),
    }
}

/// The types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// What a use case needs of a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesPair {
    /// Without this it cannot run: compared with what is free before anything is deployed.
    #[serde(default)]
    pub minimum: Resources,
    /// With this it runs well.
    #[serde(default)]
    pub recommended: Resources,
}

/// Amounts, as Kubernetes writes them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cpu: Option<Quantity>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Quantity>,
    /// Whole GPUs (`nvidia.com/gpu`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gpu: Option<Quantity>,
}

/// An entry of `deployment_order`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OrderEntry {
    /// One component.
    One(String),
    /// Components that may run side by side.
    Group(Vec<String>),
}

impl OrderEntry {
    /// The names in it.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Group(names) => names,
        }
    }
}

/// What is done with the objects in a chart's `crds/` folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrdPolicy {
    /// Nothing.
    Skip,
    /// Those that are absent are created.
    #[default]
    Create,
    /// All are created or updated.
    Apply,
}

/// What is done when an upgrade would change an immutable field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImmutablePolicy {
    /// The job fails and names object and field.
    #[default]
    Stop,
    /// The object is deleted and created again; never a volume claim.
    Recreate,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_shown_as_they_were_written() {
        for limits in [
            json!({"type": "integer", "min": 128, "max": 2048}),
            json!({"type": "number", "min": -0.5, "max": 1e300}),
        ] {
            let parameter: Parameter = serde_json::from_value(limits.clone()).unwrap();
            // A `Value` tells 128 from 128.0.
            assert_eq!(serde_json::to_value(&parameter).unwrap(), limits);
        }
    }
}
