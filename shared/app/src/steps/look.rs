//! Looking at one node: what is known of it, what happened to it, and what the engine decides.

use std::{collections::BTreeMap, time::Duration};

use slipway_actions::find;
use slipway_engine::{Claims, Decision, StepEvent, abandoned, decide};
use slipway_model::{
    Cancellation, EffectClass, ExecutionMode, FailureKind, JobEnd, JobStatus, Node, NodeKind, Outcome,
    RunCondition, StepRecord, StepStatus,
};

use slipway_ports::Guard;

use crate::{
    AppError, keys,
    steps::{
        RenderContext,
        drive::{Drive, History, Known, Later, Work},
        has_effect,
    },
};

/// Whether a node's action makes a job.
fn makes_job(node: &Node) -> bool {
    find(&node.action).is_some_and(|action| action.metadata().execution_mode == ExecutionMode::EventDriven)
}

impl Drive<'_> {
    /// Looks at one node.
    pub(super) async fn look(&mut self, work: Work) -> Result<(), AppError> {
        let Some(node) = self.node(work.ordinal).await? else {
            tracing::warn!(execution = %self.header.id, ordinal = work.ordinal, "dropped a message for a node that does not exist");
            return Ok(());
        };
        if node.kind != NodeKind::Fork {
            self.nodes_looked_at += 1;
        }
        let mut arrived = work.arrived;
        if node.kind != NodeKind::Step {
            let Some(ok) = self.arrived(&node, arrived).await? else {
                return Ok(());
            };
            let history = match work.known {
                // A fork's message comes once, but for repeats, and what follows it is new then.
                Known::Absent => History::New,
                _ if node.kind == NodeKind::Fork => History::New,
                _ => History::Repeated,
            };
            return match node.kind {
                NodeKind::Join | NodeKind::Fork => self.follow(&node, ok, history).await,
                NodeKind::End | NodeKind::Step => self.finish().await,
            };
        }
        let found = match work.known {
            Known::Found(found) => Some(*found),
            // A repeat of what ended with the execution: what is assumed of a new step would keep it from being told.
            Known::Absent if self.header.status.is_terminal() => self.record(work.ordinal).await?,
            // A job is written before its step's record: one that was kept from an earlier execution must not get another.
            Known::Absent if arrived.is_some() && makes_job(&node) => self.record(work.ordinal).await?,
            Known::Absent if arrived.is_some() => None,
            // One that was kept from an earlier execution has its record, and must not get a job.
            Known::Absent if !has_effect(&node) && !makes_job(&node) => {
                arrived = self.arrived(&node, None).await?;
                // What has not arrived, and has a record all the same, was kept from an earlier execution.
                match arrived {
                    Some(_) => None,
                    None => self.record(work.ordinal).await?,
                }
            }
            Known::Absent | Known::Nothing => self.record(work.ordinal).await?,
        };
        let (record, version) = found.map_or((None, None), |(record, version)| (Some(record), Some(version)));
        let has_ended = record.as_ref().is_some_and(|record| record.status.is_terminal());
        if !has_ended && self.header.status.is_terminal() {
            // Nothing begins or goes on any more, and nobody looks at it again.
            if let (Some(record), Some(version)) = (&record, version) {
                let ended = abandoned(record, self.app.clock.now());
                let key = keys::step(&self.header, node.ordinal);
                let item = self.app.step_item(&self.header, node.ordinal, &ended).await?;
                self.session.put(&key, item, Guard::Version(version)).await?;
            }
            return Ok(());
        }
        let event = match &record {
            Some(record) => self.news(record).await?,
            None => match self.arrived(&node, arrived).await? {
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
        let (mut at, mut dependencies) = (node.ordinal, node.dependencies.clone());
        let (counted, expected) = loop {
            let [only] = dependencies[..] else {
                break (at, dependencies.len());
            };
            let Some(before) = self.node(only).await? else {
                return Ok(None);
            };
            match before.kind {
                // What is before a fork has ended if what is before that has.
                NodeKind::Fork => (at, dependencies) = (only, before.dependencies),
                // A join of one never exists, and the node after a join counts the join's own arrivals.
                NodeKind::Join => break (only, before.dependencies.len()),
                NodeKind::Step | NodeKind::End => {
                    let record = self.ended(only).await?;
                    return Ok(record.map(|record| record.satisfied));
                }
            }
        };
        let key = keys::join(&self.header, counted);
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
            if let Some(end) = JobEnd::of(&job) {
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
        if effect != EffectClass::Pure && self.nodes_looked_at > 1 {
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
                if let Some(at) = at {
                    self.wake(node.ordinal, at);
                }
                Ok(())
            }
            Decision::Repeat => match record {
                Some(record) => {
                    self.repeats += 1;
                    self.after(node, record, History::Repeated).await
                }
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
                let prepared = self.prepare(node, action).await?;
                let outcome = self.perform(node, action, &claim, prepared).await?;
                self.answer(node, version, &claim, outcome, effect).await
            }
            Decision::Attempt(claim) => {
                if !self.later.is_empty() || !self.work.is_empty() {
                    // Others are on their way too: each gets an invocation of its own, so that they overlap.
                    self.later.push(Later {
                        ordinal: node.ordinal,
                        own: true,
                        arrived: None,
                        known: Known::Nothing,
                    });
                    return Ok(());
                }
                let before = record.zip(version);
                self.claim_and_run(node, action, before, *claim, effect).await
            }
        }
    }
}
