//! What a job's phases have found so far: the record that lets any invocation go on where another stopped.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;
use slipway_model::{FailureKind, HelmJobConfig, Job, JobId, JobPhase, JobStatus, Timestamp};
use slipway_ports::{HookEvent, HookPolicies, MadeHook, ObjectReference, Release};

use super::{removal::TAKEN_AWAY, undone::REPLACES_JOB};
use crate::steps::RenderContext;

/// What a job's metadata say once it is known whether its release was there before.
pub(crate) const FIRST_INSTALL: &str = "first_install";

/// Most objects that an error names.
const MOST_NAMED: usize = 50;

/// How long what a ready release has to tell is waited for at least.
const COLLECT: Duration = Duration::from_secs(60);

/// A job's working record. Written before the job itself moves to the next phase.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct JobWork {
    /// What its values' expressions read; absent when the values are literal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<RenderContext>,
    /// Names of the secrets that its execution reads: of a release that is tested, rolled back or uninstalled, its own
    /// values name none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) secrets_read: BTreeSet<String>,
    /// The chart, pinned by the first check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chart: Option<PinnedChart>,
    /// Whether the release did not exist when this job first came to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_install: Option<bool>,
    /// Whether the job has come to its release: it may have changed something there.
    #[serde(default)]
    pub(super) apply_began: bool,
    /// The revision that this job made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u32>,
    /// Objects that were checked, then those that were applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) objects: Vec<ObjectReference>,
    /// Events for which there are hooks: of what was checked, then of what was applied, or of what is taken away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) hook_events: BTreeSet<HookEvent>,
    /// How far the hooks of an event are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hooks: Option<HookWork>,
    /// Hooks that may go on although nobody looks at them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hooks_left: Vec<HookLeft>,
    /// What revisions had whose records were deleted, and the next one may not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leftovers: Vec<ObjectReference>,
    /// Whether an uninstall that somebody began is finished before this job's install.
    #[serde(default)]
    pub(super) finishes_uninstall: bool,
    /// The newest revision before anything was applied, 0 if there was none.
    #[serde(default)]
    pub(super) newest_before: u32,
    /// The revision that it replaces, and which job made that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replaces: Option<Replaced>,
    /// The revision that a rollback goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rollback_to: Option<u32>,
    /// Whether all that it installed was taken away.
    #[serde(default)]
    pub(super) taken_away: bool,
    /// How far taking the release away is.
    #[serde(default)]
    pub(super) removal: Removal,
    /// When the apply was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) applied_at: Option<Timestamp>,
    /// When what a ready release has to tell was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collect_began: Option<Timestamp>,
    /// What was recovered from dead writers, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) recovered: Vec<String>,
    /// Failures in a row that are worth repeating.
    #[serde(default)]
    pub(super) failures_in_a_row: u32,
    /// Times in a row that its cluster could not be reached.
    #[serde(default)]
    pub(super) out_of_reach: u32,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) out_of_reach_since: Option<Timestamp>,
    /// When an uninstall was first found to have to wait for what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removal_began: Option<Timestamp>,
    /// Where its lease stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<HeldLease>,
    /// How the job ends, as soon as Helm's record says that its revision failed if it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decided: Option<Decided>,
    /// How the job ends once it has cleaned up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
    /// Last events and log tail of the newest look.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) diagnosis: String,
}

impl JobWork {
    /// Until when a cluster that does not answer is waited for, once something was applied to it: a rollout of an hour
    /// outlives a minute without its API server. Nothing before that, where an early answer is worth more.
    pub(super) fn patience(&self, job: &Job, config: &HelmJobConfig) -> Option<Timestamp> {
        match job.phase {
            JobPhase::Watch => {
                let ready = self.applied_at?.plus(Duration::from_secs(config.timeout));
                let limit = Duration::from_secs(job.timeout_seconds);
                Some(ready.min(job.started_at?.plus(limit)))
            }
            // Readiness and hooks may have taken all the time there was, and what works is not taken away for that.
            JobPhase::Collect => {
                let began = self.collect_began?;
                let told = began.plus(Duration::from_secs(config.timeout));
                let limit = Duration::from_secs(job.timeout_seconds);
                let end = told.min(job.started_at?.plus(limit));
                Some(end.max(began.plus(COLLECT)))
            }
            JobPhase::PreHooks | JobPhase::PostHooks => {
                self.hooks.as_ref()?;
                let limit = Duration::from_secs(job.timeout_seconds);
                Some(job.started_at?.plus(limit))
            }
            JobPhase::CleanUp => self.ending.as_ref().map(|ending| ending.until),
            JobPhase::Check | JobPhase::Apply | JobPhase::Done => None,
        }
    }

    /// Has a job know what was found and decided: its own record is written after this one, and whoever comes next goes by
    /// what is noted here.
    pub(super) fn tell(&self, job: &mut Job) {
        if !self.apply_began && self.first_install.is_none() {
            // It may have been known before, and taken back by somebody who died before the job's own record said so.
            job.replaces_revision = None;
            job.metadata_.remove(FIRST_INSTALL);
            job.metadata_.remove(REPLACES_JOB);
        }
        if self.is_first_install() {
            job.metadata_.insert(FIRST_INSTALL.to_owned(), json!(true));
        }
        if let Some(replaced) = &self.replaces {
            job.replaces_revision = Some(replaced.revision);
            if let Some(maker) = replaced.job {
                job.metadata_.insert(REPLACES_JOB.to_owned(), json!(maker));
            }
        }
        if self.taken_away {
            job.metadata_.insert(TAKEN_AWAY.to_owned(), json!(true));
        }
        if let Some(ending) = &self.ending {
            job.phase = JobPhase::CleanUp;
            job.failure_kind = ending.failure_kind;
        }
        if let Some(decided) = &self.decided {
            job.failure_kind = decided.failure_kind;
        }
    }

