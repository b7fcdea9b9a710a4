//! What only SQS and SNS do: batches and their limits, entries that are refused, traces, topics.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use common::faults::{Faults, answer};
use serde_json::json;
use slipway_aws::{AwsConfig, CallCounter, Clients, LARGEST_MESSAGE, Queues, REASON, SqsReceiver, trace};
use slipway_model::{Event, Message, Queue};
use slipway_ports::{Guard, Key, Receiver, Store, StoreError};
use slipway_testkit::fixtures::{item, message};

const LONG: Duration = Duration::from_secs(60);

fn news() -> Queue {
    Queue::Topic("news".to_owned())
}

/// A message whose body has this many bytes or a few more.
fn message_of(bytes: usize) -> Message {
    Message::Event(Event {
        event_type: "test".to_owned(),
        workflow_id: "x".to_owned(),
        tenant_id: None,
        payload: json!({ "text": "x".repeat(bytes) }),
    })
}

async fn send(
    clients: &Clients,
    queues: &Queues,
    messages: impl IntoIterator<Item = Message>,
) -> Result<(), StoreError> {
    let mut session = common::store(clients, queues.clone()).await.session();
    for message in messages {
        session.send(news(), message, Duration::ZERO);
    }
    session.settle().await
}

async fn waiting(clients: &Clients, queues: &Queues) -> u64 {
    let url = queues.url(&news()).unwrap();
    let count = common::attribute(clients, url, QueueAttributeName::ApproximateNumberOfMessages).await;
    count.parse().unwrap()
}

#[tokio::test]
async fn batches_are_cut_by_number_and_by_bytes() {
    let counter = CallCounter::default();
    let clients = common::clients().await.with_interceptor(counter.clone());
    let (queues, _) = common::queues(&clients, &["news"]).await;
    for (messages, calls) in [
        ((0..25).map(|n| message(&n.to_string())).collect::<Vec<_>>(), 3),
        ((0..4).map(|_| message_of(100 * 1024)).collect(), 2),
        (vec![message_of(LARGEST_MESSAGE - 200), message("small")], 1),
        (vec![message_of(LARGEST_MESSAGE - 200), message_of(200)], 2),
    ] {
        counter.take();
        let sent = messages.len() as u64;
        let before = waiting(&clients, &queues).await;
        send(&clients, &queues, messages).await.unwrap();
        assert_eq!(counter.take()["SQS.SendMessageBatch"].calls, calls);
        assert_eq!(waiting(&clients, &queues).await, before + sent);
    }
}

#[tokio::test]
async fn what_no_queue_can_carry_is_refused_before_anything_is_sent() {
    let clients = common::clients().await;
    let (queues, _) = common::queues(&clients, &["news"]).await;
    let error = send(&clients, &queues, [message("a"), message_of(LARGEST_MESSAGE)])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::MessageTooLarge { queue, bytes, limit }
            if queue == "news" && bytes > limit && *limit == LARGEST_MESSAGE),
        "{error:?}"
    );
    assert_eq!(waiting(&clients, &queues).await, 0);
}

#[tokio::test]
async fn a_queue_that_is_not_configured_is_named_before_anything_is_sent() {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["news"]).await;
    let mut session = common::store(&clients, queues.clone()).await.session();
    session.send(news(), message("a"), Duration::ZERO);
    session.send(Queue::PlanDag, message("b"), Duration::ZERO);
    let error = session.settle().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NoQueue { queue } if queue == "plan-dag"),
        "{error:?}"
    );
    assert_eq!(waiting(&clients, &queues).await, 0);
    let receiver = SqsReceiver::new(&clients, queues, dead, 3);
    let error = receiver
        .receive(&Queue::PlanDag, 1, Duration::ZERO, LONG)
        .await
        .unwrap_err();
    assert_eq!(error.queue, "plan-dag");
}

#[tokio::test]
async fn a_dropped_session_loses_its_sends_and_keeps_its_writes() {
    let clients = common::clients().await;
    let (queues, _) = common::queues(&clients, &["news"]).await;
    let store = common::store(&clients, queues.clone()).await;
    let key = Key::new(common::unique("p"), "s");
    let mut session = store.session();
    session.put(&key, item("1"), Guard::Absent).await.unwrap();
    session.send(news(), message("a"), Duration::ZERO);
    drop(session);
    assert!(store.get(&key).await.unwrap().is_some());
    assert_eq!(waiting(&clients, &queues).await, 0);
}

const ONE_REFUSED: &str = r#"{"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","SenderFault":false,"Code":"InternalError","Message":"try again"}]}"#;
const ONE_WRONG: &str = r#"{"Successful":[],"Failed":[{"Id":"0","SenderFault":true,"Code":"InvalidMessageContents","Message":"not that"}]}"#;

