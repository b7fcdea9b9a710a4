//! Going through steps: load a neighbourhood, decide, write, go on with what became ready.
//!
//! Order after a step ended: (1) the guarded write of its record; (2) the failure on the header, if it is one;
//! (3) its event; (4) its arrivals at the nodes after it; (5) what became ready, inline or as a message. A message
//! that comes again finds the record terminal and repeats 2 to 5, also for what the lost invocation went on with.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use slipway_model::{
    Execution, ExecutionId, JsonMap, Message, Node, Queue, StepRecord, StepStatus, TenantId, Timestamp,
};
use slipway_ports::{Session, chain};

use crate::{
    App, AppError,
    executions::{INLINE_OUTPUTS, larger_than},
    keys,
    steps::{BATCH, send_steps},
};

/// An invocation hands on what is left after this long.
const INLINE_TIME: Duration = Duration::from_secs(5);

/// Nodes that had ended before whose consequences one invocation repeats, at most: many more than the lost invocation
/// can have ended.
const REPEATS: usize = 16 * BATCH;

/// What is known of a node's record before it is read.
pub(super) enum Known {
    /// Nothing: it is read.
    Nothing,
    /// There should be none: what is before it has just ended. The guarded write finds out if there is.
    Absent,
    /// This, with its version.
    Found(Box<(StepRecord, u64)>),
}

/// Whether a node ended in this invocation or had ended before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    New,
    Repeated,
}

/// A node to look at.
pub(super) struct Work {
    pub(super) ordinal: u32,
    /// Whether all its dependencies ended satisfied; unknown if that must be derived first.
    pub(super) arrived: Option<bool>,
    pub(super) known: Known,
}

/// A node to hand on.
pub(super) struct Later {
    pub(super) ordinal: u32,
    /// Whether it gets a message of its own.
    pub(super) own: bool,
    /// As in [`Work`], should it be gone on with here after all.
    pub(super) arrived: Option<bool>,
    pub(super) known: Known,
}

/// One invocation's way through an execution.
pub(super) struct Drive<'a> {
    pub(super) app: &'a App,
    pub(super) header: Execution,
    pub(super) session: Box<dyn Session>,
    pub(super) work: VecDeque<Work>,
    pub(super) later: Vec<Later>,
    /// Whether everything that becomes ready is handed on.
    pub(super) hands_on: bool,
    /// Nodes that were looked at, but for forks.
    pub(super) nodes_looked_at: usize,
    /// Of these, those that had ended before.
    pub(super) repeats: usize,
    /// Nodes that are looked at, or were, and that a repeat need not go to again.
    pub(super) seen: HashSet<u32>,
    /// Records of steps that have ended, without large outputs.
    ended: HashMap<u32, StepRecord>,
    /// Whether it was said how the execution ended.
    pub(super) said_end: bool,
    began: Timestamp,
}

impl App {
    /// Looks at steps of an execution and goes on with what follows from them. Steps that fail together are sent again in
    /// two halves: one that cannot be looked at takes none of the others with it.
    pub(crate) async fn drive(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        ordinals: &[u32],
    ) -> Result<(), AppError> {
        let Some(header) = self.load_execution(tenant, execution).await? else {
            tracing::warn!(%execution, "dropped a message for an execution that does not exist");
            return Ok(());
        };
        let Err(error) = self.drive_together(header, ordinals).await else {
            return Ok(());
        };
        if ordinals.len() < 2 {
            return Err(error);
        }
        tracing::warn!(%execution, error = chain(&error), "steps that could not be looked at together are sent apart");
        // Also those that were gone through before: what follows from them was lost.
        let (first, second) = ordinals.split_at(ordinals.len() / 2);
        let mut session = self.store.session();
        for half in [first, second] {
            let message = Message::Steps {
                tenant: tenant.clone(),
                execution,
                ordinals: half.to_vec(),
            };
            session.send(Queue::ExecuteStep, message, Duration::ZERO);
        }
        Ok(session.settle().await?)
    }

