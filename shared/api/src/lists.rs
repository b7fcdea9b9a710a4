//! What list calls take.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use slipway_app::ListQuery;
use slipway_model::{Problem, ProblemType};
use utoipa::IntoParams;

use crate::problem::Failed;

/// Items per page unless the caller says otherwise.
const DEFAULT_LIMIT: usize = 50;

/// Most items per page.
const GREATEST_LIMIT: usize = 200;

/// Where a page begins and how long it is.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Where to go on: `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
}

/// As [`Paging`], with a queue.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueFilter {
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// Only of this queue.
    queue: Option<String>,
}

/// As [`Paging`], with a status.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatusFilter {
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// Only with this status.
    status: Option<String>,
}

/// As [`StatusFilter`], with the cluster.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobFilter {
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// Only with this status.
    status: Option<String>,
    /// Only on this cluster, by name or id.
    cluster: Option<String>,
}

/// As [`JobFilter`], with the template.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeploymentFilter {
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items per page, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// Only with this status.
    status: Option<String>,
    /// Only of this template.
    template: Option<String>,
    /// Only on this cluster, by name or id.
    cluster: Option<String>,
}

impl Paging {
    /// Items per page.
    pub(crate) fn limit(&self) -> Result<usize, Failed> {
        limit(self.limit.as_deref())
    }

    /// The query for the use cases.
    pub(crate) fn query(self) -> Result<ListQuery, Failed> {
        Ok(ListQuery {
            limit: Some(self.limit()?),
            cursor: self.cursor,
            ..ListQuery::default()
        })
    }
}

impl QueueFilter {
    /// The queue, and the query for the use cases.
    pub(crate) fn query(self) -> Result<(Option<String>, ListQuery), Failed> {
        let query = ListQuery {
            limit: Some(limit(self.limit.as_deref())?),
            cursor: self.cursor,
            ..ListQuery::default()
        };
        Ok((self.queue, query))
    }
}

impl StatusFilter {
    /// The query for the use cases; `Status` has the words that the filter may be.
    pub(crate) fn query<Status: DeserializeOwned>(self) -> Result<ListQuery, Failed> {
        Ok(ListQuery {
            status: status::<Status>(self.status)?,
            limit: Some(limit(self.limit.as_deref())?),
            cursor: self.cursor,
            ..ListQuery::default()
        })
    }
}

impl JobFilter {
    /// The query for the use cases; `Status` has the words that the filter may be.
    pub(crate) fn query<Status: DeserializeOwned>(self) -> Result<ListQuery, Failed> {
        Ok(ListQuery {
            status: status::<Status>(self.status)?,
            limit: Some(limit(self.limit.as_deref())?),
            cursor: self.cursor,
            cluster: self.cluster,
            template: None,
        })
    }
}

impl DeploymentFilter {
    /// The query for the use cases; `Status` has the words that the filter may be.
    pub(crate) fn query<Status: DeserializeOwned>(self) -> Result<ListQuery, Failed> {
        Ok(ListQuery {
            status: status::<Status>(self.status)?,
            limit: Some(limit(self.limit.as_deref())?),
            cursor: self.cursor,
            cluster: self.cluster,
            template: self.template,
        })
    }
}

fn limit(text: Option<&str>) -> Result<usize, Failed> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    match text.parse::<usize>() {
        Ok(limit) if (1..=GREATEST_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(Problem::new(
            ProblemType::Malformed,
            format!("limit: expected a whole number from 1 to {GREATEST_LIMIT}"),
        )
        .into()),
    }
}

fn status<Status: DeserializeOwned>(status: Option<String>) -> Result<Option<String>, Failed> {
    let Some(status) = status else {
        return Ok(None);
    };
    let word: String = status.to_ascii_uppercase().chars().take(64).collect();
    serde_json::from_value::<Status>(Value::String(word.clone()))
        .map(|_| Some(word))
        .map_err(|error| Problem::new(ProblemType::Malformed, format!("status: {error}")).into())
}

#[cfg(test)]
mod tests {
    use slipway_model::JobStatus;

    use super::*;

    #[test]
    fn an_unknown_status_is_answered_with_the_known_ones() {
        let refused = status::<JobStatus>(Some("DONE".to_owned())).unwrap_err();
        assert_eq!(refused.0.status, 400);
        assert!(refused.0.detail.contains("SUCCEEDED"), "{}", refused.0.detail);
        assert_eq!(
            status::<JobStatus>(Some("failed".to_owned())).unwrap().as_deref(),
            Some("FAILED")
        );
    }

    #[test]
    fn limits_outside_1_to_200_are_refused() {
        for bad in ["0", "201", "-1", "1.5", "", "9999999999999999999999"] {
            assert_eq!(limit(Some(bad)).unwrap_err().0.status, 400, "{bad}");
        }
        assert_eq!(limit(Some("200")).unwrap(), 200);
    }
}
