//! Steps whose messages nobody will receive again: they end instead of waiting for ever.

use slipway_actions::find;
use slipway_engine::{Decision, StepEvent, decide};
use slipway_model::{
    EffectClass, Execution, ExecutionId, FailureKind, JobEnd, Node, NodeKind, Outcome, StepRecord,
    StepStatus, TenantId,
};

use super::drive::{Drive, History};
use crate::{
    App, AppError,
    dead_letters::{Verdict, is_unreadable},
};

/// Times that one step is looked at again because somebody else moved it in between.
const LOOKS: usize = 10;

impl App {
    /// Ends the named steps of an execution as far as they have not ended: by the engine's own transitions, so that
    /// what follows from a failure happens. Nothing runs here; what becomes ready gets its messages. If the records
    /// cannot be read or written, the execution ends.
    pub(crate) async fn give_up_steps(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
        ordinals: &[u32],
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        let session = self.store.session();
        let Some(header) = self.load_execution(tenant, id).await? else {
            tracing::debug!(execution = %id, "a dead letter is about an execution that does not exist");
            return Ok(());
        };
        if header.status.is_terminal() {
            return self.tell_ended_steps(&header, ordinals, verdict).await;
        }
        let mut drive = Drive::new(self, header, session, &[]);
        // Whatever became ready is for messages of its own: what made this message fail may be in it.
        drive.hands_on = true;
        for ordinal in ordinals {
            match drive.give_up(*ordinal, verdict).await {
                Ok(()) => {}
                Err(error) if is_unreadable(&error) => {
                    let step = drive.name(*ordinal).await;
                    return self.force_end(tenant, id, &step, verdict, &error).await;
                }
                Err(error) => return Err(error),
            }
        }
        drive.send_later();
        match drive.session.settle().await.map_err(AppError::from) {
            Err(error) if is_unreadable(&error) => {
                let step = ordinals
                    .first()
                    .map(|first| format!("#{first}"))
                    .unwrap_or_default();
                self.force_end(tenant, id, &step, verdict, &error).await
            }
            settled => settled,
        }
    }

    /// Repeats what the steps of an execution that has ended told: whoever ended them may have died before it was out.
    async fn tell_ended_steps(
        &self,
        header: &Execution,
        ordinals: &[u32],
        verdict: &Verdict,
    ) -> Result<(), AppError> {
        if header.callback_topics.is_empty() || !verdict.is_fresh(self.clock.now()) {
            return Ok(());
        }
        match self.drive_together(header.clone(), ordinals).await {
            Err(error) if is_unreadable(&error) => {
                let mut drive = Drive::new(self, header.clone(), self.store.session(), &[]);
                drive.publish_end();
                drive.session.settle().await?;
                Err(error)
            }
            driven => driven,
        }
    }
}

