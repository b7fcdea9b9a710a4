//! Cancelling: a flag on the header, then a look at everything that runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use slipway_model::{
    CHUNK_SIZE, Cancellation, Execution, ExecutionId, ExecutionLook, Message, NodeKind, Queue, StepRecord,
    TenantId,
};
use slipway_ports::{Guard, Put, Session};

use crate::{
    App, AppError, Caller, Role,
    executions::{LONGEST_DELAY, each_chunk},
    keys,
};

impl App {
    /// Cancels an execution that a caller names.
    ///
    /// # Errors
    /// 404; 409 when it has ended, naming the state.
    pub async fn cancel_execution(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
    ) -> Result<Execution, AppError> {
        caller.require(Role::Deployer)?;
        let execution = self.execution(caller, id).await?;
        if execution.status.is_terminal() {
            let status = serde_json::to_value(execution.status).unwrap_or_default();
            return Err(AppError::conflict(format!(
                "execution '{id}' is {}: only one that runs can be cancelled",
                status.as_str().unwrap_or_default()
            )));
        }
        self.request_cancel(&caller.tenant, execution.id, reason, false)
            .await
    }

    /// Flags an execution as cancelled and has everything that runs looked at. One that has ended stays as it is.
    pub(crate) async fn request_cancel(
        &self,
        tenant: &TenantId,
        id: ExecutionId,
        reason: &str,
        uninstall: bool,
    ) -> Result<Execution, AppError> {
        let mut session = self.store.session();
        let cancellation = Cancellation {
            at: self.clock.now(),
            reason: reason.to_owned(),
            uninstall,
        };
        let header = self
            .update_header(session.as_mut(), tenant, id, |header| {
                let before = header.cancel.clone();
                // Who came first gives the reason; what is to be uninstalled is whatever anybody asked for.
                let first = header.cancel.get_or_insert_with(|| cancellation.clone());
                first.uninstall |= uninstall;
                header.cancel != before
            })
            .await?
            .ok_or_else(|| AppError::not_found(format!("execution '{id}'")))?;
        let message = Message::Execution {
            tenant: tenant.clone(),
            execution: id,
            look: ExecutionLook::Control,
        };
        session.send(Queue::ExecuteStep, message, Duration::ZERO);
        session.settle().await?;
        Ok(header)
    }

