//! What follows from a record: its event, its arrivals at the nodes after it, and what became ready.

use slipway_engine::{Closing, closing, step_event, step_started_event};
use slipway_model::{ExecutionLook, Failure, Message, Node, Queue, StepRecord, StepStatus, Timestamp};

use std::time::Duration;

use crate::{
    AppError,
    executions::{LONGEST_DELAY, publish},
    keys,
    steps::{
        BATCH,
        drive::{Drive, Work},
        has_effect,
    },
};

impl Drive<'_> {
    /// What follows from a record: repeated whenever its message comes again.
    pub(super) async fn after(&mut self, node: &Node, record: &StepRecord) -> Result<(), AppError> {
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
        // Whoever cancelled since this header was read has looked for steps to end, and did not see this one.
        self.reload_header().await?;
        if matches!(
            closing(&self.header),
            Some(Closing::Cancelled | Closing::TimedOut)
        ) {
            self.work.push_back(Work {
                ordinal: node.ordinal,
                arrived: None,
            });
        }
        if let Some(at) = [record.wake_at, record.deadline].into_iter().flatten().min() {
            self.wake(node.ordinal, at);
        }
        Ok(())
    }

    /// Has a step looked at later. What is further away than a message can wait is found by the sweep.
    pub(super) fn wake(&mut self, ordinal: u32, at: Timestamp) {
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

    pub(super) async fn record_failure(&mut self, node: &Node, record: &StepRecord) -> Result<(), AppError> {
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
    pub(super) async fn follow(&mut self, node: &Node, ok: bool) -> Result<(), AppError> {
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

    pub(super) async fn became_ready(&mut self, ordinal: u32, arrived: bool) -> Result<(), AppError> {
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
