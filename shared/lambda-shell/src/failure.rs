//! Why a function does not start.

use std::error::Error;

/// Why a function does not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShellError {
    /// Settings are missing or wrong, or what they name is not there.
    #[error("the function cannot start: {}", .problems.join("; "))]
    Setup {
        /// Each names a setting, what is wrong with it and what would be right.
        problems: Vec<String>,
    },
    /// The asynchronous runtime has no threads or timers to work with.
    #[error("the function cannot start its runtime")]
    Threads(#[source] std::io::Error),
    /// Lambda's runtime API does not answer any more.
    #[error("Lambda's runtime API failed")]
    Runtime(#[source] Box<dyn Error + Send + Sync>),
}

impl ShellError {
    /// The type under which Lambda and its dashboards count the failure.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "Slipway.Setup",
            Self::Threads(_) => "Slipway.Threads",
            Self::Runtime(_) => "Slipway.Runtime",
        }
    }
}