impl Drive<'_> {
    /// A node's name, or its place where the plan cannot be read.
    async fn name(&mut self, ordinal: u32) -> String {
        match self.node(ordinal).await {
            Ok(Some(node)) if node.kind == NodeKind::Step => node.id,
            _ => format!("#{ordinal}"),
        }
    }

    async fn give_up(&mut self, ordinal: u32, verdict: &Verdict) -> Result<(), AppError> {
        for _ in 0..LOOKS {
            self.work.clear();
            self.give_up_once(ordinal, verdict).await?;
            // Somebody else has moved it meanwhile: it is judged again by what it is now.
            if self.work.is_empty() {
                break;
            }
        }
        self.work.clear();
        Ok(())
    }

    async fn give_up_once(&mut self, ordinal: u32, verdict: &Verdict) -> Result<(), AppError> {
        let Some(node) = self.node(ordinal).await? else {
            return Ok(());
        };
        if node.kind != NodeKind::Step {
            return match self.arrived(&node, None).await? {
                Some(_) if !verdict.is_fresh(self.app.clock.now()) => Ok(()),
                Some(_) if node.kind == NodeKind::End => self.finish().await,
                Some(ok) => self.follow(&node, ok, History::Repeated).await,
                None => Ok(()),
            };
        }
        self.reload_header().await?;
        let found = self.record(ordinal).await?;
        let (record, version) = found.map_or((None, None), |(record, version)| (Some(record), Some(version)));
        let Some(event) = self.last_news(&node, record.as_ref(), verdict).await? else {
            tracing::debug!(execution = %self.header.id, step = node.id, "a step goes on without its dead letter");
            return Ok(());
        };
        let effect = find(&node.action).map_or(EffectClass::Pure, |action| action.effect(&node.params));
        let now = self.app.clock.now();
        let decision = {
            let claims = self.claims(effect, &node);
            decide(&node, record.as_ref(), &self.header, event, now, &claims)
        };
        match decision {
            Ok(Decision::Write(next)) => self.write(&node, version, *next).await,
            Ok(Decision::Attempt(claim)) => {
                tracing::warn!(execution = %self.header.id, step = node.id, reason = verdict.reason, "gave a step up");
                let outcome = Outcome::Failed {
                    message: verdict.message(),
                    kind: FailureKind::Permanent,
                };
                self.answer(&node, version, &claim, outcome, effect).await
            }
            Ok(Decision::Repeat) => match record {
                Some(record) if verdict.is_fresh(now) => self.after(&node, record, History::Repeated).await,
                _ => Ok(()),
            },
            // It waits, or somebody holds a claim: whoever holds it, or the sweep, goes on. That one may hold it under
            // the message that died, which would have come again had it not.
            Ok(Decision::Stay(at)) => {
                let is_held = record.is_some_and(|record| record.status == StepStatus::Running);
                if let Some(at) = at.filter(|_| is_held && verdict.is_fresh(now)) {
                    self.wake(node.ordinal, at);
                }
                Ok(())
            }
            Ok(Decision::CancelJob(_)) => Ok(()),
            Err(illegal) => {
                tracing::warn!(execution = %self.header.id, error = %illegal, "a dead letter's step cannot be given up");
                Ok(())
            }
        }
    }

    /// The event that a step is judged by; nothing if it does not depend on the message that died: it is not ready,
    /// its job works on, or something has happened since that has messages of its own.
    async fn last_news(
        &mut self,
        node: &Node,
        record: Option<&StepRecord>,
        verdict: &Verdict,
    ) -> Result<Option<StepEvent>, AppError> {
        let Some(record) = record else {
            let arrived = self.arrived(node, None).await?;
            return Ok(arrived.map(|ok| StepEvent::Ready { ok, when: true }));
        };
        let retried_since = record.status == StepStatus::Retrying
            && record
                .attempts
                .last()
                .is_some_and(|last| last.ended_at > verdict.at);
        let blocked_since =
            record.blocked_by.is_some() && record.wake_at.is_some_and(|wake| wake > verdict.at);
        if retried_since || blocked_since {
            return Ok(None);
        }
        let (StepStatus::AwaitingEvent, Some(id)) = (record.status, record.job_id) else {
            return Ok(Some(StepEvent::Poke));
        };
        let Some(job) = self.app.load_job(&self.header.tenant, id).await? else {
            return Ok(Some(StepEvent::JobEnded(JobEnd {
                job: id,
                status: slipway_model::JobStatus::Cancelled,
                outputs: slipway_model::JsonMap::new(),
                error_message: Some(format!("its job {id} does not exist; {}", verdict.message())),
                failure_kind: FailureKind::Permanent,
                kept: false,
            })));
        };
        let ended_before = job.completed_at.is_some_and(|ended| ended <= verdict.at);
        if !job.status.is_terminal() || !ended_before {
            return Ok(None);
        }
        // How the job ended is known, and only the telling of it was lost.
        Ok(JobEnd::of(&job).map(StepEvent::JobEnded))
    }
}
