//! A simulated Kubernetes cluster: namespaces, Helm's release records, objects that become ready or do not.
//!
//! Everything that changes it is a [`Request`], so that one that is on its way when its sender dies can land later.

mod helm;
mod others;
pub(crate) mod target;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use slipway_model::{DeploymentId, JobWait, JsonMap};
use slipway_ports::{Hook, HookEvent, ObjectReference, Release, ReleaseStatus};

pub(crate) use helm::Operation;
pub(crate) use target::SimConnector;
use target::hook_events;

use crate::{services::SECRET, world::World};

/// One of Helm's release records.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) number: u32,
    pub(crate) status: ReleaseStatus,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) objects: Vec<ObjectReference>,
    /// What was rendered.
    pub(crate) manifest: String,
    /// Whether it ever was deployed, also if it was marked failed since.
    pub(crate) was_deployed: bool,
}

impl Revision {
    /// Whether Helm says that it is deployed, or was until another one was.
    pub(crate) fn worked(&self) -> bool {
        matches!(self.status, ReleaseStatus::Deployed | ReleaseStatus::Superseded)
    }

    pub(crate) fn job(&self) -> &str {
        self.labels.get("slipway-job").map_or("", String::as_str)
    }
}

/// An object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) release: String,
    /// What of it was applied.
    manifest: String,
    /// When it is ready; never, if absent.
    ready_at: Option<i64>,
    /// Whether it can never become ready.
    fails: bool,
    /// Who changed which field of it, past Slipway.
    pub(crate) changed: Option<(&'static str, &'static str)>,
    /// Since when it is being deleted, and until when a finalizer keeps it.
    pub(crate) deleting: Option<i64>,
}

/// A namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) created_for: Option<DeploymentId>,
}

/// How the objects of a release fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Ready(i64),
    Never,
    Fails,
}

/// The cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cloud {
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// `namespace/name` → its records, oldest first.
    pub(crate) releases: BTreeMap<String, Vec<Revision>>,
    pub(crate) objects: BTreeMap<ObjectReference, Object>,
    /// Volume claims that were ever made.
    pub(crate) claims: BTreeSet<ObjectReference>,
    /// Until when it does not answer.
    pub(crate) away_until: i64,
    /// How long a finalizer keeps objects, in milliseconds.
    pub(crate) lingering: i64,
    /// How rarely objects are slow, stuck or broken, in parts of a thousand.
    pub(crate) unready: u32,
    /// How rarely an apply is refused for good, in parts of a thousand.
    pub(crate) refused: u32,
    /// Requests that land after their senders are gone, and the fence of the record that each is about.
    pub(crate) late: Vec<Option<(Request, Option<String>)>>,
    /// The fence of the record that such a request of whoever lands right now was about.
    pub(crate) late_fence: Option<String>,
    /// Whether such a request lands right now.
    pub(crate) lands_late: bool,
    /// Objects that such requests applied: nobody could know of them.
    pub(crate) strays: BTreeSet<ObjectReference>,
    /// Job → revisions that it ever deployed.
    pub(crate) deployed: BTreeMap<String, BTreeSet<(String, u32)>>,
    /// Whether it is looked at for what nobody owns.
    pub(crate) is_registered: bool,
    lots: BTreeMap<String, Lot>,
    /// Manifest → the secret that stands in it, and that whatever runs of it says.
    secrets: BTreeMap<String, String>,
    /// Hooks that are there.
    pub(crate) hooks: BTreeMap<ObjectReference, HookObject>,
    /// Jobs that took away a release with hooks.
    pub(crate) uninstalled: BTreeSet<String>,
    /// Runs of hooks that were ever begun.
    hook_runs: BTreeSet<String>,
}

/// A hook that was created.
#[derive(Debug, Clone)]
pub(crate) struct HookObject {
    /// The job that had it run, its event and its number.
    pub(crate) uid: String,
    release: String,
    /// When it ends; never, if absent.
    ends_at: Option<i64>,
    fails: bool,
    /// What it says.
    says: String,
}

/// A change of the cluster.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    MakeNamespace {
        name: String,
        deployment: Option<DeploymentId>,
    },
    /// Begins a revision; refused if there is one of that number.
    Begin {
        release: String,
        revision: Revision,
    },
    /// Changes a record's status.
    Mark {
        release: String,
        number: u32,
        status: ReleaseStatus,
    },
    /// Marks a revision as deployed and those that were as superseded.
    Forget {
        release: String,
        number: u32,
    },
    Apply {
        release: String,
        object: ObjectReference,
        manifest: String,
    },
    Delete {
        release: String,
        object: ObjectReference,
    },
    DeleteNamespace {
        name: String,
        deployment: DeploymentId,
    },
}

