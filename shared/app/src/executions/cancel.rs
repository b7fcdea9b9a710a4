//! Cancelling: a flag on the header, then a look at everything that runs.

use std::time::Duration;

use slipway_model::{
    Cancellation, Execution, ExecutionId, ExecutionLook, Message, Queue, StepRecord, TenantId,
};
use slipway_ports::{Guard, Put, Session};

use crate::{
    App, AppError, Caller, Role,
    executions::{LONGEST_DELAY, each_chunk, execution_item},
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
                if header.cancel.is_some() {
                    return false;
                }
                header.cancel = Some(cancellation.clone());
                true
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
                .put(&key, execution_item(&header), Guard::Version(stored.version))
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
        self.poke_running(session.as_mut(), &header).await?;
        session.settle().await?;
        Ok(())
    }

    /// Sends again whatever is due in an execution and may have been lost: steps that run or wait, and what a
    /// finished step leads to.
    pub(crate) async fn repair_execution(&self, tenant: &TenantId, id: ExecutionId) -> Result<(), AppError> {
        let Some(header) = self.load_execution(tenant, id).await? else {
            return Ok(());
        };
        let mut session = self.store.session();
        // A finished step that is looked at repeats what follows from it; so does the end of the execution.
        self.poke_running(session.as_mut(), &header).await?;
        let mut finished = Vec::new();
        each_chunk(self, &header, |_, records| {
            finished.extend(
                records
                    .iter()
                    .filter(|(_, record)| record.status.is_terminal())
                    .map(|(n, _)| *n),
            );
            Ok(())
        })
        .await?;
        if finished.is_empty() {
            finished.push(0);
        }
        crate::steps::send_steps(session.as_mut(), &header, Vec::new(), finished);
        session.settle().await?;
        Ok(())
    }

    async fn poke_running(&self, session: &mut dyn Session, header: &Execution) -> Result<(), AppError> {
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
        crate::steps::send_steps(session, header, open, Vec::new());
        Ok(())
    }
}