    /// Changes the header of an execution that runs, however many others change it at the same time. `change` says
    /// whether there is something to write.
    pub(crate) async fn update_header(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        id: ExecutionId,
        mut change: impl FnMut(&mut Execution) -> bool + Send,
    ) -> Result<Option<Execution>, AppError> {
        let key = keys::execution(tenant, id);
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(None);
            };
            let mut header: Execution = stored.read()?;
            if header.status.is_terminal() || !change(&mut header) {
                return Ok(Some(header));
            }
            let put = session
                .put(&key, self.execution_item(&header), Guard::Version(stored.version))
                .await?;
            if let Put::Won(_) = put {
                return Ok(Some(header));
            }
        }
    }

    /// Looks at an execution as a whole: its deadline may have passed, or it may have been cancelled.
    pub(crate) async fn control_execution(&self, tenant: &TenantId, id: ExecutionId) -> Result<(), AppError> {
        let mut session = self.store.session();
        let now = self.clock.now();
        let header = self
            .update_header(session.as_mut(), tenant, id, |header| {
                let passed =
                    now >= header.deadline && header.timed_out_at.is_none() && header.cancel.is_none();
                if passed {
                    header.timed_out_at = Some(now);
                }
                passed
            })
            .await?;
        let Some(header) = header.filter(|header| !header.status.is_terminal()) else {
            return Ok(());
        };
        if header.cancel.is_none() && header.timed_out_at.is_none() {
            let rest = header.deadline.since(now);
            if rest <= LONGEST_DELAY {
                let look = ExecutionLook::Control;
                let message = Message::Execution {
                    tenant: tenant.clone(),
                    execution: id,
                    look,
                };
                session.send(Queue::ExecuteStep, message, rest);
            }
            session.settle().await?;
            return Ok(());
        }
        if !self.poke_running(session.as_mut(), &header).await? {
            // Nothing is on its way, and yet it has not ended: a message was lost.
            self.send_frontier(session.as_mut(), &header).await?;
        }
        session.settle().await?;
        Ok(())
    }

    /// Sends again whatever is due in an execution and may have been lost: steps that run or wait, what a finished
    /// step leads to, and steps that wait for nothing and have not begun.
    pub(crate) async fn repair_execution(&self, tenant: &TenantId, id: ExecutionId) -> Result<(), AppError> {
        let Some(header) = self.load_execution(tenant, id).await? else {
            return Ok(());
        };
        let mut session = self.store.session();
        if header.status.is_terminal() {
            // Whatever is looked at says how it ended.
            crate::steps::send_steps(session.as_mut(), &header, Vec::new(), vec![0]);
        } else {
            self.poke_running(session.as_mut(), &header).await?;
            self.send_frontier(session.as_mut(), &header).await?;
        }
        session.settle().await?;
        Ok(())
    }

    /// Has finished steps looked at that may have told a later one nothing, so that they repeat what follows from
    /// them, and steps that could have begun from the start. What has begun was told by all before it. Steps that were
    /// kept have told nothing until the first message of the execution arrived, which is when something else began.
    async fn send_frontier(&self, session: &mut dyn Session, header: &Execution) -> Result<(), AppError> {
        let mut known: BTreeMap<u32, bool> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        each_chunk(self, header, |_, records| {
            kept.extend(
                records
                    .iter()
                    .filter(|(_, record)| record.kept)
                    .map(|(ordinal, _)| *ordinal),
            );
            known.extend(
                records
                    .iter()
                    .map(|(ordinal, record)| (*ordinal, record.status.is_terminal())),
            );
            Ok(())
        })
        .await?;
        let is_untold = kept.len() == known.len();
        let mut chunks = Vec::new();
        for first in (0..header.node_count).step_by(CHUNK_SIZE as usize) {
            chunks.extend(self.chunk(header, first).await?);
        }
        let nodes = || chunks.iter().flat_map(|chunk| &chunk.nodes);
        // A fork has begun and ended with what is before it.
        for fork in nodes().filter(|node| node.kind == NodeKind::Fork) {
            let before = fork.dependencies.first().and_then(|before| known.get(before));
            if let Some(ended) = before.copied() {
                known.insert(fork.ordinal, ended);
            }
        }
        let mut frontier: Vec<(u32, bool)> = Vec::new();
        for node in nodes() {
            let send = match known.get(&node.ordinal) {
                Some(ended) => {
                    let is_awaited = node
                        .successors
                        .iter()
                        .any(|next| !known.contains_key(&next.ordinal));
                    *ended && (is_awaited || (is_untold && kept.contains(&node.ordinal)))
                }
                None => node.dependencies.is_empty(),
            };
            if send {
                let is_new = !known.contains_key(&node.ordinal);
                let own = node.kind == NodeKind::Fork || (is_new && crate::steps::has_effect(node));
                frontier.push((node.ordinal, own));
            }
        }
        crate::steps::send_steps(session, header, frontier, Vec::new());
        Ok(())
    }

    /// Has every step that has begun and not ended looked at. Whether there is one.
    async fn poke_running(&self, session: &mut dyn Session, header: &Execution) -> Result<bool, AppError> {
        let mut open: Vec<(u32, bool)> = Vec::new();
        each_chunk(self, header, |_, records: &[(u32, StepRecord)]| {
            open.extend(
                records
                    .iter()
                    .filter(|(_, record)| !record.status.is_terminal())
                    .map(|(ordinal, _)| (*ordinal, true)),
            );
            Ok(())
        })
        .await?;
        let any = !open.is_empty();
        crate::steps::send_steps(session, header, crate::steps::few_messages(open), Vec::new());
        Ok(any)
    }
}
