//! Writing an execution: its plan first, its header last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use slipway_expr::{Path, Reference, Scope, collect_references};
use slipway_model::{
    CHUNK_SIZE, Dag, DagStep, DeploymentId, Execution, ExecutionId, ExecutionLook, ExecutionStatus,
    FieldError, JsonMap, Message, Node, Queue, StepRecord, StepStatus, TenantId, Timestamp, json_size,
};
use slipway_ports::{Guard, Item, Listing, Put, Session};

use super::outputs::digest;
use crate::{
    App, AppError, Caller, Role, keys,
    registry::ActionRegistry,
    steps::{few_messages, has_message_of_its_own, send_steps},
};

/// Largest header, as JSON: what a run adds to it has to fit into one item with it.
const LARGEST_HEADER: usize = 150 * 1024;

/// Longest delay of a message.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// An execution that is still open after this long is looked at, in case a message was lost, and then again and again.
const LOOK_AGAIN: Duration = Duration::from_secs(3 * 60);

/// A look reads the whole plan: one with more nodes than this is looked at less often, down to five times.
const SMALL_PLAN: u32 = 1024;

/// What an execution is made of.
pub(crate) struct NewExecution {
    /// Its id, chosen by whoever wants it, so that a repeat finds it.
    pub(crate) id: ExecutionId,
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// What to run.
    pub(crate) dag: Dag,
    /// Secret parameters: name → name in the secrets store.
    pub(crate) secret_parameters: BTreeMap<String, String>,
    /// Secrets that its steps do not read, although what they work on was given them.
    pub(crate) secrets_read: BTreeSet<String>,
    /// The deployment that it works for.
    pub(crate) deployment: Option<DeploymentId>,
    /// `deployment` in expressions.
    pub(crate) deployment_facts: JsonMap,
    /// The deployment's generation.
    pub(crate) generation: u64,
    /// Steps that are already done, with their outputs.
    pub(crate) kept: BTreeMap<String, JsonMap>,
    /// The execution that this one compensates.
    pub(crate) compensates: Option<ExecutionId>,
}

impl NewExecution {
    /// An execution of a DAG that belongs to nothing else.
    pub(crate) fn of(id: ExecutionId, tenant: TenantId, dag: Dag) -> Self {
        Self {
            id,
            tenant,
            dag,
            secret_parameters: BTreeMap::new(),
            secrets_read: BTreeSet::new(),
            deployment: None,
            deployment_facts: JsonMap::new(),
            generation: 0,
            kept: BTreeMap::new(),
            compensates: None,
        }
    }
}

impl App {
    /// Runs a DAG that a caller posted.
    ///
    /// # Errors
    /// 422 with every place where the DAG is invalid, also if its parameters and outputs are too large.
    pub async fn create_execution(&self, caller: &Caller, dag: Value) -> Result<Execution, AppError> {
        self.create_execution_as(caller, ExecutionId(self.ids.uuid()), dag)
            .await
    }

    /// Runs a DAG under an id that was chosen before; a repeat with the same id finds the first one.
    ///
    /// # Errors
    /// As [`create_execution`](Self::create_execution).
    pub async fn create_execution_as(
        &self,
        caller: &Caller,
        id: ExecutionId,
        dag: Value,
    ) -> Result<Execution, AppError> {
        caller.require(Role::Deployer)?;
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        let dag = slipway_dag::dag::check(dag, &ActionRegistry, &topics)
            .map_err(|errors| AppError::invalid("Invalid DAG", errors))?;
        let refused = |(index, step): (usize, &DagStep)| {
            let refused = self.refused_host(step.params.get("chart_ref")?.as_str()?)?;
            Some(FieldError::new(
                format!("steps[{index}].params.chart_ref"),
                refused,
            ))
        };
        let errors: Vec<FieldError> = dag.steps.iter().enumerate().filter_map(refused).collect();
        if !errors.is_empty() {
            return Err(AppError::invalid("Invalid DAG: Invalid Helm config", errors));
        }
        let mut session = self.store.session();
        let new = NewExecution::of(id, caller.tenant.clone(), dag);
        let execution = self.write_execution(session.as_mut(), new).await?;
        session.settle().await?;
        Ok(execution)
    }

