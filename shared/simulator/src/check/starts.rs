//! Checks of what begins: steps, their attempts, and what a repeat begins again.

use slipway_model::{
    Deployment, DeploymentOperation, Execution, FailureKind, Job, JobStatus, Node, NodeKind, OnFailure,
    RunCondition, StepRecord, StepStatus,
};
use slipway_ports::Key;

use super::{
    Invariant, plan_of,
    records::{plan_in, read, step_key},
};
use crate::{tasks::TaskId, world::World};

/// When something was written that others must have seen: whoever wrote it, and whoever began once it was durable.
#[derive(Debug, Clone, Copy)]
struct Since {
    by: Option<TaskId>,
    /// How many tasks had begun when it was.
    durable: Option<u32>,
}

impl Since {
    fn is_known_to(self, task: TaskId) -> bool {
        self.by == Some(task) || self.durable.is_some_and(|tasks| task.0 >= tasks)
    }
}

/// Since when nothing starts in an execution any more.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// Neither steps nor attempts: it was cancelled, or its deadline passed.
    stopped: Option<Since>,
    /// No step that waits for success: one failed, and the execution stops on failures.
    failing: Option<Since>,
}

/// Whether the execution stops on failures and one was recorded.
fn is_failing(header: &Execution) -> bool {
    header.failure.is_some() && header.settings.on_failure != OnFailure::Continue
}

fn is_stopped(header: &Execution) -> bool {
    header.cancel.is_some() || header.timed_out_at.is_some()
}

/// Whether a step does something by getting there, or has done it.
fn is_begun(status: StepStatus) -> bool {
    matches!(
        status,
        StepStatus::Running | StepStatus::AwaitingEvent | StepStatus::Retrying | StepStatus::Completed
    )
}

impl World {
    /// Remembers since when an execution begins nothing new.
    pub(super) fn note_closing(&mut self, key: &Key, header: &Execution) {
        if !is_stopped(header) && !is_failing(header) {
            return;
        }
        let now = Since {
            by: self.actor(),
            durable: None,
        };
        let closed = self.checks.closed.entry(key.partition.clone()).or_default();
        if is_stopped(header) {
            closed.stopped.get_or_insert(now);
        }
        if is_failing(header) {
            closed.failing.get_or_insert(now);
        }
    }

    /// What was written of a row is durable.
    pub(crate) fn check_durable(&mut self, key: &Key) {
        if key.sort != "x" || !self.checks.closed.contains_key(&key.partition) {
            return;
        }
        let header: Option<Execution> = self.tables.settled(key).and_then(read);
        let tasks = self.checks.tasks_started;
        if let (Some(header), Some(closed)) = (header, self.checks.closed.get_mut(&key.partition)) {
            for (since, is_closed) in [
                (&mut closed.stopped, is_stopped(&header)),
                (&mut closed.failing, is_failing(&header)),
            ] {
                if let Some(since) = since.as_mut().filter(|_| is_closed) {
                    since.durable.get_or_insert(tasks);
                }
            }
        }
    }

    fn node(&self, plan: &str, ordinal: u32) -> Option<&Node> {
        let node = self.checks.plans.get(plan)?.nodes.get(&ordinal)?;
        (node.kind == NodeKind::Step).then_some(node)
    }

    /// Everything before a step, through joins and forks.
    fn steps_before(&self, plan: &str, ordinal: u32) -> Vec<u32> {
        let Some(plan) = self.checks.plans.get(plan) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut open = plan
            .nodes
            .get(&ordinal)
            .map(|node| node.dependencies.clone())
            .unwrap_or_default();
        while let Some(next) = open.pop() {
            match plan.nodes.get(&next) {
                Some(node) if node.kind == NodeKind::Step => found.push(next),
                Some(node) => open.extend(&node.dependencies),
                None => {}
            }
        }
        found
    }

    /// A step's first record: everything before it has ended, and it begins or is skipped as that ended.
    pub(super) fn check_beginning(&mut self, key: &Key, plan: &str, ordinal: u32, record: &StepRecord) {
        let Some((run, has_condition)) = self
            .node(plan, ordinal)
            .map(|node| (node.run, node.when.is_some()))
        else {
            return;
        };
        let mut is_ok = true;
        for before in self.steps_before(plan, ordinal) {
            let found: Option<StepRecord> = self.newest(&step_key(plan, before));
            let ended = found.as_ref().is_some_and(|found| found.status.is_terminal());
            let satisfied = found.as_ref().is_some_and(|found| found.satisfied);
            is_ok &= satisfied;
            // A cancelled execution's steps end without waiting for each other.
            let unstarted = record.status == StepStatus::Cancelled || record.attempt == 0;
            let starts = is_begun(record.status) && run == RunCondition::Success;
            if (!ended && !unstarted) || (starts && !satisfied) {
                self.violated(
                    Invariant::StepsWaitForTheirDependencies,
                    format_args!(
                        "step {key} becomes {:?} while step {before}, which is before it, is {:?}",
                        record.status,
                        found.map(|found| (found.status, found.satisfied))
                    ),
                );
                return;
            }
        }
        let wrong = if record.attempt > 0 {
            (run == RunCondition::Failure && is_ok).then_some("begins, and nothing before it failed")
        } else if record.status == StepStatus::Skipped {
            let header: Option<Execution> = self.newest(&Key::new(plan_of(plan), "x"));
            let is_closed = header.is_some_and(|header| {
                is_stopped(&header) || (run == RunCondition::Success && is_failing(&header))
            });
            let is_meant = match run {
                RunCondition::Success => !is_ok,
                RunCondition::Failure => is_ok,
                RunCondition::Always => false,
            };
            let is_excluded = has_condition && record.satisfied;
            (!is_closed && !is_meant && !is_excluded).then_some("is skipped for no reason")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let said = record.error_message.as_deref().unwrap_or_default();
            self.violated(
                Invariant::StepsStartAndStopAsTheyAreTo,
                format_args!("step {key} ({run:?}) {wrong}: {said}"),
            );
        }
    }

