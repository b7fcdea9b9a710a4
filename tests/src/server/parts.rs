//! What the parts that stand in for AWS keep, read with their own protocols. Nobody checks signatures there.

use serde_json::{Value, json};
use ureq::Agent;
use xtask::aws_parts;

/// Largest answer that is read.
const LARGEST: u64 = 256 << 20;

/// DynamoDB Local, ElasticMQ and moto.
#[derive(Debug)]
pub(super) struct Parts {
    agent: Agent,
    dynamodb: String,
    elasticmq: String,
    moto: String,
}

impl Parts {
    /// Those that all tests share.
    pub(super) fn shared() -> Self {
        Self {
            agent: Agent::config_builder().proxy(None).build().into(),
            dynamodb: aws_parts::dynamodb().unwrap(),
            elasticmq: aws_parts::elasticmq().unwrap(),
            moto: aws_parts::moto().unwrap(),
        }
    }

    /// Every item of the tables in whose name `tag` stands, as (key, all of it).
    pub(super) fn items(&self, tag: &str) -> Vec<(String, String)> {
        let tables = self.dynamodb("ListTables", &json!({}));
        let names = tables["TableNames"].as_array().unwrap().iter();
        let mut found = Vec::new();
        for table in names.filter(|name| name.as_str().unwrap().contains(tag)) {
            let mut start = Value::Null;
            loop {
                let mut request = json!({"TableName": table});
                if !start.is_null() {
                    request["ExclusiveStartKey"] = start;
                }
                let page = self.dynamodb("Scan", &request);
                for item in page["Items"].as_array().unwrap() {
                    found.push((
                        format!("{}|{}", item["pk"]["S"], item["sk"]["S"]),
                        item.to_string(),
                    ));
                }
                start = page["LastEvaluatedKey"].clone();
                if start.is_null() {
                    break;
                }
            }
        }
        found
    }

    /// Every object of the buckets in whose name `tag` stands, as (key, text).
    pub(super) fn objects(&self, tag: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for bucket in between(&self.s3(""), "<Name>", "</Name>") {
            if !bucket.contains(tag) {
                continue;
            }
            let list = self.s3(&format!("{bucket}?list-type=2&max-keys=10000"));
            for key in between(&list, "<Key>", "</Key>") {
                let text = self.s3(&format!("{bucket}/{key}"));
                found.push((key, text));
            }
        }
        found
    }

    /// Puts a text on the queue of that logical name in whose own name `tag` stands.
    pub(super) fn send(&self, tag: &str, queue: &str, body: &str) {
        let queues = self.sqs("ListQueues", &json!({}));
        let urls = queues["QueueUrls"].as_array().unwrap().iter();
        let mut urls = urls.filter_map(Value::as_str);
        let ending = format!("-{queue}");
        let url = urls.find(|url| url.contains(tag) && url.ends_with(&ending));
        let url = url.unwrap_or_else(|| panic!("no queue of {tag} ends in {ending}: {queues:#}"));
        self.sqs("SendMessage", &json!({"QueueUrl": url, "MessageBody": body}));
    }

    fn sqs(&self, action: &str, request: &Value) -> Value {
        self.json(&self.elasticmq, "sqs", &format!("AmazonSQS.{action}"), request)
    }

    fn dynamodb(&self, action: &str, request: &Value) -> Value {
        self.json(
            &self.dynamodb,
            "dynamodb",
            &format!("DynamoDB_20120810.{action}"),
            request,
        )
    }

    fn json(&self, url: &str, service: &str, target: &str, request: &Value) -> Value {
        let mut answer = self
            .agent
            .post(url)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .header("authorization", authorization(service))
            .send(request.to_string())
            .unwrap();
        let text = answer
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_string()
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn s3(&self, path: &str) -> String {
        let mut answer = self
            .agent
            .get(format!("{}/{path}", self.moto))
            .header("authorization", authorization("s3"))
            .call()
            .unwrap();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_vec()
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

/// What stands between two marks, each time.
fn between(text: &str, begin: &str, end: &str) -> Vec<String> {
    text.split(begin)
        .skip(1)
        .filter_map(|rest| rest.split_once(end))
        .map(|(inside, _)| inside.to_owned())
        .collect()
}