impl HookObject {
    /// The job that had it run.
    pub(crate) fn job(&self) -> &str {
        self.uid.split(' ').next().unwrap_or_default()
    }

    /// Whether it never ends by itself.
    pub(crate) fn is_endless(&self) -> bool {
        self.ends_at.is_none()
    }
}

impl Cloud {
    /// Whether there are hooks of a release.
    pub(crate) fn has_hooks(&self, release: &str) -> bool {
        self.hooks.values().any(|hook| hook.release == release)
    }

    /// Deletes the hooks of a release.
    pub(crate) fn delete_hooks(&mut self, release: &str) {
        self.hooks.retain(|_, hook| hook.release != release);
    }

    /// Whether a job had hooks of an event run.
    pub(crate) fn had_hooks_run(&self, job: &str, event: HookEvent) -> bool {
        let prefix = format!("{job} {event} ");
        let mut after = self.hook_runs.range(prefix.clone()..);
        after.next().is_some_and(|run| run.starts_with(&prefix))
    }
}

impl Request {
    /// The release that it is about.
    pub(crate) fn release(&self) -> Option<&str> {
        match self {
            Self::MakeNamespace { .. } | Self::DeleteNamespace { .. } => None,
            Self::Begin { release, .. }
            | Self::Mark { release, .. }
            | Self::Forget { release, .. }
            | Self::Apply { release, .. }
            | Self::Delete { release, .. } => Some(release),
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Exists,
    Absent,
    NoNamespace,
    Foreign(String),
}

pub(crate) fn is_claim(object: &ObjectReference) -> bool {
    object.kind == "PersistentVolumeClaim"
}

pub(crate) fn name_of(release: &Release) -> String {
    format!("{}/{}", release.namespace, release.name)
}

fn namespace_of(release: &str) -> &str {
    release.split('/').next().unwrap_or_default()
}

impl Cloud {
    /// The newest record.
    pub(crate) fn newest(&self, release: &str) -> Option<&Revision> {
        self.releases
            .get(release)?
            .iter()
            .max_by_key(|revision| revision.number)
    }

    /// Under which fence the record was made that a request would mark.
    pub(crate) fn fence_of(&self, request: &Request) -> Option<String> {
        let Request::Mark { release, number, .. } = request else {
            return None;
        };
        let revisions = self.releases.get(release)?;
        let revision = revisions.iter().find(|revision| revision.number == *number)?;
        revision.labels.get("slipway-fence").cloned()
    }

    /// Objects of a release that are there.
    pub(crate) fn objects_of<'a>(
        &'a self,
        release: &'a str,
    ) -> impl Iterator<Item = (&'a ObjectReference, &'a Object)> {
        self.objects
            .iter()
            .filter(move |(_, object)| object.release == release)
    }

    /// Drops objects whose finalizers are done.
    pub(crate) fn settle(&mut self, now: i64) {
        self.objects
            .retain(|_, object| object.deleting.is_none_or(|until| until > now));
    }

    /// What is said by whatever runs of a manifest: what it was given, secrets as well.
    pub(crate) fn says(&self, manifest: &str) -> String {
        let secret = self.secrets.get(manifest);
        secret.map_or_else(String::new, |secret| format!("I was given {secret}"))
    }

    /// Keeps the secrets of values, which are not to be seen in what is rendered.
    pub(crate) fn learn_secrets(&mut self, manifest: &str, values: &JsonMap) {
        let mut texts = values.values().filter_map(Value::as_str);
        if let Some(secret) = texts.find(|text| text.contains(SECRET)) {
            self.secrets.insert(manifest.to_owned(), secret.to_owned());
        }
    }

    /// Why an object is not ready; nothing if it is.
    pub(crate) fn wait(&self, reference: &ObjectReference, now: i64) -> Option<(JobWait, bool)> {
        let found = self.objects.get(reference);
        let wait = |reason: &str| JobWait {
            object: reference.to_string(),
            reason: reason.to_owned(),
            message: found.map_or_else(String::new, |object| self.says(&object.manifest)),
        };
        let Some(object) = found else {
            return Some((wait("NotFound"), false));
        };
        if object.deleting.is_some() {
            return Some((wait("Terminating"), false));
        }
        if object.fails {
            return Some((wait("Failed"), true));
        }
        match object.ready_at {
            Some(at) if at <= now => None,
            _ => Some((wait("Progressing"), false)),
        }
    }
}

impl World {
    /// What becomes of the objects of a release that are applied now. All of one manifest share it.
    fn lot(&mut self, release: &str, manifest: &str) -> Lot {
        let key = format!("{release} {manifest}");
        if let Some(lot) = self.cloud.lots.get(&key) {
            return *lot;
        }
        let (unready, late) = (self.cloud.unready, i64::from(self.choices.below(4)) * 700);
        let lot = if self.choices.once_in_a_while(unready) {
            match self.choices.below(3) {
                0 => Lot::Ready(i64::from(self.choices.below(60)) * 1000),
                1 => Lot::Never,
                _ => Lot::Fails,
            }
        } else {
            Lot::Ready(late)
        };
        self.cloud.lots.insert(key, lot);
        lot
    }

