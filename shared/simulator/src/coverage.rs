//! What a run, or many, went through.

use std::{collections::BTreeMap, fmt};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An invocation died between two calls.
    Crash,
    /// The whole process died.
    Kill,
    /// A call to a port failed, with or without effect.
    CallFails,
    /// A call took longer than anybody allows for.
    Stall,
    /// A message was received twice.
    Duplicate,
    /// An index was read as it was some seconds ago.
    StaleIndex,
    /// A commit failed, and with it everything that rested on it.
    CommitFails,
    /// A request to a cluster failed.
    ClusterFails,
    /// A cluster could not be connected to.
    ConnectFails,
    /// All places for Helm were taken.
    Crowded,
    /// Helm was ended without a chance to say so.
    HelmKilled,
    /// Helm was asked to end at its time limit.
    HelmStopped,
    /// A request landed after who sent it was gone.
    LateRequest,
    /// An invocation was not finished in time.
    TimeUp,
    /// A message failed as often as it was received.
    GivenUp,
    /// A message became a dead letter.
    DeadLetter,
    /// The machine slept for longer than any claim or lease.
    Slept,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 17] = [
        Self::Crash,
        Self::Kill,
        Self::CallFails,
        Self::Stall,
        Self::Duplicate,
        Self::StaleIndex,
        Self::CommitFails,
        Self::ClusterFails,
        Self::ConnectFails,
        Self::Crowded,
        Self::HelmKilled,
        Self::HelmStopped,
        Self::LateRequest,
        Self::TimeUp,
        Self::GivenUp,
        Self::DeadLetter,
        Self::Slept,
    ];
}

/// What has to come of something in enough runs.
const ENDS: [&str; 24] = [
    "component excluded",
    "deployment Deleted",
    "deployment Failed",
    "deployment Pending",
    "deployment Running",
    "deployment Stopped",
    "deployment let go",
    "execution Cancelled",
    "execution Completed",
    "execution Failed",
    "execution TimedOut",
    "failed install",
    "hook left",
    "job Cancelled",
    "job Failed",
    "job Pending",
    "job Succeeded",
    "job TimedOut",
    "release undone",
    "step Cancelled",
    "step Completed",
    "step Failed",
    "step Skipped",
    "step TimedOut",
];

/// Counts over one run or many.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// What executions, jobs, steps and deployments came to.
    pub ends: BTreeMap<String, u64>,
    /// Executions that were begun.
    pub executions: u64,
    /// Messages that were handled.
    pub messages: u64,
    /// Times that a task was polled.
    pub polls: u64,
    /// Runs.
    pub seeds: u64,
}

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn end(&mut self, what: String) {
        *self.ends.entry(what).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (end, count) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        self.executions += other.executions;
        self.messages += other.messages;
        self.polls += other.polls;
        self.seeds += other.seeds;
    }

    /// Faults and ends that never came, although enough runs have them all.
    pub fn never(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
        let ends = ENDS.iter().filter(|end| !self.ends.contains_key(**end));
        faults
            .map(|fault| format!("{fault:?}"))
            .chain(ends.map(|end| (*end).to_owned()))
            .collect()
    }

    /// Faults in all.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} executions, {} messages, {} polls, {} faults",
            self.seeds,
            self.executions,
            self.messages,
            self.polls,
            self.faults()
        )?;
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(fault, count)| format!("{fault:?} {count}"))
            .collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        let ends: Vec<String> = self
            .ends
            .iter()
            .map(|(end, count)| format!("{end} {count}"))
            .collect();
        write!(f, "ends: {}", ends.join(", "))
    }
}