    /// Writes an execution and sends its first steps. A repeat with the same id finds the first one and sends again.
    ///
    /// # Errors
    /// 422 when the DAG cannot be compiled; otherwise what the store says.
    pub(crate) async fn write_execution(
        &self,
        session: &mut dyn Session,
        new: NewExecution,
    ) -> Result<Execution, AppError> {
        let mut plan =
            slipway_dag::compile(&new.dag).map_err(|errors| AppError::invalid("Invalid DAG", errors))?;
        mark_effects(&mut plan.nodes);
        let now = self.clock.now();
        let (ready, kept) = first_nodes(&plan.nodes, &new.kept);
        let mut header = new_header(new, &plan, now);
        if json_size(&header) > LARGEST_HEADER {
            let limit = LARGEST_HEADER / 1024;
            let message = format!(
                "parameters, outputs and descriptions are larger than {limit} KiB together: pass large data by \
                 reference"
            );
            return Err(AppError::invalid(
                "Invalid DAG",
                vec![FieldError::new("parameters", message)],
            ));
        }
        let key = keys::execution(&header.tenant, header.id);
        let chunks: Vec<Item> = plan.into_chunks().iter().map(Item::of).collect();
        header.plan = name_of(&chunks, &kept);
        let plan = header.plan.clone();
        // What is there never changes, even if what it was made from has: a repeat only sends again.
        let header = match session.get(&key).await? {
            Some(stored) => stored.read()?,
            None => {
                for (first, chunk) in (0..).step_by(CHUNK_SIZE as usize).zip(chunks) {
                    self.write_chunk(session, &header, first, chunk).await?;
                }
                for (ordinal, outputs) in &kept {
                    let key = keys::step(&header, *ordinal);
                    let item = self
                        .step_item(&header, *ordinal, &kept_record(outputs.clone(), now))
                        .await?;
                    session.put(&key, item, Guard::Absent).await?;
                }
                match session
                    .put(&key, self.execution_item(&header), Guard::Absent)
                    .await?
                {
                    Put::Won(_) | Put::Lost(None) => header,
                    Put::Lost(Some(stored)) => stored.read()?,
                }
            }
        };
        if !header.status.is_terminal() {
            if header.plan == plan {
                // What is kept comes first: once anything else has begun, nobody looks whether that was told.
                let kept = kept.iter().map(|(ordinal, _)| *ordinal).collect();
                send_steps(session, &header, Vec::new(), kept);
                send_steps(session, &header, few_messages(ready), Vec::new());
            } else {
                // Somebody planned something else at the same time, and may have died before sending its first steps.
                let message = look_at(&header, ExecutionLook::Repair);
                session.send(Queue::ExecuteStep, message, Duration::ZERO);
            }
            let until_deadline = header.deadline.since(now);
            if until_deadline <= LONGEST_DELAY {
                let message = look_at(&header, ExecutionLook::Control);
                session.send(Queue::ExecuteStep, message, until_deadline);
            }
        }
        Ok(header)
    }

    /// The header of an execution.
    pub(crate) async fn load_execution(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
    ) -> Result<Option<Execution>, AppError> {
        Ok(match self.store.get(&keys::execution(tenant, id)).await? {
            Some(stored) => Some(stored.read()?),
            None => None,
        })
    }
}

fn look_at(header: &Execution, look: ExecutionLook) -> Message {
    Message::Execution {
        tenant: header.tenant.clone(),
        execution: header.id,
        look,
    }
}

/// The name of a plan: the same nodes with the same kept outputs have the same one.
fn name_of(chunks: &[Item], kept: &[KeptNode]) -> String {
    let kept = Item::of(&kept).body;
    let chunks = chunks.iter().map(|chunk| chunk.body.as_bytes());
    digest(chunks.chain([kept.as_bytes()]))
}

/// The ordinal of a node that is kept, and its outputs.
type KeptNode = (u32, JsonMap);

