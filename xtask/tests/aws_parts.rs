//! The parts that stand in for AWS, as real processes.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{Read, Write};
use std::net::TcpStream;

use xtask::aws_parts::{self, AwsPart};

fn ask(endpoint: &str, request: &str) -> String {
    let address = endpoint
        .strip_prefix("http://")
        .expect("an endpoint is plain HTTP");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A request of the JSON protocols, with a signature that nobody checks.
fn json_request(target: &str, service: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: {target}\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn each_part_answers_for_its_services_and_ends_when_dropped() {
    let [dynamodb, elasticmq, moto] = AwsPart::start_all().unwrap();
    let tables = ask(
        &dynamodb.endpoint(),
        &json_request("DynamoDB_20120810.ListTables", "dynamodb", "{}"),
    );
    assert!(tables.ends_with("{\"TableNames\":[]}"), "{tables}");

    let queue = ask(
        &elasticmq.endpoint(),
        &json_request("AmazonSQS.CreateQueue", "sqs", "{\"QueueName\":\"plan-dag\"}"),
    );
    let url = format!("{}/000000000000/plan-dag", elasticmq.endpoint());
    assert!(queue.contains(&url), "{queue}");

    let keys = ask(
        &moto.endpoint(),
        &json_request("TrentService.ListKeys", "kms", "{}"),
    );
    assert!(keys.contains("\"Keys\""), "{keys}");

    for part in [dynamodb, elasticmq, moto] {
        let address = part.endpoint().replace("http://", "");
        drop(part);
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_process_shares_one_of_each() {
    assert_eq!(aws_parts::elasticmq().unwrap(), aws_parts::elasticmq().unwrap());
}
