//! SNS, and HTTP that is passed on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use slipway_aws::AwsOutside;
use slipway_ports::{HttpAnswer, HttpCall, Outside, OutsideError};

use crate::{canned, clients, moto, unique, whole};

/// Somewhere else than the clients' own region.
const ELSEWHERE: &str = "us-west-2";

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:alerts";

/// Answers every call with 204.
struct NoContent;

#[async_trait]
impl Outside for NoContent {
    async fn http(&self, _call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        Ok(HttpAnswer {
            status: 204,
            headers: BTreeMap::new(),
            body: String::new(),
        })
    }

    async fn publish(&self, topic: &str, _subject: &str, _message: &str) -> Result<(), OutsideError> {
        panic!("'{topic}' is a matter of SNS");
    }
}

async fn outside(endpoint: &str) -> AwsOutside {
    AwsOutside::new(Arc::new(NoContent), clients(endpoint).await)
}

async fn publish(endpoint: &str) -> OutsideError {
    outside(endpoint)
        .await
        .publish(TOPIC, "error", "It broke")
        .await
        .unwrap_err()
}

fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

#[tokio::test]
async fn a_message_arrives_in_the_topics_own_region() {
    let clients = moto().await;
    let topic = clients
        .sns_in(ELSEWHERE)
        .create_topic()
        .name(unique("topic"))
        .send()
        .await
        .unwrap();
    let topic = topic.topic_arn().unwrap();
    assert!(topic.contains(ELSEWHERE));
    let sqs = {
        let config = clients
            .sqs()
            .config()
            .to_builder()
            .region(aws_sdk_sqs::config::Region::new(ELSEWHERE))
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    };
    let queue = sqs
        .create_queue()
        .queue_name(unique("queue"))
        .send()
        .await
        .unwrap();
    let queue = queue.queue_url().unwrap();
    let attributes = sqs
        .get_queue_attributes()
        .queue_url(queue)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .unwrap();
    let arn = &attributes.attributes().unwrap()[&QueueAttributeName::QueueArn];
    clients
        .sns_in(ELSEWHERE)
        .subscribe()
        .topic_arn(topic)
        .protocol("sqs")
        .endpoint(arn)
        .send()
        .await
        .unwrap();

    let outside = AwsOutside::new(Arc::new(NoContent), clients);
    let subject = format!("Größe\n{}", "x".repeat(200));
    outside
        .publish(topic, &subject, "Es ist kaputt: ä😀")
        .await
        .unwrap();
    outside.publish(topic, "\n", "no subject").await.unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let received = sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .wait_time_seconds(5)
            .send()
            .await
            .unwrap();
        assert!(!received.messages().is_empty(), "got {bodies:?} only");
        for message in received.messages() {
            bodies.push(serde_json::from_str::<serde_json::Value>(message.body().unwrap()).unwrap());
        }
    }
    bodies.sort_by_key(|body| body["Message"] == "no subject");
    assert_eq!(bodies[0]["Message"], "Es ist kaputt: ä😀");
    assert_eq!(bodies[0]["Subject"], format!("Gr??e {}", "x".repeat(94)));
    assert!(bodies[1]["Subject"].is_null());
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_refused() {
    let moto = xtask::aws_parts::moto().unwrap();
    let error = publish(&moto).await;
    assert!(
        matches!(&error, OutsideError::Refused(reason) if reason.contains(TOPIC) && reason.contains("NotFound")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_no_topic_is_refused_without_a_call() {
    let (address, requests) = canned::serve(|_: &str| (500, String::new())).await;
    let outside = outside(&address).await;
    for topic in [
        "",
        "alerts",
        "arn:aws:sqs:us-west-2:123456789012:alerts",
        "arn:aws:sns::123456789012:alerts",
        "arn:aws:sns:us-west-2:1:alerts",
        "arn:aws:sns:us-west-2:123456789012:",
        "arn:aws:sns:us-west-2:123456789012:alerts:subscription",
        "arn:aws:sns:us-west-2:123456789012:alerts.fifo",
    ] {
        let error = outside.publish(topic, "s", "m").await.unwrap_err();
        assert!(
            matches!(&error, OutsideError::Refused(reason) if reason.contains(&format!("'{topic}'"))),
            "{error:?}"
        );
    }
    let large = "m".repeat((256 << 10) + 1);
    for message in ["", &large] {
        let error = outside.publish(TOPIC, "s", message).await.unwrap_err();
        assert!(matches!(error, OutsideError::Refused(_)), "{error:?}");
    }
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_repeat_cannot_help_is_refused() {
    for (status, code) in [
        (403, "AuthorizationError"),
        (400, "InvalidParameter"),
        (404, "NotFound"),
        (400, "EndpointDisabled"),
    ] {
        let (address, requests) = canned::serve(move |_: &str| (status, refusal(code, "no"))).await;
        let error = publish(&address).await;
        assert!(
            matches!(&error, OutsideError::Refused(reason) if reason.contains(code)),
            "{code}: {error:?}"
        );
        assert_eq!(requests.lock().unwrap().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn what_a_repeat_may_help_is_no_answer() {
    for (status, code) in [
        (500, "InternalError"),
        (429, "Throttled"),
        (400, "KMSThrottlingException"),
    ] {
        let (address, _) = canned::serve(move |_: &str| (status, refusal(code, "later"))).await;
        let error = publish(&address).await;
        assert!(
            matches!(&error, OutsideError::NoAnswer { host, .. } if host == "SNS in us-west-2"),
            "{code}: {error:?}"
        );
        assert!(whole(&error).contains(code), "{}", whole(&error));
    }
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = publish(&closed).await;
    assert!(matches!(error, OutsideError::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn http_calls_are_passed_on() {
    let outside = outside("http://127.0.0.1:1").await;
    let call = HttpCall {
        method: "GET".to_owned(),
        url: "https://example.com/".into(),
        headers: BTreeMap::new(),
        body: None,
        timeout: Duration::from_secs(1),
    };
    assert_eq!(outside.http(call).await.unwrap().status, 204);
}
