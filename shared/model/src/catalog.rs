//! The catalog: what can fill a slot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Chart, ComponentType, OutputSource};

/// All components that can be selected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The components, in the order that lists show them.
    pub components: Vec<CatalogEntry>,
}

impl Catalog {
    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&CatalogEntry> {
        self.components.iter().find(|entry| entry.name == name)
    }
}

/// One component and the chart that deploys it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// The word that selects it, such as `qdrant`.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub display_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The slot types that it can fill.
    pub types: Vec<ComponentType>,
    /// What deploys it.
    pub chart: Chart,
    /// Seconds for its step, where the template's component says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Outputs beyond those of every deployment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSource>,
}
