//! What only DynamoDB does: conditions that carry items, limits of items and keys, answers that leave something out.

mod common;

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use common::faults::Faults;
use slipway_aws::{AwsConfig, CallCounter, Clients, DynamoStore, Queues, SetupError};
use slipway_model::Timestamp;
use slipway_ports::{Guard, Item, Key, Listing, Put, Store, StoreError};
use slipway_testkit::fixtures::item;

async fn store_with(interceptor: impl aws_sdk_dynamodb::config::Intercept + 'static) -> DynamoStore {
    let clients = common::clients().await.with_interceptor(interceptor);
    common::store(&clients, Queues::default()).await
}

/// Calls by operation.
fn counts(counter: &CallCounter) -> BTreeMap<String, u64> {
    let counts = counter.take().into_iter();
    counts
        .map(|(operation, calls)| (operation, calls.attempts))
        .collect()
}

fn once(operation: &str) -> BTreeMap<String, u64> {
    BTreeMap::from([(operation.to_owned(), 1)])
}

#[tokio::test]
async fn a_lost_write_carries_the_item_without_another_call() {
    let counter = CallCounter::default();
    let store = store_with(counter.clone()).await;
    let key = Key::new(common::unique("p"), "s");
    let mut session = store.session();
    session.put(&key, item("1"), Guard::Absent).await.unwrap();
    counter.take();
    let put = session.put(&key, item("2"), Guard::Absent).await.unwrap();
    assert!(
        matches!(&put, Put::Lost(Some(stored)) if stored.body == "1"),
        "{put:?}"
    );
    assert_eq!(counts(&counter), once("DynamoDB.PutItem"));
    let delete = session.delete(&key, Guard::Version(7)).await.unwrap();
    assert!(
        matches!(&delete, Put::Lost(Some(stored)) if stored.version == 1),
        "{delete:?}"
    );
    assert_eq!(counts(&counter), once("DynamoDB.DeleteItem"));
}

#[tokio::test]
async fn each_call_of_a_session_is_one_request() {
    let counter = CallCounter::default();
    let store = store_with(counter.clone()).await;
    let key = Key::new(common::unique("p"), "s");
    counter.take();
    let mut session = store.session();
    session.put(&key, item("1"), Guard::Any).await.unwrap();
    assert_eq!(counts(&counter), once("DynamoDB.UpdateItem"));
    session.arrive(&key, 1, true).await.unwrap();
    assert_eq!(counts(&counter), once("DynamoDB.UpdateItem"));
    session.arrive(&key, 1, false).await.unwrap();
    assert_eq!(counts(&counter), once("DynamoDB.UpdateItem"));
    session.get(&key).await.unwrap();
    assert_eq!(counts(&counter), once("DynamoDB.GetItem"));
    session.settle().await.unwrap();
    assert_eq!(counts(&counter), BTreeMap::new());
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_still_wins() {
    let faults = Faults::lost("PutItem", 1);
    let store = store_with(faults.clone()).await;
    let key = Key::new(common::unique("p"), "s");
    let put = store.session().put(&key, item("1"), Guard::Absent).await.unwrap();
    assert_eq!(put, Put::Won(1));
    assert_eq!(faults.seen(), 2, "the request was not repeated");
    // Somebody else's write of the same item is not taken for one's own.
    let other = store_with(Faults::lost("PutItem", 1)).await;
    let put = other.session().put(&key, item("1"), Guard::Absent).await.unwrap();
    assert!(matches!(put, Put::Lost(Some(_))), "{put:?}");
}

#[tokio::test]
async fn an_arrival_whose_answer_got_lost_counts_once() {
    let faults = Faults::lost("UpdateItem", 1);
    let store = store_with(faults.clone()).await;
    let join = Key::new(common::unique("p"), "j");
    let arrivals = store.session().arrive(&join, 4, false).await.unwrap();
    assert_eq!((arrivals.ok, arrivals.bad), (0, 16));
    assert_eq!(faults.seen(), 2);
}

#[tokio::test]
async fn a_table_that_stays_silent_is_unavailable_with_the_reason() {
    let store = store_with(Faults::lost("GetItem", u32::MAX)).await;
    let error = store.get(&Key::new("p", "s")).await.unwrap_err();
    let StoreError::Unavailable(source) = error else {
        panic!("expected Unavailable, got {error:?}");
    };
    assert!(
        source.to_string().starts_with("DynamoDB GetItem on 'slipway-"),
        "{source}"
    );
    assert!(source.source().is_some());
}

#[tokio::test]
async fn what_a_batch_leaves_out_is_asked_for_again() {
    // DynamoDB answers 16 MB at once.
    const ITEMS: usize = 60;
    let counter = CallCounter::default();
    let store = store_with(counter.clone()).await;
    let list = common::unique("list");
    let body = format!("\"{}\"", "x".repeat(340 * 1024));
    let mut session = store.session();
    for n in 0..ITEMS {
        let listed = Item {
            body: body.clone(),
            ..Item::default()
        }
        .listed(Listing {
            list: list.clone(),
            position: format!("{n:03}"),
            attributes: BTreeMap::new(),
        });
        session
            .put(&Key::new(format!("{list}/{n}"), "s"), listed, Guard::Absent)
            .await
            .unwrap();
    }
    counter.take();
    let page = store.list(&list, &[], None, 100).await.unwrap();
    assert_eq!(page.items.len(), ITEMS);
    assert!(page.items.iter().all(|stored| stored.body.len() == body.len()));
    let batches = counts(&counter)["DynamoDB.BatchGetItem"];
    assert!(
        batches >= 2,
        "everything came in {batches} batch: nothing was left out"
    );
}

#[tokio::test]
async fn a_query_goes_on_where_an_answer_ends() {
    // DynamoDB answers 1 MB at once.
    let counter = CallCounter::default();
    let store = store_with(counter.clone()).await;
    let partition = common::unique("p");
    let body = format!("\"{}\"", "x".repeat(300 * 1024));
    let mut session = store.session();
    for n in 0..8 {
        session
            .put(
                &Key::new(&partition, format!("s{n}")),
                item(body.clone()),
                Guard::Any,
            )
            .await
            .unwrap();
    }
    counter.take();
    let page = store.query(&partition, "s", None, 7).await.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (7, Some("s6")));
    assert!(counts(&counter)["DynamoDB.Query"] >= 2);
    let page = store
        .query(&partition, "s", page.next.as_deref(), 7)
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
}

