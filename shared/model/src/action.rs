//! What actions say of themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An action as `/api/v1/actions` lists it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ActionMetadata {
    /// The word in a step's `action`.
    #[serde(rename = "type")]
    pub action_type: &'static str,
    /// Version of the action's interface.
    pub version: &'static str,
    /// For people.
    pub name: &'static str,
    /// For grouping.
    pub category: &'static str,
    /// Icon name.
    pub icon: &'static str,
    /// `#RRGGBB`.
    pub color: &'static str,
    /// For people.
    pub description: &'static str,
    /// Whether the step ends with the call or on a later event.
    pub execution_mode: ExecutionMode,
    /// Seconds that an attempt may take, unless the step says otherwise.
    pub timeout_seconds: u64,
    /// Whether repeating an attempt has the effect of doing it once.
    pub idempotent: bool,
    /// What a claim that expires means.
    #[serde(skip)]
    pub effect: EffectClass,
    /// Other services that it needs.
    pub required_services: &'static [&'static str],
    /// Permissions that a caller needs.
    pub required_permissions: &'static [&'static str],
    /// What it takes.
    pub params: &'static [ParameterDefinition],
    /// What it gives.
    pub outputs: &'static [OutputDefinition],
}

/// Whether a step ends with the call or on a later event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionMode {
    /// With the call.
    Sync,
    /// On an event.
    EventDriven,
}

/// What may happen outside when an attempt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectClass {
    /// Nothing: no claim is needed, and a repeat gives the same.
    Pure,
    /// Repeating has the effect of doing it once: an expired claim is taken over.
    Idempotent,
    /// Must not be repeated: an expired claim ends the step `FAILED`, «outcome unknown».
    Once,
}

/// One parameter of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ParameterDefinition {
    /// Key in `params`.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// `string`, `integer`, `boolean`, `duration` (seconds, or text such as `10m`), `json` or `cluster_ref`.
    #[serde(rename = "type")]
    pub parameter_type: &'static str,
    /// For people.
    pub description: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

/// One output of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputDefinition {
    /// Key in the step's outputs.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `array` or `object`.
    #[serde(rename = "type")]
    pub output_type: &'static str,
    /// For people.
    pub description: &'static str,
}
