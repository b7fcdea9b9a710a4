//! The loop over a batch of messages: each on its own, all at the same time, none left waiting.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use slipway_app::{App, AppError};
use slipway_aws::{SqsReceiver, trace};
use slipway_model::{Message, Queue};
use slipway_ports::{QueueError, chain};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tracing::Instrument as _;

use crate::logging::{SHELL, trace_id};

/// Longest pause before a message that failed is received again.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Pause before a message that was not finished is received again, by another invocation.
const HANDED_BACK: Duration = Duration::from_secs(1);

/// A message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How a batch's answer names it.
    pub id: String,
    /// Names this delivery of it.
    pub receipt: String,
    /// The text.
    pub body: String,
    /// Times that it was received, this one included.
    pub receive_count: u32,
    /// The trace that it belongs to, as `X-Amzn-Trace-Id` says it.
    pub trace: Option<String>,
}

/// What deals with messages.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Why a message was not dealt with.
    type Error: Error + Send + Sync;

    /// Deals with a message. After an error it has to come again.
    async fn handle(&self, queue: &Queue, message: Message) -> Result<(), Self::Error>;

    /// Ends what a message is about that will not come again.
    async fn give_up(&self, queue: &Queue, message: &Message, reason: &str) -> Result<(), Self::Error>;
}

#[async_trait]
impl Handler for App {
    type Error = AppError;

    async fn handle(&self, queue: &Queue, message: Message) -> Result<(), AppError> {
        App::handle(self, queue, message).await
    }

    async fn give_up(&self, queue: &Queue, message: &Message, reason: &str) -> Result<(), AppError> {
        App::give_up(self, queue, message, reason).await
    }
}

/// Where messages go that cannot be removed from their queue as done. Whatever an invocation answers as done is
/// removed by the event source.
#[async_trait]
pub trait Returns: Send + Sync {
    /// Puts a copy of a message among its queue's dead letters.
    async fn dead_letter(&self, queue: &Queue, body: &str, reason: &str) -> Result<(), QueueError>;

    /// Lets a message be received again after `delay`, not only after its visibility time-out.
    async fn return_after(&self, queue: &Queue, receipt: &str, delay: Duration) -> Result<(), QueueError>;
}

#[async_trait]
impl Returns for SqsReceiver {
    async fn dead_letter(&self, queue: &Queue, body: &str, reason: &str) -> Result<(), QueueError> {
        SqsReceiver::dead_letter(self, queue, body, reason).await
    }

    async fn return_after(&self, queue: &Queue, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        SqsReceiver::return_after(self, queue, receipt, delay).await
    }
}

/// The loop. Cheap to clone.
pub struct Batches<H> {
    shared: Arc<Shared<H>>,
}

impl<H> Clone for Batches<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<H> {
    queue: Queue,
    handler: Arc<H>,
    returns: Arc<dyn Returns>,
    max_receives: u32,
    reserve: Duration,
}

impl<H: Handler + 'static> Batches<H> {
    /// Batches of `queue`, which buries messages after `max_receives`. `reserve` is the time after the work's end in
    /// which what was not finished is handed back.
    pub fn new(
        queue: Queue,
        handler: H,
        returns: Arc<dyn Returns>,
        max_receives: u32,
        reserve: Duration,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue,
                handler: Arc::new(handler),
                returns,
                max_receives,
                reserve,
            }),
        }
    }

    /// Works on all records at the same time, for `budget` at the longest, and returns the ids of those that have to
    /// come again. All others are done: dealt with, dropped or buried.
    ///
    /// A record that panics fails alone. One that is not finished in time is stopped where it is and handed back:
    /// claims and leases protect what it was in the middle of. One that fails for the last time is given up and
    /// buried with the reason.
    pub async fn run(&self, records: Vec<Record>, budget: Duration) -> Vec<String> {
        let end = Instant::now() + budget;
        let mut running = JoinSet::new();
        let mut failed = Vec::new();
        let mut ids = HashMap::new();
        for record in records {
            let span = tracing::error_span!(
                target: SHELL,
                "message",
                queue = self.shared.queue.name(),
                message_id = record.id,
                receive_count = record.receive_count,
                trace_id = record.trace.as_deref().map(trace_id),
            );
            let id = record.id.clone();
            let shared = Arc::clone(&self.shared);
            let work = trace::scope(record.trace.clone(), async move {
                shared.deal_with(&record, end).await
            });
            let task = running.spawn(work.instrument(span));
            ids.insert(task.id(), id);
        }
        while let Some(ended) = running.join_next_with_id().await {
            let (task, settled) = match ended {
                Ok((task, settled)) => (task, settled),
                Err(panicked) => {
                    tracing::error!(error = %panicked, "the handling of a message panicked; it will come again");
                    (panicked.id(), Settled::ComesAgain)
                }
            };
            if let Some(id) = ids.remove(&task)
                && settled == Settled::ComesAgain
                && !failed.contains(&id)
            {
                failed.push(id);
            }
        }
        failed
    }
}

