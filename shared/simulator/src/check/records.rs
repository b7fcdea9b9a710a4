//! Checks of every write, and those of executions and their steps.

use serde::Deserialize;
use serde_json::Value;
use slipway_model::{
    Execution, ExecutionStatus, Job, JobStatus, NodeKind, OnFailure, PlanChunk, StepRecord, StepStatus,
};
use slipway_ports::Key;

use super::{Invariant, Kind, kind, plan_of};
use crate::{
    cluster::target::{AWAY, REFUSED},
    store::Row,
    world::World,
};

/// A record as it stands, if it is of that shape.
pub(super) fn read<T: serde::de::DeserializeOwned>(row: &Row) -> Option<T> {
    serde_json::from_str(&row.item.body).ok()
}

/// The status that a record says. Most writes change nothing else of interest, and reading whole records takes most of
/// the time that checking takes.
pub(super) fn status<S: serde::de::DeserializeOwned>(row: &Row) -> Option<S> {
    #[derive(Deserialize)]
    struct Of<S> {
        status: S,
    }
    read::<Of<S>>(row).map(|of| of.status)
}

/// The plan `tenant/x/id/name` that an execution follows.
pub(super) fn plan_in(header: &Execution) -> String {
    format!("{}/x/{}/{}", header.tenant, header.id, header.plan)
}

/// The key of a step of a plan.
pub(super) fn step_key(plan: &str, ordinal: u32) -> Key {
    Key::new(
        format!("{plan}/c{:05}", ordinal / slipway_model::CHUNK_SIZE),
        format!("s{ordinal:05}"),
    )
}

impl World {
    /// A row is about to be written.
    pub(crate) fn check_write(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        if let Some(new) = new {
            if self.trace.is_some() {
                let line = format!("  write {key} v{}: {}", new.version, new.item.body);
                self.say(format_args!("{line}"));
            }
            let body = std::sync::Arc::clone(&new.item);
            self.check_body("item", &body.body);
        }
        match kind(key) {
            Kind::Header => self.check_header(key, old, new),
            Kind::Chunk => self.learn_plan(key, new),
            Kind::Step(plan, ordinal) => self.check_step(key, plan, ordinal, old, new),
            Kind::Job(id) => {
                self.check_fence(key, id, new);
                self.check_job(key, old, new);
            }
            Kind::JobWork(id) => self.check_fence(key, id, new),
            Kind::Deployment => self.check_deployment(key, old, new),
            Kind::History => self.learn_let_go(key, new),
            Kind::Component => self.check_component(key, new),
            Kind::Owner => self.check_owner(key, old, new),
            Kind::Other => {}
        }
    }

    fn learn_plan(&mut self, key: &Key, new: Option<&Row>) {
        let chunk = match new.and_then(read::<PlanChunk>) {
            Some(chunk) => chunk,
            // Large chunks stand in a blob, which the item names.
            None => {
                let named = new.and_then(read::<Value>).and_then(|item| {
                    item.as_object()?
                        .values()
                        .find_map(Value::as_str)
                        .map(str::to_owned)
                });
                let blob = named.and_then(|blob| self.folder.0.get(&blob).cloned());
                match blob.and_then(|blob| serde_json::from_slice(&blob).ok()) {
                    Some(chunk) => chunk,
                    None => return,
                }
            }
        };
        let plan = self
            .checks
            .plans
            .entry(plan_of(&key.partition).to_owned())
            .or_default();
        for node in chunk.nodes {
            if node.kind == NodeKind::Step {
                plan.names.insert(node.id.clone(), node.ordinal);
            }
            plan.nodes.insert(node.ordinal, node);
        }
    }

