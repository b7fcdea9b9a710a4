//! DynamoDB Local and ElasticMQ, with the table and the queues of the template's kind.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what tests share fails as tests do, each file uses a part of it, and names of test resources are made up"
)]

pub(crate) mod faults;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_sqs::types::QueueAttributeName;
use slipway_aws::{AwsConfig, Clients, DynamoStore, Queues};
use slipway_model::Timestamp;
use slipway_ports::Clock;
use tokio::sync::OnceCell;

/// Times that a message is received before it becomes a dead letter.
pub(crate) const MAX_RECEIVES: u32 = 3;

/// The time of the machine.
#[derive(Debug)]
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

/// A name that no other test process and no other call has.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let started = MachineClock.now().as_millis();
    format!("{what}-{}-{started}-{number}", std::process::id())
}

/// Settings that reach the local parts.
pub(crate) fn config() -> AwsConfig {
    let dynamodb = xtask::aws_parts::dynamodb().unwrap();
    let sqs = xtask::aws_parts::elasticmq().unwrap();
    AwsConfig::from_variables(move |name| {
        let value = match name {
            "AWS_REGION" => "us-east-1",
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "test",
            "AWS_ENDPOINT_URL_DYNAMODB" => dynamodb.as_str(),
            "AWS_ENDPOINT_URL_SQS" => sqs.as_str(),
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap()
}

pub(crate) async fn clients() -> Clients {
    Clients::new(config()).await
}

/// The table that all cases of this process share.
pub(crate) async fn table(clients: &Clients) -> &'static str {
    static TABLE: OnceCell<String> = OnceCell::const_new();
    TABLE
        .get_or_init(async || {
            let name = unique("slipway");
            create_table(clients, &name).await;
            name
        })
        .await
}

fn key(hash: &str, range: &str) -> Vec<KeySchemaElement> {
    [(hash, KeyType::Hash), (range, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| {
            KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind)
                .build()
                .unwrap()
        })
        .collect()
}

fn index(name: &str, hash: &str, range: &str, projected: &[&str]) -> GlobalSecondaryIndex {
    let projection = if projected.is_empty() {
        Projection::builder().projection_type(ProjectionType::KeysOnly)
    } else {
        Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(projected.iter().map(|&name| name.to_owned()).collect()))
    };
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .set_key_schema(Some(key(hash, range)))
        .projection(projection.build())
        .build()
        .unwrap()
}

pub(crate) async fn create_table(clients: &Clients, name: &str) {
    use ScalarAttributeType::{N, S};
    let mut create = clients
        .dynamodb()
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key("pk", "sk")))
        .global_secondary_indexes(index("due", "due_shard", "due_at", &[]))
        .global_secondary_indexes(index("list", "list", "position", &["attributes"]));
    for (name, kind) in [
        ("pk", S),
        ("sk", S),
        ("due_shard", N),
        ("due_at", N),
        ("list", S),
        ("position", S),
    ] {
        create = create.attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(kind)
                .build()
                .unwrap(),
        );
    }
    create.send().await.unwrap();
}

/// Queues of these logical names, each with a dead-letter queue: what the two settings would say.
pub(crate) async fn queues(clients: &Clients, names: &[&str]) -> (Queues, Queues) {
    let (mut urls, mut dead) = (BTreeMap::new(), BTreeMap::new());
    for name in names {
        let unique = unique(name);
        let letters = create_queue(clients, &format!("{unique}-dead"), BTreeMap::new()).await;
        let arn = attribute(clients, &letters, QueueAttributeName::QueueArn).await;
        let redrive = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{MAX_RECEIVES}"}}"#);
        let attributes = BTreeMap::from([
            (QueueAttributeName::RedrivePolicy, redrive),
            (QueueAttributeName::VisibilityTimeout, "30".to_owned()),
        ]);
        urls.insert(
            (*name).to_owned(),
            create_queue(clients, &unique, attributes).await,
        );
        dead.insert((*name).to_owned(), letters);
    }
    (
        parsed("SLIPWAY_QUEUES", &urls),
        parsed("SLIPWAY_DEAD_LETTER_QUEUES", &dead),
    )
}

fn parsed(variable: &str, urls: &BTreeMap<String, String>) -> Queues {
    let entries: Vec<String> = urls
        .iter()
        .map(|(name, url)| format!("\"{name}\": \"{url}\""))
        .collect();
    Queues::parse(variable, &format!("{{{}}}", entries.join(", "))).unwrap()
}

async fn create_queue(
    clients: &Clients,
    name: &str,
    attributes: BTreeMap<QueueAttributeName, String>,
) -> String {
    let mut create = clients.sqs().create_queue().queue_name(name);
    for (name, value) in attributes {
        create = create.attributes(name, value);
    }
    create.send().await.unwrap().queue_url.unwrap()
}

pub(crate) async fn attribute(clients: &Clients, url: &str, name: QueueAttributeName) -> String {
    let answer = clients
        .sqs()
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(name.clone())
        .send()
        .await
        .unwrap();
    answer.attributes.unwrap().remove(&name).unwrap()
}

/// A store on the process's table that sends to `queues`.
pub(crate) async fn store(clients: &Clients, queues: Queues) -> DynamoStore {
    let table = table(clients).await;
    DynamoStore::open(clients, table, queues).await.unwrap()
}
