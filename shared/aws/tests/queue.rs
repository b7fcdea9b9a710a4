//! SQS keeps the contract of the queues.

mod common;

use std::{sync::Arc, time::Duration};

use slipway_aws::SqsReceiver;
use slipway_model::Queue;
use slipway_testkit::contract::QueueSubject;

async fn subject() -> QueueSubject {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["execute-step", "other"]).await;
    QueueSubject {
        store: Arc::new(common::store(&clients, queues.clone()).await),
        receiver: Arc::new(SqsReceiver::new(&clients, queues, dead, common::MAX_RECEIVES)),
        queue: Queue::ExecuteStep,
        other: Queue::Topic("other".to_owned()),
        max_receives: common::MAX_RECEIVES,
        tick: Duration::from_secs(1),
        keep: Box::new(()),
    }
}

slipway_testkit::queue_contract!(subject);
