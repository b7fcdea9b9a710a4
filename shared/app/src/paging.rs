//! Lists and their cursors.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use slipway_model::{FieldError, Problem, ProblemType};
use slipway_ports::ListPage;
use utoipa::ToSchema;

use crate::AppError;

const DEFAULT_LIMIT: usize = 50;
const GREATEST_LIMIT: usize = 200;

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
    /// Only on this cluster, by name or id.
    pub cluster: Option<String>,
}

impl ListQuery {
    /// Items per page.
    ///
    /// # Errors
    /// 422 for a limit that is out of range.
    pub(crate) fn page_size(&self) -> Result<usize, AppError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=GREATEST_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        let message = format!("{limit} is out of range: expected 1 to {GREATEST_LIMIT}");
        Err(AppError::invalid(
            "the list cannot be read",
            vec![FieldError::new("limit", message)],
        ))
    }

    /// The position that the cursor stands for.
    ///
    /// # Errors
    /// 400 for a text that no list call gave out.
    pub(crate) fn position(&self) -> Result<Option<String>, AppError> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        match from_cursor(cursor) {
            Some(position) => Ok(Some(position)),
            None => Err(Problem::new(
                ProblemType::Malformed,
                "the cursor is not one that a list call gave out; start again without a cursor",
            )
            .into()),
        }
    }

    /// The status to filter by, in its canonical spelling. `S` is the type of the statuses.
    ///
    /// # Errors
    /// 422 for a word that is not a status.
    pub(crate) fn status_word<S: Serialize + DeserializeOwned>(&self) -> Result<Option<String>, AppError> {
        let Some(status) = &self.status else {
            return Ok(None);
        };
        let word = serde_json::Value::String(status.to_ascii_uppercase());
        match serde_json::from_value::<S>(word.clone()) {
            Ok(_) => Ok(word.as_str().map(str::to_owned)),
            Err(error) => {
                let message = format!("not a status: {error}");
                Err(AppError::invalid(
                    "the list cannot be read",
                    vec![FieldError::new("status", message)],
                ))
            }
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, newest first; dead letters oldest first.
    pub items: Vec<T>,
    /// For the next call; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page that a use case made itself; `next` is the position to go on after.
    pub(crate) fn of(items: Vec<T>, next: Option<&str>) -> Self {
        Self {
            items,
            next_cursor: next.map(to_cursor),
        }
    }
}

impl<T: DeserializeOwned> Page<T> {
    /// Reads what a store listed.
    ///
    /// # Errors
    /// A record that has another shape.
    pub(crate) fn read(page: &ListPage) -> Result<Self, AppError> {
        let items = page
            .items
            .iter()
            .map(slipway_ports::Stored::read)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            items,
            next_cursor: page.next.as_deref().map(to_cursor),
        })
    }
}

/// A position as callers carry it: hexadecimal, because it is nobody's business what is in it.
fn to_cursor(position: &str) -> String {
    position.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_cursor(cursor: &str) -> Option<String> {
    if cursor.is_empty() || cursor.len() > 2048 || !cursor.len().is_multiple_of(2) || !cursor.is_ascii() {
        return None;
    }
    let bytes = (0..cursor.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&cursor[at..at + 2], 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    let position = String::from_utf8(bytes).ok()?;
    position
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
        .then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_any_shape_gets_an_answer() {
        let position = "0001700000000000/8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b";
        assert_eq!(from_cursor(&to_cursor(position)).as_deref(), Some(position));
        for bad in ["", "0", "zz", "+1", "é", "ff", "00", &"41".repeat(2000)] {
            let query = ListQuery {
                cursor: Some((*bad).to_owned()),
                ..ListQuery::default()
            };
            assert_eq!(query.position().unwrap_err().to_problem().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_status_is_read_in_any_case_and_a_wrong_one_is_named() {
        let query = |status: &str| ListQuery {
            status: Some(status.to_owned()),
            ..ListQuery::default()
        };
        let read = |status: &str| query(status).status_word::<slipway_model::DeploymentStatus>();
        assert_eq!(read("rolling_back").unwrap().as_deref(), Some("ROLLING_BACK"));
        assert_eq!(read("x").unwrap_err().to_problem().status, 422);
    }
}
