//! Going through steps: load a neighbourhood, decide, write, go on with what became ready.
//!
//! Order after a step ended: (1) the guarded write of its record; (2) the failure on the header, if it is one;
//! (3) its event; (4) its arrivals at the nodes after it; (5) what became ready, inline or as a message. A message
//! that comes again finds the record terminal and repeats 2 to 5.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use slipway_actions::{Action, Answer, Context, find};
use slipway_engine::{Claims, Decision, StepEvent, decide, step_event, step_started_event};
use slipway_model::{
    CHUNK_SIZE, EffectClass, Execution, ExecutionId, ExecutionLook, Failure, FailureKind, JobEnd, JobId,
    JobStatus, JsonMap, Message, Node, NodeKind, Outcome, PlanChunk, Queue, StepRecord, StepStatus, TenantId,
    Timestamp,
};
use slipway_ports::{Guard, Put, Session};

use crate::{
    App, AppError,
    executions::{LONGEST_DELAY, publish},
    jobs::{JobOrigin, NewStepJob},
    keys,
    steps::{BATCH, RenderContext, has_effect, send_steps, step_item, surroundings::TenantSurroundings},
};

/// An invocation hands on what is left after this long.
const INLINE_TIME: Duration = Duration::from_secs(5);

/// Largest outputs of a step, as JSON.
const OUTPUT_BYTES: usize = 256 * 1024;

/// A node to look at.
struct Work {
    ordinal: u32,
    /// Whether all its dependencies ended satisfied; unknown if that must be derived first.
    arrived: Option<bool>,
}

/// One invocation's way through an execution.
pub(super) struct Drive<'a> {
    pub(super) app: &'a App,
    pub(super) header: Execution,
    pub(super) session: Box<dyn Session>,
    chunks: HashMap<u32, Arc<PlanChunk>>,
    work: VecDeque<Work>,
    later: Vec<(u32, bool)>,
    looked_at: usize,
    began: Timestamp,
}

impl App {
    /// Looks at steps of an execution and goes on with what follows from them.
    pub(crate) async fn drive(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        ordinals: &[u32],
    ) -> Result<(), AppError> {
        let session = self.store.session();
        let Some(header) = self.load_execution(tenant, execution).await? else {
            tracing::warn!(%execution, "dropped a message for an execution that does not exist");
            return Ok(());
        };
        let mut drive = Drive {
            app: self,
            header,
            session,
            chunks: HashMap::new(),
            work: ordinals
                .iter()
                .map(|ordinal| Work {
                    ordinal: *ordinal,
                    arrived: None,
                })
                .collect(),
            later: Vec::new(),
            looked_at: 0,
            began: self.clock.now(),
        };
        if drive.header.status.is_terminal() {
            drive.publish_end();
        } else {
            drive.run().await?;
        }
        drive.session.settle().await?;
        Ok(())
    }
}

