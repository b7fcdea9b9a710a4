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

use slipway_actions::find;
use slipway_engine::{Claims, Decision, StepEvent, decide};
use slipway_model::{
    CHUNK_SIZE, Cancellation, EffectClass, Execution, ExecutionId, FailureKind, JobEnd, JobStatus, Node,
    NodeKind, Outcome, PlanChunk, RunCondition, StepRecord, StepStatus, TenantId, Timestamp,
};
use slipway_ports::Session;

use crate::{
    App, AppError, keys,
    steps::{BATCH, RenderContext, send_steps},
};

/// An invocation hands on what is left after this long.
const INLINE_TIME: Duration = Duration::from_secs(5);

/// A node to look at.
pub(super) struct Work {
    pub(super) ordinal: u32,
    /// Whether all its dependencies ended satisfied; unknown if that must be derived first.
    pub(super) arrived: Option<bool>,
}

/// One invocation's way through an execution.
pub(super) struct Drive<'a> {
    pub(super) app: &'a App,
    pub(super) header: Execution,
    pub(super) session: Box<dyn Session>,
    chunks: HashMap<u32, Arc<PlanChunk>>,
    pub(super) work: VecDeque<Work>,
    pub(super) later: Vec<(u32, bool)>,
    pub(super) looked_at: usize,
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
        let mut drive = Drive::new(self, header, session, ordinals);
        if drive.header.status.is_terminal() {
            drive.publish_end();
        } else {
            drive.run().await?;
        }
        drive.session.settle().await?;
        Ok(())
    }
}

impl<'a> Drive<'a> {
    /// A way that begins at these nodes.
    pub(super) fn new(
        app: &'a App,
        header: Execution,
        session: Box<dyn Session>,
        ordinals: &[u32],
    ) -> Drive<'a> {
        Drive {
            app,
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
            began: app.clock.now(),
        }
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

    pub(super) fn is_spent(&self) -> bool {
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
    pub(super) async fn arrived(
        &mut self,
        node: &Node,
        known: Option<bool>,
    ) -> Result<Option<bool>, AppError> {
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
        // What is skipped for how its dependencies ended is not asked.
        let would_run = match node.run {
            RunCondition::Success => ok,
            RunCondition::Failure => !ok,
            RunCondition::Always => true,
        };
        match &node.when {
            Some(when) if would_run => RenderContext::new(&self.header, BTreeMap::new()).condition(when),
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

    pub(super) async fn fail_before_start(
        &mut self,
        node: &Node,
        ok: bool,
        message: String,
    ) -> Result<(), AppError> {
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

    pub(super) fn claims(&self, effect: EffectClass, node: &Node) -> Claims<'_> {
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
                    None => {
                        // As the job has it: in the step's parameters it may still be an expression.
                        let stored = self.app.load_job(&self.header.tenant, job).await?;
                        let keeps = stored.is_some_and(|job| job.config["delete_on_failure"] == false);
                        Cancellation {
                            at: now,
                            reason: "its job was ended with it".to_owned(),
                            uninstall: !keeps,
                        }
                    }
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

    pub(super) async fn reload_header(&mut self) -> Result<(), AppError> {
        let key = keys::execution(&self.header.tenant, self.header.id);
        if let Some(stored) = self.session.get(&key).await? {
            self.header = stored.read()?;
        }
        Ok(())
    }
}
