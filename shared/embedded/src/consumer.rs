//! The loop that hands messages to handlers, as the event source of a function does.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use slipway_model::{Message, Queue};
use slipway_ports::{Delivery, Receiver};
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
}

impl Consumer {
    /// Receives messages and has `handle` deal with them until `stop` is true; then lets those that are being
    /// worked on finish. A message whose handler fails or panics comes back, later each time. A message that cannot
    /// be read is dropped from a topic, where anybody may write, and becomes a dead letter on any other queue.
    pub async fn run<H, F, E>(self, receiver: Arc<dyn Receiver>, mut stop: watch::Receiver<bool>, handle: H)
    where
        H: Fn(Queue, Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
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
                        let work = deal_with(
                            Arc::clone(&receiver),
                            self.queue.clone(),
                            delivery,
                            handle.clone(),
                        );
                        running.spawn(async move {
                            work.await;
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

async fn deal_with<H, F, E>(receiver: Arc<dyn Receiver>, queue: Queue, delivery: Delivery, handle: H)
where
    H: Fn(Queue, Message) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let name = queue.name().to_owned();
    let settled = match Message::from_body(&queue, &delivery.body) {
        Err(error) if matches!(queue, Queue::Topic(_)) => {
            tracing::warn!(queue = name, error = %chain(&error), "dropped an event that cannot be read");
            receiver.acknowledge(&queue, &delivery.receipt).await
        }
        Err(error) => receiver.bury(&queue, &delivery.receipt, &chain(&error)).await,
        Ok(message) => {
            // A task of its own, so that a panic ends the message's handling and nothing else.
            let reason = match tokio::spawn(handle(queue.clone(), message)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(panicked) => Some(format!("the handler panicked: {panicked}")),
            };
            match reason {
                None => receiver.acknowledge(&queue, &delivery.receipt).await,
                Some(reason) => {
                    tracing::error!(queue = name, reason, "a message failed and will come again");
                    let pause = Duration::from_secs(1 << delivery.receive_count.min(6)).min(LONGEST_PAUSE);
                    receiver.release(&queue, &delivery.receipt, pause, &reason).await
                }
            }
        }
    };
    if let Err(error) = settled {
        tracing::error!(queue = name, error = %chain(&error), "cannot settle a message; it will come again");
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