#[tokio::test]
async fn only_what_was_refused_of_a_batch_is_sent_again() {
    let faults = Faults::changed("SendMessageBatch", 1, |response| {
        answer(response, ONE_REFUSED);
    });
    let clients = common::clients().await.with_interceptor(faults.clone());
    let (queues, _) = common::queues(&clients, &["news"]).await;
    send(&clients, &queues, [message("a"), message("b")])
        .await
        .unwrap();
    assert_eq!(faults.seen(), 2);
    // Both were there although the answer said otherwise, and one came again.
    assert_eq!(waiting(&clients, &queues).await, 3);
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_sent_again() {
    let faults = Faults::changed("SendMessageBatch", u32::MAX, |response| {
        answer(response, ONE_WRONG);
    });
    let clients = common::clients().await.with_interceptor(faults.clone());
    let (queues, _) = common::queues(&clients, &["execute-step", "news"]).await;
    let mut session = common::store(&clients, queues.clone()).await.session();
    session.send(Queue::ExecuteStep, message("a"), Duration::ZERO);
    let error = session.settle().await.unwrap_err();
    let StoreError::Unavailable(source) = error else {
        panic!("expected Unavailable, got {error:?}");
    };
    let reason = source.source().unwrap().to_string();
    assert!(reason.contains("not that"), "{reason}");
    assert_eq!(faults.seen(), 1);
    // Nothing of ours waits for a topic of somebody else's.
    send(&clients, &queues, [message("a")]).await.unwrap();
    assert_eq!(faults.seen(), 2);
}

#[tokio::test]
async fn messages_carry_the_trace_of_who_sends_them() {
    const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let clients = common::clients().await;
    let (queues, _) = common::queues(&clients, &["news"]).await;
    trace::scope(Some(HEADER.to_owned()), async {
        assert_eq!(trace::current().as_deref(), Some(HEADER));
        send(&clients, &queues, [message("a")]).await.unwrap();
    })
    .await;
    assert_eq!(trace::current(), None);
    let received = clients
        .sqs()
        .receive_message()
        .queue_url(queues.url(&news()).unwrap())
        .message_system_attribute_names(MessageSystemAttributeName::AwsTraceHeader)
        .send()
        .await
        .unwrap();
    let attributes = received.messages()[0].attributes().unwrap();
    assert_eq!(attributes[&MessageSystemAttributeName::AwsTraceHeader], HEADER);
}

#[tokio::test]
async fn a_consumer_with_an_event_source_buries_by_the_body() {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["news"]).await;
    let receiver = SqsReceiver::new(&clients, queues, dead.clone(), 3);
    receiver
        .dead_letter(&news(), "not JSON", "it is no JSON")
        .await
        .unwrap();
    let letters = receiver.dead_letters(&news(), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].body.as_str(), letters[0].reason.as_str()),
        ("not JSON", "it is no JSON")
    );
    // Where operators with other tools look for it.
    let received = clients
        .sqs()
        .receive_message()
        .queue_url(dead.url(&news()).unwrap())
        .message_attribute_names(REASON)
        .send()
        .await
        .unwrap();
    let attributes = received.messages()[0].message_attributes().unwrap();
    assert_eq!(attributes[REASON].string_value(), Some("it is no JSON"));
}

#[tokio::test]
async fn a_letter_that_sqs_moved_says_where_to_look() {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["news"]).await;
    send(&clients, &queues, [message("a")]).await.unwrap();
    let receiver = SqsReceiver::new(&clients, queues, dead, common::MAX_RECEIVES);
    for _ in 0..common::MAX_RECEIVES {
        let got = receiver.receive(&news(), 1, LONG, LONG).await.unwrap();
        receiver
            .return_after(&news(), &got[0].receipt, Duration::ZERO)
            .await
            .unwrap();
    }
    assert_eq!(
        receiver.receive(&news(), 1, Duration::ZERO, LONG).await.unwrap(),
        []
    );
    let letters = receiver.dead_letters(&news(), 10).await.unwrap();
    let reason = &letters[0].reason;
    assert!(
        reason.starts_with("received 3 times") && reason.contains("'news'"),
        "{reason}"
    );
}

#[tokio::test]
async fn all_of_many_letters_are_listed_and_any_is_put_back() {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["news"]).await;
    let receiver = SqsReceiver::new(&clients, queues.clone(), dead, 3);
    for n in 0..35 {
        receiver
            .dead_letter(&news(), &format!("{n}"), "why")
            .await
            .unwrap();
    }
    let letters = receiver.dead_letters(&news(), 100).await.unwrap();
    assert_eq!(letters.len(), 35);
    let last = letters.iter().find(|letter| letter.body == "34").unwrap();
    assert!(receiver.redrive(&news(), &last.id).await.unwrap());
    assert_eq!(waiting(&clients, &queues).await, 1);
    assert_eq!(receiver.dead_letters(&news(), 100).await.unwrap().len(), 34);
}

