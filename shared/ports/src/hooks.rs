//! The hooks of a chart: what runs before and after a release changes. Slipway creates them itself, one after another,
//! so that a hook may take longer than an invocation and post-hooks run when everything is ready.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use slipway_model::{DeploymentId, JobId, JobWait};

use crate::diagnosis::Diagnosis;
use crate::target::{ObjectReference, Release, ReleaseRequest};

/// When a hook runs; in words as Helm's annotation `helm.sh/hook` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEvent {
    /// Before a first install.
    PreInstall,
    /// After a first install, once everything is ready.
    PostInstall,
    /// Before an upgrade.
    PreUpgrade,
    /// After an upgrade, once everything is ready.
    PostUpgrade,
    /// Before a rollback.
    PreRollback,
    /// After a rollback, once everything is ready.
    PostRollback,
    /// Before an uninstall.
    PreDelete,
    /// After an uninstall, once all objects are gone.
    PostDelete,
    /// When the release is tested.
    Test,
}

impl HookEvent {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::PreInstall,
        Self::PostInstall,
        Self::PreUpgrade,
        Self::PostUpgrade,
        Self::PreRollback,
        Self::PostRollback,
        Self::PreDelete,
        Self::PostDelete,
        Self::Test,
    ];

    /// Helm's word, such as `pre-install`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PreRollback => "pre-rollback",
            Self::PostRollback => "post-rollback",
            Self::PreDelete => "pre-delete",
            Self::PostDelete => "post-delete",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no hook event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no hook event of Helm")]
pub struct NoHookEvent(String);

impl FromStr for HookEvent {
    type Err = NoHookEvent;

    /// Reads one word of the annotation, as Helm does: in any case, and `test-success` as `test`.
    fn from_str(word: &str) -> Result<Self, NoHookEvent> {
        let word = word.trim().to_lowercase();
        let word = if word == "test-success" { "test" } else { &word };
        Self::ALL
            .into_iter()
            .find(|event| event.as_str() == word)
            .ok_or_else(|| NoHookEvent(word.to_owned()))
    }
}

/// Where the hooks of an event are found.
#[derive(Debug, Clone, Copy)]
pub enum HookSource<'a> {
    /// In what the chart renders now, as install or upgrade as it is: before the release changes.
    Rendered(&'a ReleaseRequest),
    /// In Helm's record of a revision.
    Revision(u32),
}

/// What becomes of a hook's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HookPolicies {
    /// An object of that name that is there already is deleted first.
    pub delete_before: bool,
    /// It is deleted when all hooks of the event have succeeded, or a later one has failed.
    pub delete_succeeded: bool,
    /// It is deleted when it has failed.
    pub delete_failed: bool,
    /// Its log is kept with the job when it has succeeded.
    pub log_succeeded: bool,
    /// Its log is kept with the job when it has failed.
    pub log_failed: bool,
}

/// A hook that can be created. Its manifest may hold secrets: the type does not print it, and nothing stores it.
#[derive(Clone)]
pub struct Hook {
    /// What it is.
    pub object: ObjectReference,
    /// What becomes of it.
    pub policies: HookPolicies,
    /// The object as YAML.
    pub manifest: String,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("object", &self.object)
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}

/// The hooks of one event, in the order in which they run.
#[derive(Debug, Clone, Default)]
pub struct HookSet {
    /// Those that run.
    pub hooks: Vec<Hook>,
    /// What a target without a cluster says about the hooks that it does not run; else empty.
    pub note: String,
}

/// Which run of which hook: what its object is labelled with, so that a repeat finds it.
#[derive(Debug, Clone, Copy)]
pub struct HookRun<'a> {
    /// Whose hook it is.
    pub release: &'a Release,
    /// The job that runs it.
    pub job: JobId,
    /// The fence of the lease under which it is created.
    pub fence: u64,
    /// The deployment that the job works for.
    pub deployment: Option<DeploymentId>,
    /// When it runs.
    pub event: HookEvent,
    /// Its place among the hooks of the event, from 0.
    pub number: usize,
}

/// A hook that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeHook {
    /// What it is.
    pub object: ObjectReference,
    /// Which object of that name it is.
    pub uid: String,
    /// What becomes of it.
    pub policies: HookPolicies,
}

/// How a hook stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// It has succeeded; what Helm does not wait for has when it was created.
    Succeeded {
        /// Its last lines, whole, if it has a log; may hold secrets.
        log: String,
    },
    /// It has failed.
    Failed {
        /// Why, with its exit code if it has one; may hold secrets.
        reason: String,
        /// Its last lines, whole; may hold secrets.
        log: String,
    },
    /// It goes on.
    Running {
        /// What it waits for; may hold secrets.
        wait: JobWait,
        /// Last events and log tail.
        diagnosis: Diagnosis,
    },
}