    /// Creates a hook, unless this run of it is there.
    pub(crate) fn make_hook(&mut self, release: &str, hook: &Hook, uid: &str) {
        let object = &hook.object;
        let is_there = self.cloud.hooks.get(object).is_some_and(|found| found.uid == uid);
        if is_there && !self.has(crate::mutants::Mutant::HookAgain) {
            return;
        }
        if !self.cloud.hook_runs.insert(uid.to_owned()) {
            self.violated(
                crate::check::Invariant::AHookRunsOnce,
                format_args!("{uid} of release {release}"),
            );
        }
        let unready = self.cloud.unready;
        let time = i64::from(self.choices.below(3)) * 900;
        let (ends_at, fails) = if self.choices.once_in_a_while(unready / 2) {
            match self.choices.below(2) {
                0 => (Some(self.now + time), true),
                _ => (None, false),
            }
        } else {
            (Some(self.now + time), false)
        };
        let hook = HookObject {
            uid: uid.to_owned(),
            release: release.to_owned(),
            ends_at,
            fails,
            says: self.cloud.says(&hook.manifest),
        };
        self.cloud.hooks.insert(object.clone(), hook);
    }

    /// Performs a request.
    pub(crate) fn perform(&mut self, request: &Request) -> Result<(), Refusal> {
        if self
            .actor()
            .and_then(|actor| self.tasks.get(&actor))
            .is_some_and(|task| task.looks)
        {
            self.violated(
                crate::check::Invariant::LooksChangeNothing,
                format_args!("{request:?} by who was to look"),
            );
        }
        let now = self.now;
        self.cloud.settle(now);
        if self.trace.is_some() {
            let line = format!("{request:?}");
            self.say(format_args!("  cluster: {line}"));
        }
        match request {
            Request::MakeNamespace { name, deployment } => {
                self.cloud.namespaces.entry(name.clone()).or_insert(Namespace {
                    created_for: *deployment,
                });
                Ok(())
            }
            Request::Begin { release, revision } => {
                self.check_revision(release, revision);
                if !self.cloud.namespaces.contains_key(namespace_of(release)) {
                    return Err(Refusal::NoNamespace);
                }
                let revisions = self.cloud.releases.entry(release.clone()).or_default();
                if revisions.iter().any(|other| other.number == revision.number) {
                    return Err(Refusal::Exists);
                }
                revisions.push(revision.clone());
                Ok(())
            }
            Request::Mark {
                release,
                number,
                status,
            } => {
                if *status == ReleaseStatus::Uninstalling {
                    self.note_uninstall(release, *number);
                }
                self.mark(release, *number, *status)
            }
            Request::Forget { release, number } => {
                let Some(revisions) = self.cloud.releases.get_mut(release) else {
                    return Err(Refusal::Absent);
                };
                revisions.retain(|revision| revision.number != *number);
                if revisions.is_empty() {
                    self.cloud.releases.remove(release);
                }
                Ok(())
            }
            Request::Apply {
                release,
                object,
                manifest,
            } => self.apply_object(release, object, manifest),
            Request::Delete { release, object } => {
                let until = now + self.cloud.lingering;
                if let Some(found) = self.cloud.objects.get_mut(object)
                    && found.release == *release
                {
                    found.deleting.get_or_insert(until);
                    if is_claim(object) {
                        self.violated(
                            crate::check::Invariant::ClaimsAreNeverDeleted,
                            format_args!("{object} of {release}"),
                        );
                    }
                }
                self.cloud.settle(now);
                Ok(())
            }
            Request::DeleteNamespace { name, deployment } => {
                if !self.cloud.lands_late {
                    self.checks.made_late.remove(name);
                }
                let mut all = self.cloud.objects.keys().chain(self.cloud.hooks.keys());
                let is_empty = !all.any(|object| object.namespace == *name)
                    && !self
                        .cloud
                        .releases
                        .keys()
                        .any(|release| namespace_of(release) == name);
                if is_empty
                    && self
                        .cloud
                        .namespaces
                        .get(name)
                        .is_some_and(|namespace| namespace.created_for == Some(*deployment))
                {
                    self.cloud.namespaces.remove(name);
                }
                Ok(())
            }
        }
    }

