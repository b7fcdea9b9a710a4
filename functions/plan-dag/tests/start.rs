//! A function that cannot work does not start, and says why: in its log, and to Lambda.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

/// What came of a start that failed.
struct Failed {
    /// What stood in the log.
    log: String,
    /// What Lambda heard: path and body.
    told: Option<(String, Value)>,
}

/// Starts the function under a runtime API that only takes one error.
fn start(variables: &[(&str, &str)]) -> Failed {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut stream = reader.into_inner();
        stream
            .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        Some((path, serde_json::from_slice(&body).unwrap()))
    });
    let output = Command::new(env!("CARGO_BIN_EXE_plan-dag"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "slipway-test-plan-dag")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    // Wakes the runtime if nobody called it.
    drop(std::net::TcpStream::connect(address));
    Failed {
        log: String::from_utf8(output.stdout).unwrap(),
        told: runtime.join().unwrap(),
    }
}

impl Failed {
    /// Each of these stands in the log and in what Lambda heard.
    fn expect(&self, texts: &[&str]) {
        let line: Value = self
            .log
            .lines()
            .last()
            .map(serde_json::from_str)
            .unwrap()
            .unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["function"], "slipway-test-plan-dag");
        let (path, body) = self.told.as_ref().expect("Lambda was told");
        assert_eq!(path, "/2018-06-01/runtime/init/error");
        for text in texts {
            for said in [&line["error"], &body["errorMessage"]] {
                assert!(said.as_str().unwrap().contains(text), "{text}: {said}");
            }
        }
    }
}

#[test]
fn without_settings_a_function_names_all_that_it_needs() {
    start(&[]).expect(&[
        "AWS_REGION is not set",
        "AWS_ACCESS_KEY_ID is not set",
        "AWS_SECRET_ACCESS_KEY is not set",
        "SLIPWAY_TABLE is not set",
        "SLIPWAY_BUCKET is not set",
        "SLIPWAY_QUEUES is not set",
        "SLIPWAY_DEAD_LETTER_QUEUES is not set",
        "SLIPWAY_SECRETS_PREFIX is not set",
    ]);
}

#[test]
fn a_log_filter_that_cannot_be_read_is_named() {
    start(&[("SLIPWAY_LOG", "slipway_app=chatty")]).expect(&["SLIPWAY_LOG is 'slipway_app=chatty'"]);
}

#[test]
fn without_its_table_and_queues_a_function_names_the_settings_that_say_where_they_are() {
    let dynamodb = xtask::aws_parts::dynamodb().unwrap();
    let elasticmq = xtask::aws_parts::elasticmq().unwrap();
    let names = [
        "plan-dag",
        "execute-step",
        "deploy-helm",
        "budpipelineEvents",
        "budusecasesEvents",
    ];
    let queues: serde_json::Map<String, Value> = names
        .map(|name| {
            (
                name.to_owned(),
                format!("{elasticmq}/000000000000/nowhere-{name}").into(),
            )
        })
        .into_iter()
        .collect();
    let queues = Value::Object(queues).to_string();
    let failed = start(&[
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb),
        ("AWS_ENDPOINT_URL_SQS", &elasticmq),
        ("SLIPWAY_TABLE", "no-such-table"),
        ("SLIPWAY_BUCKET", "blobs"),
        ("SLIPWAY_QUEUES", &queues),
        ("SLIPWAY_DEAD_LETTER_QUEUES", &queues),
        ("SLIPWAY_SECRETS_PREFIX", "slipway/test/"),
    ]);
    failed.expect(&["SLIPWAY_TABLE names the table 'no-such-table'", "us-east-1"]);
    for name in names {
        failed.expect(&[&format!("nowhere-{name}' for '{name}', which is no queue")]);
    }
}
