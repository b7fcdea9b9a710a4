//! What functions call: service, action, resource.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};

use crate::lambda::lock;
use crate::template::{ACCOUNT, REGION};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The name that signatures have for the service: `dynamodb`.
    pub(super) service: String,
    /// The action's name in the service's API: `BatchWriteItem`.
    pub(super) action: String,
    /// The ARNs of what it is about, object keys left out; `*` for what is about nothing in particular.
    pub(super) resources: BTreeSet<String>,
}

/// All calls so far.
#[derive(Debug)]
pub(crate) struct Calls {
    counts: Mutex<BTreeMap<Key, u64>>,
    /// Gets a line for each kind of call when it is made for the first time.
    file: Mutex<File>,
}

/// Function, service, action, resource.
type Key = (String, String, String, String);

impl Calls {
    /// Nothing called yet; `file` is written anew.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn into_file(file: &Path) -> Result<Self> {
        let opened = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            counts: Mutex::default(),
            file: Mutex::new(opened),
        })
    }

    pub(super) fn record(&self, function: &str, call: &Call) {
        for resource in &call.resources {
            let key = (
                function.to_owned(),
                call.service.clone(),
                call.action.clone(),
                resource.clone(),
            );
            let mut counts = lock(&self.counts);
            if let Some(count) = counts.get_mut(&key) {
                *count += 1;
                continue;
            }
            let line = line_of(&key, None);
            counts.insert(key, 1);
            drop(counts);
            // The same is answered by the control.
            let _ = writeln!(lock(&self.file), "{line}");
        }
    }

    /// One line of JSON per kind of call, with how often it was made.
    pub(crate) fn lines(&self) -> String {
        lock(&self.counts)
            .iter()
            .map(|(key, count)| format!("{}\n", line_of(key, Some(*count))))
            .collect()
    }

    /// Counts from nothing again.
    pub(crate) fn reset(&self) {
        lock(&self.counts).clear();
    }
}

fn line_of((function, service, action, resource): &Key, count: Option<u64>) -> Value {
    let mut line = json!({"function": function, "service": service, "action": action, "resource": resource});
    if let Some(count) = count {
        line["count"] = Value::from(count);
    }
    line
}

impl Call {
    /// Reads a request: the service from its signature, the action and what it is about from its headers, its path and
    /// its body.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let target = header("x-amz-target");
        let service = header("authorization")
            .and_then(scope_service)
            .or_else(|| target.and_then(target_service))
            .unwrap_or("unknown")
            .to_owned();
        let action = target
            .and_then(|target| target.rsplit('.').next())
            .map(str::to_owned);
        let (action, resources) = match (service.as_str(), action) {
            ("s3", _) => s3(method, uri),
            ("eks", _) => eks(method, uri),
            (_, Some(action)) => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                (action, resources(&service, &body))
            }
            // The query protocol.
            (_, None) => {
                let fields = form(body);
                let field = |name: &str| fields.get(name).cloned();
                let about = ["TopicArn", "TargetArn", "RoleArn"]
                    .iter()
                    .find_map(|name| field(name));
                (
                    field("Action").unwrap_or_else(|| format!("{method} {}", uri.path())),
                    about.into_iter().collect(),
                )
            }
        };
        let resources = if resources.is_empty() {
            BTreeSet::from(["*".to_owned()])
        } else {
            resources
        };
        Self {
            service,
            action,
            resources,
        }
    }
}

/// `…Credential=KEY/20260101/us-east-1/sqs/aws4_request, …`
fn scope_service(authorization: &str) -> Option<&str> {
    let scope = authorization.split_once("Credential=")?.1;
    scope.split([',', ' ']).next()?.split('/').nth(3)
}

fn target_service(target: &str) -> Option<&'static str> {
    match target.split_once('.')?.0 {
        "DynamoDB_20120810" => Some("dynamodb"),
        "AmazonSQS" => Some("sqs"),
        "TrentService" => Some("kms"),
        "secretsmanager" => Some("secretsmanager"),
        _ => None,
    }
}

fn arn(service: &str, rest: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}")
}

