//! The use cases on DynamoDB and SQS, with consumers that receive and remove as Lambda's event sources do.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::FinalizerInterceptorContextRef},
    error::BoxError,
};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName};
use serde_json::Value;
use slipway_app::{App, Caller, Role, Services, Settings};
use slipway_aws::{CallCounter, Clients, DynamoStore, Queues, SqsReceiver};
use slipway_model::{BUDUSECASES_EVENTS, Catalog, Message, Queue, TenantId, Timestamp};
use slipway_ports::{Clock, HttpAnswer, HttpCall, Outside, OutsideError};
use slipway_testkit::{
    NoCharts, NoClusters, START, SequentialIds,
    memory::{SimpleBlobs, SimpleSecrets},
};
use tokio::{
    sync::broadcast,
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    capacity::{CapacityMeter, Units},
    common,
};

/// Names of the queues, and how many receive from each at once.
const CONSUMERS: [(&str, usize); 3] = [
    ("execute-step", 4),
    ("budusecasesEvents", 2),
    ("budpipelineEvents", 1),
];

/// Every call is answered, and has no effect.
struct Answering;

#[async_trait]
impl Outside for Answering {
    async fn http(&self, _call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        Ok(HttpAnswer {
            status: 200,
            headers: BTreeMap::new(),
            body: "{}".to_owned(),
        })
    }

    async fn publish(&self, _topic: &str, _subject: &str, _message: &str) -> Result<(), OutsideError> {
        Ok(())
    }
}

/// A clock that each call to AWS moves on by what such a call takes there. What happens every so often, such as news
/// of progress, so happens as often on a machine that is busy as on one that is not.
#[derive(Debug, Clone, Default)]
struct CallClock(Arc<AtomicI64>);

/// Milliseconds of one call.
const CALL: i64 = 5;

impl Clock for CallClock {
    fn now(&self) -> Timestamp {
        START.plus(Duration::from_millis(
            self.0.load(Ordering::Relaxed).unsigned_abs(),
        ))
    }
}

impl Intercept for CallClock {
    fn name(&self) -> &'static str {
        "CallClock"
    }

    fn read_after_execution(
        &self,
        _context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(CALL, Ordering::Relaxed);
        Ok(())
    }
}

/// What an execution took.
#[derive(Debug)]
pub(crate) struct Bill {
    /// Calls by operation, receives that came back empty left out.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Capacity of the table.
    pub(crate) units: Units,
    /// Batches that consumers were given: invocations of functions.
    pub(crate) invocations: u64,
    pub(crate) time: Duration,
}

impl Bill {
    /// Calls of some operations.
    pub(crate) fn of(&self, operations: &[&str]) -> u64 {
        operations
            .iter()
            .map(|operation| self.calls.get(*operation).copied().unwrap_or(0))
            .sum()
    }

    pub(crate) fn store_writes(&self) -> u64 {
        self.of(&["DynamoDB.PutItem", "DynamoDB.UpdateItem", "DynamoDB.DeleteItem"])
    }

