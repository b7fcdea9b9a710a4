//! The scheduled sweep: deadlines that passed, leases that expired, messages that were lost, and the hourly looks at
//! clusters.

use std::time::Duration;

use slipway_model::{
    Deployment, DeploymentId, DeploymentStatus, Execution, ExecutionId, ExecutionLook, Message, Queue,
    TenantId,
};
use slipway_ports::{DUE_SHARDS, DueItem, Guard, Session, chain};

use crate::{
    App, AppError,
    deployments::{STOPPED, deployment_item, look_again},
    keys::{self, DueThing},
};

/// The sweep comes once a minute: what is due before the next one is sent now, with a delay.
const AHEAD: Duration = Duration::from_secs(60);

/// Most items of one shard and sweep; what is over waits for the next sweep.
const MOST: usize = 500;

impl App {
    /// Looks at everything that is due and sends the message that goes on with it. Every consumer can be told twice.
    ///
    /// # Errors
    /// The first of the parts that did not answer, after everything else was looked at; the next sweep goes on.
    pub async fn sync_deployments(&self) -> Result<(), AppError> {
        let mut first = None;
        // Each sweep begins elsewhere: one that is cut short must not leave out the same shards again and again.
        let minutes = self.clock.now().as_millis() / 60_000;
        let begin = u8::try_from(minutes.rem_euclid(i64::from(DUE_SHARDS))).unwrap_or(0);
        for shard in (begin..DUE_SHARDS).chain(0..begin) {
            if let Err(error) = self.sweep_shard(shard).await {
                tracing::error!(shard, error = chain(&error), "what is due could not be looked at");
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn sweep_shard(&self, shard: u8) -> Result<(), AppError> {
        let until = self.clock.now().plus(AHEAD);
        let due = self.store.due(shard, until, MOST).await?;
        if due.len() == MOST {
            tracing::warn!(
                shard,
                "more is due than one sweep looks at; the next sweep goes on"
            );
        }
        for item in &due {
            // First: how an execution has to end decides how its steps do.
            if let Some((tenant, DueThing::Execution(id))) = keys::due_thing(&item.key) {
                report(item, self.look_at_execution(&tenant, id, item).await);
            }
        }
        let mut session = self.store.session();
        for item in &due {
            self.poke(session.as_mut(), item);
        }
        session.settle().await?;
        for item in &due {
            let looked = match keys::due_thing(&item.key) {
                Some((tenant, DueThing::Deployment(id))) => self.look_at_deployment(&tenant, id).await,
                Some((tenant, DueThing::Drift(id))) => self.send_drift(&tenant, id).await,
                Some((tenant, DueThing::Orphans(id))) => self.send_orphans(&tenant, id).await,
                Some((tenant, DueThing::Registration(id))) => self.take_registration_back(&tenant, id).await,
                _ => continue,
            };
            report(item, looked);
        }
        Ok(())
    }

    fn poke(&self, session: &mut dyn Session, item: &DueItem) {
        let Some((tenant, thing)) = keys::due_thing(&item.key) else {
            tracing::debug!(key = %item.key, "nobody goes on with a due item of this kind by message");
            return;
        };
        let delay = item.at.since(self.clock.now());
        match thing {
            DueThing::Step(execution, ordinal) => {
                let ordinals = vec![ordinal];
                let message = Message::Steps {
                    tenant,
                    execution,
                    ordinals,
                };
                session.send(Queue::ExecuteStep, message, delay);
            }
            DueThing::Job(job) => session.send(Queue::DeployHelm, Message::Job { tenant, job }, delay),
            DueThing::Deployment(_)
            | DueThing::Execution(_)
            | DueThing::Drift(_)
            | DueThing::Orphans(_)
            | DueThing::Registration(_) => {}
        }
    }

    /// An execution that is to end, or that has been open for a while: what was lost in it is sent again.
    async fn look_at_execution(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        item: &DueItem,
    ) -> Result<(), AppError> {
        let key = keys::execution(tenant, execution);
        let Some(stored) = self.store.get(&key).await? else {
            return Ok(());
        };
        let header: Execution = stored.read()?;
        if header.status.is_terminal() {
            return Ok(());
        }
        if header.cancel.is_none() && !self.is_wanted(&header).await? {
            // Its planner came too late, and died before it could see that.
            self.cancel_if_there(tenant, execution, STOPPED).await?;
            return Ok(());
        }
        let now = self.clock.now();
        let must_end = header.cancel.is_some() || header.deadline <= now.plus(AHEAD);
        let (look, delay) = match must_end {
            true => (ExecutionLook::Control, item.at.since(now)),
            false => (ExecutionLook::Repair, Duration::ZERO),
        };
        let mut session = self.store.session();
        let message = Message::Execution {
            tenant: tenant.clone(),
            execution,
            look,
        };
        session.send(Queue::ExecuteStep, message, delay);
        if !must_end {
            // Unless somebody has just changed it, who has put the next look off by that.
            let item = self.execution_item(&header);
            session.put(&key, item, Guard::Version(stored.version)).await?;
        }
        Ok(session.settle().await?)
    }

    /// Whether the deployment that an execution works for follows it, or the execution that it undoes ended so.
    async fn is_wanted(&self, header: &Execution) -> Result<bool, AppError> {
        if let Some(undone) = header.compensates {
            let undone = self.load_execution(&header.tenant, undone).await?;
            // It is written before that one ends.
            return Ok(undone.is_none_or(|undone| {
                !undone.status.is_terminal() || undone.compensated_by == Some(header.id)
            }));
        }
        let Some(deployment) = header.deployment_id else {
            return Ok(true);
        };
        let deployment = self.load_deployment(&header.tenant, deployment).await?;
        Ok(deployment.is_some_and(|deployment| deployment.follows(header.id)))
    }

    /// A deployment that changed: its state is derived again, in case an event was lost or a call cut short.
    async fn look_at_deployment(&self, tenant: &TenantId, id: DeploymentId) -> Result<(), AppError> {
        let key = keys::deployment(tenant, id);
        let Some(stored) = self.store.get(&key).await? else {
            return Ok(());
        };
        let deployment: Deployment = stored.read()?;
        if self.unmake_nameless(&deployment).await? {
            tracing::info!(deployment = %id, "took a deployment away whose creation was cut short");
            return Ok(());
        }
        let is_in_flight = deployment.status.is_in_flight();
        let derived = match deployment.pipeline_execution_id {
            None if is_in_flight => self.sync_legacy(&deployment).await?,
            _ => self.reconcile(&deployment).await?,
        };
        let again = is_in_flight.then(|| self.clock.now()).and_then(look_again);
        // Unless somebody has just changed it, whose change is looked at in its own time.
        let mut session = self.store.session();
        if derived.status == DeploymentStatus::Running {
            // Whoever said so may have died before this.
            self.schedule_drift(session.as_mut(), &derived).await?;
        }
        let item = deployment_item(&deployment).due_at(again);
        session.put(&key, item, Guard::Version(stored.version)).await?;
        Ok(session.settle().await?)
    }
}

/// The others must not wait for one that cannot be looked at.
fn report(item: &DueItem, looked: Result<(), AppError>) {
    if let Err(error) = looked {
        tracing::error!(key = %item.key, %error, "what is due could not be looked at");
    }
}
