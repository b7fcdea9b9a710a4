//! Errors.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::ErrorCode;

use slipway_ports::StoreError;

use crate::folder;

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
    /// What SQLite wrote there is no longer what it wrote.
    #[error(
        "the database {} is damaged, and nothing in the folder was changed: put a copy of the whole folder in its place, \
         or move the folder away to begin with nothing",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// How that was noticed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is full.
    #[error("there is no room to write the database {}: make room on that disk, and start again", path.display())]
    NoRoom {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
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

impl OpenError {
    /// What an error of SQLite means for the database at `path`.
    pub(crate) fn of_database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                source: Box::new(source),
            },
            Some(ErrorCode::DiskFull) => Self::NoRoom { path, source },
            // SQLite says no more of its smaller files.
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Self::NoRoom { path, source },
            _ => Self::Database { path, source },
        }
    }
}

/// Whether there is no room for a single page of the smaller files.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    folder::room(folder).is_some_and(|room| room < 64 << 10)
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
