//! What must hold after every step of a run, and once everything is at rest.

mod deployments;
mod effects;
mod events;
mod jobs;
mod late;
mod left;
mod looks;
mod records;
mod rest;
mod starts;
mod undone;

pub(crate) use looks::Looks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use slipway_model::{ExecutionId, Node};
use slipway_ports::Key;

use crate::{services::SECRET, tasks::TaskId, world::World};

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// A step starts only when everything before it has ended, and as it has to have ended.
    StepsWaitForTheirDependencies,
    /// A step begins, is tried again and is skipped only when, and as often as, it is to be.
    StepsStartAndStopAsTheyAreTo,
    /// Nothing is done outside before a durable record says that it is about to be done.
    NoEffectWithoutCommittedIntention,
    /// Every attempt's effect happens while its claim or lease holds.
    EffectsHappenUnderALiveFence,
    /// Two processes never write one release at the same time.
    OneWriterPerRelease,
    /// Whoever was fenced out changes neither the cluster nor what is stored of the job.
    AFencedOutWriterChangesNothing,
    /// A claim or lease that holds is taken from nobody.
    LiveClaimsAreRespected,
    /// What has ended stays as it ended: steps, executions, jobs, deleted deployments.
    TerminalStatesNeverChange,
    /// An execution ends only when all its steps have, and as they did.
    AnExecutionEndsAsItsStepsDid,
    /// A job that succeeded left the cluster as it says.
    AJobTellsTheTruth,
    /// A first install that did not succeed leaves nothing that was to go, unless its job says so.
    AFailedInstallLeavesNothing,
    /// What an execution changed and had undone is as it found it.
    UndoingRestores,
    /// What undoes an execution leaves what others made of a release since.
    UndoingLeavesOthers,
    /// A running deployment has all its releases deployed.
    RunningMeansDeployed,
    /// A retry keeps what completed, and an upgrade leaves alone what comes out as it is.
    WhatIsTheSameStays,
    /// Nothing is left of a deleted deployment.
    DeletedMeansGone,
    /// A step that asks for a cluster's health waits while the cluster is away, and for as long as it has; what waiting
    /// does not change ends it at once. No job fails because it waits for its turn with Helm.
    BlockedIsNotFailed,
    /// Events say what is stored, and not before it is.
    EventsAgreeWithTheStore,
    /// What ended was told.
    EveryEndIsTold,
    /// Once nothing goes wrong any more, everything ends.
    EverythingEnds,
    /// Nothing multiplies: messages and work stay in proportion to what there is to do.
    WorkIsBounded,
    /// Every release, object, hook and namespace belongs to somebody, or is reported.
    TheClusterIsAccountedFor,
    /// One intent deploys at most one revision.
    OneDeployedRevisionPerIntent,
    /// Volume claims stay.
    ClaimsAreNeverDeleted,
    /// A hook runs once for each change that it belongs to.
    AHookRunsOnce,
    /// Every repeat of a call has the same idempotency key.
    IdempotencyKeysAreConstant,
    /// What must not be repeated is done once.
    OnceMeansOnce,
    /// Secrets are in no record, message, event or blob.
    SecretsStaySecret,
    /// Percentages are from 0 to 100, never fall, and say 100 of nothing that runs.
    ProgressIsSane,
    /// Looking at a cluster changes nothing on it.
    LooksChangeNothing,
    /// What others did is told as it is, all of it and nothing else.
    DriftIsToldAsItIs,
    /// A list names everything once.
    ListsNameOnce,
    /// Nobody does what the role does not cover.
    RolesAreKept,
    /// Requests that make no sense are refused, and do nothing.
    NonsenseIsRefused,
    /// Callers and handlers get answers, never a failure of the control plane's own making.
    NoHandlerFailsByItself,
    /// Neither a handler nor the simulator panics.
    NothingPanics,
}

