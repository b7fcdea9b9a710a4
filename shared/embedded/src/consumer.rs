//! The loop that hands messages to handlers, as the event source of a function does.

use std::{any::Any, error::Error, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use slipway_model::{Message, Queue};
use slipway_ports::{Delivery, Receiver, chain};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Most messages that one receive may bring.
const BATCH: usize = 10;

/// How long a receive waits for the first message.
const WAIT: Duration = Duration::from_secs(20);

/// Longest pause before a message that failed is received again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is consumed, and how.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Which queue.
    pub queue: Queue,
    /// Messages that are worked on at the same time.
    pub concurrency: usize,
    /// How long a message is invisible to others: longer than an invocation may take.
    pub visibility: Duration,
    /// Times that a message is received before it becomes a dead letter, as
    /// [`Embedded::max_receives`](crate::Embedded::max_receives) says for the queue.
    pub max_receives: u32,
}

impl Consumer {
    /// Receives messages and has `handle` deal with them until `stop` is true; then lets those that are being
    /// worked on finish. A message whose handler fails or panics comes back, later each time. A message that cannot
    /// be read is dropped from a topic, where anybody may write, and becomes a dead letter on any other queue.
    ///
    /// Before a message that failed as often as is allowed becomes a dead letter, `give_up` is told, with the reason,
    /// so that what waits for it can end. Should that fail too, the message becomes one all the same: whoever looks at
    /// the dead letters tries again.
    pub async fn run<H, F, G, U, E>(
        self,
        receiver: Arc<dyn Receiver>,
        mut stop: watch::Receiver<bool>,
        handle: H,
        give_up: G,
    ) where
        H: Fn(Queue, Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        G: Fn(Queue, Message, String) -> U + Clone + Send + Sync + 'static,
        U: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let places = Arc::new(Semaphore::new(self.concurrency));
        let mut running = JoinSet::new();
        while !*stop.borrow() {
            let free = tokio::select! {
                free = Arc::clone(&places).acquire_owned() => free,
                _ = stop.changed() => break,
            };
            // The semaphore is never closed; its permits only bound how much is received.
            let Ok(free) = free else { break };
            let max = (places.available_permits() + 1).min(BATCH);
            drop(free);
            let received = tokio::select! {
                received = receiver.receive(&self.queue, max, WAIT, self.visibility) => received,
                _ = stop.changed() => break,
            };
            while running.try_join_next().is_some() {}
            match received {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                            break;
                        };
                        let work = Work {
                            receiver: Arc::clone(&receiver),
                            queue: self.queue.clone(),
                            is_last: delivery.receive_count >= self.max_receives,
                            delivery,
                        };
                        let (handle, give_up) = (handle.clone(), give_up.clone());
                        running.spawn(async move {
                            work.deal_with(handle, give_up).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::error!(queue = self.queue.name(), error = %chain(&error), "cannot receive messages");
                    let mut pause = tokio::time::interval(Duration::from_secs(1));
                    pause.tick().await;
                    pause.tick().await;
                }
            }
        }
        while running.join_next().await.is_some() {}
    }
}

/// One delivery.
struct Work {
    receiver: Arc<dyn Receiver>,
    queue: Queue,
    delivery: Delivery,
    /// Whether the message becomes a dead letter if it fails now.
    is_last: bool,
}

impl Work {
    async fn deal_with<H, F, G, U, E>(self, handle: H, give_up: G)
    where
        H: Fn(Queue, Message) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        G: Fn(Queue, Message, String) -> U,
        U: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let (queue, receipt) = (&self.queue, &self.delivery.receipt);
        let name = queue.name();
        let settled = match Message::from_body(queue, &self.delivery.body) {
            Err(error) if matches!(queue, Queue::Topic(_)) => {
                tracing::warn!(queue = name, error = %chain(&error), "dropped an event that cannot be read");
                self.receiver.acknowledge(queue, receipt).await
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::error!(queue = name, reason, "a message became a dead letter at once");
                self.receiver.bury(queue, receipt, &reason).await
            }
            Ok(message) => match attempt(handle(queue.clone(), message.clone())).await {
                Ok(()) => self.receiver.acknowledge(queue, receipt).await,
                Err(reason) => {
                    if self.is_last {
                        tracing::error!(queue = name, reason, "a message failed for the last time");
                        if let Err(error) = attempt(give_up(queue.clone(), message, reason.clone())).await {
                            tracing::error!(
                                queue = name,
                                error,
                                "what a dead letter is about could not be ended; it is tried again"
                            );
                        }
                    } else {
                        tracing::error!(queue = name, reason, "a message failed and will come again");
                    }
                    let pause =
                        Duration::from_secs(1 << self.delivery.receive_count.min(6)).min(LONGEST_PAUSE);
                    self.receiver.release(queue, receipt, pause, &reason).await
                }
            },
        };
        if let Err(error) = settled {
            tracing::error!(queue = name, error = %chain(&error), "cannot settle a message; it will come again");
        }
    }
}

/// A panic ends the message's handling and nothing else: what a handler shares with others is behind the store, whose
/// sessions it leaves unsettled. Why it failed.
async fn attempt<F, E>(work: F) -> Result<(), String>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(panicked) => Err(format!("the handler panicked: {}", said(panicked.as_ref()))),
    }
}

/// What a panic said.
fn said(panicked: &(dyn Any + Send)) -> &str {
    let text = panicked.downcast_ref::<&str>().copied();
    text.or_else(|| panicked.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
