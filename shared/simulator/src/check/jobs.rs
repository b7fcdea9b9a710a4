//! Checks of jobs, and of who holds a release.

use serde_json::Value;
use slipway_model::{HelmOperation, Job, JobStatus, Timestamp};
use slipway_ports::{HookEvent, Key, ReleaseStatus};

use super::{
    Invariant,
    left::{operation_of, release_of},
    records::{read, status},
};
use crate::{
    cluster::{
        Revision,
        target::{CROWDED, READABLE, hook_events},
    },
    store::Row,
    world::World,
};

impl World {
    /// A job is written by whoever holds its release, if anybody does.
    pub(super) fn check_fence(&mut self, key: &Key, id: &str, new: Option<&Row>) {
        // A job that finds itself replaced gives the release back and ends, whoever has it then.
        let is_replaced = new.and_then(read::<Job>).is_some_and(|job| {
            job.status == JobStatus::Cancelled
                && job
                    .error_message
                    .is_some_and(|why| why.starts_with("superseded by "))
        });
        if is_replaced {
            return;
        }
        let Some(task) = self.actor().and_then(|actor| self.tasks.get(&actor)) else {
            return;
        };
        let Some((owner, job, fence)) = task.lease.clone() else {
            return;
        };
        if job != id {
            return;
        }
        let owner: Value = self.newest(&owner).unwrap_or_default();
        let newest = owner["fence"].as_u64().unwrap_or_default();
        // A job whose message failed for the last time is given up by an invocation that holds the release no more, and
        // nobody does at that moment.
        let is_given_up = owner["busy"] == false
            && new
                .and_then(status::<JobStatus>)
                .is_some_and(|status| matches!(status, JobStatus::Failed | JobStatus::Cancelled));
        if newest <= fence || is_given_up {
            return;
        }
        // The working record of a job that has ended is read by nobody.
        let stored = self.tables.newest(&Key::new(&*key.partition, "j")).0;
        if stored
            .and_then(status::<JobStatus>)
            .is_some_and(JobStatus::is_terminal)
        {
            return;
        }
        self.violated(
            Invariant::AFencedOutWriterChangesNothing,
            format_args!("{key} is written under fence {fence}; the release has fence {newest}"),
        );
    }

    pub(super) fn check_owner(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let before = old.and_then(read::<Value>).unwrap_or_default();
        let after = new.and_then(read::<Value>).unwrap_or_default();
        let fence = after["fence"].as_u64().unwrap_or_default();
        if before["fence"].as_u64() == Some(fence) {
            return;
        }
        let until: Option<Timestamp> = serde_json::from_value(before["lease_until"].clone()).ok();
        let is_live = before["epoch"] == self.epoch.to_string().as_str()
            && until.is_some_and(|until| until.as_millis() > self.now);
        let is_own = before["job"] == after["job"] && before["busy"] == false;
        if is_live && !is_own {
            self.violated(
                Invariant::LiveClaimsAreRespected,
                format_args!("{key}: {before} is replaced by {after}"),
            );
        }
        let job = after["job"].as_str().unwrap_or_default().to_owned();
        if let Some(release) = key.partition.strip_prefix("release/uid/") {
            self.note_found(release, &job, fence);
        }
        if let Some(task) = self.actor().and_then(|actor| self.tasks.get_mut(&actor)) {
            task.lease = Some((key.clone(), job, fence));
        }
    }

    pub(super) fn check_job(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let before = old.and_then(status::<JobStatus>);
        let Some(after) = new.and_then(status::<JobStatus>) else {
            return;
        };
        if let Some(before) = before
            && before.is_terminal()
        {
            if before != after {
                self.violated(
                    Invariant::TerminalStatesNeverChange,
                    format_args!("job {key} was {before:?} and becomes {after:?}"),
                );
            }
            return;
        }
        if after == JobStatus::Failed
            && let Some(message) = new.and_then(read::<Job>).and_then(|job| job.error_message)
            && message.contains(CROWDED)
        {
            self.violated(
                Invariant::BlockedIsNotFailed,
                format_args!("job {key} becomes {after:?}: {message}"),
            );
        }
        if after == JobStatus::Succeeded
            && let Some(job) = new.and_then(read::<Job>)
        {
            self.check_success(key, &job);
        }
    }