/// What a call of a JSON protocol is about.
fn resources(service: &str, body: &Value) -> BTreeSet<String> {
    let text = |field: &str| body[field].as_str();
    match service {
        "dynamodb" => tables(body)
            .into_iter()
            .map(|table| match text("IndexName") {
                Some(index) => arn(service, &format!("table/{table}/index/{index}")),
                None => arn(service, &format!("table/{table}")),
            })
            .collect(),
        "sqs" => text("QueueUrl")
            .and_then(|url| url.rsplit('/').next())
            .or(text("QueueName"))
            .map(|queue| arn(service, queue))
            .into_iter()
            .collect(),
        "secretsmanager" => text("SecretId")
            .or(text("Name"))
            .map(|name| {
                // The names of secrets differ; the stack's folder is what policies speak of.
                let name = name.rsplit(":secret:").next().unwrap_or(name);
                let folder = name
                    .split_inclusive('/')
                    .next()
                    .filter(|folder| folder.ends_with('/'));
                arn(service, &format!("secret:{}*", folder.unwrap_or_default()))
            })
            .into_iter()
            .collect(),
        "kms" => text("KeyId").map(str::to_owned).into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

/// The tables that a call of DynamoDB names, wherever it does.
fn tables(body: &Value) -> BTreeSet<&str> {
    let mut found: BTreeSet<&str> = body["TableName"].as_str().into_iter().collect();
    found.extend(
        body["RequestItems"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(table, _)| table.as_str()),
    );
    let items = body["TransactItems"].as_array().into_iter().flatten();
    let operations = items.filter_map(Value::as_object).flat_map(|item| item.values());
    found.extend(operations.filter_map(|operation| operation["TableName"].as_str()));
    found
}

/// The action of a call of S3, and the bucket or the objects in it.
fn s3(method: &Method, uri: &Uri) -> (String, BTreeSet<String>) {
    let path = uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let is_object = !key.is_empty();
    let action = match (method.as_str(), is_object) {
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("PUT", true) if has("partNumber") => "UploadPart",
        ("PUT", true) => "PutObject",
        ("POST", true) if has("uploads") => "CreateMultipartUpload",
        ("POST", true) => "CompleteMultipartUpload",
        ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", true) => "DeleteObject",
        ("GET", false) if has("list-type") => "ListObjectsV2",
        ("GET", false) => "ListObjects",
        ("HEAD", false) => "HeadBucket",
        ("POST", false) if has("delete") => "DeleteObjects",
        (other, _) => return (format!("{other} {path}?{query}"), BTreeSet::new()),
    };
    let resource = if is_object {
        format!("arn:aws:s3:::{bucket}/*")
    } else {
        format!("arn:aws:s3:::{bucket}")
    };
    (action.to_owned(), BTreeSet::from([resource]))
}

fn eks(method: &Method, uri: &Uri) -> (String, BTreeSet<String>) {
    match (method.as_str(), uri.path().strip_prefix("/clusters/")) {
        ("GET", Some(cluster)) if !cluster.contains('/') => (
            "DescribeCluster".to_owned(),
            BTreeSet::from([arn("eks", &format!("cluster/{cluster}"))]),
        ),
        _ => (format!("{method} {}", uri.path()), BTreeSet::new()),
    }
}

/// The fields of a form; only what has no escape in its name, which is true of all that are read here.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%2F", "/")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(service: &str, method: &str, path: &str, target: Option<&str>, body: &str) -> Call {
        let mut headers = HeaderMap::new();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, SignedHeaders=a"
        );
        headers.insert("authorization", authorization.parse().unwrap());
        if let Some(target) = target {
            headers.insert("x-amz-target", target.parse().unwrap());
        }
        Call::of(
            &method.parse().unwrap(),
            &path.parse().unwrap(),
            &headers,
            body.as_bytes(),
        )
    }

    #[test]
    fn calls_are_told_by_service_action_and_resource() {
        let dynamodb = "arn:aws:dynamodb:us-east-1:000000000000:table/t";
        let sqs = "arn:aws:sqs:us-east-1:000000000000:q";
        for (service, method, path, target, body, action, resource) in [
            (
                "dynamodb",
                "POST",
                "/",
                Some("DynamoDB_20120810.Query"),
                r#"{"TableName":"t","IndexName":"due"}"#,
                "Query",
                format!("{dynamodb}/index/due"),
            ),
            (
                "dynamodb",
                "POST",
                "/",
                Some("DynamoDB_20120810.BatchWriteItem"),
                r#"{"RequestItems":{"t":[]}}"#,
                "BatchWriteItem",
                dynamodb.to_owned(),
            ),
            (
                "dynamodb",
                "POST",
                "/",
                Some("DynamoDB_20120810.TransactWriteItems"),
                r#"{"TransactItems":[{"Put":{"TableName":"t"}}]}"#,
                "TransactWriteItems",
                dynamodb.to_owned(),
            ),
            (
                "sqs",
                "POST",
                "/",
                Some("AmazonSQS.SendMessageBatch"),
                r#"{"QueueUrl":"http://127.0.0.1:1/000000000000/q"}"#,
                "SendMessageBatch",
                sqs.to_owned(),
            ),
            (
                "s3",
                "PUT",
                "/b/a/key?x-id=PutObject",
                None,
                "",
                "PutObject",
                "arn:aws:s3:::b/*".to_owned(),
            ),
            (
                "s3",
                "GET",
                "/b?list-type=2&prefix=a",
                None,
                "",
                "ListObjectsV2",
                "arn:aws:s3:::b".to_owned(),
            ),
            (
                "secretsmanager",
                "POST",
                "/",
                Some("secretsmanager.GetSecretValue"),
                r#"{"SecretId":"dev/acme/x"}"#,
                "GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:000000000000:secret:dev/*".to_owned(),
            ),
            (
                "sns",
                "POST",
                "/",
                None,
                "Action=Publish&TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A1%3At",
                "Publish",
                "arn:aws:sns:us-east-1:1:t".to_owned(),
            ),
            (
                "sts",
                "POST",
                "/",
                None,
                "Action=GetCallerIdentity&Version=2011-06-15",
                "GetCallerIdentity",
                "*".to_owned(),
            ),
            (
                "eks",
                "GET",
                "/clusters/prod",
                None,
                "",
                "DescribeCluster",
                "arn:aws:eks:us-east-1:000000000000:cluster/prod".to_owned(),
            ),
        ] {
            let found = call(service, method, path, target, body);
            assert_eq!(found.service, service);
            assert_eq!(found.action, action);
            assert_eq!(found.resources, BTreeSet::from([resource]));
        }
    }

    #[test]
    fn each_kind_of_call_is_written_once_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("calls.jsonl");
        let calls = Calls::into_file(&file).unwrap();
        let sent = call(
            "sqs",
            "POST",
            "/",
            Some("AmazonSQS.SendMessage"),
            r#"{"QueueUrl":"http://h/q"}"#,
        );
        calls.record("plan-dag", &sent);
        calls.record("plan-dag", &sent);
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
        let line: Value = serde_json::from_str(calls.lines().trim()).unwrap();
        assert_eq!(
            (&line["function"], &line["count"]),
            (&json!("plan-dag"), &json!(2))
        );
    }
}
