//! What follows from a record: its event, its arrivals at the nodes after it, and what became ready.

use slipway_engine::{Closing, closing, step_event, step_started_event};
use slipway_model::{
    ExecutionLook, Failure, Message, Node, NodeKind, Queue, StepRecord, StepStatus, Successor, Timestamp,
};

use std::time::Duration;

use crate::{
    AppError,
    executions::{LONGEST_DELAY, publish},
    keys,
    steps::drive::{Drive, History, Known, Later, Work},
};

/// What is kept of a failure in the execution's header, in bytes; the step has all of it.
const LONGEST_FAILURE: usize = 8 * 1024;

impl Drive<'_> {
    /// What follows from a record: repeated whenever its message comes again.
    pub(super) async fn after(
        &mut self,
        node: &Node,
        mut record: StepRecord,
        history: History,
    ) -> Result<(), AppError> {
        let had_effect = record.started_at != record.ended_at && record.started_at.is_some();
        if record.status.is_terminal() {
            if matches!(record.status, StepStatus::Failed | StepStatus::TimedOut) {
                self.record_failure(node, &record).await?;
            }
            if record.outputs_blob.is_some() && !self.header.callback_topics.is_empty() {
                record.outputs = self.app.outputs_of(record.clone()).await?;
            }
            if let Some(event) = step_event(&self.header, node, &record) {
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
            return self.follow(node, record.satisfied, history).await;
        }
        // That it began was told with the claim, before the action ran and was blocked.
        if record.status == StepStatus::AwaitingEvent && record.blocked_by.is_none() {
            let started = step_started_event(&self.header, node, &record);
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
                known: Known::Nothing,
            });
        }
        if let Some(at) = [record.wake_at, record.deadline].into_iter().flatten().min() {
            self.wake(node.ordinal, at);
        }
        Ok(())
    }

    /// Has a step looked at later. What is further away than a message can wait is left out, and not lost by that: `at` is
    /// what the step's record says of itself, by which it stands in the index of what is due as long as it has not ended
    /// (`step_item`). The sweep, which comes every minute on AWS as in one process, finds it there at its time.
    ///
    /// Also one that somebody else holds a claim of, when that is over: it may be held under this very message, which
    /// came twice. Whoever acknowledges it takes the other's away, who may yet end the step and die before telling it.
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
        let mut message = record.error_message.clone().unwrap_or_default();
        if message.len() > LONGEST_FAILURE {
            message.truncate(message.floor_char_boundary(LONGEST_FAILURE));
            message.push('…');
        }
        let failure = Failure {
            step_id: node.id.clone(),
            message,
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
    pub(super) async fn follow(&mut self, node: &Node, ok: bool, history: History) -> Result<(), AppError> {
        for successor in &node.successors {
            let arrived = if successor.of == 1 {
                ok
            } else {
                let key = keys::join(&self.header, successor.ordinal);
                let arrivals = self.session.arrive(&key, successor.slot, ok).await?;
                if arrivals.count() < u32::from(successor.of) {
                    continue;
                }
                arrivals.bad == 0
            };
            match history {
                History::New => self.became_ready(successor, arrived).await?,
                History::Repeated => self.was_ready(successor, arrived).await?,
            }
        }
        Ok(())
    }

    async fn became_ready(&mut self, next: &Successor, arrived: bool) -> Result<(), AppError> {
        let (ordinal, arrived, known) = (next.ordinal, Some(arrived), Known::Absent);
        if next.effect || (self.is_full() && !self.is_a_trifle(next).await?) {
            self.later.push(Later {
                ordinal,
                own: next.effect,
                arrived,
                known,
            });
        } else {
            self.work.push_back(Work {
                ordinal,
                arrived,
                known,
            });
        }
        Ok(())
    }

    /// Whether a node takes less than a message for it: a join of many, or the end.
    async fn is_a_trifle(&mut self, next: &Successor) -> Result<bool, AppError> {
        if self.hands_on || (next.of == 1 && next.ordinal + 1 != self.header.node_count) {
            return Ok(false);
        }
        let node = self.node(next.ordinal).await?;
        Ok(node.is_some_and(|node| matches!(node.kind, NodeKind::Join | NodeKind::End)))
    }

    /// Goes on with what may have been ready before, and may have been lost since. Whoever repeats looks at it here,
    /// because a message for each node that has ended would come back as many.
    async fn was_ready(&mut self, next: &Successor, arrived: bool) -> Result<(), AppError> {
        if !self.seen.insert(next.ordinal) {
            return Ok(());
        }
        let is_fork = next.effect
            && self
                .node(next.ordinal)
                .await?
                .is_some_and(|node| node.kind == NodeKind::Fork);
        // A fork always has a message of its own; once that has arrived, it repeats what it has to by itself.
        if is_fork && self.has_begun(*next).await? {
            return Ok(());
        }
        if !is_fork && !self.has_repeated_enough() {
            self.work.push_back(Work {
                ordinal: next.ordinal,
                arrived: Some(arrived),
                known: Known::Nothing,
            });
        } else {
            self.later.push(Later {
                ordinal: next.ordinal,
                // What has ended with the execution is told by few.
                own: next.effect && !self.header.status.is_terminal(),
                arrived: Some(arrived),
                known: Known::Nothing,
            });
        }
        Ok(())
    }

    /// Whether the first of what follows a fork shows that the fork was followed.
    async fn has_begun(&mut self, fork: Successor) -> Result<bool, AppError> {
        let mut next = fork;
        loop {
            if next.of > 1 {
                let key = keys::join(&self.header, next.ordinal);
                let arrivals = self.session.arrivals(&key).await?;
                return Ok((arrivals.ok | arrivals.bad) & (1 << next.slot) != 0);
            }
            let node = self.node(next.ordinal).await?;
            let first = node
                .filter(|node| node.kind == NodeKind::Fork)
                .and_then(|node| node.successors.first().copied());
            match first {
                Some(first) => next = first,
                None => return Ok(self.record(next.ordinal).await?.is_some()),
            }
        }
    }
}