    /// A job is about to be recorded as succeeded.
    fn check_success(&mut self, key: &Key, job: &Job) {
        let (release, operation) = (release_of(job), operation_of(job));
        let wait = job.config["wait"] != false;
        let now = self.now;
        let lie = match operation {
            HelmOperation::Deploy | HelmOperation::Rollback => match self.cloud.newest(&release) {
                _ if self.has_late_record(&release) => None,
                None => Some("there is no such release".to_owned()),
                Some(newest) if newest.status != ReleaseStatus::Deployed => {
                    Some(format!("the release is {:?}", newest.status))
                }
                Some(newest) if newest.job() != job.id.to_string() && !is_kept(job, newest) => {
                    Some(format!("the release was deployed by job {}", newest.job()))
                }
                Some(newest) if operation == HelmOperation::Deploy && !is_made_of(job, newest) => {
                    Some(format!("what is deployed is {}", newest.manifest))
                }
                Some(newest) if wait => newest
                    .objects
                    .iter()
                    .filter(|object| !self.is_late(&release, object))
                    .find_map(|object| self.cloud.wait(object, now))
                    .map(|(wait, _)| format!("{wait}")),
                Some(_) => None,
            },
            HelmOperation::Uninstall => self.what_is_left(&release),
            HelmOperation::Test => None,
        };
        let lie = lie.or_else(|| self.missing_hooks(job, operation, &release));
        if let Some(lie) = lie {
            self.violated(
                Invariant::AJobTellsTheTruth,
                format_args!("job {key} ({operation:?} of {release}) succeeds, but {lie}"),
            );
        }
    }

    /// Which hooks should have run for a job and did not.
    fn missing_hooks(&self, job: &Job, operation: HelmOperation, release: &str) -> Option<String> {
        let newest = self.cloud.newest(release);
        let is_hooked = newest.is_some_and(|newest| !hook_events(&newest.manifest).is_empty());
        let id = job.id.to_string();
        let ran = |event| self.cloud.had_hooks_run(&id, event);
        let ran_around = |before, after| ran(before) && ran(after);
        let is_right = match operation {
            HelmOperation::Deploy if job.kept => true,
            HelmOperation::Deploy => {
                ran_around(HookEvent::PreInstall, HookEvent::PostInstall)
                    || ran_around(HookEvent::PreUpgrade, HookEvent::PostUpgrade)
            }
            HelmOperation::Rollback => ran_around(HookEvent::PreRollback, HookEvent::PostRollback),
            HelmOperation::Test => ran(HookEvent::Test),
            HelmOperation::Uninstall if self.cloud.uninstalled.contains(&id) => {
                return (!ran_around(HookEvent::PreDelete, HookEvent::PostDelete))
                    .then(|| "its hooks did not run before and after".to_owned());
            }
            HelmOperation::Uninstall => true,
        };
        (is_hooked && !is_right).then(|| "not all of its hooks ran".to_owned())
    }

    /// Helm begins a revision: not one that a deployment has just so already. Where nothing goes wrong, that can be told.
    pub(crate) fn check_revision(&mut self, release: &str, revision: &Revision) {
        let deployment = revision.labels.get("slipway-deployment").map(String::as_str);
        let Some(newest) = self.cloud.newest(release) else {
            return;
        };
        let is_same = newest.status == ReleaseStatus::Deployed
            && revision.status == ReleaseStatus::PendingUpgrade
            && newest.manifest == revision.manifest
            && newest.labels.get("slipway-deployment").map(String::as_str) == deployment;
        if !self.is_fine || !is_same || deployment.is_none_or(|id| id == "none") {
            return;
        }
        let maker: Option<Job> = self.newest(&Key::new(format!("local/j/{}", newest.job()), "j"));
        let is_there = newest
            .objects
            .iter()
            .all(|object| self.cloud.wait(object, self.now).is_none());
        // What was made before the tenant had a key to compare with is made once more.
        let is_comparable = maker.is_some_and(|maker| {
            maker.status == JobStatus::Succeeded && maker.metadata_.contains_key("intent")
        });
        if is_there && is_comparable {
            let (was, new) = (newest.job().to_owned(), revision.job().to_owned());
            self.violated(
                Invariant::WhatIsTheSameStays,
                format_args!("job {new} applies to release {release} what job {was} made of it"),
            );
        }
    }

    /// What is left of a release that should be gone.
    pub(super) fn what_is_left(&self, release: &str) -> Option<String> {
        let newest = self.cloud.newest(release);
        if let Some(newest) = newest.filter(|_| !self.has_late_record(release)) {
            return Some(format!("release {release} is {:?}", newest.status));
        }
        let left = self
            .cloud
            .objects_of(release)
            .find(|(object, _)| !crate::cluster::is_claim(object) && !self.cloud.strays.contains(object));
        if let Some((object, _)) = left {
            return Some(format!("{object} is still there"));
        }
        None
    }
}

/// Whether what was deployed says what the job's values say, as far as these need not be rendered.
fn is_made_of(job: &Job, newest: &Revision) -> bool {
    let values = job.config["values"].as_object();
    let literal = values.into_iter().flatten().filter(|(name, value)| {
        READABLE.contains(&name.as_str()) && !value.as_str().is_some_and(|text| text.contains("{{"))
    });
    let mut said = literal.map(|(name, value)| format!("{name}={value}"));
    said.all(|said| newest.manifest.contains(&said))
}

/// Whether a job kept what another job of its deployment made.
fn is_kept(job: &Job, newest: &Revision) -> bool {
    let deployment = job.deployment_id.map(|id| id.to_string());
    job.kept && deployment.as_deref() == newest.labels.get("slipway-deployment").map(String::as_str)
}