    /// Notes that a job takes away a release with hooks.
    fn note_uninstall(&mut self, release: &str, number: u32) {
        let mut all = self.cloud.releases.get(release).into_iter().flatten();
        let found = all.find(|one| one.number == number);
        let is_hooked = found.is_some_and(|one| !hook_events(&one.manifest).is_empty());
        let lease = self
            .actor()
            .and_then(|actor| self.tasks.get(&actor)?.lease.clone());
        if let Some((_, job, _)) = lease.filter(|_| is_hooked) {
            self.cloud.uninstalled.insert(job);
        }
    }

    fn mark(&mut self, release: &str, number: u32, status: ReleaseStatus) -> Result<(), Refusal> {
        let Some(revisions) = self.cloud.releases.get_mut(release) else {
            return Err(Refusal::Absent);
        };
        let Some(revision) = revisions.iter_mut().find(|revision| revision.number == number) else {
            return Err(Refusal::Absent);
        };
        revision.status = status;
        let is_anothers = revision.labels.get("slipway-fence") != self.cloud.late_fence.as_ref();
        let (job, was) = (revision.job().to_owned(), revision.was_deployed);
        if status == ReleaseStatus::Deployed {
            revision.was_deployed = true;
            for other in revisions.iter_mut() {
                if other.number != number && other.status == ReleaseStatus::Deployed {
                    other.status = ReleaseStatus::Superseded;
                }
            }
            let made = self.cloud.deployed.entry(job.clone()).or_default();
            // A dead upgrade is marked failed, and one on its way may be marked deployed yet when the next is there. The
            // record of a dead first install is gone; the next one's may stand in its place.
            let is_upgrade = revisions
                .iter()
                .any(|one| one.number < number && one.was_deployed);
            let is_nobodys = self.cloud.lands_late && (is_upgrade || is_anothers);
            if !was && !is_nobodys {
                made.insert((release.to_owned(), number));
            }
            if made.len() > 1 && !job.is_empty() {
                let made = format!("job {job} deployed {made:?}");
                self.violated(crate::check::Invariant::OneDeployedRevisionPerIntent, made);
            }
        } else if self.cloud.lands_late && is_anothers {
            // Undone by a Helm that died before this record was made: whoever deploys it again has to.
            let made = self.cloud.deployed.entry(job).or_default();
            made.remove(&(release.to_owned(), number));
        }
        Ok(())
    }

    fn apply_object(
        &mut self,
        release: &str,
        object: &ObjectReference,
        manifest: &str,
    ) -> Result<(), Refusal> {
        if !self.cloud.namespaces.contains_key(&object.namespace) {
            return Err(Refusal::NoNamespace);
        }
        if let Some(found) = self.cloud.objects.get(object) {
            if found.release != release {
                return Err(Refusal::Foreign(found.release.clone()));
            }
            if found.manifest == manifest && found.deleting.is_none() {
                return Ok(());
            }
        }
        let lot = if is_claim(object) {
            Lot::Ready(0)
        } else {
            self.lot(release, manifest)
        };
        if is_claim(object) {
            self.cloud.claims.insert(object.clone());
        }
        if self.cloud.lands_late {
            self.cloud.strays.insert(object.clone());
        } else {
            self.cloud.strays.remove(object);
        }
        let deleting = self.cloud.objects.get(object).and_then(|object| object.deleting);
        let now = self.now;
        self.cloud.objects.insert(
            object.clone(),
            Object {
                release: release.to_owned(),
                manifest: manifest.to_owned(),
                ready_at: match lot {
                    Lot::Ready(after) => Some(now + after),
                    Lot::Never | Lot::Fails => None,
                },
                fails: lot == Lot::Fails,
                changed: None,
                deleting,
            },
        );
        Ok(())
    }
}
