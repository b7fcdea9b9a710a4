//! Errors.

use std::error::Error;

use slipway_ports::StoreError;

/// What is wrong with the settings or the resources that they name. A function that finds one of these does not
/// start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A setting that is needed is absent or empty.
    #[error("{variable} is not set: {expected}")]
    Missing {
        /// The environment variable.
        variable: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A setting cannot be used.
    #[error("{variable} cannot be used: {reason}")]
    Invalid {
        /// The environment variable.
        variable: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The table is not there.
    #[error(
        "SLIPWAY_TABLE names the table '{table}', which does not exist in {region}: name the table that was deployed, or set AWS_REGION to its region"
    )]
    NoTable {
        /// Its name.
        table: String,
        /// Where it was looked for.
        region: String,
    },
    /// The table is another one than this program writes.
    #[error(
        "SLIPWAY_TABLE names the table '{table}', which is not one of this program: {reason}; deploy the table of infra/template.yaml"
    )]
    WrongTable {
        /// Its name.
        table: String,
        /// What it lacks.
        reason: String,
    },
    /// It could not be found out whether the table is there.
    #[error("SLIPWAY_TABLE names the table '{table}', which cannot be looked at in {region}")]
    Unreachable {
        /// Its name.
        table: String,
        /// Where it was looked for.
        region: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A call that failed after its retries.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on '{resource}' failed")]
pub(crate) struct CallFailed {
    /// Such as `DynamoDB PutItem`.
    pub(crate) operation: &'static str,
    /// Table or queue.
    pub(crate) resource: String,
    #[source]
    pub(crate) source: Box<dyn Error + Send + Sync>,
}

impl CallFailed {
    pub(crate) fn new(
        operation: &'static str,
        resource: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            operation,
            resource: resource.into(),
            source: source.into(),
        }
    }
}

impl From<CallFailed> for StoreError {
    fn from(failed: CallFailed) -> Self {
        Self::Unavailable(Box::new(failed))
    }
}

/// Entries of a batch that AWS still refused after the last attempt.
#[derive(Debug, thiserror::Error)]
#[error("{count} of the batch's entries were refused, the first with '{first}'")]
pub(crate) struct Refused {
    pub(crate) count: usize,
    pub(crate) first: String,
}