impl Invariant {
    /// What it says, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::StepsWaitForTheirDependencies => {
                "a step starts only when everything before it has ended, and as it has to have ended"
            }
            Self::StepsStartAndStopAsTheyAreTo => {
                "a step begins, is tried again and is skipped only when, and as often as, it is to be"
            }
            Self::WhatIsTheSameStays => "what completed, or comes out as it is, is not done again",
            Self::NoEffectWithoutCommittedIntention => {
                "nothing is done outside before a durable record says that it is about to be done"
            }
            Self::EffectsHappenUnderALiveFence => {
                "every attempt's effect happens while its claim or lease holds"
            }
            Self::OneWriterPerRelease => "two processes never write one release at the same time",
            Self::AFencedOutWriterChangesNothing => {
                "whoever was fenced out changes neither the cluster nor what is stored of the job"
            }
            Self::LiveClaimsAreRespected => "a claim or lease that holds is taken from nobody",
            Self::TerminalStatesNeverChange => "what has ended stays as it ended",
            Self::AnExecutionEndsAsItsStepsDid => {
                "an execution ends only when all its steps have, and as they did"
            }
            Self::AJobTellsTheTruth => "a job that succeeded left the cluster as it says",
            Self::AFailedInstallLeavesNothing => {
                "a first install that did not succeed leaves nothing that was to go, unless its job says so"
            }
            Self::UndoingRestores => "what an execution changed and had undone is as it found it",
            Self::UndoingLeavesOthers => {
                "what undoes an execution leaves what others made of a release since"
            }
            Self::RunningMeansDeployed => "a running deployment has all its releases deployed",
            Self::DeletedMeansGone => "nothing is left of a deleted deployment",
            Self::BlockedIsNotFailed => "what is blocked waits for as long as it has, and nothing else does",
            Self::EventsAgreeWithTheStore => "events say what is stored, and not before it is",
            Self::EveryEndIsTold => "what ended was told",
            Self::EverythingEnds => "once nothing goes wrong any more, everything ends",
            Self::WorkIsBounded => "messages and work stay in proportion to what there is to do",
            Self::TheClusterIsAccountedFor => {
                "every release, object, hook and namespace belongs to somebody, or is reported"
            }
            Self::OneDeployedRevisionPerIntent => "one intent deploys at most one revision",
            Self::ClaimsAreNeverDeleted => "volume claims stay",
            Self::AHookRunsOnce => "a hook runs once for each change that it belongs to",
            Self::IdempotencyKeysAreConstant => "every repeat of a call has the same idempotency key",
            Self::OnceMeansOnce => "what must not be repeated is done once",
            Self::SecretsStaySecret => "secrets are in no record, message, event or blob",
            Self::ProgressIsSane => "percentages are from 0 to 100 and say 100 of nothing that runs",
            Self::LooksChangeNothing => "looking at a cluster changes nothing on it",
            Self::DriftIsToldAsItIs => "what others did is told as it is, all of it and nothing else",
            Self::ListsNameOnce => "a list names everything once",
            Self::RolesAreKept => "nobody does what the role does not cover",
            Self::NonsenseIsRefused => "requests that make no sense are refused",
            Self::NoHandlerFailsByItself => {
                "callers and handlers get answers, never a failure of the control plane's own making"
            }
            Self::NothingPanics => "nothing panics",
        }
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is broken: {}\n  {}",
            self.invariant,
            self.invariant.sentence(),
            self.what
        )
    }
}

/// A plan, as far as it was written.
#[derive(Debug, Default)]
struct Plan {
    nodes: BTreeMap<u32, Node>,
    names: BTreeMap<String, u32>,
}

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) tasks_started: u32,
    /// Messages that were received, but for events.
    pub(crate) worked_on: u64,
    /// Calls that callers made, and turns of the schedule.
    pub(crate) calls: u32,
    /// `tenant/x/id/name` → the plan of that name.
    plans: BTreeMap<String, Plan>,
    /// Step → who claimed it under which fence.
    claimed: BTreeMap<Key, (u64, Option<TaskId>)>,
    /// Execution or job, step or nothing, and event types that were told of it.
    told: BTreeSet<(String, String, String)>,
    /// Release → the Helm process that works on it.
    writing: BTreeMap<String, TaskId>,
    /// Release → what requests did to it that landed after their senders were gone.
    late: BTreeMap<String, late::Late>,
    /// Namespaces that were made by a request that landed after its sender was gone, until whoever deletes their
    /// deployment could find them. The looks must tell of them.
    pub(crate) made_late: BTreeSet<String>,
    /// Deployment, as `tenant/d/id` → its generation, and since when.
    generations: BTreeMap<String, (u64, i64)>,
    /// Deployment, as `tenant/d/id` → what its history says of the releases that it is let go with.
    let_go: BTreeMap<String, String>,
    /// Execution, as `tenant/x/id` → since when nothing starts in it.
    closed: BTreeMap<String, starts::Closed>,
    /// Execution and release → what its first job found of it.
    found: BTreeMap<(ExecutionId, String), undone::Found>,
    /// Execution → the last percentage that was seen.
    percent: BTreeMap<String, f64>,
}

/// What a key stands for.
enum Kind<'a> {
    Header,
    Chunk,
    Step(&'a str, u32),
    Job(&'a str),
    JobWork(&'a str),
    Deployment,
    History,
    Component,
    Owner,
    Other,
}

/// The plan `tenant/x/id/name` of one of its chunks.
fn plan_of(partition: &str) -> &str {
    partition.rsplit_once('/').map_or(partition, |(plan, _)| plan)
}

fn kind(key: &Key) -> Kind<'_> {
    let mut parts = key.partition.split('/');
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    match (first, second, third, key.sort.as_str()) {
        (Some("release"), _, _, "owner") => Kind::Owner,
        (_, Some("x"), _, "x") => Kind::Header,
        (_, Some("x"), _, "plan") => Kind::Chunk,
        (_, Some("x"), _, sort) => match sort.strip_prefix('s').and_then(|ordinal| ordinal.parse().ok()) {
            Some(ordinal) => Kind::Step(plan_of(&key.partition), ordinal),
            None => Kind::Other,
        },
        (_, Some("j"), Some(id), "j") => Kind::Job(id),
        (_, Some("j"), Some(id), "work") => Kind::JobWork(id),
        (_, Some("d"), _, "d") => Kind::Deployment,
        (_, Some("d"), _, sort) if sort.starts_with("history/") => Kind::History,
        (_, Some("d"), _, sort) if sort.starts_with("component/") => Kind::Component,
        _ => Kind::Other,
    }
}

impl World {
    /// A text that is stored or sent.
    pub(crate) fn check_body(&mut self, what: &str, body: &str) {
        if body.contains(SECRET) {
            let start: String = body.chars().take(300).collect();
            self.violated(Invariant::SecretsStaySecret, format_args!("{what}: {start}"));
        }
    }

    /// Rows whose newest states were lost with a commit or a crash.
    pub(crate) fn check_loss<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            self.checks.claimed.remove(key);
            if key.sort == "x" {
                self.checks.closed.remove(&key.partition);
            }
        }
    }
}
