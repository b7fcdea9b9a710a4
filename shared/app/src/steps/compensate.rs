//! `on_failure: rollback`: what was changed is undone in reverse order of dependency, as a linked execution.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use serde_json::{Value, json};
use slipway_model::{
    CHUNK_SIZE, Dag, DagSettings, DagStep, ExecutionId, Job, JobId, JobStatus, JsonMap, Node, NodeKind,
    Retry, RunCondition, StepRecord, StepStatus,
};
use uuid::Uuid;

use crate::{
    AppError,
    deployments::{KEPT, UNDO, UNINSTALLED},
    executions::{NewExecution, each_chunk},
    jobs::{FIRST_INSTALL, TAKEN_AWAY, UNDOES, is_superseded},
    keys,
    steps::drive::Drive,
};

/// Steps that change a cluster and can be undone.
const UNDOABLE: [&str; 2] = ["helm_deploy", "deployment_create"];

/// Most edges of a plan that undoes. With more, one step comes after the other, which needs no more than one each.
const MOST_EDGES: usize = 20_000;

/// A step that is undone by one of that ordinal.
type Undone = BTreeMap<u32, DagStep>;

/// The id of the execution that undoes another one.
pub(crate) fn compensation_of(undone: ExecutionId) -> ExecutionId {
    ExecutionId(Uuid::new_v5(&undone.0, b"compensation"))
}

impl Drive<'_> {
    /// The execution that undoes this one, if it was written.
    pub(super) async fn compensation(&mut self) -> Result<Option<ExecutionId>, AppError> {
        let id = compensation_of(self.header.id);
        let key = keys::execution(&self.header.tenant, id);
        Ok(self.session.get(&key).await?.map(|_| id))
    }

    /// Writes the execution that undoes this one; nothing if there is nothing to undo. Its id is derived, so that a
    /// repeat finds it. Reads the plan and the records by chunks, and of each release that was changed the newest job
    /// that tells how to undo that.
    pub(super) async fn compensate(&mut self) -> Result<Option<ExecutionId>, AppError> {
        let mut nodes: Vec<Node> = Vec::new();
        for first in (0..self.header.node_count).step_by(CHUNK_SIZE as usize) {
            if let Some(chunk) = self.app.chunk(&self.header, first).await? {
                nodes.extend(chunk.nodes.iter().cloned());
            }
        }
        let mut changed: Vec<(u32, StepRecord)> = Vec::new();
        each_chunk(self.app, &self.header, |_, records| {
            changed.extend(
                records
                    .iter()
                    .filter(|(_, record)| may_have_changed(record))
                    .cloned(),
            );
            Ok(())
        })
        .await?;
        let mut steps = Undone::new();
        let mut kept: Vec<&str> = Vec::new();
        let mut uninstalled: Vec<&Value> = Vec::new();
        for (ordinal, record) in changed {
            let Some(node) = nodes
                .get(ordinal as usize)
                .filter(|node| node.kind == NodeKind::Step)
            else {
                continue;
            };
            if node.action == "helm_uninstall" && record.status == StepStatus::Completed {
                uninstalled.extend(node.params.get("release_name"));
            }
            if !UNDOABLE.contains(&node.action.as_str()) {
                continue;
            }
            for id in jobs_of(&record) {
                let Some(job) = self.app.load_job(&self.header.tenant, id).await? else {
                    continue;
                };
                if has_adopted(&job) {
                    kept.push(node.id.as_str());
                } else if let Some(mut step) = undo(&node.id, &job) {
                    let undone = self.app.undone(&job).await?;
                    step.params.insert(UNDOES.to_owned(), json!(undone));
                    steps.insert(ordinal, step);
                } else {
                    continue;
                }
                break;
            }
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let mut outputs = JsonMap::new();
        if !kept.is_empty() {
            outputs.insert(KEPT.to_owned(), json!(kept));
        }
        // Only what is said of a deployment reads it, and a deployment has not too many.
        if !uninstalled.is_empty() && self.header.deployment_id.is_some() {
            outputs.insert(UNINSTALLED.to_owned(), json!(uninstalled));
        }
        order(&nodes, &mut steps);
        let id = compensation_of(self.header.id);
        let default = DagSettings::default();
        let dag = Dag {
            name: format!("undo-{}", self.header.name),
            version: self.header.version.clone(),
            description: format!("Undoes what execution {} changed", self.header.id),
            parameters: JsonMap::new(),
            settings: DagSettings {
                timeout_seconds: self.header.settings.timeout_seconds.max(default.timeout_seconds),
                ..default
            },
            // What depends on others stands before them in the plan of what is undone.
            steps: steps.into_values().rev().collect(),
            outputs,
            callback_topics: self.header.callback_topics.clone(),
        };
        let mut new = NewExecution::of(id, self.header.tenant.clone(), dag);
        new.compensates = Some(self.header.id);
        new.secrets_read = self.header.secrets_read.clone();
        new.deployment = self.header.deployment_id;
        // Its jobs come after those that they undo, and before whatever the deployment is turned to next.
        new.generation = self.header.generation;
        self.app.write_execution(self.session.as_mut(), new).await?;
        Ok(Some(id))
    }
}

/// Seconds within which a release is to be ready, and within which its job is to end, where nobody says more.
const USUAL_TIMEOUT: u64 = 600;
const USUAL_LIMIT: u64 = 3600;

