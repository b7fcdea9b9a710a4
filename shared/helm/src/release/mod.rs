//! Helm's release records: Secrets named `sh.helm.release.v1.<release>.v<revision>`.

mod history;
mod payload;

pub(crate) use history::word;
pub(crate) use payload::{LARGEST_RECORD, Payload, status_of, stored_size};