#[tokio::test]
async fn keys_as_long_as_the_port_says_fit_and_longer_ones_are_named() {
    let store = store_with(CallCounter::default()).await;
    let start = common::unique("p");
    let partition = format!("{start}{}", "x".repeat(1024 - start.len()));
    let longest = Key::new(&partition, "s".repeat(1024));
    let mut session = store.session();
    session.put(&longest, item("1"), Guard::Absent).await.unwrap();
    assert_eq!(session.arrive(&longest, 0, true).await.unwrap().ok, 1);
    for (key, expected) in [
        (Key::new(&partition, "s".repeat(1025)), "sort key"),
        (Key::new("x".repeat(2048), "s"), "partition"),
        (Key::new(&partition, ""), "sort key"),
    ] {
        for error in [
            session.put(&key, item("1"), Guard::Any).await.unwrap_err(),
            session.arrive(&key, 0, true).await.unwrap_err(),
            store.get(&key).await.unwrap_err(),
        ] {
            assert!(
                matches!(&error, StoreError::InvalidKey { part, .. } if *part == expected),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
async fn items_and_joins_carry_their_time_to_live() {
    let clients = common::clients().await;
    let store = common::store(&clients, Queues::default()).await;
    let (partition, at) = (common::unique("p"), Timestamp::from_millis(4_102_444_800_001));
    let key = Key::new(&partition, "s");
    let mut session = store.session();
    session
        .put(&key, item("1").expiring_at(at), Guard::Absent)
        .await
        .unwrap();
    session.joins_expire_at(at);
    session.arrive(&key, 1, true).await.unwrap();
    for pk in [partition.clone(), format!("{partition}\u{1f}joins")] {
        let found = clients
            .dynamodb()
            .get_item()
            .table_name(common::table(&clients).await)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S("s".to_owned()))
            .send()
            .await
            .unwrap();
        let expires = found.item.unwrap()["expires"].as_n().unwrap().clone();
        assert_eq!(expires, "4102444801");
    }
    // A later write that does not expire takes the time away.
    session.put(&key, item("2"), Guard::Any).await.unwrap();
    let found = clients
        .dynamodb()
        .get_item()
        .table_name(common::table(&clients).await)
        .key("pk", AttributeValue::S(partition))
        .key("sk", AttributeValue::S("s".to_owned()))
        .send()
        .await
        .unwrap();
    assert!(!found.item.unwrap().contains_key("expires"));
}

#[tokio::test]
async fn an_absent_table_and_one_of_another_kind_are_refused() {
    let clients = common::clients().await;
    let open = async |table: &str| {
        DynamoStore::open(&clients, table, Queues::default())
            .await
            .unwrap_err()
    };
    let error = open("no-such-table").await;
    assert!(matches!(error, SetupError::NoTable { .. }), "{error:?}");
    for part in ["SLIPWAY_TABLE", "no-such-table", "us-east-1"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(matches!(open(" ").await, SetupError::Missing { variable, .. } if variable == "SLIPWAY_TABLE"));

    let other = common::unique("other");
    clients
        .dynamodb()
        .create_table()
        .table_name(&other)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("id")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap(),
        )
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name("id")
                .key_type(KeyType::Hash)
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
    let error = open(&other).await;
    assert!(matches!(error, SetupError::WrongTable { .. }), "{error:?}");
    assert!(error.to_string().contains("pk and sk"), "{error}");
}

#[tokio::test]
async fn a_table_out_of_reach_is_told_from_one_that_is_absent() {
    let config = AwsConfig::from_variables(|name| {
        let value = match name {
            "AWS_REGION" => "us-east-1",
            // Nobody listens there.
            "AWS_ENDPOINT_URL" => "http://127.0.0.1:9",
            _ => "x",
        };
        (!name.starts_with("AWS_ENDPOINT_URL_")).then(|| value.to_owned())
    });
    let clients = Clients::new(config.unwrap()).await;
    let error = DynamoStore::open(&clients, "t", Queues::default())
        .await
        .unwrap_err();
    assert!(matches!(error, SetupError::Unreachable { .. }), "{error:?}");
}

#[test]
fn missing_settings_are_named_before_any_call() {
    let with = |absent: &'static str| {
        AwsConfig::from_variables(move |name| {
            let there = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(&name);
            (there && name != absent).then(|| "x".to_owned())
        })
    };
    assert!(with("").is_ok());
    for absent in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        let error = with(absent).unwrap_err();
        assert!(
            matches!(&error, SetupError::Missing { variable, .. } if variable == absent),
            "{error:?}"
        );
    }
    let error = AwsConfig::from_variables(|_| Some("x".to_owned())).unwrap_err();
    assert!(error.to_string().contains("AWS_ENDPOINT_URL_DYNAMODB"), "{error}");
}