#[tokio::test]
async fn letters_that_somebody_else_looks_at_are_listed_and_put_back_all_the_same() {
    let clients = common::clients().await;
    let (queues, dead) = common::queues(&clients, &["news"]).await;
    let receiver = SqsReceiver::new(&clients, queues.clone(), dead.clone(), 3);
    for n in 0..2 {
        receiver
            .dead_letter(&news(), &format!("{n}"), "why")
            .await
            .unwrap();
    }
    let hide_all = async || {
        let looked = clients.sqs().receive_message();
        let looked = looked.queue_url(dead.url(&news()).unwrap());
        let looked = looked.max_number_of_messages(10).visibility_timeout(1);
        assert_eq!(looked.send().await.unwrap().messages().len(), 2);
    };
    hide_all().await;
    let letters = receiver.dead_letters(&news(), 100).await.unwrap();
    assert_eq!(letters.len(), 2);
    hide_all().await;
    assert!(receiver.redrive(&news(), &letters[0].id).await.unwrap());
    assert_eq!(waiting(&clients, &queues).await, 1);
}

/// Clients whose queues are moto's, too, which can bring there what is published.
async fn with_topics() -> Clients {
    let moto = xtask::aws_parts::moto().unwrap();
    let config = AwsConfig::from_variables(move |name| match name {
        "AWS_REGION" => Some("us-east-1".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
        "AWS_ENDPOINT_URL_SNS" | "AWS_ENDPOINT_URL_SQS" => Some(moto.clone()),
        "AWS_ENDPOINT_URL_DYNAMODB" => Some(xtask::aws_parts::dynamodb().unwrap()),
        _ => None,
    });
    Clients::new(config.unwrap()).await
}

#[tokio::test]
async fn a_topic_that_takes_nothing_does_not_keep_our_own_messages_from_going_out() {
    let clients = with_topics().await;
    let queue = clients.sqs().create_queue().queue_name(common::unique("steps"));
    let url = queue.send().await.unwrap().queue_url.unwrap();
    let deleted = "arn:aws:sns:us-east-1:000000000000:deleted";
    let json = serde_json::json!({"execute-step": url, "deleted": deleted}).to_string();
    let queues = Queues::parse("SLIPWAY_QUEUES", &json).unwrap();
    let mut session = common::store(&clients, queues).await.session();
    for topic in ["deleted", "of-former-settings"] {
        session.send(Queue::Topic(topic.to_owned()), message("event"), Duration::ZERO);
    }
    session.send(Queue::ExecuteStep, message("step"), Duration::ZERO);
    session.settle().await.unwrap();
    let count = common::attribute(&clients, &url, QueueAttributeName::ApproximateNumberOfMessages).await;
    assert_eq!(count, "1");
}

#[tokio::test]
async fn a_topic_of_sns_is_published_to_in_its_own_region() {
    let clients = with_topics().await;
    for region in [clients.region(), "us-west-2"] {
        expect_published(&clients, region).await;
    }
}

async fn expect_published(clients: &Clients, region: &str) {
    let name = common::unique("news");
    let topic = clients
        .sns_in(region)
        .create_topic()
        .name(&name)
        .send()
        .await
        .unwrap()
        .topic_arn
        .unwrap();
    let url = clients
        .sqs()
        .create_queue()
        .queue_name(&name)
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let arn = common::attribute(clients, &url, QueueAttributeName::QueueArn).await;
    clients
        .sns_in(region)
        .subscribe()
        .topic_arn(&topic)
        .protocol("sqs")
        .endpoint(arn)
        .attributes("RawMessageDelivery", "true")
        .send()
        .await
        .unwrap();
    let json = serde_json::to_string(&BTreeMap::from([("news", &topic)])).unwrap();
    let queues = Queues::parse("SLIPWAY_QUEUES", &json).unwrap();
    let messages: Vec<Message> = (0..12).map(|n| message(&n.to_string())).collect();
    send(clients, &queues, messages.clone()).await.unwrap();
    let count = common::attribute(clients, &url, QueueAttributeName::ApproximateNumberOfMessages).await;
    assert_eq!(count, "12");
    let received = clients
        .sqs()
        .receive_message()
        .queue_url(&url)
        .send()
        .await
        .unwrap();
    let body = received.messages()[0].body().unwrap();
    assert!(messages.iter().any(|message| message.to_body() == body), "{body}");
}