    /// A step's record changes: no attempt begins when none may.
    pub(super) fn check_attempt(
        &mut self,
        key: &Key,
        plan: &str,
        ordinal: u32,
        before: Option<&StepRecord>,
        after: &StepRecord,
    ) {
        let Some((run, most)) = self
            .node(plan, ordinal)
            .map(|node| (node.run, node.retry.max_attempts.max(1)))
        else {
            return;
        };
        let is_put_off = after.status == StepStatus::Retrying
            && before.is_none_or(|before| before.status != StepStatus::Retrying);
        let begins = after.attempt > before.map_or(0, |before| before.attempt);
        let (mut is_stopped, mut is_failing) = (false, false);
        if let Some(closed) = self.checks.closed.get(plan_of(plan))
            && let Some(actor) = self.actor()
        {
            let is_known = |since: Option<Since>| since.is_some_and(|since| since.is_known_to(actor));
            (is_stopped, is_failing) = (is_known(closed.stopped), is_known(closed.failing));
        }
        let wrong = if begins && is_stopped {
            Some("begins an attempt although its execution was stopped")
        } else if begins && before.is_none() && run == RunCondition::Success && is_failing {
            Some("starts although another one failed")
        } else if is_put_off && is_stopped {
            Some("is to be tried again although its execution was stopped")
        } else if after.attempt + u32::from(is_put_off) > most {
            Some("has more attempts than it may")
        } else if is_put_off && self.is_for_good(plan, before) {
            Some("is to be tried again although its job failed for good")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.violated(
                Invariant::StepsStartAndStopAsTheyAreTo,
                format_args!(
                    "step {key} {wrong}: attempt {} of {most}, {:?}",
                    after.attempt, after.status
                ),
            );
        }
    }

    /// Whether the job that a step waited for ended in a way that the same again could not mend.
    fn is_for_good(&self, plan: &str, before: Option<&StepRecord>) -> bool {
        let tenant = plan.split('/').next().unwrap_or_default();
        let job: Option<Job> = before
            .and_then(|before| before.job_id)
            .and_then(|id| self.newest(&Key::new(format!("{tenant}/j/{id}"), "j")));
        job.is_some_and(|job| match job.status {
            JobStatus::Failed | JobStatus::TimedOut => job.failure_kind == Some(FailureKind::Permanent),
            JobStatus::Cancelled => true,
            _ => false,
        })
    }

    /// An execution begins: what the one completed that it repeats is kept.
    pub(super) fn check_repeat(&mut self, key: &Key, header: &Execution) {
        let deployment: Option<Deployment> = header
            .deployment_id
            .and_then(|id| self.newest(&Key::new(format!("{}/d/{id}", header.tenant), "d")));
        let is_retry = |deployment: &Deployment| {
            deployment.operation == Some(DeploymentOperation::Retry)
                && deployment.pipeline_execution_id == Some(header.id)
        };
        let Some(repeated) = deployment
            .filter(is_retry)
            .and_then(|deployment| deployment.earlier_execution_ids.last().copied())
        else {
            return;
        };
        let repeated: Option<Execution> =
            self.newest(&Key::new(format!("{}/x/{repeated}", header.tenant), "x"));
        // One that ended only after the retry was asked for may have been open when that was planned, and might have been
        // undone yet.
        let asked = header
            .deployment_id
            .and_then(|id| self.checks.generations.get(&format!("{}/d/{id}", header.tenant)))
            .map(|(_, since)| *since);
        let had_ended = |repeated: &Execution| {
            let ended = repeated.ended_at.map(|ended| ended.as_millis());
            repeated.status.is_terminal()
                && ended.is_some_and(|ended| asked.is_some_and(|asked| ended < asked))
        };
        let Some(repeated) =
            repeated.filter(|repeated| had_ended(repeated) && repeated.compensated_by.is_none())
        else {
            return;
        };
        let (was, is) = (plan_in(&repeated), plan_in(header));
        let (Some(old), Some(new)) = (self.checks.plans.get(&was), self.checks.plans.get(&is)) else {
            return;
        };
        let both: Vec<(u32, u32)> = old
            .names
            .iter()
            .filter_map(|(name, ordinal)| Some((*ordinal, *new.names.get(name)?)))
            .collect();
        for (old, new) in both {
            let completed = |record: Option<StepRecord>| {
                record.is_some_and(|record| record.status == StepStatus::Completed)
            };
            if completed(self.newest(&step_key(&was, old))) && !completed(self.newest(&step_key(&is, new))) {
                let id = repeated.id;
                self.violated(
                    Invariant::WhatIsTheSameStays,
                    format_args!("{key} begins step {new} again, which execution {id} completed"),
                );
                return;
            }
        }
    }
}