    /// Whether what this job began to install was not there before.
    pub(super) fn is_first_install(&self) -> bool {
        self.apply_began && self.first_install == Some(true)
    }

    /// Whether a hook was created that has not been seen to end, or is to be deleted because it failed.
    pub(super) fn is_in_hook(&self) -> bool {
        self.hooks.as_ref().is_some_and(|hooks| hooks.running.is_some())
    }

    /// Whether there may be a hook that nobody has seen to end, also one that was perhaps never created.
    pub(super) fn may_have_hook(&self) -> bool {
        self.hooks.as_ref().is_some_and(|hooks| hooks.left().is_some())
    }

    /// Looks no more at the hooks of an event. One that may go on is kept in mind.
    pub(super) fn leave_hooks(&mut self) {
        let left = self.hooks.take().and_then(|hooks| hooks.left());
        self.hooks_left.extend(left);
    }

    /// Why the job ends, and which hooks may go on if it does now. What was said by pods comes after that.
    pub(super) fn with_hooks(&self, why: &str) -> String {
        let now = self.hooks.as_ref().and_then(HookWork::left);
        let left = self.hooks_left.iter().chain(&now);
        let told: String = left.map(|left| format!("; {}", left.told)).collect();
        let (first, rest) = why.split_at(why.find('\n').unwrap_or(why.len()));
        format!("{first}{told}{rest}")
    }

    /// What a job has to say when it ends without taking away what an install left that never succeeded: its record was
    /// deleted, so that nothing else names these objects.
    pub(super) fn left_behind(&self) -> String {
        // While it cleans up, all that it installed may be there.
        self.may_have_left(self.ending.is_some())
    }

    /// The same of a job that ends without having cleaned up, although it may have had to.
    pub(super) fn left_unlooked_at(&self) -> String {
        self.may_have_left(self.ending.is_some() || self.is_first_install())
    }

    fn may_have_left(&self, own: bool) -> String {
        let own = if own { self.objects.as_slice() } else { &[] };
        let left: BTreeSet<&ObjectReference> = own.iter().chain(&self.leftovers).collect();
        if left.is_empty() {
            return String::new();
        }
        let mut list: Vec<String> = left.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        if left.len() > MOST_NAMED {
            list.push(format!("{} more", left.len() - MOST_NAMED));
        }
        format!(
            "; an install that did not succeed may have left {}",
            list.join(", ")
        )
    }

    /// The pause before the same is tried again.
    pub(super) fn backoff(&self) -> Duration {
        Duration::from_secs(1 << self.failures_in_a_row.min(5))
    }
}

/// How far the hooks of an event are. Holds no manifest: those may have secrets in them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HookWork {
    pub(super) event: HookEvent,
    /// Those that have succeeded, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) done: Vec<MadeHook>,
    /// The one that is created next, or was by an invocation that did not live to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<NextHook>,
    /// The one that was created and has not been seen to end, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) running: Option<MadeHook>,
    /// Why that one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    /// What hooks said whose logs are kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) log: String,
}

impl HookWork {
    pub(super) fn of(event: HookEvent) -> Self {
        Self {
            event,
            done: Vec::new(),
            next: None,
            running: None,
            failure: None,
            log: String::new(),
        }
    }

    /// Whether none was created yet, or is about to be.
    pub(super) fn is_untouched(&self) -> bool {
        self.done.is_empty() && self.next.is_none() && self.running.is_none() && self.failure.is_none()
    }

    /// The hook that may go on if nobody looks at it any more. One that failed does not.
    pub(super) fn left(&self) -> Option<HookLeft> {
        if self.failure.is_some() {
            return None;
        }
        let (object, told) = match (&self.running, &self.next) {
            (Some(running), _) => (&running.object, "may go on"),
            (None, Some(next)) => (&next.object, "may go on, if it was created"),
            (None, None) => return None,
        };
        Some(HookLeft::of(self.event, object, told))
    }
}

/// A hook before it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextHook {
    pub(super) object: ObjectReference,
    pub(super) policies: HookPolicies,
}

/// A hook that may go on although nobody looks at it any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HookLeft {
    pub(super) object: ObjectReference,
    /// What is to be said of it.
    pub(super) told: String,
}

impl HookLeft {
    pub(super) fn of(event: HookEvent, object: &ObjectReference, how: &str) -> Self {
        Self {
            object: object.clone(),
            told: format!("the {event} hook {object} {how}"),
        }
    }
}

/// How far taking a release away is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Removal {
    /// Nothing is done.
    #[default]
    Wanted,
    /// The hooks before it run.
    Before,
    /// Its objects go.
    Objects,
    /// The hooks after it run.
    After,
    /// Hooks, record and namespace go.
    Rest,
}

/// A chart by exact version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PinnedChart {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) blob: String,
}

/// A release's lease that a job took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HeldLease {
    pub(super) cluster_uid: String,
    pub(super) release: Release,
    pub(super) fence: u64,
}

/// How a job ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) status: JobStatus,
    pub(super) message: String,
    /// Whether the same again could succeed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure_kind: Option<FailureKind>,
    /// When cleaning up is given up.
    pub(super) until: Timestamp,
}

/// What a job replaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Replaced {
    pub(super) revision: u32,
    /// The job that made it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobId>,
}

/// How a job ends whose change did not succeed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Decided {
    pub(super) status: JobStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// Whether the same again could succeed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure_kind: Option<FailureKind>,
}
