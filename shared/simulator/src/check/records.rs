//! Checks of every write.

use serde::Deserialize;
use serde_json::Value;
use slipway_model::{
    Deployment, DeploymentStatus, Execution, ExecutionStatus, HelmOperation, Job, JobStatus, NodeKind,
    OnFailure, PlanChunk, RunCondition, StepRecord, StepStatus, Timestamp,
};
use slipway_ports::{Key, ReleaseStatus};

use super::{Invariant, Kind, execution_of, kind};
use crate::{cluster::Revision, store::Row, world::World};

/// A record as it stands, if it is of that shape.
pub(super) fn read<T: serde::de::DeserializeOwned>(row: &Row) -> Option<T> {
    serde_json::from_str(&row.item.body).ok()
}

/// The status that a record says. Most writes change nothing else of interest, and reading whole records takes most of
/// the time that checking takes.
fn status<S: serde::de::DeserializeOwned>(row: &Row) -> Option<S> {
    #[derive(Deserialize)]
    struct Of<S> {
        status: S,
    }
    read::<Of<S>>(row).map(|of| of.status)
}

/// The key of a step.
pub(super) fn step_key(execution: &str, ordinal: u32) -> Key {
    Key::new(
        format!("{execution}/c{:05}", ordinal / slipway_model::CHUNK_SIZE),
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
            Kind::Step(execution, ordinal) => self.check_step(key, execution, ordinal, old, new),
            Kind::Job(id) => {
                self.check_fence(key, id);
                self.check_job(key, old, new);
            }
            Kind::JobWork(id) => self.check_fence(key, id),
            Kind::Deployment => self.check_deployment(key, old, new),
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
            .entry(execution_of(&key.partition).to_owned())
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
        let steps: Vec<(u32, String)> = self
            .checks
            .plans
            .get(&key.partition)
            .into_iter()
            .flat_map(|plan| plan.names.iter().map(|(name, ordinal)| (*ordinal, name.clone())))
            .collect();
        let mut failed = None;
        let mut changed = None;
        for (ordinal, name) in steps {
            let record: Option<StepRecord> = self.newest(&step_key(&key.partition, ordinal));
            match record {
                Some(record) if record.status.is_terminal() => {
                    if matches!(record.status, StepStatus::Failed | StepStatus::TimedOut) {
                        failed = Some(name);
                    } else if record.status == StepStatus::Completed
                        && !record.kept
                        && self.installs(&key.partition, ordinal)
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
        if let (ExecutionStatus::Completed, Some(name)) = (new, failed) {
            self.violated(
                Invariant::AnExecutionEndsAsItsStepsDid,
                format_args!("{key} is COMPLETED although step '{name}' failed"),
            );
        }
        if let (ExecutionStatus::Failed | ExecutionStatus::TimedOut, Some(name)) = (new, changed)
            && let Some(header) = row.and_then(read::<Execution>)
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
    fn installs(&self, execution: &str, ordinal: u32) -> bool {
        self.checks
            .plans
            .get(execution)
            .and_then(|plan| plan.nodes.get(&ordinal))
            .is_some_and(|node| matches!(node.action.as_str(), "helm_deploy" | "deployment_create"))
    }

    fn check_step(&mut self, key: &Key, execution: &str, ordinal: u32, old: Option<&Row>, new: Option<&Row>) {
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
        // What an earlier execution completed is kept by writing it before the header.
        let is_planned = self.tables.newest(&Key::new(execution, "x")).0.is_some();
        if before.is_none() && is_planned {
            self.check_dependencies(key, execution, ordinal, &after);
        }
        if after.status == StepStatus::Completed
            && is_planned
            && let Some(id) = after.job_id
        {
            let tenant = execution.split('/').next().unwrap_or_default();
            let job: Option<Job> = self.newest(&Key::new(format!("{tenant}/j/{id}"), "j"));
            if job.is_none_or(|job| job.status != JobStatus::Succeeded) {
                self.violated(
                    Invariant::AJobTellsTheTruth,
                    format_args!("step {key} is COMPLETED although its job {id} has not succeeded"),
                );
            }
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

    /// Everything before a step, through joins and forks.
    fn steps_before(&self, execution: &str, ordinal: u32) -> Vec<u32> {
        let Some(plan) = self.checks.plans.get(execution) else {
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

    fn check_dependencies(&mut self, key: &Key, execution: &str, ordinal: u32, record: &StepRecord) {
        let run = self
            .checks
            .plans
            .get(execution)
            .and_then(|plan| plan.nodes.get(&ordinal))
            .map(|node| node.run)
            .unwrap_or_default();
        for before in self.steps_before(execution, ordinal) {
            let found: Option<StepRecord> = self.newest(&step_key(execution, before));
            let ended = found.as_ref().is_some_and(|found| found.status.is_terminal());
            let satisfied = found.as_ref().is_some_and(|found| found.satisfied);
            let starts = matches!(
                record.status,
                StepStatus::Running
                    | StepStatus::AwaitingEvent
                    | StepStatus::Retrying
                    | StepStatus::Completed
            );
            // A cancelled execution's steps end without waiting for each other.
            let unstarted = record.status == StepStatus::Cancelled || record.attempt == 0;
            if (!ended && !unstarted) || (starts && run == RunCondition::Success && !satisfied) {
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
    }

    /// A job is written by whoever holds its release, if anybody does.
    fn check_fence(&mut self, key: &Key, id: &str) {
        let Some(task) = self.actor().and_then(|actor| self.tasks.get(&actor)) else {
            return;
        };
        let Some((owner, job, fence)) = task.lease.clone() else {
            return;
        };
        if job != id {
            return;
        }
        let now: Option<Value> = self.newest(&owner);
        let newest = now.and_then(|owner| owner["fence"].as_u64()).unwrap_or_default();
        if newest <= fence {
            return;
        }
        // The working record of a job that has ended is read by nobody.
        let stored = self.tables.newest(&Key::new(&*key.partition, "j")).0;
        if stored
            .and_then(status::<JobStatus>)
            .is_some_and(JobStatus::is_terminal)
        {
            return;
        }
        self.violated(
            Invariant::AFencedOutWriterChangesNothing,
            format_args!("{key} is written under fence {fence}; the release has fence {newest}"),
        );
    }

    fn check_owner(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let before = old.and_then(read::<Value>).unwrap_or_default();
        let after = new.and_then(read::<Value>).unwrap_or_default();
        let fence = after["fence"].as_u64().unwrap_or_default();
        if before["fence"].as_u64() == Some(fence) {
            return;
        }
        let until: Option<Timestamp> = serde_json::from_value(before["lease_until"].clone()).ok();
        let is_live = before["epoch"] == self.epoch.to_string().as_str()
            && until.is_some_and(|until| until.as_millis() > self.now);
        let is_own = before["job"] == after["job"] && before["busy"] == false;
        if is_live && !is_own {
            self.violated(
                Invariant::LiveClaimsAreRespected,
                format_args!("{key}: {before} is replaced by {after}"),
            );
        }
        let job = after["job"].as_str().unwrap_or_default().to_owned();
        if let Some(task) = self.actor().and_then(|actor| self.tasks.get_mut(&actor)) {
            task.lease = Some((key.clone(), job, fence));
        }
    }

    fn check_job(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let before = old.and_then(status::<JobStatus>);
        let Some(after) = new.and_then(status::<JobStatus>) else {
            return;
        };
        if let Some(before) = before
            && before.is_terminal()
        {
            if before != after {
                self.violated(
                    Invariant::TerminalStatesNeverChange,
                    format_args!("job {key} was {before:?} and becomes {after:?}"),
                );
            }
            return;
        }
        if after == JobStatus::Succeeded
            && let Some(job) = new.and_then(read::<Job>)
        {
            self.check_success(key, &job);
        }
    }

    /// A job is about to be recorded as succeeded.
    fn check_success(&mut self, key: &Key, job: &Job) {
        let text = |name: &str| job.config[name].as_str().unwrap_or_default().to_owned();
        let release = format!("{}/{}", text("namespace"), text("release_name"));
        if self.checks.tainted.contains(&release) {
            return;
        }
        let operation: HelmOperation =
            serde_json::from_value(job.config["operation"].clone()).unwrap_or_default();
        let wait = job.config["wait"] != false;
        let now = self.now;
        let lie = match operation {
            HelmOperation::Deploy | HelmOperation::Rollback => match self.cloud.newest(&release) {
                None => Some("there is no such release".to_owned()),
                Some(newest) if newest.status != ReleaseStatus::Deployed => {
                    Some(format!("the release is {:?}", newest.status))
                }
                Some(newest) if newest.job() != job.id.to_string() && !is_kept(job, newest) => {
                    Some(format!("the release was deployed by job {}", newest.job()))
                }
                Some(newest) if wait => newest
                    .objects
                    .iter()
                    .find_map(|object| self.cloud.wait(object, now))
                    .map(|(wait, _)| format!("{wait}")),
                Some(_) => None,
            },
            HelmOperation::Uninstall => self.what_is_left(&release),
            HelmOperation::Test => None,
        };
        if let Some(lie) = lie {
            self.violated(
                Invariant::AJobTellsTheTruth,
                format_args!("job {key} ({operation:?} of {release}) succeeds, but {lie}"),
            );
        }
    }

    /// What is left of a release that should be gone.
    pub(super) fn what_is_left(&self, release: &str) -> Option<String> {
        if let Some(newest) = self.cloud.newest(release) {
            return Some(format!("release {release} is {:?}", newest.status));
        }
        let left = self
            .cloud
            .objects_of(release)
            .find(|(object, _)| !crate::cluster::is_claim(object) && !self.cloud.strays.contains(object));
        if let Some((object, _)) = left {
            return Some(format!("{object} is still there"));
        }
        None
    }

    fn check_deployment(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let was = old.and_then(status::<DeploymentStatus>);
        let Some(new) = new else { return };
        let Some(is) = status::<DeploymentStatus>(new) else {
            return;
        };
        if was == Some(DeploymentStatus::Deleted) && is != DeploymentStatus::Deleted {
            self.violated(
                Invariant::TerminalStatesNeverChange,
                format_args!("deployment {key} was DELETED and becomes {is:?}"),
            );
        }
        if was == Some(is) {
            return;
        }
        match (is, read::<Deployment>(new)) {
            (DeploymentStatus::Running, Some(deployment)) => self.check_running(key, &deployment),
            (DeploymentStatus::Deleted, Some(deployment)) => self.check_deleted(key, &deployment),
            _ => {}
        }
    }

    /// A deployment that says that it runs.
    pub(super) fn check_running(&mut self, key: &Key, deployment: &Deployment) {
        let components: Vec<Value> = self
            .tables
            .partition(&key.partition, "component/")
            .filter_map(|(_, row)| read(row))
            .collect();
        for component in components {
            if component["removed"] == true {
                continue;
            }
            // The conditions of all templates of a run ask for a greater size.
            let is_small = deployment.parameters.get("size").and_then(Value::as_u64) <= Some(2);
            if component["status"] == "STOPPED" && is_small {
                continue;
            }
            let name = component["release_name"].as_str().unwrap_or_default();
            let release = format!("{}/{name}", deployment.namespace);
            if self.checks.tainted.contains(&release) {
                continue;
            }
            let newest = self.cloud.newest(&release);
            let owner = newest.and_then(|newest| newest.labels.get("slipway-deployment"));
            let is_deployed = newest.is_some_and(|newest| newest.status == ReleaseStatus::Deployed)
                && owner == Some(&deployment.id.to_string());
            if !is_deployed {
                let status = newest.map(|newest| newest.status);
                self.violated(
                    Invariant::RunningMeansDeployed,
                    format_args!("deployment {key} is RUNNING while release {release} is {status:?}"),
                );
            }
        }
    }

    /// A deployment that says that it is gone.
    pub(super) fn check_deleted(&mut self, key: &Key, deployment: &Deployment) {
        let prefix = format!("{}/", deployment.namespace);
        let releases: Vec<String> = self
            .cloud
            .releases
            .keys()
            .cloned()
            .chain(self.cloud.objects.values().map(|object| object.release.clone()))
            .filter(|release| release.starts_with(&prefix) && !self.checks.tainted.contains(release))
            .collect();
        for release in releases {
            if let Some(left) = self.what_is_left(&release) {
                self.violated(
                    Invariant::DeletedMeansGone,
                    format_args!("deployment {key} is DELETED, but {left}"),
                );
                return;
            }
        }
    }
}

/// Whether a job kept what another job of its deployment made.
fn is_kept(job: &Job, newest: &Revision) -> bool {
    let deployment = job.deployment_id.map(|id| id.to_string());
    job.kept && deployment.as_deref() == newest.labels.get("slipway-deployment").map(String::as_str)
}
