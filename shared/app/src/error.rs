//! Why a use case failed.

use slipway_model::{FieldError, Problem, ProblemType};
use slipway_ports::{BlobError, QueueError, SecretError, StoreError};

/// Why a use case failed: the caller's doing, or a part that does not answer. A queue consumer lets the message come
/// back for the latter.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The caller's doing.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The state store.
    #[error("a use case could not reach its state")]
    Store(#[from] StoreError),
    /// The secrets store.
    #[error("a use case could not reach a secret")]
    Secret(#[from] SecretError),
    /// The blob store.
    #[error("a use case could not reach stored data")]
    Blob(#[from] BlobError),
    /// A queue.
    #[error("a use case could not reach a queue")]
    Queue(#[from] QueueError),
}

impl From<Problem> for AppError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl AppError {
    /// A 404. `what` is such as `deployment 'x'`.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Problem::new(ProblemType::NotFound, format!("{what} does not exist")).into()
    }

    /// A 409 that names the state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Problem::new(ProblemType::Conflict, detail).into()
    }

    /// A 422 with all errors.
    pub fn invalid(what: &str, errors: Vec<FieldError>) -> Self {
        Problem::invalid(what, errors).into()
    }

    /// What the HTTP API answers. Details of broken parts stay in the log.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => (**problem).clone(),
            Self::Store(StoreError::TooLarge { .. }) => Problem::new(
                ProblemType::TooLarge,
                "the request needs a record that is larger than the store can hold",
            ),
            Self::Store(StoreError::Corrupt { .. }) => Problem::new(
                ProblemType::Internal,
                "a stored record cannot be read; the log names it",
            ),
            Self::Store(_) | Self::Secret(_) | Self::Blob(_) | Self::Queue(_) => Problem::new(
                ProblemType::Unavailable,
                "a part of the control plane does not answer; try again in a moment",
            ),
        }
    }
}