/// Whether a job of a step may have changed something that its own end did not take back.
fn may_have_changed(record: &StepRecord) -> bool {
    let has_ended = matches!(
        record.status,
        StepStatus::Completed | StepStatus::Failed | StepStatus::TimedOut
    );
    has_ended && !record.kept && jobs_of(record).next().is_some()
}

/// The jobs of a step, newest first. The last attempt may have ended before it came to one, or its job before it came
/// to the release, and what an earlier one began is still there.
fn jobs_of(record: &StepRecord) -> impl Iterator<Item = JobId> {
    let earlier = record.attempts.iter().rev();
    record
        .job_id
        .into_iter()
        .chain(earlier.filter_map(|attempt| attempt.job_id))
}

/// Whether a first install failed or was cancelled and is there all the same, although it was to be taken away.
fn may_be_left(job: &Job) -> bool {
    let was_to_go = match job.status {
        JobStatus::Failed | JobStatus::TimedOut => job.config["delete_on_failure"] != false,
        JobStatus::Cancelled => {
            job.cancel.as_ref().is_some_and(|cancel| cancel.uninstall) && !is_superseded(job)
        }
        _ => false,
    };
    was_to_go && job.config["adopt"] != true && job.metadata_.get(TAKEN_AWAY) != Some(&json!(true))
}

/// Whether a job installed something over what was there before, so that uninstalling it would take that away.
fn has_adopted(job: &Job) -> bool {
    let first = job.metadata_.get(FIRST_INSTALL) == Some(&json!(true));
    first && job.status == JobStatus::Succeeded && job.config["adopt"] == true
}

/// The step that undoes a job, whether or not those before it can be undone: what was installed first is uninstalled,
/// what was there before goes back to the revision that it had. A first install that failed was taken away by its own
/// job, unless it was to stay or that could not be done.
fn undo(step: &str, job: &Job) -> Option<DagStep> {
    let succeeded = job.status == JobStatus::Succeeded;
    let first = job.metadata_.get(FIRST_INSTALL) == Some(&json!(true));
    let has_something_to_undo = match first {
        true => succeeded || may_be_left(job),
        false => succeeded || job.replaces_revision.is_some(),
    };
    if !has_something_to_undo {
        return None;
    }
    // What takes an hour to come up takes an hour to come back; what was given too little gets what is usual.
    let ready_in = job.config["timeout"]
        .as_u64()
        .unwrap_or_default()
        .max(USUAL_TIMEOUT);
    let mut params = JsonMap::from_iter([
        ("cluster_id".to_owned(), json!(job.cluster_id)),
        ("timeout".to_owned(), json!(ready_in)),
    ]);
    let mut same = vec!["release_name", "namespace"];
    if let (false, Some(revision)) = (first, job.replaces_revision) {
        params.insert("revision".to_owned(), json!(revision));
        same.extend(["wait", "health_checks", "immutable"]);
    }
    for name in same {
        if let Some(value) = job.config.get(name) {
            // The step renders what its parameters say, and this was rendered before.
            params.insert(name.to_owned(), slipway_dag::literal_value(value));
        }
    }
    Some(DagStep {
        id: format!("{UNDO}{step}"),
        action: if first { "helm_uninstall" } else { "helm_rollback" }.to_owned(),
        depends_on: Vec::new(),
        params,
        run: RunCondition::Always,
        when: None,
        retry: Some(Retry {
            max_attempts: 3,
            ..Retry::default()
        }),
        timeout_seconds: Some(job.timeout_seconds.max(USUAL_LIMIT)),
        outputs: BTreeMap::new(),
    })
}

/// Has every step undone after those that came after it and are undone, too.
fn order(nodes: &[Node], steps: &mut Undone) {
    let Some(edges) = nearest_after(nodes, steps) else {
        let mut after: Option<String> = None;
        for step in steps.values_mut().rev() {
            step.depends_on = after.into_iter().collect();
            after = Some(step.id.clone());
        }
        return;
    };
    let ids: BTreeMap<u32, String> = steps
        .iter()
        .map(|(ordinal, step)| (*ordinal, step.id.clone()))
        .collect();
    for (ordinal, step) in steps.iter_mut() {
        let after = edges.get(ordinal).into_iter().flat_map(|after| after.iter());
        step.depends_on = after.filter_map(|after| ids.get(after).cloned()).collect();
    }
}

/// Step that is undone → those among its descendants that are undone and are not behind another one. Nothing if that
/// is too much.
fn nearest_after(nodes: &[Node], steps: &Undone) -> Option<BTreeMap<u32, Rc<BTreeSet<u32>>>> {
    let mut after: BTreeMap<u32, Rc<BTreeSet<u32>>> = BTreeMap::new();
    let mut edges = 0;
    for node in nodes.iter().rev() {
        let seen_from = |next: u32| -> Rc<BTreeSet<u32>> {
            match steps.contains_key(&next) {
                true => Rc::new(BTreeSet::from([next])),
                false => after.get(&next).cloned().unwrap_or_default(),
            }
        };
        let found = match &node.successors[..] {
            [only] => seen_from(only.ordinal),
            several => {
                let mut all = BTreeSet::new();
                for next in several {
                    all.extend(seen_from(next.ordinal).iter().copied());
                    edges += 1;
                }
                edges += all.len();
                Rc::new(all)
            }
        };
        if steps.contains_key(&node.ordinal) {
            edges += found.len();
        }
        if edges > MOST_EDGES {
            return None;
        }
        after.insert(node.ordinal, found);
    }
    Some(after)
}
