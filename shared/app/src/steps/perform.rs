//! Attempts: the claim, the action, and what its answer makes of the step.

use std::collections::BTreeMap;

use slipway_actions::{Action, Answer, Context};
use slipway_engine::{Decision, StepEvent, decide, step_started_event};
use slipway_model::{EffectClass, FailureKind, JobId, Node, Outcome, StepRecord, StepStatus};
use slipway_ports::{Guard, Put, Stored};

use crate::{
    AppError,
    executions::{larger_than, publish},
    jobs::{JobOrigin, NewStepJob, UNDOES},
    keys,
    steps::{
        RenderContext, Rendered, Resolved,
        drive::{Drive, History, Known, Work},
        surroundings::TenantSurroundings,
    },
};

/// Largest outputs of a step, as JSON.
const OUTPUT_BYTES: usize = 256 * 1024;

/// A step's parameters, ready for its action.
pub(super) struct Prepared {
    context: RenderContext,
    /// Rendered and found right, or what is wrong with them.
    rendered: Result<Rendered, String>,
}

impl Drive<'_> {
    /// Writes the claim, makes it durable, runs the action, and goes on with its answer. `before` is what the claim
    /// follows, with its version.
    ///
    /// Whatever can fail on the way comes before the claim, because an action that must not be repeated counts as run
    /// once it was claimed. Only telling of the beginning comes after it: if that fails, the claim is taken back.
    pub(super) async fn claim_and_run(
        &mut self,
        node: &Node,
        action: &'static dyn Action,
        before: Option<(StepRecord, u64)>,
        claim: StepRecord,
        effect: EffectClass,
    ) -> Result<(), AppError> {
        let prepared = self.prepare(node, action).await?;
        let key = keys::step(&self.header, node.ordinal);
        let guard = before
            .as_ref()
            .map_or(Guard::Absent, |(_, version)| Guard::Version(*version));
        let item = self.app.step_item(&self.header, node.ordinal, &claim).await?;
        let version = match self.session.put(&key, item, guard).await? {
            Put::Won(version) => version,
            Put::Lost(current) => return self.look_at_current(node.ordinal, current),
        };
        let was_blocked = before
            .as_ref()
            .is_some_and(|(record, _)| record.status == StepStatus::AwaitingEvent);
        if !was_blocked {
            let started = step_started_event(&self.header, node, &claim);
            publish(self.session.as_mut(), &self.header, &started);
        }
        if let Err(error) = self.settle().await {
            if let Err(also) = self.take_back(node, before, version).await {
                tracing::warn!(execution = %self.header.id, step = node.id, error = %also, "a claim could not be taken back; it expires");
            }
            return Err(error);
        }
        let outcome = self.perform(node, action, &claim, prepared).await?;
        self.answer(node, Some(version), &claim, outcome, effect).await
    }

    /// Puts what stood before a claim back in its place, unless somebody has changed it since.
    async fn take_back(
        &mut self,
        node: &Node,
        before: Option<(StepRecord, u64)>,
        version: u64,
    ) -> Result<(), AppError> {
        let key = keys::step(&self.header, node.ordinal);
        let guard = Guard::Version(version);
        match before {
            Some((record, _)) => {
                let item = self.app.step_item(&self.header, node.ordinal, &record).await?;
                self.session.put(&key, item, guard).await?;
            }
            None => {
                self.session.delete(&key, guard).await?;
            }
        }
        self.settle().await
    }

    /// Renders the parameters and checks them.
    pub(super) async fn prepare(
        &mut self,
        node: &Node,
        action: &'static dyn Action,
    ) -> Result<Prepared, AppError> {
        let mut steps = BTreeMap::new();
        for (name, ordinal) in &node.reads {
            steps.insert(name.clone(), self.outputs_of(*ordinal).await?);
        }
        let context = RenderContext::new(&self.header, steps);
        let at = slipway_expr::Path::of("params");
        let rendered = if action.resolves_secrets() {
            self.app
                .render_with_secrets(&self.header.tenant, &context, &node.params, &at)
                .await?
        } else {
            context
                .render_without_secrets(&node.params, &at)
                .map(|params| Rendered {
                    params,
                    resolved: Resolved::default(),
                })
        };
        let undoes = self.header.compensates.is_some();
        let rendered = rendered.and_then(|mut rendered| {
            if undoes {
                // Written by us, and not for the action: its job hears of it.
                rendered.params.remove(UNDOES);
            }
            let errors = action.check(&rendered.params);
            if errors.is_empty() {
                return Ok(rendered);
            }
            let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(rendered.resolved.hide(&list.join("; ")))
        });
        Ok(Prepared { context, rendered })
    }

    /// Runs the action.
    pub(super) async fn perform(
        &mut self,
        node: &Node,
        action: &'static dyn Action,
        claim: &StepRecord,
        prepared: Prepared,
    ) -> Result<Outcome, AppError> {
        let context = prepared.context;
        let Rendered { params, resolved } = match prepared.rendered {
            Ok(rendered) => rendered,
            Err(message) => {
                return Ok(Outcome::Failed {
                    message,
                    kind: FailureKind::Permanent,
                });
            }
        };
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
            Answer::Outcome(Outcome::Failed { message, kind }) => Ok(Outcome::Failed {
                message: resolved.hide(&message),
                kind,
            }),
            Answer::Outcome(Outcome::Completed(mut outputs)) => {
                // A notification repeats what it said, and a server may answer with what it was sent.
                resolved.hide_in(&mut outputs);
                Ok(Outcome::Completed(outputs))
            }
            Answer::Outcome(Outcome::Blocked(why)) => Ok(Outcome::Blocked(resolved.hide(&why))),
            Answer::Outcome(waits) => Ok(waits),
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
    pub(super) async fn answer(
        &mut self,
        node: &Node,
        version: Option<u64>,
        claim: &StepRecord,
        outcome: Outcome,
        effect: EffectClass,
    ) -> Result<(), AppError> {
        let outcome = match outcome {
            // Those of a step that waits stand in its record, which has to fit into the store.
            Outcome::Completed(outputs)
            | Outcome::AwaitApproval(outputs)
            | Outcome::WaitUntil(_, outputs)
                if larger_than(&outputs, OUTPUT_BYTES) =>
            {
                Outcome::Failed {
                    message: format!("its outputs are larger than {} KiB", OUTPUT_BYTES / 1024),
                    kind: FailureKind::Permanent,
                }
            }
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
    pub(super) async fn write(
        &mut self,
        node: &Node,
        version: Option<u64>,
        next: StepRecord,
    ) -> Result<(), AppError> {
        let key = keys::step(&self.header, node.ordinal);
        let guard = version.map_or(Guard::Absent, Guard::Version);
        let item = self.app.step_item(&self.header, node.ordinal, &next).await?;
        match self.session.put(&key, item, guard).await? {
            Put::Won(_) => {
                if next.status.is_terminal() {
                    self.remember(node.ordinal, &next);
                }
                self.after(node, next, History::New).await
            }
            Put::Lost(current) => self.look_at_current(node.ordinal, current),
        }
    }

    /// Somebody else moved a step: what is there now is looked at.
    fn look_at_current(&mut self, ordinal: u32, current: Option<Stored>) -> Result<(), AppError> {
        let known = match current {
            Some(stored) => Known::Found(Box::new((stored.read()?, stored.version))),
            None => Known::Nothing,
        };
        self.work.push_back(Work {
            ordinal,
            arrived: None,
            known,
        });
        Ok(())
    }
}
