//! Errors.

use std::{io, path::PathBuf, sync::Arc};

use slipway_ports::StoreError;

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or written.
    #[error("the data folder cannot be used: {} cannot be {operation}", path.display())]
    Folder {
        /// Folder or file.
        path: PathBuf,
        /// `created`, `read` or `written`.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error(
        "the data folder {} is in use by process {pid}: end that process, or choose another folder",
        path.display()
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// Its process id, as it wrote it down; `unknown` if it did not.
        pid: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{} has tables of version {found}, and this program knows them up to version {known}: use a newer program",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// SQLite cannot open it.
    #[error("the database {} cannot be opened", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The key of the secrets is not there or not safe.
    #[error("the key of the secrets, {}, {reason}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

/// Why what was waited for is not durable; all who waited for one commit get the same.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CommitFailed {
    #[error("the commit failed, and everything in it was rolled back")]
    RolledBack(#[source] Arc<rusqlite::Error>),
    #[error("the store was closed before the commit")]
    Closed,
}

/// A session that read or wrote what a failed commit rolled back.
#[derive(Debug, thiserror::Error)]
#[error("a commit that this session rests on failed: begin again")]
pub(crate) struct RestsOnFailure;

pub(crate) fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(source))
}