impl Drive<'_> {
    async fn run(&mut self) -> Result<(), AppError> {
        loop {
            while let Some(work) = self.work.pop_front() {
                self.looked_at += 1;
                self.look(work).await?;
            }
            // The commit that ends a step also claims the one that follows it, where only one does.
            let alone = self.later.len() == 1 && !self.is_spent();
            match self.later.pop() {
                Some((ordinal, _)) if alone => self.work.push_back(Work {
                    ordinal,
                    arrived: None,
                }),
                Some(last) => {
                    self.later.push(last);
                    break;
                }
                None => break,
            }
        }
        let later = std::mem::take(&mut self.later);
        send_steps(self.session.as_mut(), &self.header, later, Vec::new());
        Ok(())
    }

    fn is_spent(&self) -> bool {
        self.looked_at >= BATCH || self.app.clock.now().since(self.began) >= INLINE_TIME
    }

    pub(super) async fn node(&mut self, ordinal: u32) -> Result<Option<Node>, AppError> {
        let index = ordinal / CHUNK_SIZE;
        if !self.chunks.contains_key(&index) {
            let key = keys::plan(&self.header.tenant, self.header.id, ordinal);
            let Some(stored) = self.session.get(&key).await? else {
                return Ok(None);
            };
            self.chunks
                .insert(index, Arc::new(self.app.read_chunk(&stored).await?));
        }
        Ok(self.chunks[&index]
            .nodes
            .get((ordinal % CHUNK_SIZE) as usize)
            .cloned())
    }

    pub(super) async fn record(&mut self, ordinal: u32) -> Result<Option<(StepRecord, u64)>, AppError> {
        let key = keys::step(&self.header.tenant, self.header.id, ordinal);
        Ok(match self.session.get(&key).await? {
            Some(stored) => Some((stored.read()?, stored.version)),
            None => None,
        })
    }

    /// Looks at one node.
    async fn look(&mut self, work: Work) -> Result<(), AppError> {
        let Some(node) = self.node(work.ordinal).await? else {
            tracing::warn!(execution = %self.header.id, ordinal = work.ordinal, "dropped a message for a node that does not exist");
            return Ok(());
        };
        if node.kind != NodeKind::Step {
            let Some(ok) = self.arrived(&node, work.arrived).await? else {
                return Ok(());
            };
            return if node.kind == NodeKind::Join {
                self.follow(&node, ok).await
            } else {
                self.finish().await
            };
        }
        let found = self.record(work.ordinal).await?;
        let (record, version) = found.map_or((None, None), |(record, version)| (Some(record), Some(version)));
        let event = match &record {
            Some(record) => self.news(record).await?,
            None => match self.arrived(&node, work.arrived).await? {
                Some(ok) => match self.condition(&node, ok) {
                    Ok(when) => StepEvent::Ready { ok, when },
                    Err(message) => {
                        tracing::debug!(step = node.id, message, "a condition could not be evaluated");
                        return self.fail_before_start(&node, ok, message).await;
                    }
                },
                // It was sent too early, or twice: its last dependency will send it again.
                None => return Ok(()),
            },
        };
        self.apply(&node, record, version, event).await
    }

    /// Whether all dependencies of a node ended satisfied; nothing if one has not ended.
    async fn arrived(&mut self, node: &Node, known: Option<bool>) -> Result<Option<bool>, AppError> {
        if known.is_some() || node.dependencies.is_empty() {
            return Ok(Some(known.unwrap_or(true)));
        }
        if let [only] = node.dependencies[..] {
            let before = self.node(only).await?;
            if before.is_some_and(|before| before.kind == NodeKind::Step) {
                let record = self.record(only).await?;
                return Ok(record
                    .filter(|(record, _)| record.status.is_terminal())
                    .map(|(record, _)| record.satisfied));
            }
        }
        // A join of one never exists, and the node after a join counts the join's own arrivals.
        let (counted, expected) = match node.dependencies[..] {
            [only] => {
                let before = self.node(only).await?;
                (only, before.map_or(0, |before| before.dependencies.len()))
            }
            _ => (node.ordinal, node.dependencies.len()),
        };
        let key = keys::join(&self.header.tenant, self.header.id, counted);
        let arrivals = self.session.arrivals(&key).await?;
        let full = usize::try_from(arrivals.count()).is_ok_and(|count| count >= expected);
        Ok(full.then_some(arrivals.bad == 0))
    }

    fn condition(&self, node: &Node, ok: bool) -> Result<bool, String> {
        match &node.when {
            Some(when) if ok => RenderContext::new(&self.header, BTreeMap::new()).condition(when),
            _ => Ok(true),
        }
    }

    /// What has become of a step since its record was written.
    async fn news(&mut self, record: &StepRecord) -> Result<StepEvent, AppError> {
        if let (StepStatus::AwaitingEvent, Some(id)) = (record.status, record.job_id)
            && let Some(job) = self.app.load_job(&self.header.tenant, id).await?
        {
            if job.status.is_terminal() {
                let end = JobEnd {
                    job: id,
                    status: job.status,
                    outputs: job.result,
                    error_message: job.error_message,
                };
                return Ok(StepEvent::JobEnded(end));
            }
            if job.status == JobStatus::Pending {
                self.app
                    .send_job(self.session.as_mut(), &self.header.tenant, id, Duration::ZERO);
            }
        }
        Ok(StepEvent::Poke)
    }

    async fn fail_before_start(&mut self, node: &Node, ok: bool, message: String) -> Result<(), AppError> {
        let now = self.app.clock.now();
        let event = StepEvent::Ready { ok, when: true };
        let claims = self.claims(EffectClass::Pure, node);
        let decision = decide(node, None, &self.header, event, now, &claims);
        let Ok(Decision::Attempt(claim)) = decision else {
            return match decision {
                Ok(Decision::Write(record)) => self.write(node, None, *record).await,
                _ => Ok(()),
            };
        };
        let outcome = Outcome::Failed {
            message: format!("when: {message}"),
            kind: FailureKind::Permanent,
        };
        self.answer(node, None, &claim, outcome, EffectClass::Pure).await
    }

    fn claims(&self, effect: EffectClass, node: &Node) -> Claims<'_> {
        Claims {
            lease: self.app.settings.invocation + Duration::from_secs(60),
            epoch: &self.app.settings.epoch,
            effect,
            timeout_seconds: find(&node.action).map_or(60, |action| action.metadata().timeout_seconds),
        }
    }

    async fn apply(
        &mut self,
        node: &Node,
        record: Option<StepRecord>,
        version: Option<u64>,
        event: StepEvent,
    ) -> Result<(), AppError> {
        let Some(action) = find(&node.action) else {
            let message = format!("there is no action '{}'", node.action);
            return self.fail_before_start(node, true, message).await;
        };
        let effect = action.effect(&node.params);
        if effect != EffectClass::Pure {
            // Nothing outside happens on the strength of a header that may be old.
            self.reload_header().await?;
        }
        let claims = self.claims(effect, node);
        let now = self.app.clock.now();
        let decision = match decide(node, record.as_ref(), &self.header, event, now, &claims) {
            Ok(decision) => decision,
            Err(illegal) => {
                tracing::warn!(execution = %self.header.id, error = %illegal, "dropped an event");
                return Ok(());
            }
        };
        match decision {
            Decision::Stay(at) => {
                if let (Some(at), Some(record)) = (at, &record)
                    && record.status != StepStatus::Running
                {
                    self.wake(node.ordinal, at);
                }
                Ok(())
            }
            Decision::Repeat => match record {
                Some(record) => self.after(node, &record).await,
                None => Ok(()),
            },
            Decision::Write(next) => self.write(node, version, *next).await,
            Decision::CancelJob(job) => {
                let reason = match &self.header.cancel {
                    Some(cancel) => cancel.clone(),
                    None => slipway_model::Cancellation {
                        at: now,
                        reason: "its job was ended with it".to_owned(),
                        uninstall: node.params.get("delete_on_failure") != Some(&false.into()),
                    },
                };
                self.app
                    .request_job_cancel(self.session.as_mut(), &self.header.tenant, job, reason)
                    .await
            }
            Decision::Attempt(claim) if effect == EffectClass::Pure => {
                let outcome = self.perform(node, action, &claim).await?;
                self.answer(node, version, &claim, outcome, effect).await
            }
            Decision::Attempt(claim) => {
                if !self.later.is_empty() || !self.work.is_empty() {
                    // Others are on their way too: each gets an invocation of its own, so that they overlap.
                    self.later.push((node.ordinal, true));
                    return Ok(());
                }
                self.claim_and_run(node, action, version, *claim, effect).await
            }
        }
    }

    /// Writes the claim, makes it durable, runs the action, and goes on with its answer.
    async fn claim_and_run(
        &mut self,
        node: &Node,
        action: &'static dyn Action,
        version: Option<u64>,
        claim: StepRecord,
        effect: EffectClass,
    ) -> Result<(), AppError> {
        let key = keys::step(&self.header.tenant, self.header.id, node.ordinal);
        let guard = version.map_or(Guard::Absent, Guard::Version);
        let Put::Won(version) = self.session.put(&key, step_item(&claim), guard).await? else {
            return Ok(());
        };
        let started = step_started_event(&self.header, node, &claim);
        publish(self.session.as_mut(), &self.header, &started);
        std::mem::replace(&mut self.session, self.app.store.session())
            .settle()
            .await?;
        let outcome = self.perform(node, action, &claim).await?;
        self.answer(node, Some(version), &claim, outcome, effect).await
    }

    async fn reload_header(&mut self) -> Result<(), AppError> {
        let key = keys::execution(&self.header.tenant, self.header.id);
        if let Some(stored) = self.session.get(&key).await? {
            self.header = stored.read()?;
        }
        Ok(())
    }

    /// Renders the parameters and runs the action.
    async fn perform(
        &mut self,
        node: &Node,
        action: &'static dyn Action,
        claim: &StepRecord,
    ) -> Result<Outcome, AppError> {
        let refuse = |message| {
            Ok(Outcome::Failed {
                message,
                kind: FailureKind::Permanent,
            })
        };
        let mut steps = BTreeMap::new();
        for (name, ordinal) in &node.reads {
            let outputs = self
                .record(*ordinal)
                .await?
                .filter(|(record, _)| record.status == StepStatus::Completed);
            steps.insert(name.clone(), outputs.map(|(record, _)| record.outputs));
        }
        let context = RenderContext::new(&self.header, steps);
        let at = slipway_expr::Path::of("params");
        let rendered = if action.resolves_secrets() {
            self.app
                .render_with_secrets(&self.header.tenant, &context, &node.params, &at)
                .await?
        } else {
            context.render_without_secrets(&node.params, &at)
        };
        let params = match rendered {
            Ok(params) => params,
            Err(message) => return refuse(message),
        };
        let errors = action.check(&params);
        if !errors.is_empty() {
            return refuse(
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
            );
        }
        let surroundings = TenantSurroundings {
            app: self.app,
            tenant: &self.header.tenant,
        };
        let now = self.app.clock.now();
        let attempt = Context {
            header: &self.header,
            node,
            params,
            attempt: claim.attempt,
            now,
            surroundings: &surroundings,
        };
        match action.run(attempt).await {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Job(draft) => {
                let new = NewStepJob {
                    id: JobId::of_step(self.header.id, &node.id, claim.attempt),
                    draft: *draft,
                    context,
                    origin: JobOrigin {
                        header: &self.header,
                        node,
                    },
                };
                self.app.write_step_job(self.session.as_mut(), new).await
            }
        }
    }

    /// Goes on with an action's answer.
    async fn answer(
        &mut self,
        node: &Node,
        version: Option<u64>,
        claim: &StepRecord,
        outcome: Outcome,
        effect: EffectClass,
    ) -> Result<(), AppError> {
        let outcome = match outcome {
            Outcome::Completed(outputs) if too_large(&outputs) => Outcome::Failed {
                message: format!("its outputs are larger than {} KiB", OUTPUT_BYTES / 1024),
                kind: FailureKind::Permanent,
            },
            other => other,
        };
        let event = StepEvent::Answer {
            fence: claim.fence,
            outcome,
        };
        let now = self.app.clock.now();
        match decide(
            node,
            Some(claim),
            &self.header,
            event,
            now,
            &self.claims(effect, node),
        ) {
            Ok(Decision::Write(next)) => self.write(node, version, *next).await,
            Ok(_) => Ok(()),
            Err(illegal) => {
                tracing::warn!(execution = %self.header.id, error = %illegal, "dropped an answer");
                Ok(())
            }
        }
    }

    /// Writes a record under its guard and does what follows from it.
    async fn write(&mut self, node: &Node, version: Option<u64>, next: StepRecord) -> Result<(), AppError> {
        let key = keys::step(&self.header.tenant, self.header.id, node.ordinal);
        let guard = version.map_or(Guard::Absent, Guard::Version);
        match self.session.put(&key, step_item(&next), guard).await? {
            Put::Won(_) => self.after(node, &next).await,
            // Somebody else moved it: look again at what is there now.
            Put::Lost(_) => {
                self.work.push_back(Work {
                    ordinal: node.ordinal,
                    arrived: None,
                });
                Ok(())
            }
        }
    }

    /// What follows from a record: repeated whenever its message comes again.
    async fn after(&mut self, node: &Node, record: &StepRecord) -> Result<(), AppError> {
        let had_effect = record.started_at != record.ended_at && record.started_at.is_some();
        if record.status.is_terminal() {
            if matches!(record.status, StepStatus::Failed | StepStatus::TimedOut) {
                self.record_failure(node, record).await?;
            }
            if let Some(event) = step_event(&self.header, node, record) {
                publish(self.session.as_mut(), &self.header, &event);
            }
            if had_effect && !self.header.callback_topics.is_empty() {
                let look = ExecutionLook::Progress;
                let message = Message::Execution {
                    tenant: self.header.tenant.clone(),
                    execution: self.header.id,
                    look,
                };
                self.session.send(Queue::ExecuteStep, message, Duration::ZERO);
            }
            return self.follow(node, record.satisfied).await;
        }
        if record.status == StepStatus::AwaitingEvent {
            let started = step_started_event(&self.header, node, record);
            publish(self.session.as_mut(), &self.header, &started);
            if let Some(job) = record.job_id {
                self.app
                    .send_job(self.session.as_mut(), &self.header.tenant, job, Duration::ZERO);
            }
        }
        if let Some(at) = [record.wake_at, record.deadline].into_iter().flatten().min() {
            self.wake(node.ordinal, at);
        }
        Ok(())
    }

    /// Has a step looked at later. What is further away than a message can wait is found by the sweep.
    fn wake(&mut self, ordinal: u32, at: Timestamp) {
        let delay = at.since(self.app.clock.now());
        if delay <= LONGEST_DELAY {
            let message = Message::Steps {
                tenant: self.header.tenant.clone(),
                execution: self.header.id,
                ordinals: vec![ordinal],
            };
            self.session.send(Queue::ExecuteStep, message, delay);
        }
    }

    async fn record_failure(&mut self, node: &Node, record: &StepRecord) -> Result<(), AppError> {
        let failure = Failure {
            step_id: node.id.clone(),
            message: record.error_message.clone().unwrap_or_default(),
        };
        let (tenant, id) = (self.header.tenant.clone(), self.header.id);
        let updated = self
            .app
            .update_header(self.session.as_mut(), &tenant, id, |header| {
                if header.failure.is_some() {
                    return false;
                }
                header.failure = Some(failure.clone());
                true
            })
            .await?;
        if let Some(header) = updated {
            self.header = header;
        }
        Ok(())
    }

    /// Tells the nodes after one that it ended, and goes on with those that became ready.
    async fn follow(&mut self, node: &Node, ok: bool) -> Result<(), AppError> {
        for successor in &node.successors {
            let arrived = if successor.of == 1 {
                ok
            } else {
                let key = keys::join(&self.header.tenant, self.header.id, successor.ordinal);
                let arrivals = self.session.arrive(&key, successor.slot, ok).await?;
                if arrivals.count() < u32::from(successor.of) {
                    continue;
                }
                arrivals.bad == 0
            };
            self.became_ready(successor.ordinal, arrived).await?;
        }
        Ok(())
    }

    async fn became_ready(&mut self, ordinal: u32, arrived: bool) -> Result<(), AppError> {
        let effect = match self.node(ordinal).await? {
            Some(node) => has_effect(&node),
            None => false,
        };
        if effect || self.work.len() + self.looked_at >= BATCH || self.is_spent() {
            self.later.push((ordinal, effect));
        } else {
            self.work.push_back(Work {
                ordinal,
                arrived: Some(arrived),
            });
        }
        Ok(())
    }
}

fn too_large(outputs: &JsonMap) -> bool {
    // Most outputs are a handful of short texts: only what may be large is measured.
    let may_be_large = outputs.len() > 64
        || outputs.values().any(|value| match value {
            serde_json::Value::String(text) => text.len() > 1024,
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => true,
            _ => false,
        });
    may_be_large && serde_json::to_string(outputs).is_ok_and(|json| json.len() > OUTPUT_BYTES)
}
