//! What a cluster of the tests does, and what was done to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use slipway_model::{Capacity, DriftedObject, JsonMap};
use slipway_ports::{HookEvent, Managed, TargetError, UncomparedObject};

/// What the cluster does, and what was done to it.
#[derive(Default)]
pub(crate) struct Cloud {
    /// Release → why Helm fails.
    pub(crate) broken: BTreeMap<String, String>,
    /// Release of which there is nothing but what an install left that did not succeed → the Deployment that it left.
    pub(crate) half_made: BTreeMap<String, String>,
    /// Releases whose next apply is done, but whose end nobody hears.
    pub(crate) unheard: BTreeSet<String>,
    /// Releases whose Helm dies in the middle of their next apply.
    pub(crate) dying: BTreeSet<String>,
    /// Release whose Helm died → the labels of its record, which is pending. Its last request is still on its way, and lands
    /// when the record is recovered.
    pub(crate) landing: BTreeMap<String, BTreeMap<String, String>>,
    /// Releases of which it does not say the first time that it is asked which revision was deployed before.
    pub(crate) forgetful: BTreeSet<String>,
    /// Releases that never become ready.
    pub(crate) stuck: BTreeSet<String>,
    /// Release → values, of what is installed.
    pub(crate) installed: BTreeMap<String, JsonMap>,
    pub(crate) revisions: BTreeMap<String, (u32, BTreeMap<String, String>)>,
    /// Release and revision → values.
    pub(crate) history: BTreeMap<(String, u32), JsonMap>,
    /// Release → where it answers, of those that answer elsewhere than by their names.
    pub(crate) endpoints: BTreeMap<String, String>,
    /// Release → what is not there yet of what its outputs are read from.
    pub(crate) awaited: BTreeMap<String, String>,
    /// Release → how often Helm fails for a reason that passes.
    pub(crate) flaky: BTreeMap<String, u32>,
    /// `apply NAME`, `uninstall NAME`, in order.
    pub(crate) log: Vec<String>,
    /// Releases whose object stays when they are uninstalled.
    pub(crate) kept: BTreeSet<String>,
    /// Releases whose objects stay for a while when they are uninstalled.
    pub(crate) lingering: BTreeSet<String>,
    /// Releases whose record says that they are uninstalled, while their objects are still there.
    pub(crate) uninstalled: BTreeSet<String>,
    /// How many pods of such a release stay besides the one of its name.
    pub(crate) crowd: usize,
    /// Release → what somebody else changed in it.
    pub(crate) drift: BTreeMap<String, Vec<DriftedObject>>,
    pub(crate) uncompared: BTreeMap<String, Vec<UncomparedObject>>,
    /// What is labelled as Slipway's.
    pub(crate) managed: Managed,
    /// Whether others have all the places for Helm.
    pub(crate) crowded: bool,
    /// How often a check waited in vain for such a place.
    pub(crate) turns: u32,
    /// Whether no call reaches it.
    pub(crate) away: bool,
    /// Release and event, as in `demo-llm pre-install` → names of hooks, in order.
    pub(crate) hooks: BTreeMap<String, Vec<String>>,
    /// Hooks that do not end.
    pub(crate) hanging: BTreeSet<String>,
    /// Whether hooks that fail are to be deleted.
    pub(crate) deletes_failed: bool,
    /// Hooks that fail.
    pub(crate) failing: BTreeSet<String>,
    /// What was created of hooks and not deleted: their run → their names.
    pub(crate) made: BTreeMap<String, String>,
    /// How long a check takes.
    pub(crate) checking: Duration,
    /// How long Helm was allowed to take for each check and apply.
    pub(crate) limits: Vec<(&'static str, Duration)>,
    /// Revisions that were marked failed, and why.
    pub(crate) marked: Vec<String>,
    /// Whether pods print the values that they were given, into logs, events and what is read of them.
    pub(crate) chatty: bool,
    /// Why its health cannot be had.
    pub(crate) out_of_reach: Option<TargetError>,
    /// How often its health was asked for.
    pub(crate) health_looks: u32,
    /// What is in credentials → the cluster that they lead to, or why to none; all others lead to the same.
    pub(crate) leads_to: BTreeMap<String, Result<String, TargetError>>,
    /// The contexts that were named to connect with, beside the kubeconfig's own.
    pub(crate) contexts: Vec<Option<String>>,
    /// What it has free, if it says so.
    pub(crate) free: Option<Capacity>,
}

impl Cloud {
    /// What pods of a release print.
    pub(crate) fn printed(&self, release: &str) -> String {
        match self.installed.get(release) {
            Some(values) if self.chatty => serde_json::to_string(values).unwrap(),
            _ => String::new(),
        }
    }

    /// Whether a revision was marked failed.
    pub(crate) fn is_marked(&self, release: &str, revision: u32) -> bool {
        let start = format!("{release} {revision}: ");
        self.marked.iter().any(|marked| marked.starts_with(&start))
    }

    /// The events for which a release has hooks.
    pub(crate) fn events(&self, release: &str) -> BTreeSet<HookEvent> {
        let of_it = |key: &String| {
            let (name, event) = key.split_once(' ')?;
            (name == release).then(|| event.parse().unwrap())
        };
        self.hooks.keys().filter_map(of_it).collect()
    }
}