    pub(crate) fn all(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// What consumers found, for whoever waits.
#[derive(Debug, Clone)]
enum News {
    Ended(String),
    Batch,
}

pub(crate) struct Plane {
    app: App,
    /// Not counted.
    clients: Clients,
    counter: CallCounter,
    meter: CapacityMeter,
    urls: Vec<String>,
    news: broadcast::Sender<News>,
    _consumers: JoinSet<()>,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        let clients = common::clients().await;
        let (counter, meter) = (CallCounter::default(), CapacityMeter::default());
        let clock = CallClock::default();
        let counted = clients
            .clone()
            .with_interceptor(counter.clone())
            .with_interceptor(meter.clone())
            .with_interceptor(clock.clone());
        let table = common::unique("calls");
        common::create_table(&clients, &table).await;
        let names = CONSUMERS.map(|(name, _)| name);
        let (queues, dead) = common::queues(&clients, &names).await;
        let store = DynamoStore::open(&counted, &table, queues.clone()).await.unwrap();
        let app = App::new(Services {
            store: Arc::new(store),
            receiver: Arc::new(SqsReceiver::new(
                &counted,
                queues.clone(),
                dead,
                common::MAX_RECEIVES,
            )),
            secrets: Arc::new(SimpleSecrets::default()),
            blobs: Arc::new(SimpleBlobs::default()),
            charts: Arc::new(NoCharts),
            connector: Arc::new(NoClusters),
            outside: Arc::new(Answering),
            clock: Arc::new(clock),
            ids: Arc::new(SequentialIds::new()),
            catalog: Catalog::default(),
            settings: Settings::new("aws"),
        });
        let (news, _) = broadcast::channel(100_000);
        let mut consumers = JoinSet::new();
        let mut urls = Vec::new();
        for (name, concurrency) in CONSUMERS {
            let queue = queue(name);
            urls.push(url(&queues, &queue));
            for _ in 0..concurrency {
                let consumer = Consumer {
                    app: app.clone(),
                    clients: counted.clone(),
                    url: url(&queues, &queue),
                    queue: queue.clone(),
                    news: news.clone(),
                };
                consumers.spawn(consumer.run());
            }
        }
        Self {
            app,
            clients,
            counter,
            meter,
            urls,
            news,
            _consumers: consumers,
        }
    }

    /// Runs a DAG to its end, and until every message of it was dealt with.
    pub(crate) async fn run(&self, dag: &Value) -> Bill {
        let mut news = self.news.subscribe();
        self.counter.take();
        self.meter.take();
        let began = Instant::now();
        let caller = Caller {
            tenant: TenantId::local(),
            user_id: "test".to_owned(),
            role: Role::Admin,
        };
        let execution = self.app.create_execution(&caller, dag.clone()).await.unwrap();
        let id = execution.id.to_string();
        let mut invocations = 0;
        let mut note = |news: News| invocations += u64::from(matches!(news, News::Batch));
        loop {
            match news.recv().await.unwrap() {
                News::Ended(ended) if ended == id => break,
                other => note(other),
            }
        }
        let time = began.elapsed();
        self.wait_until_nothing_is_left().await;
        while let Ok(other) = news.try_recv() {
            note(other);
        }
        let mut calls: BTreeMap<String, u64> = self
            .counter
            .take()
            .into_iter()
            .map(|(operation, calls)| (operation, calls.attempts))
            .collect();
        let receives = calls.entry("SQS.ReceiveMessage".to_owned()).or_default();
        // Receives that wait, or that came back empty, belong to the queue and not to the execution.
        *receives = (*receives).min(invocations);
        Bill {
            calls,
            units: self.meter.take(),
            invocations,
            time,
        }
    }

    async fn wait_until_nothing_is_left(&self) {
        let mut looks = interval(Duration::from_millis(200));
        loop {
            looks.tick().await;
            let mut left = 0;
            for url in &self.urls {
                for name in [
                    QueueAttributeName::ApproximateNumberOfMessages,
                    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
                    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
                ] {
                    let count: u64 = common::attribute(&self.clients, url, name).await.parse().unwrap();
                    left += count;
                }
            }
            if left == 0 {
                return;
            }
        }
    }
}

fn queue(name: &str) -> Queue {
    match name {
        "execute-step" => Queue::ExecuteStep,
        topic => Queue::Topic(topic.to_owned()),
    }
}

fn url(queues: &Queues, queue: &Queue) -> String {
    queues.url(queue).unwrap().to_owned()
}

/// One poller of an event source with its function: batches of ten, removed together when they were dealt with.
struct Consumer {
    app: App,
    clients: Clients,
    url: String,
    queue: Queue,
    news: broadcast::Sender<News>,
}

impl Consumer {
    async fn run(self) {
        loop {
            let answer = self
                .clients
                .sqs()
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(10)
                .wait_time_seconds(5)
                .visibility_timeout(120)
                .send()
                .await
                .unwrap();
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                continue;
            }
            let mut remove = self.clients.sqs().delete_message_batch().queue_url(&self.url);
            let mut ended = Vec::new();
            for (index, received) in messages.iter().enumerate() {
                let message = Message::from_body(&self.queue, received.body().unwrap()).unwrap();
                if let Message::Event(event) = &message
                    && self.queue == Queue::Topic(BUDUSECASES_EVENTS.to_owned())
                    && ["workflow_completed", "workflow_failed"].contains(&event.event_type.as_str())
                {
                    assert_eq!(event.event_type, "workflow_completed", "{event:?}");
                    ended.push(event.workflow_id.clone());
                }
                self.app.handle(&self.queue, message).await.unwrap();
                let entry = DeleteMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(received.receipt_handle().unwrap())
                    .build()
                    .unwrap();
                remove = remove.entries(entry);
            }
            let removed = remove.send().await.unwrap();
            assert!(removed.failed.is_empty(), "{removed:?}");
            let _ = self.news.send(News::Batch);
            for id in ended {
                let _ = self.news.send(News::Ended(id));
            }
        }
    }
}
