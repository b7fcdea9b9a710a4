//! Checks of everything that is done outside.

use serde_json::Value;
use slipway_model::{StepRecord, StepStatus, Timestamp};

use super::{Invariant, records::read};
use crate::{
    tasks::{Role, TaskId},
    world::World,
};

impl World {
    /// A step's action is about to do something outside.
    pub(crate) fn check_effect_of_step(&mut self, what: &str) {
        let Some(task) = self.actor().and_then(|actor| self.tasks.get(&actor)) else {
            return;
        };
        let Some((key, fence)) = task.claims.last().cloned() else {
            self.violated(
                Invariant::NoEffectWithoutCommittedIntention,
                format_args!("{what} by an invocation that claimed nothing"),
            );
            return;
        };
        let has_slept = task.overslept;
        let record: Option<StepRecord> = self.tables.settled(&key).and_then(read);
        let is_committed = record
            .as_ref()
            .is_some_and(|record| record.fence >= fence && record.fence > 0);
        if !is_committed {
            self.violated(
                Invariant::NoEffectWithoutCommittedIntention,
                format_args!("{what} for step {key} before its claim {fence} is durable: {record:?}"),
            );
            return;
        }
        let holds = record.is_some_and(|record| {
            record.fence == fence
                && record.status == StepStatus::Running
                && record
                    .lease_until
                    .is_some_and(|until| until.as_millis() > self.now)
        });
        // Nothing that is about to reach the network knows that the machine sleeps.
        if !holds && !has_slept {
            self.violated(
                Invariant::EffectsHappenUnderALiveFence,
                format_args!("{what} for step {key} under claim {fence}, which does not hold any more"),
            );
        }
    }

    /// A call arrived. Its address says what it is about, and after an `m` how often it may be made.
    pub(crate) fn check_call(&mut self, url: &str, method: &str, key: &str) {
        let keys = self.internet.keys.entry(url.to_owned()).or_default();
        keys.insert(key.to_owned());
        if keys.len() > 1 || key.is_empty() {
            let keys = format!("{keys:?}");
            self.violated(
                Invariant::IdempotencyKeysAreConstant,
                format_args!("{url} was called with {keys}"),
            );
        }
        let most = url.rsplit("/m").next().and_then(|most| most.parse::<u32>().ok());
        if let (Some(most), "POST") = (most, method) {
            let count = self.internet.once.entry(url.to_owned()).or_default();
            *count += 1;
            let count = *count;
            if count > most {
                self.violated(
                    Invariant::OnceMeansOnce,
                    format_args!("{url} was called {count} times, {most} at most are right"),
                );
            }
        }
    }

    /// Helm is about to start on a release.
    pub(crate) fn check_helm_starts(&mut self, release: &str, process: TaskId) {
        if let Some(other) = self.checks.writing.get(release).copied()
            && self
                .tasks
                .get(&other)
                .is_some_and(|task| task.role == Role::Helm && !self.doomed.contains(&other))
        {
            self.violated(
                Invariant::OneWriterPerRelease,
                format_args!(
                    "Helm starts on {release} while the process of task {} works on it",
                    other.0
                ),
            );
        }
        self.checks.writing.insert(release.to_owned(), process);
        // What landed before, Helm and whoever runs it can see.
        self.note_record_seen(release);
        self.note_objects_seen(release);
        self.check_undoing(release);
        self.check_release_lease(
            release,
            Invariant::NoEffectWithoutCommittedIntention,
            "Helm starts",
        );
    }

    /// A process is about to change something of a release.
    pub(crate) fn check_helm_writes(&mut self, release: &str) {
        self.check_release_lease(
            release,
            Invariant::AFencedOutWriterChangesNothing,
            "the cluster is changed",
        );
    }

    fn check_release_lease(&mut self, release: &str, without: Invariant, what: &str) {
        let Some(task) = self.actor().and_then(|actor| self.tasks.get(&actor)) else {
            // Its parent is gone, and it should be, too.
            self.violated(
                Invariant::AFencedOutWriterChangesNothing,
                format_args!("{what} for release {release} by a process whose parent is gone"),
            );
            return;
        };
        let has_slept = task.overslept;
        let Some((key, job, fence)) = task.lease.clone() else {
            self.violated(
                without,
                format_args!("{what} for release {release} without a lease"),
            );
            return;
        };
        let owner: Value = self.tables.settled(&key).and_then(read).unwrap_or_default();
        let (now_job, now_fence) = (owner["job"].as_str(), owner["fence"].as_u64());
        if now_fence.is_none_or(|now| now < fence) {
            self.violated(
                without,
                format_args!("{what} for release {release} before lease {fence} of job {job} is durable"),
            );
            return;
        }
        if now_fence != Some(fence) || now_job != Some(job.as_str()) {
            self.violated(
                Invariant::AFencedOutWriterChangesNothing,
                format_args!(
                    "{what} for release {release} under fence {fence} of job {job}; its owner is {owner}"
                ),
            );
            return;
        }
        if has_slept {
            // The lease is over by the clock, and nobody took it.
            return;
        }
        let until: Option<Timestamp> = serde_json::from_value(owner["lease_until"].clone()).ok();
        if until.is_none_or(|until| until.as_millis() <= self.now) {
            self.violated(
                Invariant::EffectsHappenUnderALiveFence,
                format_args!("{what} for release {release} although the lease of job {job} has expired"),
            );
        }
    }
}