/// Nodes that can start, as (ordinal, whether it has an effect outside), and nodes that are kept, with their outputs.
fn first_nodes(nodes: &[Node], kept: &BTreeMap<String, JsonMap>) -> (Vec<(u32, bool)>, Vec<KeptNode>) {
    let kept_nodes = nodes
        .iter()
        .filter_map(|node| Some((node.ordinal, kept.get(&node.id)?.clone())))
        .collect();
    let ready = nodes
        .iter()
        .filter(|node| node.dependencies.is_empty() && !kept.contains_key(&node.id))
        .map(|node| (node.ordinal, crate::steps::has_effect(node)))
        .collect();
    (ready, kept_nodes)
}

fn kept_record(outputs: JsonMap, now: Timestamp) -> StepRecord {
    StepRecord {
        status: StepStatus::Completed,
        attempt: 0,
        fence: 0,
        lease_until: None,
        epoch: String::new(),
        deadline: None,
        wake_at: None,
        blocked_by: None,
        times_blocked: 0,
        job_id: None,
        outputs,
        outputs_blob: None,
        error_message: None,
        satisfied: true,
        started_at: None,
        ended_at: Some(now),
        attempts: Vec::new(),
        kept: true,
        approval: None,
    }
}

/// Says at every edge whether it leads to a node that gets a message of its own.
fn mark_effects(nodes: &mut [Node]) {
    let own: Vec<bool> = nodes.iter().map(has_message_of_its_own).collect();
    for successor in nodes.iter_mut().flat_map(|node| &mut node.successors) {
        successor.effect = own[successor.ordinal as usize];
    }
}

/// The names of the secrets that steps read.
fn secrets_read(steps: &[DagStep]) -> impl Iterator<Item = String> {
    let values = steps.iter().flat_map(|step| step.params.values());
    let read = values.flat_map(|value| collect_references(value, &Path::root(), Scope::VALUES).references);
    read.filter_map(|(_, read)| match read.reference {
        Reference::Secret { name } => Some(name),
        _ => None,
    })
}

fn new_header(new: NewExecution, plan: &slipway_dag::Plan, now: Timestamp) -> Execution {
    let deadline = now.plus(Duration::from_secs(new.dag.settings.timeout_seconds));
    let mut names = new.secrets_read;
    if new.deployment.is_none() {
        names.extend(secrets_read(&new.dag.steps));
    }
    Execution {
        id: new.id,
        tenant: new.tenant,
        name: new.dag.name,
        version: new.dag.version,
        description: new.dag.description,
        status: ExecutionStatus::Running,
        parameters: new.dag.parameters,
        secret_parameters: new.secret_parameters,
        secrets_read: names,
        settings: new.dag.settings,
        outputs: new.dag.outputs,
        output_reads: plan.output_reads.clone(),
        plan: String::new(),
        callback_topics: new.dag.callback_topics,
        step_count: u32::try_from(new.dag.steps.len()).unwrap_or(u32::MAX),
        node_count: u32::try_from(plan.nodes.len()).unwrap_or(u32::MAX),
        deployment_id: new.deployment,
        deployment: new.deployment_facts,
        generation: new.generation,
        compensates: new.compensates,
        compensated_by: None,
        not_undone: None,
        created_at: now,
        ended_at: None,
        deadline,
        cancel: None,
        timed_out_at: None,
        failure: None,
    }
}

impl App {
    /// The item of a header: due at its deadline while it runs, at once when it was cancelled, listed, and kept for a
    /// while once it has ended.
    pub(crate) fn execution_item(&self, header: &Execution) -> Item {
        let look = match &header.cancel {
            Some(cancel) => cancel.at,
            None => {
                let size = header.node_count.div_ceil(SMALL_PLAN).clamp(1, 5);
                self.clock.now().plus(LOOK_AGAIN * size)
            }
        };
        let due = (!header.status.is_terminal()).then_some(look.min(header.deadline));
        let status = serde_json::to_value(header.status)
            .ok()
            .and_then(|status| status.as_str().map(str::to_owned));
        let mut item = Item::of(header).due_at(due).listed(Listing {
            list: format!("{}/executions", header.tenant),
            position: format!("{:015}/{}", header.created_at.as_millis(), header.id),
            attributes: BTreeMap::from([("status".to_owned(), status.unwrap_or_default())]),
        });
        item.expires_at = self.kept_until(header.ended_at);
        item
    }
}
