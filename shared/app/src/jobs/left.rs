//! What the jobs of a step that was cancelled left of its release.

use serde_json::json;
use slipway_model::{ExecutionId, HelmOperation, Job, JobId, TenantId};

use super::{
    removal::TAKEN_AWAY,
    work::{FIRST_INSTALL, JobWork},
};
use crate::{App, AppError, keys};

/// Most attempts whose jobs are looked at: no step may have more.
const MOST_ATTEMPTS: u32 = 20;

/// What the jobs of a step that was cancelled left of its release.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Left {
    /// What was there before: none of them came to the release.
    Untouched,
    /// Nothing: what was installed first was taken away.
    Nothing,
    /// A first install, or parts of it, as the job says.
    Installed(String),
    /// A release that was there before, somewhere between what it was and what it was to become, in words.
    Halfway(String),
    /// What an uninstall has not taken away yet of a release, in words.
    Removed(String),
    /// What is not known: one of them still works on it, or how far it came cannot be read.
    Unknown,
}

impl App {
    /// What the jobs of so many attempts of a step left: the newest that came to the release tells.
    pub(crate) async fn left_by(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        step: &str,
        attempts: u32,
    ) -> Result<Left, AppError> {
        for attempt in (1..=attempts.min(MOST_ATTEMPTS)).rev() {
            let id = JobId::of_step(execution, step, attempt);
            let Some(job) = self.load_job(tenant, id).await? else {
                continue;
            };
            let Some(stored) = self.store.get(&keys::job_work(tenant, id)).await? else {
                continue;
            };
            match stored.read::<JobWork>() {
                Ok(work) if work.apply_began => return Ok(left(&job)),
                Ok(_) => {}
                Err(_) => return Ok(Left::Unknown),
            }
        }
        Ok(Left::Untouched)
    }
}

/// What a job left that came to its release.
fn left(job: &Job) -> Left {
    if !job.status.is_terminal() {
        return Left::Unknown;
    }
    let is_first_install = job.metadata_.get(FIRST_INSTALL) == Some(&json!(true));
    if is_first_install {
        return match job.metadata_.get(TAKEN_AWAY) == Some(&json!(true)) {
            true => Left::Nothing,
            false => Left::Installed(job.error_message.clone().unwrap_or_default()),
        };
    }
    let release = job.config["release_name"].as_str().unwrap_or_default();
    let operation = serde_json::from_value(job.config["operation"].clone()).unwrap_or_default();
    match operation {
        HelmOperation::Deploy => Left::Halfway(format!(
            "stopped in the middle of an upgrade: release {release} stays as it is"
        )),
        HelmOperation::Rollback => Left::Halfway(format!(
            "stopped in the middle of a rollback: release {release} stays as it is"
        )),
        HelmOperation::Test => {
            Left::Halfway(format!("stopped in the middle of the tests of release {release}"))
        }
        HelmOperation::Uninstall => Left::Removed(format!(
            "stopped in the middle of an uninstall: what is left of release {release} stays"
        )),
    }
}