    /// Looks at steps of an execution within one commit, and at what follows from them.
    pub(super) async fn drive_together(&self, header: Execution, ordinals: &[u32]) -> Result<(), AppError> {
        let had_ended = header.status.is_terminal();
        let mut drive = Drive::new(self, header, self.store.session(), ordinals);
        drive.run().await?;
        if had_ended {
            drive.publish_end();
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
        mut session: Box<dyn Session>,
        ordinals: &[u32],
    ) -> Drive<'a> {
        expire_joins(app, &header, session.as_mut());
        let work = ordinals.iter().map(|ordinal| Work {
            ordinal: *ordinal,
            arrived: None,
            // Those that are sent together are pure, and hardly ever repeated.
            known: if ordinals.len() > 1 {
                Known::Absent
            } else {
                Known::Nothing
            },
        });
        Drive {
            app,
            work: work.collect(),
            header,
            session,
            later: Vec::new(),
            hands_on: false,
            nodes_looked_at: 0,
            repeats: 0,
            seen: ordinals.iter().copied().collect(),
            ended: HashMap::new(),
            said_end: false,
            began: app.clock.now(),
        }
    }
}

/// Joins go with the records of the execution's steps.
fn expire_joins(app: &App, header: &Execution, session: &mut dyn Session) {
    if let Some(at) = app.parts_kept_until(header) {
        session.joins_expire_at(at);
    }
}

impl Drive<'_> {
    /// Makes everything so far durable, and goes on in a new session.
    pub(super) async fn settle(&mut self) -> Result<(), AppError> {
        let mut next = self.app.store.session();
        expire_joins(self.app, &self.header, next.as_mut());
        std::mem::replace(&mut self.session, next).settle().await?;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), AppError> {
        loop {
            while let Some(work) = self.work.pop_front() {
                self.look(work).await?;
            }
            // The commit that ends a step also claims the one that follows it, where only one does.
            if self.later.len() != 1 || self.is_spent() {
                break;
            }
            let only = self.later.pop().map(|later| Work {
                ordinal: later.ordinal,
                arrived: later.arrived,
                known: later.known,
            });
            self.work.extend(only);
        }
        self.send_later();
        Ok(())
    }

    /// Hands on what is left.
    pub(super) fn send_later(&mut self) {
        let later = std::mem::take(&mut self.later).into_iter();
        let later = later.map(|later| (later.ordinal, later.own)).collect();
        send_steps(self.session.as_mut(), &self.header, later, Vec::new());
    }

    /// Whether enough new nodes were gone through, those included that are still to be looked at.
    pub(super) fn is_full(&self) -> bool {
        self.hands_on || self.work.len() + self.nodes_looked_at - self.repeats >= BATCH || self.is_late()
    }

    /// Whether enough nodes were looked at again, or for long enough.
    pub(super) fn has_repeated_enough(&self) -> bool {
        self.hands_on || self.work.len() + self.repeats >= REPEATS || self.is_late()
    }

    fn is_spent(&self) -> bool {
        self.nodes_looked_at - self.repeats >= BATCH || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.app.clock.now().since(self.began) >= INLINE_TIME
    }

    pub(super) async fn node(&mut self, ordinal: u32) -> Result<Option<Node>, AppError> {
        self.app.node(&self.header, ordinal).await
    }

    pub(super) async fn record(&mut self, ordinal: u32) -> Result<Option<(StepRecord, u64)>, AppError> {
        let key = keys::step(&self.header, ordinal);
        Ok(match self.session.get(&key).await? {
            Some(stored) => Some((stored.read()?, stored.version)),
            None => None,
        })
    }

    /// The record of a step that has ended; nothing of one that has not. It never changes again.
    pub(super) async fn ended(&mut self, ordinal: u32) -> Result<Option<StepRecord>, AppError> {
        if let Some(record) = self.ended.get(&ordinal) {
            return Ok(Some(record.clone()));
        }
        let found = self.record(ordinal).await?.map(|(record, _)| record);
        let ended = found.filter(|record| record.status.is_terminal());
        if let Some(record) = &ended {
            self.remember(ordinal, record);
        }
        Ok(ended)
    }

    /// Keeps the record of a step that has ended, for those that read it.
    pub(super) fn remember(&mut self, ordinal: u32, record: &StepRecord) {
        if !larger_than(&record.outputs, INLINE_OUTPUTS) {
            self.ended.insert(ordinal, record.clone());
        }
    }

    /// The outputs of a step that completed.
    pub(super) async fn outputs_of(&mut self, ordinal: u32) -> Result<Option<JsonMap>, AppError> {
        let ended = self.ended(ordinal).await?;
        Ok(
            match ended.filter(|record| record.status == StepStatus::Completed) {
                Some(record) => Some(self.app.outputs_of(record).await?),
                None => None,
            },
        )
    }

    pub(super) async fn reload_header(&mut self) -> Result<(), AppError> {
        let key = keys::execution(&self.header.tenant, self.header.id);
        if let Some(stored) = self.session.get(&key).await? {
            self.header = stored.read()?;
        }
        Ok(())
    }
}
