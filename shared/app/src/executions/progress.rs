//! Progress: derived from the steps, never counted.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_engine::{eta_seconds, percent};
use slipway_model::{
    CHUNK_SIZE, Event, EventType, Execution, ExecutionId, ExecutionLook, ExecutionProgress, ExecutionStatus,
    Message, NodeKind, PlanChunk, Queue, StepProgress, StepRecord, StepStatus, TenantId, Timestamp,
};
use slipway_ports::{Guard, Item};

use crate::{App, AppError, Caller, keys};

/// Progress events of one execution are at least this far apart, or as many times this as it has [`PROGRESS_NODES`]:
/// deriving progress reads every record, and must cost no more of the time the longer the plan is.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// The most that is said of an execution that runs, in percent.
const ALMOST: f64 = 99.9;

/// Nodes whose progress is worth deriving every [`PROGRESS_PAUSE`].
const PROGRESS_NODES: u32 = 16 * CHUNK_SIZE;

/// Most bytes of outputs, as JSON, that a list of steps is told with: what answers may hold on AWS, where they are told as
/// text in which each quote takes two.
const OUTPUTS: usize = 2 << 20;

/// Leaves out outputs beyond what a list of steps may hold, the last ones first, and says where they are.
fn fit(steps: &mut [StepProgress], execution: &str) {
    let mut left = OUTPUTS;
    for step in steps {
        let size = slipway_model::json_size(&step.outputs);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => {
                let note = format!(
                    "the outputs are {size} bytes, too many for this list; they are read at /api/v1/executions/{execution}/steps/{}",
                    step.step_id
                );
                step.outputs = [("outputs_left_out".to_owned(), note.into())]
                    .into_iter()
                    .collect();
            }
        }
    }
}

/// Calls `visit` with every chunk of an execution and the records of its steps, in order.
pub(crate) async fn each_chunk(
    app: &App,
    header: &Execution,
    mut visit: impl FnMut(u32, &[(u32, StepRecord)]) -> Result<(), AppError> + Send,
) -> Result<(), AppError> {
    for first in (0..header.node_count).step_by(CHUNK_SIZE as usize) {
        let partition = keys::plan(header, first).partition;
        let page = app
            .store
            .query(&partition, "s", None, CHUNK_SIZE as usize)
            .await?;
        let mut records = Vec::with_capacity(page.items.len());
        for stored in page.items {
            let ordinal = stored.key.sort[1..].parse().unwrap_or(u32::MAX);
            records.push((ordinal, stored.read::<StepRecord>()?));
        }
        visit(first, &records)?;
    }
    Ok(())
}

impl App {
    /// Progress of an execution that a caller names; with each step if `steps`.
    ///
    /// # Errors
    /// 404.
    pub async fn execution_progress(
        &self,
        caller: &Caller,
        id: &str,
        steps: bool,
    ) -> Result<ExecutionProgress, AppError> {
        let header = self.execution(caller, id).await?;
        let mut progress = self.progress_of_header(&header, steps).await?;
        if let Some(steps) = &mut progress.steps {
            fit(steps, id);
        }
        Ok(progress)
    }

    /// One step as [`execution_progress`](Self::execution_progress) lists it, with all of its outputs.
    ///
    /// # Errors
    /// As that; 404 if there is no such step.
    pub async fn execution_step(
        &self,
        caller: &Caller,
        id: &str,
        step: &str,
    ) -> Result<StepProgress, AppError> {
        let header = self.execution(caller, id).await?;
        let list = self.step_list(&header).await?;
        let found = list.into_iter().find(|one| one.step_id == step);
        found.ok_or_else(|| {
            AppError::not_found(format!(
                "step '{}' of execution '{}'",
                crate::shown(step),
                header.id
            ))
        })
    }

    /// Progress by id.
    pub(crate) async fn progress_of(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
        steps: bool,
    ) -> Result<ExecutionProgress, AppError> {
        let header = self.load_execution(tenant, id).await?;
        let header = header.ok_or_else(|| AppError::not_found(format!("execution '{id}'")))?;
        self.progress_of_header(&header, steps).await
    }

