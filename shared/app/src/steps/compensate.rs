//! `on_failure: rollback`: what completed is undone in reverse order, as a linked execution.

use serde_json::{Value, json};
use slipway_model::{Dag, DagSettings, DagStep, ExecutionId, Job, NodeKind, RunCondition, StepStatus};
use uuid::Uuid;

use crate::{AppError, executions::NewExecution, steps::drive::Drive};

/// Steps that change a cluster and can be undone.
const UNDOABLE: [&str; 2] = ["helm_deploy", "deployment_create"];

impl Drive<'_> {
    /// Writes the execution that undoes this one; nothing if there is nothing to undo. Its id is derived, so that a
    /// repeat finds it.
    pub(super) async fn compensate(&mut self) -> Result<Option<ExecutionId>, AppError> {
        let mut steps: Vec<DagStep> = Vec::new();
        let mut ordinal = self.header.node_count;
        while ordinal > 0 {
            ordinal -= 1;
            let Some(node) = self.node(ordinal).await? else {
                continue;
            };
            if node.kind != NodeKind::Step || !UNDOABLE.contains(&node.action.as_str()) {
                continue;
            }
            let Some((record, _)) = self.record(ordinal).await? else {
                continue;
            };
            let (StepStatus::Completed, Some(id)) = (record.status, record.job_id) else {
                continue;
            };
            let Some(job) = self.app.load_job(&self.header.tenant, id).await? else {
                continue;
            };
            steps.push(undo(&node.id, &job, steps.last().map(|step| step.id.clone())));
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let id = ExecutionId(Uuid::new_v5(&self.header.id.0, b"compensation"));
        let dag = Dag {
            name: format!("undo-{}", self.header.name),
            version: self.header.version.clone(),
            description: format!("Undoes what execution {} completed", self.header.id),
            parameters: slipway_model::JsonMap::new(),
            settings: DagSettings::default(),
            steps,
            outputs: slipway_model::JsonMap::new(),
            callback_topics: self.header.callback_topics.clone(),
        };
        let mut new = NewExecution::of(id, self.header.tenant.clone(), dag);
        new.compensates = Some(self.header.id);
        new.deployment = self.header.deployment_id;
        // Newer than what it undoes by its time, and older than whatever the deployment is turned to next.
        new.generation = self.header.generation;
        self.app.write_execution(self.session.as_mut(), new).await?;
        Ok(Some(id))
    }
}

/// A first install is uninstalled; an upgrade goes back to the newest revision before it that was ever deployed. Later ones are undone first, each
/// whether or not the one before could be.
fn undo(step: &str, job: &Job, after: Option<String>) -> DagStep {
    let first = job
        .metadata_
        .get("first_install")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let params = slipway_model::JsonMap::from_iter([
        ("cluster_id".to_owned(), json!(job.cluster_id)),
        ("release_name".to_owned(), job.config["release_name"].clone()),
        ("namespace".to_owned(), job.config["namespace"].clone()),
    ]);
    DagStep {
        id: format!("undo-{step}"),
        action: if first { "helm_uninstall" } else { "helm_rollback" }.to_owned(),
        depends_on: after.into_iter().collect(),
        params,
        run: RunCondition::Always,
        when: None,
        retry: None,
        timeout_seconds: None,
        outputs: std::collections::BTreeMap::new(),
    }
}
