//! A function for tests: it speaks the runtime API by hand and does what each event tells it to.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process;
use std::thread;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    if env::var("FAKE_INIT").as_deref() == Ok("fails") {
        let error = json!({"errorType": "Init", "errorMessage": "SLIPWAY_TABLE is not set"});
        ask("POST", "init/error", &error.to_string())?;
        process::exit(1);
    }
    loop {
        let (head, body) = ask("GET", "invocation/next", "")?;
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim_start_matches(':').trim().to_owned())
                .unwrap_or_default()
        };
        let request = header("lambda-runtime-aws-request-id");
        let event: Value = serde_json::from_str(&body)?;
        let (path, answer) = match event["do"].as_str() {
            Some("exit") => process::exit(3),
            // It goes on until it is killed.
            Some("hang") => loop {
                thread::park();
            },
            Some("fail") => ("error", json!({"errorType": "Sad", "errorMessage": "told to"})),
            _ if event.get("Records").is_some() => ("response", batch(&event)),
            _ if event["rawPath"] == "/call" => ("response", json!({"statusCode": 200, "body": call()})),
            _ if event.get("rawPath").is_some() => {
                ("response", json!({"statusCode": 200, "body": event.to_string()}))
            }
            Some("environment") => ("response", env::vars().collect()),
            _ => (
                "response",
                json!({"event": event, "deadline": header("lambda-runtime-deadline-ms"), "process": process::id()}),
            ),
        };
        ask(
            "POST",
            &format!("invocation/{request}/{path}"),
            &answer.to_string(),
        )?;
    }
}

/// Messages that say `poison` fail.
fn batch(event: &Value) -> Value {
    let records = event["Records"].as_array().into_iter().flatten();
    let failed = records.filter(|record| record["body"] == "poison");
    let items: Vec<_> = failed
        .map(|record| json!({"itemIdentifier": record["messageId"]}))
        .collect();
    json!({"batchItemFailures": items})
}

/// Calls DynamoDB, and says what came of it: the status, or `cut`.
fn call() -> String {
    let address = env::var("AWS_ENDPOINT_URL")
        .unwrap_or_default()
        .replace("http://", "");
    let head = "POST / HTTP/1.1\r\nhost: local\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
                x-amz-target: DynamoDB_20120810.ListTables\r\nx-amz-date: 20260101T000000Z\r\n\
                authorization: AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, \
                SignedHeaders=host, Signature=0\r\ncontent-length: 2\r\n\r\n{}";
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).unwrap_or("cut").to_owned())
    };
    ask().unwrap_or_else(|_| "cut".to_owned())
}

/// One request of the runtime API: the head and the body of the answer.
fn ask(method: &str, path: &str, body: &str) -> io::Result<(String, String)> {
    let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&address)?;
    write!(
        stream,
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("the runtime API ended"))?;
    Ok((head.to_owned(), body.to_owned()))
}