    pub(super) fn newest<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.tables.newest(key).0.and_then(read)
    }

    fn check_header(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let row = new;
        let Some(new) = new.and_then(status::<ExecutionStatus>) else {
            return;
        };
        let old = old.and_then(status::<ExecutionStatus>);
        if old.is_none() {
            self.coverage.executions += 1;
        }
        let header = row.and_then(read::<Execution>);
        if let Some(header) = &header {
            self.note_closing(key, header);
            if old.is_none() {
                self.check_repeat(key, header);
            }
        }
        if let Some(old) = old
            && old.is_terminal()
            && old != new
        {
            self.violated(
                Invariant::TerminalStatesNeverChange,
                format_args!("execution {key} was {old:?} and becomes {new:?}"),
            );
        }
        if !new.is_terminal() || old.is_some_and(|old| old.is_terminal()) {
            return;
        }
        let Some(header) = header else {
            return;
        };
        let followed = plan_in(&header);
        let steps: Vec<(u32, String)> = self
            .checks
            .plans
            .get(&followed)
            .into_iter()
            .flat_map(|plan| plan.names.iter().map(|(name, ordinal)| (*ordinal, name.clone())))
            .collect();
        let mut failed = None;
        let mut unsatisfied = None;
        let mut changed = None;
        for (ordinal, name) in steps {
            let record: Option<StepRecord> = self.newest(&step_key(&followed, ordinal));
            match record {
                Some(record) if record.status.is_terminal() => {
                    if !record.satisfied {
                        unsatisfied = Some(name.clone());
                    }
                    if matches!(record.status, StepStatus::Failed | StepStatus::TimedOut) {
                        failed = Some(name);
                    } else if record.status == StepStatus::Completed
                        && !record.kept
                        && self.installs(&followed, ordinal)
                    {
                        changed = Some(name);
                    }
                }
                other => {
                    let status = other.map(|record| record.status);
                    self.violated(
                        Invariant::AnExecutionEndsAsItsStepsDid,
                        format_args!("{key} becomes {new:?} while step '{name}' is {status:?}"),
                    );
                }
            }
        }
        if let (ExecutionStatus::Completed, Some(name)) = (new, &unsatisfied) {
            self.violated(
                Invariant::AnExecutionEndsAsItsStepsDid,
                format_args!("{key} is COMPLETED although step '{name}' did not complete"),
            );
        }
        let has_reason = match new {
            ExecutionStatus::Failed => failed.is_some(),
            ExecutionStatus::Cancelled => header.cancel.is_some(),
            ExecutionStatus::TimedOut => header.timed_out_at.is_some(),
            _ => true,
        };
        if !has_reason {
            self.violated(
                Invariant::AnExecutionEndsAsItsStepsDid,
                format_args!("{key} is {new:?} for no reason"),
            );
        }
        if let (ExecutionStatus::Failed | ExecutionStatus::TimedOut, Some(name)) = (new, changed)
            && header.settings.on_failure == OnFailure::Rollback
            && header.compensated_by.is_none()
        {
            self.violated(
                Invariant::AnExecutionEndsAsItsStepsDid,
                format_args!("{key} is {new:?} and nothing undoes step '{name}'"),
            );
        }
    }

    /// Whether a step installs something.
    fn installs(&self, plan: &str, ordinal: u32) -> bool {
        self.checks
            .plans
            .get(plan)
            .and_then(|plan| plan.nodes.get(&ordinal))
            .is_some_and(|node| matches!(node.action.as_str(), "helm_deploy" | "deployment_create"))
    }

    fn check_step(&mut self, key: &Key, plan: &str, ordinal: u32, old: Option<&Row>, new: Option<&Row>) {
        let before = old.and_then(read::<StepRecord>);
        let after = new.and_then(read::<StepRecord>);
        if let (Some(before), Some(old)) = (&before, old)
            && before.status.is_terminal()
            && new.is_none_or(|new| new.item.body != old.item.body)
        {
            let now = after.as_ref().map(|after| after.status);
            self.violated(
                Invariant::TerminalStatesNeverChange,
                format_args!("step {key} was {:?} and becomes {now:?}", before.status),
            );
        }
        self.check_claim(key, before.as_ref(), after.as_ref());
        let Some(after) = after else { return };
        self.check_blocked(key, plan, ordinal, before.as_ref(), &after);
        // What an earlier execution completed is kept by writing it before the header, which takes one plan.
        let header: Option<Execution> = match before {
            Some(_) if after.status != StepStatus::Completed => None,
            _ => self.newest(&Key::new(plan_of(plan), "x")),
        };
        let is_planned = header.is_some_and(|header| plan_in(&header) == plan);
        if before.is_none() && is_planned {
            self.check_beginning(key, plan, ordinal, &after);
        }
        if before.is_some() || is_planned {
            self.check_attempt(key, plan, ordinal, before.as_ref(), &after);
        }
        if after.status == StepStatus::Completed
            && is_planned
            && let Some(id) = after.job_id
        {
            let tenant = plan.split('/').next().unwrap_or_default();
            let job: Option<Job> = self.newest(&Key::new(format!("{tenant}/j/{id}"), "j"));
            if job.is_none_or(|job| job.status != JobStatus::Succeeded) {
                self.violated(
                    Invariant::AJobTellsTheTruth,
                    format_args!("step {key} is COMPLETED although its job {id} has not succeeded"),
                );
            }
        }
    }

    /// A look at a cluster's health ended, or put off, its step.
    fn check_blocked(
        &mut self,
        key: &Key,
        plan: &str,
        ordinal: u32,
        before: Option<&StepRecord>,
        after: &StepRecord,
    ) {
        let node = self
            .checks
            .plans
            .get(plan)
            .and_then(|plan| plan.nodes.get(&ordinal));
        if node.is_none_or(|node| node.action != "cluster_health") {
            return;
        }
        if before.is_some_and(|before| after.fence < before.fence) {
            // A claim that was taken back: what stood before it says nothing new.
            return;
        }
        let said = after.blocked_by.as_ref().or(after.error_message.as_ref());
        let said = said.map_or("", String::as_str);
        let is_of_execution = said.starts_with("the execution passed its deadline");
        let had_time = before
            .and_then(|before| before.deadline)
            .is_some_and(|deadline| deadline.as_millis() > self.now);
        let is_right = match after.status {
            StepStatus::AwaitingEvent => !said.contains(REFUSED),
            StepStatus::Failed => !said.contains(AWAY),
            StepStatus::Retrying if said.contains(REFUSED) => false,
            StepStatus::Retrying => !(said.contains(AWAY) && had_time),
            StepStatus::TimedOut => is_of_execution || !(said.contains(AWAY) && had_time),
            _ => true,
        };
        if !is_right {
            let status = after.status;
            self.violated(
                Invariant::BlockedIsNotFailed,
                format_args!("step {key} becomes {status:?}: {said}"),
            );
        }
    }

    fn check_claim(&mut self, key: &Key, before: Option<&StepRecord>, after: Option<&StepRecord>) {
        let actor = self.actor();
        if let Some(before) = before
            && before.status == StepStatus::Running
            && before.epoch == self.epoch.to_string()
            && before
                .lease_until
                .is_some_and(|until| until.as_millis() > self.now)
            && let Some((fence, holder)) = self.checks.claimed.get(key)
            && *fence == before.fence
            && *holder != actor
        {
            let now = after.map(|after| after.status);
            self.violated(
                Invariant::LiveClaimsAreRespected,
                format_args!(
                    "step {key} is claimed under fence {} and becomes {now:?}",
                    before.fence
                ),
            );
        }
        if let Some(after) = after
            && after.status == StepStatus::Running
        {
            self.checks.claimed.insert(key.clone(), (after.fence, actor));
            if let Some(task) = actor.and_then(|actor| self.tasks.get_mut(&actor)) {
                task.claims.push((key.clone(), after.fence));
            }
        }
    }
}
