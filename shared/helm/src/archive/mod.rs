//! Packaged charts: what is checked before Helm sees one, and packaging of bundled ones.

mod check;
mod entry;
mod package;
mod schema;
mod skeleton;

pub(crate) use check::chart_version;
pub use check::{CheckedArchive, check_archive};
pub use package::package_directory;
pub(crate) use skeleton::without_templates;

use std::io;

/// Most bytes of a packaged chart.
pub const LARGEST_ARCHIVE: usize = 20 << 20;

/// Most bytes of what is in it.
pub(crate) const LARGEST_CONTENT: u64 = 100 << 20;

/// Most files in it.
pub(crate) const MOST_FILES: usize = 10_000;

/// Why an archive is not a chart that may reach Helm. Each says what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not a gzipped tar archive, or one that ends too early.
    #[error("it is not a readable .tgz archive")]
    Unreadable(#[source] io::Error),
    /// Compressed, unpacked, or by number of files.
    #[error("it is too large: {found}, at most {most}")]
    TooLarge {
        /// What was found, with its unit.
        found: String,
        /// What is allowed, with its unit.
        most: String,
    },
    /// A symbolic or hard link, a device, a pipe.
    #[error(
        "'{path}' is a {kind}: charts may hold files and folders only, because Helm reads what a link points to"
    )]
    Link {
        /// Which entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A path that leaves the archive.
    #[error("'{path}' leads out of the chart: paths must be relative and without '..'")]
    Escapes {
        /// Which entry.
        path: String,
    },
    /// An entry that Helm may take for another than the one that was checked.
    #[error("'{path}' {found}, which tools read differently: pack the chart with 'helm package'")]
    Disputed {
        /// Which entry.
        path: String,
        /// What is unusual about it.
        found: &'static str,
    },
    /// No chart.
    #[error("{0}")]
    NotAChart(String),
    /// A schema that makes Helm fetch something.
    #[error("'{path}' refers to '{reference}': a values schema may refer to itself only ('#/…')")]
    RemoteSchema {
        /// Which schema.
        path: String,
        /// Its reference.
        reference: String,
    },
    /// A bundled chart's folder cannot be read.
    #[error("'{path}' cannot be read")]
    Io {
        /// Which file or folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