    /// Progress of an execution that was read before.
    pub(crate) async fn progress_of_header(
        &self,
        header: &Execution,
        steps: bool,
    ) -> Result<ExecutionProgress, AppError> {
        let mut finished = 0;
        let mut list = Vec::new();
        if header.status.is_terminal() && !steps {
            finished = header.step_count;
        } else if steps {
            list = self.step_list(header).await?;
            finished = u32::try_from(list.iter().filter(|step| step.status.is_terminal()).count())
                .unwrap_or(u32::MAX);
        } else {
            each_chunk(self, header, |_, records| {
                let ended = records
                    .iter()
                    .filter(|(_, record)| record.status.is_terminal())
                    .count();
                finished += u32::try_from(ended).unwrap_or(u32::MAX);
                Ok(())
            })
            .await?;
        }
        let error_message = slipway_engine::execution_event(header)
            .and_then(|event| event.payload["error_message"].as_str().map(str::to_owned))
            .or_else(|| {
                header
                    .failure
                    .as_ref()
                    .map(|failure| format!("step '{}' failed: {}", failure.step_id, failure.message))
            });
        let percent = percent(finished, header.step_count);
        Ok(ExecutionProgress {
            execution_id: header.id,
            status: header.status,
            // Its last step may have ended a moment before it does.
            percent: match header.status.is_terminal() {
                true => percent,
                false => percent.min(ALMOST),
            },
            finished_steps: finished,
            total_steps: header.step_count,
            eta_seconds: eta_seconds(header, finished, self.clock.now()),
            error_message,
            steps: steps.then_some(list),
        })
    }

    async fn step_list(&self, header: &Execution) -> Result<Vec<StepProgress>, AppError> {
        let mut chunks: Vec<Arc<PlanChunk>> = Vec::new();
        let mut records: Vec<Option<StepRecord>> = Vec::new();
        for first in (0..header.node_count).step_by(CHUNK_SIZE as usize) {
            let Some(chunk) = self.chunk(header, first).await? else {
                continue;
            };
            records.extend(chunk.nodes.iter().map(|_| None));
            chunks.push(chunk);
        }
        each_chunk(self, header, |_, found| {
            for (ordinal, record) in found {
                if let Some(place) = records.get_mut(*ordinal as usize) {
                    *place = Some(record.clone());
                }
            }
            Ok(())
        })
        .await?;
        let nodes: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.nodes).collect();
        let mut list = Vec::new();
        for node in nodes.iter().filter(|node| node.kind == NodeKind::Step) {
            let mut record = records.get_mut(node.ordinal as usize).and_then(Option::take);
            if let Some(record) = record.as_mut().filter(|record| record.outputs_blob.is_some()) {
                record.outputs = self.outputs_of(record.clone()).await?;
            }
            let mut depends_on = Vec::new();
            let mut open = node.dependencies.clone();
            while let Some(ordinal) = open.pop() {
                let Some(before) = nodes.get(ordinal as usize) else {
                    continue;
                };
                if before.kind == NodeKind::Step {
                    depends_on.push(before.id.clone());
                } else {
                    open.extend(&before.dependencies);
                }
            }
            depends_on.sort();
            let waiting_for = match &record {
                Some(record) if !record.status.is_terminal() => self.waiting_for(header, record).await?,
                _ => None,
            };
            list.push(step_progress(
                &node.id,
                &node.action,
                depends_on,
                record,
                waiting_for,
            ));
        }
        Ok(list)
    }

    /// What a step waits for, in words.
    async fn waiting_for(&self, header: &Execution, record: &StepRecord) -> Result<Option<String>, AppError> {
        if let Some(why) = &record.blocked_by {
            return Ok(Some(match record.wake_at {
                Some(wake) => format!("{why}; tried again at {wake}"),
                None => format!("{why}; tried again now"),
            }));
        }
        Ok(match (record.status, record.job_id, record.wake_at) {
            (StepStatus::Retrying, _, Some(wake)) => {
                let why = record.error_message.as_deref().unwrap_or_default();
                Some(format!("attempt {} at {wake}, after: {why}", record.attempt + 1))
            }
            (StepStatus::AwaitingEvent, Some(job), _) => match self.load_job(&header.tenant, job).await? {
                Some(job) if !job.waiting_for.is_empty() => Some(
                    job.waiting_for
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; "),
                ),
                Some(job) => crate::jobs::phase_wait(&job).map(str::to_owned),
                None => None,
            },
            (StepStatus::AwaitingEvent, None, Some(wake)) => Some(format!("until {wake}")),
            (StepStatus::AwaitingEvent, None, None) => {
                let until = record.deadline.map(|deadline| format!(", until {deadline}"));
                let asked = record.outputs.get("message").and_then(Value::as_str);
                let asked = asked.map(|message| format!(": {message}"));
                Some(format!(
                    "the approval of a person{}{}",
                    until.unwrap_or_default(),
                    asked.unwrap_or_default()
                ))
            }
            _ => None,
        })
    }

    /// Publishes `workflow_progress`, at most once every two seconds, of long plans less often.
    pub(crate) async fn publish_progress(&self, tenant: &TenantId, id: ExecutionId) -> Result<(), AppError> {
        let Some(header) = self.load_execution(tenant, id).await? else {
            return Ok(());
        };
        if header.status.is_terminal() || header.callback_topics.is_empty() {
            return Ok(());
        }
        let mut session = self.store.session();
        let key = keys::progress(tenant, id);
        let now = self.clock.now();
        let stored = session.get(&key).await?;
        let (guard, last): (Guard, Option<Published>) = match &stored {
            None => (Guard::Absent, None),
            Some(stored) => (Guard::Version(stored.version), Some(stored.read()?)),
        };
        let item = |published: &Published| Item {
            expires_at: self.parts_kept_until(&header),
            ..Item::of(published)
        };
        if let Some(last) = last {
            if last.next.is_some_and(|next| next > now) {
                // A message that was delayed until then is on its way.
                return Ok(());
            }
            let next = last
                .at
                .plus(PROGRESS_PAUSE * header.node_count.div_ceil(PROGRESS_NODES));
            if last.next.is_none() && now < next {
                let delayed = Published {
                    next: Some(next),
                    ..last
                };
                session.put(&key, item(&delayed), guard).await?;
                let look = ExecutionLook::Progress;
                let message = Message::Execution {
                    tenant: tenant.clone(),
                    execution: id,
                    look,
                };
                session.send(Queue::ExecuteStep, message, next.since(now));
                session.settle().await?;
                return Ok(());
            }
        }
        let progress = self.progress_of_header(&header, false).await?;
        let published = Published { at: now, next: None };
        session.put(&key, item(&published), guard).await?;
        publish(session.as_mut(), &header, &progress_event(&header, &progress));
        session.settle().await?;
        Ok(())
    }
}

