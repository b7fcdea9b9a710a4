//! Checks of what executions find, change and undo.

use std::collections::{BTreeMap, BTreeSet};

use slipway_model::{Execution, ExecutionId, ExecutionStatus, HelmOperation, Job, JobStatus};
use slipway_ports::{Key, ReleaseStatus};

use super::{
    Invariant,
    left::{operation_of, release_of},
    records::read,
};
use crate::{cluster::Revision, world::World};

/// What an execution found of a release.
#[derive(Debug)]
pub(super) struct Found {
    /// The manifest of the newest revision that worked; nothing if none did.
    manifest: Option<String>,
    /// Whether others took the release since, or a late request changed it.
    is_disturbed: bool,
    /// The last fence under which a job of it had the release.
    fence: u64,
}

impl World {
    /// A job takes the lease of a release, as `namespace/name`.
    pub(super) fn note_found(&mut self, release: &str, job: &str, fence: u64) {
        let Some(job) = self.newest::<Job>(&Key::new(format!("local/j/{job}"), "j")) else {
            return;
        };
        let operation = operation_of(&job);
        if operation == HelmOperation::Test {
            return;
        }
        let execution = job.step.map(|(execution, _)| execution);
        let about = match execution {
            Some(id) if job.undoes => self.header(id).and_then(|header| header.compensates),
            other => other,
        };
        for ((of, _), found) in self
            .checks
            .found
            .iter_mut()
            .filter(|((_, name), _)| name == release)
        {
            found.is_disturbed |= Some(*of) != about;
        }
        if let Some(execution) = execution.filter(|_| !job.undoes) {
            let key = (execution, release.to_owned());
            if let Some(found) = self.checks.found.get_mut(&key) {
                found.fence = fence;
                return;
            }
            let found = Found {
                manifest: self.last_that_worked(release).map(|one| one.manifest.clone()),
                is_disturbed: self.has_late_record(release),
                fence,
            };
            self.checks.found.insert(key, found);
        }
    }

    fn header(&self, id: ExecutionId) -> Option<Execution> {
        self.newest(&Key::new(format!("local/x/{id}"), "x"))
    }

    /// Helm starts on a release: not to undo what somebody else made of it since, and succeeded with.
    pub(super) fn check_undoing(&mut self, release: &str) {
        let lease = self
            .actor()
            .and_then(|actor| self.tasks.get(&actor)?.lease.clone());
        let job = |id: &str| self.newest::<Job>(&Key::new(format!("local/j/{id}"), "j"));
        let Some(undoing) = lease.and_then(|(_, id, _)| job(&id)).filter(|job| job.undoes) else {
            return;
        };
        let undone = undoing
            .step
            .and_then(|(execution, _)| self.header(execution)?.compensates);
        let Some(undone) = undone else { return };
        let Some(found) = self.checks.found.get(&(undone, release.to_owned())) else {
            return;
        };
        let Some(newest) = self.cloud.newest(release) else {
            return;
        };
        let fence = newest.labels.get("slipway-fence");
        let is_since = fence
            .and_then(|fence| fence.parse::<u64>().ok())
            .is_some_and(|fence| fence > found.fence);
        let others = job(newest.job()).filter(|maker| {
            maker.status == JobStatus::Succeeded
                && !maker.undoes
                && maker.step.map(|(execution, _)| execution) != Some(undone)
        });
        if let Some(maker) = others.filter(|_| is_since && newest.status == ReleaseStatus::Deployed) {
            self.violated(
                Invariant::UndoingLeavesOthers,
                format_args!(
                    "job {} undoes execution {undone}, and changes release {release} that job {} made since",
                    undoing.id, maker.id
                ),
            );
        }
    }

    /// The newest revision that was deployed by a job that succeeded.
    fn last_that_worked(&self, release: &str) -> Option<&Revision> {
        let newest = self.cloud.newest(release)?;
        if matches!(
            newest.status,
            ReleaseStatus::Uninstalling | ReleaseStatus::Uninstalled
        ) {
            return None;
        }
        let worked = self.cloud.releases.get(release)?.iter().filter(|revision| {
            let maker: Option<Job> = self.newest(&Key::new(format!("local/j/{}", revision.job()), "j"));
            revision.worked() && maker.is_some_and(|maker| maker.status == JobStatus::Succeeded)
        });
        worked.max_by_key(|revision| revision.number)
    }

    /// A request of a sender that is gone changes a release: nobody answers for what comes of it.
    pub(crate) fn note_disturbed(&mut self, release: &str) {
        for (_, found) in self
            .checks
            .found
            .iter_mut()
            .filter(|((_, name), _)| name == release)
        {
            found.is_disturbed = true;
        }
    }

    /// What was undone, as its execution says, is as it was found.
    pub(super) fn check_undone(&mut self, jobs: &[Job]) {
        let mut changed: BTreeMap<(ExecutionId, String), Vec<&Job>> = BTreeMap::new();
        for job in jobs.iter().filter(|job| !job.undoes) {
            if let Some((execution, _)) = job.step {
                changed.entry((execution, release_of(job))).or_default().push(job);
            }
        }
        let found = std::mem::take(&mut self.checks.found);
        for (key, jobs) in changed {
            let Some(found) = found.get(&key).filter(|found| !found.is_disturbed) else {
                continue;
            };
            let (execution, release) = &key;
            if !is_undone_whole(&jobs) || !self.was_undone(*execution) {
                continue;
            }
            self.coverage.end("release undone".to_owned());
            let now = self
                .cloud
                .newest(release)
                .map(|newest| (newest.status, newest.manifest.clone()));
            let is_as_found = match (&found.manifest, &now) {
                (None, None) => true,
                (Some(before), Some((status, manifest))) => {
                    *status == ReleaseStatus::Deployed && manifest == before
                }
                _ => false,
            };
            if !is_as_found {
                let before = &found.manifest;
                self.violated(
                    Invariant::UndoingRestores,
                    format_args!(
                        "execution {execution} was undone, but release {release} was {before:?} and is {now:?}"
                    ),
                );
                return;
            }
        }
    }

    /// Whether an execution failed, and whatever it had changed was undone.
    fn was_undone(&self, execution: ExecutionId) -> bool {
        let settled = |id: ExecutionId| -> Option<Execution> {
            let key = Key::new(format!("local/x/{id}"), "x");
            self.tables.settled(&key).and_then(read)
        };
        let undoing = settled(execution).and_then(|header| header.compensated_by);
        let undoing = undoing.and_then(settled);
        undoing.is_some_and(|undoing| undoing.status == ExecutionStatus::Completed)
    }
}

/// Whether all that the jobs of an execution did to a release is to be undone: one step deployed it, changed it, and was
/// neither cancelled nor to leave it.
fn is_undone_whole(jobs: &[&Job]) -> bool {
    let steps: BTreeSet<u32> = jobs.iter().filter_map(|job| Some(job.step?.1)).collect();
    let came_to_it = |job: &&&Job| {
        job.replaces_revision.is_some()
            || job
                .metadata_
                .get("first_install")
                .is_some_and(|first| *first == true)
    };
    let is_plain = |job: &&Job| {
        operation_of(job) == HelmOperation::Deploy
            && job.config["delete_on_failure"] != false
            && job.config["adopt"] != true
            && job.cancel.is_none()
            && job.status != JobStatus::Cancelled
    };
    steps.len() == 1 && jobs.iter().all(is_plain) && jobs.iter().any(|job| came_to_it(&job))
}