/// How the queue is to see a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Done,
    ComesAgain,
}

/// How the work on a message ended.
enum Outcome {
    Done,
    Failed(String),
    Unfinished,
}

impl<H: Handler + 'static> Shared<H> {
    async fn deal_with(&self, record: &Record, end: Instant) -> Settled {
        let message = match Message::from_body(&self.queue, &record.body) {
            Ok(message) => message,
            Err(error) if matches!(self.queue, Queue::Topic(_)) => {
                tracing::warn!(error = chain(&error), "dropped an event that cannot be read");
                return Settled::Done;
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::error!(reason, "buried a message that cannot be read");
                return self.bury(record, &reason).await;
            }
        };
        let (reason, pause) = match self.work_on(message.clone(), end).await {
            Outcome::Done => return Settled::Done,
            Outcome::Failed(reason) => (reason, pause_after(record.receive_count)),
            Outcome::Unfinished => (
                "it was not finished before the function's end".to_owned(),
                HANDED_BACK,
            ),
        };
        if record.receive_count < self.max_receives {
            tracing::error!(
                reason,
                pause_seconds = pause.as_secs(),
                "a message failed and will come again"
            );
            return self.come_again(record, pause).await;
        }
        let reason = format!("received {} times; the last time: {reason}", record.receive_count);
        tracing::error!(reason, "a message failed for the last time and is buried");
        self.give_up(&message, &reason).await;
        self.bury(record, &reason).await
    }

    /// Works on a message in a task of its own, so that a panic ends that and nothing else, until `end`.
    async fn work_on(&self, message: Message, end: Instant) -> Outcome {
        let handler = Arc::clone(&self.handler);
        let queue = self.queue.clone();
        let header = trace::current();
        let work = async move {
            handler
                .handle(&queue, message)
                .await
                .map_err(|error| chain(&error))
        };
        let mut task = JoinSet::new();
        task.spawn(trace::scope(header, work).in_current_span());
        match timeout_at(end, task.join_next()).await {
            Ok(Some(Ok(Ok(())))) => Outcome::Done,
            Ok(Some(Ok(Err(reason)))) => Outcome::Failed(reason),
            Ok(Some(Err(panicked))) => Outcome::Failed(panic_reason(panicked)),
            // The set is never empty before its task ended.
            Ok(None) => Outcome::Unfinished,
            Err(_) => {
                // Nothing of it may go on in the next invocation: wait until it has really stopped.
                let _ = timeout(self.reserve / 5, task.shutdown()).await;
                Outcome::Unfinished
            }
        }
    }

    /// Tells the application. Should that fail, the schedule finds the dead letter and tells it again.
    async fn give_up(&self, message: &Message, reason: &str) {
        match timeout(
            self.reserve / 5,
            self.handler.give_up(&self.queue, message, reason),
        )
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = chain(&error),
                "what a dead letter is about could not be ended; the schedule tries again"
            ),
            Err(_) => tracing::error!(
                "what a dead letter is about could not be ended in time; the schedule tries again"
            ),
        }
    }

    async fn bury(&self, record: &Record, reason: &str) -> Settled {
        let buried = self.returns.dead_letter(&self.queue, &record.body, reason);
        match timeout(self.reserve / 5, buried).await {
            Ok(Ok(())) => return Settled::Done,
            Ok(Err(error)) => {
                tracing::error!(error = chain(&error), "cannot bury a message; it will come again");
            }
            Err(_) => tracing::error!("cannot bury a message in time; it will come again"),
        }
        self.come_again(record, pause_after(record.receive_count)).await
    }

    async fn come_again(&self, record: &Record, pause: Duration) -> Settled {
        let returned = self.returns.return_after(&self.queue, &record.receipt, pause);
        match timeout(self.reserve / 5, returned).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = chain(&error),
                "a message will come again only after its visibility time-out"
            ),
            Err(_) => tracing::error!("a message will come again only after its visibility time-out"),
        }
        Settled::ComesAgain
    }
}

/// Twice as long each time.
fn pause_after(receive_count: u32) -> Duration {
    Duration::from_secs(1 << receive_count.min(10)).min(LONGEST_PAUSE)
}

fn panic_reason(ended: JoinError) -> String {
    if !ended.is_panic() {
        return "the handler was stopped".to_owned();
    }
    let panic = ended.into_panic();
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    match text {
        Some(text) => format!("the handler panicked: {text}"),
        None => "the handler panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests;