/// When progress of an execution was published.
#[derive(Serialize, Deserialize)]
struct Published {
    at: Timestamp,
    /// When it is published again, once something has happened since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
}

fn progress_event(header: &Execution, progress: &ExecutionProgress) -> Event {
    Event {
        event_type: EventType::WorkflowProgress.as_str().to_owned(),
        workflow_id: header.id.to_string(),
        tenant_id: (header.tenant != TenantId::local()).then(|| header.tenant.to_string()),
        payload: serde_json::json!({
            "execution_id": header.id,
            "deployment_id": header.deployment_id,
            "step_id": null,
            "status": ExecutionStatus::Running,
            "outputs": {},
            "error_message": null,
            "percent": progress.percent,
            "finished_steps": progress.finished_steps,
            "total_steps": progress.total_steps,
            "eta_seconds": progress.eta_seconds,
        }),
    }
}

/// Sends an event to every callback topic of an execution.
pub(crate) fn publish(session: &mut dyn slipway_ports::Session, header: &Execution, event: &Event) {
    for topic in &header.callback_topics {
        session.send(
            Queue::Topic(topic.clone()),
            Message::Event(event.clone()),
            Duration::ZERO,
        );
    }
}

/// A step as callers see it.
pub(crate) fn step_progress(
    id: &str,
    action: &str,
    depends_on: Vec<String>,
    record: Option<StepRecord>,
    waiting_for: Option<String>,
) -> StepProgress {
    let Some(record) = record else {
        return StepProgress {
            step_id: id.to_owned(),
            action: action.to_owned(),
            status: StepStatus::Pending,
            attempt: 0,
            depends_on,
            started_at: None,
            ended_at: None,
            job_id: None,
            waiting_for: None,
            outputs: slipway_model::JsonMap::new(),
            error_message: None,
            attempts: Vec::new(),
            kept: false,
            satisfied: false,
        };
    };
    StepProgress {
        step_id: id.to_owned(),
        action: action.to_owned(),
        status: record.status,
        attempt: record.attempt,
        depends_on,
        started_at: record.started_at,
        ended_at: record.ended_at,
        job_id: record.job_id,
        waiting_for,
        outputs: record.outputs,
        error_message: record.error_message,
        attempts: record.attempts,
        kept: record.kept,
        satisfied: record.satisfied,
    }
}
