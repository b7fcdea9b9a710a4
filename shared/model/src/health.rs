//! When custom resources are ready, said by expressions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How objects of one kind say that they are ready, where they have no `Ready` condition: expressions in CEL over the
/// object's fields (`metadata`, `spec`, `status`, …), each true or false. `in_progress` is asked first, then `failed`,
/// then `current`; an object about which none of them is true is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Such as `db.example.com/v1`; a group with any version of it is `db.example.com`.
    pub api_version: String,
    /// Such as `Database`.
    pub kind: String,
    /// True when it is ready.
    pub current: String,
    /// True while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<String>,
    /// True when it will not become ready any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl HealthCheck {
    /// Whether it is about objects of that kind.
    pub fn is_about(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind
            && (self.api_version == api_version
                || api_version.split_once('/').map(|(group, _)| group) == Some(&self.api_version))
    }

    /// Its expressions, in the order in which they are asked, each with the name of its field.
    pub fn expressions(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("in_progress", self.in_progress.as_deref()),
            ("failed", self.failed.as_deref()),
            ("current", Some(self.current.as_str())),
        ]
        .into_iter()
        .filter_map(|(field, expression)| Some((field, expression?)))
    }
}
