//! Helm's release records: Secrets named `sh.helm.release.v1.<release>.v<revision>`.

mod history;
mod payload;
mod rollback;

pub(crate) use history::{Revision, word};
pub(crate) use payload::{LARGEST_RECORD, Payload, status_of, stored_size};
pub(crate) use rollback::rollback_target;
