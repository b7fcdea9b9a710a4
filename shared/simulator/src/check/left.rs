//! Checks of what jobs leave that did not succeed.

use std::collections::BTreeMap;

use slipway_model::{HelmOperation, Job, JobStatus};
use slipway_ports::Key;

use super::Invariant;
use crate::world::World;

/// How a job says that something of its release is left, or may be.
const LEFT: [&str; 5] = [
    "may have left",
    "could not be taken away",
    "still there after cleaning up",
    "nothing was taken away",
    "what was installed stays",
];

/// The part of a job's message that says what is left, and not what was waited for.
fn told_left(job: &Job) -> Option<&str> {
    let message = job.error_message.as_deref()?;
    let begins = LEFT.iter().filter_map(|words| message.find(words)).min()?;
    message.get(begins..)
}

/// The release that a job is about, as `namespace/name`.
pub(super) fn release_of(job: &Job) -> String {
    let text = |name: &str| job.config[name].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("release_name"))
}

pub(super) fn operation_of(job: &Job) -> HelmOperation {
    serde_json::from_value(job.config["operation"].clone()).unwrap_or_default()
}

/// What jobs say of a release.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What is left of it, as far as jobs know.
    left: String,
    /// Jobs that did not succeed, and say why.
    pub(super) unlucky: Vec<String>,
}

impl Told {
    /// Release → what jobs say of it.
    pub(super) fn by(jobs: &[Job]) -> BTreeMap<String, Self> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for job in jobs.iter().filter(|job| job.error_message.is_some()) {
            let told = all.entry(release_of(job)).or_default();
            told.left.push_str(told_left(job).unwrap_or_default());
            told.left.push('\n');
            told.unlucky.push(job.id.to_string());
        }
        all
    }

    /// Whether a job says that something of that name may be left.
    pub(super) fn names(&self, what: &str) -> bool {
        self.left.contains(what)
    }
}

impl World {
    /// The job that had a release last.
    pub(super) fn last_holder(&self, release: &str) -> Option<String> {
        let key = Key::new(format!("release/uid/{release}"), "owner");
        let owner: serde_json::Value = self.newest(&key)?;
        owner["job"].as_str().map(str::to_owned)
    }

    /// A first install that did not succeed is taken away by its job, or that says why it is not.
    pub(super) fn check_failed_installs(&mut self, jobs: &[Job]) {
        for job in jobs {
            // A caller's cancellation says whether it is to go, however the job came to its end.
            let cancelled = job.cancel.as_ref().map(|cancel| cancel.uninstall);
            let is_to_go = match job.status {
                JobStatus::Failed | JobStatus::TimedOut => {
                    job.config["delete_on_failure"] != false && cancelled != Some(false)
                }
                JobStatus::Cancelled => {
                    let why = job.error_message.as_deref().unwrap_or_default();
                    cancelled == Some(true) && !why.starts_with("superseded by ")
                }
                _ => false,
            };
            let is_first = job
                .metadata_
                .get("first_install")
                .is_some_and(|first| *first == true);
            let release = release_of(job);
            if !is_to_go
                || !is_first
                || operation_of(job) != HelmOperation::Deploy
                || self.last_holder(&release) != Some(job.id.to_string())
            {
                continue;
            }
            self.coverage.end("failed install".to_owned());
            // An invocation that had read the job before it ended takes the release once more, and gives it up.
            let newest = self.cloud.newest(&release).map(|newest| newest.job().to_owned());
            if newest.is_some_and(|newest| newest != job.id.to_string()) {
                continue;
            }
            if told_left(job).is_none()
                && let Some(left) = self.what_is_left(&release)
            {
                let said = job.error_message.as_deref().unwrap_or_default();
                self.violated(
                    Invariant::AFailedInstallLeavesNothing,
                    format_args!("job {} is {:?} ({said}), but {left}", job.id, job.status),
                );
                return;
            }
        }
    }
}
