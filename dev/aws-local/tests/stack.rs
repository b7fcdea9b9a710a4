//! A stack of one small function on the real parts: its queue, its route, its calls.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::{aws_parts, wait};

const TEMPLATE: &str = "
Parameters:
  JwtIssuer: {Type: String}
  JwtAudience: {Type: CommaDelimitedList}
  TenantClaim: {Type: String, Default: tenant}
  RoleClaim: {Type: String, Default: role}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: {'Fn::Sub': '${AWS::StackName}-work'}
      VisibilityTimeout: 1
      RedrivePolicy: {deadLetterTargetArn: {'Fn::GetAtt': [Dead, Arn]}, maxReceiveCount: 2}
  Dead:
    Type: AWS::SQS::Queue
    Properties: {QueueName: {'Fn::Sub': '${AWS::StackName}-dead'}}
  Fake:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ../target/lambda/fake-function/bootstrap.zip
      Timeout: 20
      Events:
        Work:
          Type: SQS
          Properties:
            Queue: {'Fn::GetAtt': [Queue, Arn]}
            BatchSize: 10
            FunctionResponseTypes: [ReportBatchItemFailures]
        Open: {Type: HttpApi, Properties: {Method: GET, Path: /open, Auth: {Authorizer: NONE}}}
        Call: {Type: HttpApi, Properties: {Method: GET, Path: /call}}
        Echo: {Type: HttpApi, Properties: {Method: ANY, Path: '/echo/{proxy+}'}}
";

struct Stack {
    child: Child,
    name: String,
    url: String,
    control: String,
    token: String,
    _folder: TempDir,
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stack {
    fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("template.yaml");
        fs::write(&template, TEMPLATE).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_aws-local"));
        let mut child = Command::new(&program)
            .arg("--template")
            .arg(&template)
            .args(["--name", name])
            .arg("--functions")
            .arg(program.with_file_name("examples"))
            .arg("--layers")
            .arg(folder.path())
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--dynamodb", &aws_parts::dynamodb().unwrap()])
            .args(["--elasticmq", &aws_parts::elasticmq().unwrap()])
            .args(["--moto", &aws_parts::moto().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: Value = serde_json::from_str(&line).expect("aws-local says where it is");
        let text = |field: &str| said[field].as_str().unwrap().replace("http://", "");
        Self {
            child,
            name: name.to_owned(),
            url: text("url"),
            control: text("control").replace("/control", ""),
            token: text("token"),
            _folder: folder,
        }
    }

    fn get(&self, path: &str, authorization: &str) -> (u16, String) {
        let header = format!("authorization: {authorization}\r\n");
        ask(&self.url, "GET", path, &header, "")
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn control(&self, method: &str, path: &str, body: &Value) -> String {
        let header = "content-type: application/json\r\n";
        let (status, body) = ask(
            &self.control,
            method,
            &format!("/control/{path}"),
            header,
            &body.to_string(),
        );
        assert!((200..300).contains(&status), "{path}: {status} {body}");
        body
    }

    /// A call of SQS about one of the stack's queues.
    fn sqs(&self, action: &str, queue: &str, mut body: Value) -> Value {
        let endpoint = aws_parts::elasticmq().unwrap();
        body["QueueUrl"] = Value::from(format!("{endpoint}/000000000000/{}-{queue}", self.name));
        let headers =
            format!("content-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{action}\r\n");
        let (status, answer) = ask(
            &endpoint.replace("http://", ""),
            "POST",
            "/",
            &headers,
            &body.to_string(),
        );
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// How many messages a queue has, those included that somebody works on.
    fn depth(&self, queue: &str) -> u64 {
        let attributes = self.sqs("GetQueueAttributes", queue, json!({"AttributeNames": ["All"]}));
        [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ]
        .iter()
        .map(|name| {
            attributes["Attributes"][name]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum()
    }
}

fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn good_messages_are_done_and_bad_ones_end_among_the_dead_letters() {
    let stack = Stack::start("stack-queue");
    for body in ["good", "poison", "good"] {
        stack.sqs("SendMessage", "work", json!({"MessageBody": body}));
    }
    wait::until(
        Duration::from_secs(60),
        "an empty queue and one dead letter",
        || Ok((stack.depth("work") == 0 && stack.depth("dead") == 1).then_some(())),
    )
    .unwrap();
    let dead = stack.sqs("ReceiveMessage", "dead", json!({}));
    assert_eq!(dead["Messages"][0]["Body"], "poison");
}

#[test]
fn requests_are_routed_authorized_and_handed_on() {
    let stack = Stack::start("stack-api");
    assert_eq!(stack.get("/nowhere", "").0, 404);
    assert_eq!(stack.get("/open", "").0, 200);
    assert_eq!(stack.get("/echo/a/b", "").0, 401);
    assert_eq!(stack.get("/echo/a/b", "Bearer forged.token.x").0, 401);

    let order = json!({"tenant": "acme", "role": "viewer"});
    let token: Value = serde_json::from_str(&stack.control("POST", "token", &order)).unwrap();
    let (status, event) = stack.get(
        "/echo/a/b?x=1",
        &format!("Bearer {}", token["token"].as_str().unwrap()),
    );
    assert_eq!(status, 200);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["routeKey"], "ANY /echo/{proxy+}");
    assert_eq!(event["pathParameters"]["proxy"], "a/b");
    assert_eq!(event["queryStringParameters"]["x"], "1");
    let claims = &event["requestContext"]["authorizer"]["jwt"]["claims"];
    assert_eq!(
        (&claims["tenant"], &claims["role"]),
        (&json!("acme"), &json!("viewer"))
    );
}

#[test]
fn calls_of_functions_are_written_down_and_made_to_fail() {
    let stack = Stack::start("stack-calls");
    let call = || stack.get("/call", &stack.bearer()).1;
    assert_eq!(call(), "200");
    let line: Value = serde_json::from_str(stack.control("GET", "calls", &json!({})).trim()).unwrap();
    assert_eq!(
        (
            &line["function"],
            &line["service"],
            &line["action"],
            &line["count"]
        ),
        (
            &json!("fake-function"),
            &json!("dynamodb"),
            &json!("ListTables"),
            &json!(1)
        )
    );

    stack.control("POST", "faults", &json!({"percent": 100, "seed": 3}));
    let failed: std::collections::BTreeSet<_> = (0..40).map(|_| call()).collect();
    let expected = ["400", "500", "cut"].map(str::to_owned);
    assert_eq!(failed, expected.into());
    stack.control("POST", "faults", &json!({"percent": 0}));
    assert_eq!(call(), "200");
}
