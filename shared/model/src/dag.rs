//! The DAG as callers post it and as planning generates it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JsonMap, OutputSource};

/// A plan as data, in the JSON shape that `/api/v1/executions` accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dag {
    /// For people.
    pub name: String,
    /// For people; `1.0.0` if absent.
    #[serde(default = "first_version")]
    pub version: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Read by expressions as `parameters.NAME`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: JsonMap,
    /// Time limit and what a failure does.
    #[serde(default)]
    pub settings: DagSettings,
    /// 1 to 10,000 steps.
    pub steps: Vec<DagStep>,
    /// Outputs of the execution; expressions may read every step.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub outputs: JsonMap,
    /// Topics that get the events; `budusecasesEvents` if absent, none if empty.
    #[serde(default = "default_topics")]
    pub callback_topics: Vec<String>,
}

fn first_version() -> String {
    "1.0.0".to_owned()
}

fn default_topics() -> Vec<String> {
    vec![crate::BUDUSECASES_EVENTS.to_owned()]
}

/// Settings of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DagSettings {
    /// Seconds that the execution may take in all.
    #[serde(default = "two_hours")]
    pub timeout_seconds: u64,
    /// What a failed step does to the rest.
    #[serde(default)]
    pub on_failure: OnFailure,
}

fn two_hours() -> u64 {
    7200
}

impl Default for DagSettings {
    fn default() -> Self {
        Self {
            timeout_seconds: two_hours(),
            on_failure: OnFailure::Fail,
        }
    }
}

/// What a failed step does to the rest; its dependants are skipped under all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing new starts; what runs is let finish.
    #[default]
    Fail,
    /// Independent branches go on.
    Continue,
    /// As `fail`, then what completed is undone in reverse order, as a linked execution.
    Rollback,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DagStep {
    /// `[A-Za-z_][A-Za-z0-9_-]{0,127}`, unique in the DAG.
    pub id: String,
    /// One of `/api/v1/actions`.
    pub action: String,
    /// Ids of the steps before it.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What the action gets; expressions may stand in any string.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: JsonMap,
    /// When it runs, given how its dependencies ended.
    #[serde(default, skip_serializing_if = "is_default_run")]
    pub run: RunCondition,
    /// Bare expression over `parameters`; false skips the step and satisfies its dependants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How often and when a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Seconds that one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Extractors of a deploying step's own outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSource>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_default_run(run: &RunCondition) -> bool {
    *run == RunCondition::Success
}

/// When a step runs, given how its dependencies ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunCondition {
    /// If none of them failed.
    #[default]
    Success,
    /// If one of them failed.
    Failure,
    /// However they ended.
    Always,
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, 1 to 20.
    #[serde(default = "one")]
    pub max_attempts: u32,
    /// Seconds before the second attempt; doubled for each further one, at most an hour.
    #[serde(default = "ten")]
    pub backoff_seconds: u64,
}

fn one() -> u32 {
    1
}

fn ten() -> u64 {
    10
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: one(),
            backoff_seconds: ten(),
        }
    }
}
