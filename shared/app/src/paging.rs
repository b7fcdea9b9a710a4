//! Lists and their cursors.

use serde::{Deserialize, Serialize};

/// What a list call asks for.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ListQuery {
    /// Where to go on: `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    pub limit: Option<usize>,
    /// Only with this status.
    pub status: Option<String>,
    /// Only of this template.
    pub template: Option<String>,
    /// Only on this cluster, by id.
    pub cluster: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// For the next call; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
