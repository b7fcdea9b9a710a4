//! Real event documents in, the gateway's answers out.

use std::time::Duration;

use async_trait::async_trait;
use lambda_runtime::Context;
use serde_json::{Value, json};
use slipway_app::{Role, Services, Settings};
use slipway_model::Timestamp;
use slipway_ports::{DueItem, Filter, Key, ListPage, Session, Store, StoreError, Stored};
use slipway_testkit::{
    NoCharts, NoClusters, NoOutside, START, SequentialIds, TokioClock,
    memory::{SimpleBlobs, SimpleSecrets, SimpleStore},
};

use super::*;
use crate::settings::IamCallers;

/// A store whose lists never come.
struct Stuck(SimpleStore);

#[async_trait]
impl Store for Stuck {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.0.get(key).await
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.0.query(partition, prefix, after, limit).await
    }

    async fn list(&self, _: &str, _: &[Filter], _: Option<&str>, _: usize) -> Result<ListPage, StoreError> {
        std::future::pending().await
    }

    async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<DueItem>, StoreError> {
        self.0.due(shard, until, limit).await
    }

    fn session(&self) -> Box<dyn Session> {
        self.0.session()
    }
}

fn callers() -> Callers {
    Callers {
        tenant_claim: "custom:tenant".to_owned(),
        role_claim: "custom:role".to_owned(),
        iam: None,
    }
}

fn gateway_of(callers: Callers, stuck: bool) -> Gateway {
    let clock = Arc::new(TokioClock::start());
    let memory = SimpleStore::new(clock.clone(), 5);
    let app = App::new(Services {
        store: if stuck {
            Arc::new(Stuck(memory.clone()))
        } else {
            Arc::new(memory.clone())
        },
        receiver: Arc::new(memory),
        secrets: Arc::new(SimpleSecrets::default()),
        blobs: Arc::new(SimpleBlobs::default()),
        charts: Arc::new(NoCharts),
        connector: Arc::new(NoClusters),
        outside: Arc::new(NoOutside),
        clock,
        ids: Arc::new(SequentialIds::new()),
        catalog: slipway_dag::bundled_catalog(),
        settings: Settings::new("test"),
    });
    let function = Function::new("api", Duration::from_secs(29));
    Gateway::new(function, app, &Resource::ALL, callers)
}

fn gateway() -> Gateway {
    gateway_of(callers(), false)
}

/// An event as API Gateway writes it, by a caller with a token.
fn event(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "ANY /api/v1/templates",
        "rawPath": path,
        "rawQueryString": "",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "accept": "*/*",
            "authorization": "Bearer eyJ…",
            "content-length": "0",
            "host": "abcdefghij.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "slipway",
            "x-amzn-trace-id": "Root=1-65f0c0de-0123456789abcdef01234567",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https"
        },
        "requestContext": {
            "accountId": "111122223333",
            "apiId": "abcdefghij",
            "authorizer": {"jwt": {
                "claims": {
                    "aud": "slipway", "exp": "1767229200", "iss": "https://issuer.example.com",
                    "sub": "alice", "custom:tenant": "acme", "custom:role": "admin"
                },
                "scopes": null
            }},
            "domainName": "abcdefghij.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abcdefghij",
            "http": {
                "method": method, "path": path, "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7", "userAgent": "slipway"
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "ANY /api/v1/templates",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_u64
        },
        "isBase64Encoded": false
    })
}

fn posted(path: &str, body: &str) -> Value {
    let mut event = event("POST", path);
    event["body"] = body.into();
    event["headers"]["content-type"] = "application/json".into();
    event["headers"]["content-length"] = body.len().to_string().into();
    event
}

fn with_claim(name: &str, value: Option<&str>) -> Value {
    let mut event = event("GET", "/api/v1/templates");
    let claims = event["requestContext"]["authorizer"]["jwt"]["claims"]
        .as_object_mut()
        .unwrap();
    match value {
        Some(value) => {
            claims.insert(name.to_owned(), value.into());
        }
        None => {
            claims.remove(name);
        }
    }
    event
}

struct Answer {
    status: i64,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn expect_problem(&self, status: i64, detail: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let told = self.json()["detail"].as_str().unwrap().to_owned();
        assert!(told.contains(detail), "{told}");
    }
}

async fn answer(gateway: &Gateway, event: Value) -> Answer {
    let payload = serde_json::from_value(event).unwrap();
    let mut context = Context::default();
    context.deadline = u64::try_from(START.as_millis()).unwrap() + 29_000;
    let Ok(answer) = gateway.answer(LambdaEvent::new(payload, context)).await;
    // As Lambda sees it.
    let sent = serde_json::to_value(&answer).unwrap();
    assert_eq!(sent["isBase64Encoded"], false);
    Answer {
        status: sent["statusCode"].as_i64().unwrap(),
        headers: answer.headers,
        body: sent["body"].as_str().unwrap_or_default().to_owned(),
    }
}

const TEMPLATE: &str = r#"{"name": "tiny", "display_name": "Tiny", "version": "1.0.0", "description": "d",
    "components": [{"name": "agent", "display_name": "A", "type": "helm", "required": true,
        "chart": {"ref": "charts/agent-runtime"}}]}"#;

#[tokio::test]
async fn what_is_posted_is_found_under_the_callers_tenant_only() {
    let gateway = gateway();
    let created = answer(&gateway, posted("/api/v1/templates", TEMPLATE)).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let address = created.headers["location"].to_str().unwrap();
    let found = answer(&gateway, event("GET", address)).await;
    assert_eq!(found.status, 200, "{address}: {}", found.body);
    assert_eq!(found.json()["name"], "tiny");
    let listed = |event| answer(&gateway, event);
    let own = listed(event("GET", "/api/v1/templates")).await.json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");
    let other = listed(with_claim("custom:tenant", Some("other"))).await.json();
    assert_eq!(other["items"], json!([]));
}

#[tokio::test]
async fn a_base64_body_is_what_it_stands_for() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let mut event = posted("/api/v1/templates", &STANDARD.encode(TEMPLATE));
    event["isBase64Encoded"] = true.into();
    event["headers"]["content-length"] = TEMPLATE.len().to_string().into();
    let gateway = gateway();
    assert_eq!(answer(&gateway, event.clone()).await.status, 201);
    event["body"] = "%%%".into();
    answer(&gateway, event)
        .await
        .expect_problem(400, "as it was sent");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20));
    let refused = answer(&gateway(), posted("/api/v1/templates", &large)).await;
    refused.expect_problem(413, "1 MiB");
}

#[tokio::test]
async fn an_answer_that_lambda_would_not_take_says_what_to_ask_for() {
    const MIB: usize = 1 << 20;
    for (body, status) in [
        (vec![b'x'; 5 * MIB], 200),
        // Binary, and so longer by a third.
        (vec![0xff; 5 * MIB], 500),
        // Escaped, and so twice as long.
        (vec![b'"'; 4 * MIB], 500),
        (vec![b'x'; 7 * MIB], 500),
    ] {
        let given = event::response(axum::response::Response::new(body.into())).await;
        assert_eq!(given.status_code, status);
        let text = serde_json::to_string(&given).unwrap();
        assert!(text.len() <= 6_291_556, "{} bytes", text.len());
        assert_eq!(text.contains("smaller limit"), status == 500);
    }
}

#[tokio::test]
async fn the_stage_is_no_part_of_the_path() {
    for (stage, path, status) in [
        ("dev", "/dev/api/v1/templates", 200),
        ("dev", "/api/v1/templates", 200),
        ("dev", "/development/api/v1/templates", 404),
        ("$default", "/dev/api/v1/templates", 404),
    ] {
        let mut event = event("GET", path);
        event["requestContext"]["stage"] = stage.into();
        let answer = answer(&gateway(), event).await;
        assert_eq!(answer.status, status, "{stage} {path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_path_of_any_shape_gets_an_answer() {
    let long = format!("/api/v1/templates/{}", "a".repeat(100_000));
    for path in [
        "",
        "no-slash",
        "//",
        "/api/v1/templates/a b",
        "/api/v1/templates/ä\u{1F600}",
        "/api/v1/templates/50%",
        "/api/v1/templates/%zz?x#y",
        "/api/v1/templates/\"<>\\^`{|}\u{7f}\n",
        &long,
    ] {
        let answer = answer(&gateway(), event("GET", path)).await;
        assert!(
            [400, 404, 422].contains(&answer.status),
            "{path:.60}: {} {}",
            answer.status,
            answer.body
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn queries_arrive_as_they_were_sent() {
    let mut event = event("GET", "/api/v1/templates");
    event["rawQueryString"] = "limit=0".into();
    answer(&gateway(), event).await.expect_problem(400, "limit");
}

#[tokio::test]
async fn whoever_is_not_known_is_not_let_in() {
    let gateway = gateway();
    let mut nobody = event("GET", "/api/v1/templates");
    nobody["requestContext"]
        .as_object_mut()
        .unwrap()
        .remove("authorizer");
    let refused = answer(&gateway, nobody).await;
    refused.expect_problem(401, "Bearer");
    assert!(refused.headers.contains_key("www-authenticate"));
    answer(&gateway, with_claim("sub", None))
        .await
        .expect_problem(401, "'sub'");
    for (claim, value, detail) in [
        ("custom:tenant", None, "no claim 'custom:tenant'"),
        ("custom:tenant", Some("No/Tenant"), "names no tenant"),
        ("custom:tenant", Some(" "), "no claim 'custom:tenant'"),
        ("custom:role", None, "viewer, deployer or admin"),
        ("custom:role", Some("superuser"), "viewer, deployer or admin"),
        ("custom:role", Some("Admin"), "viewer, deployer or admin"),
        ("custom:role", Some("[friends]"), "viewer, deployer or admin"),
    ] {
        answer(&gateway, with_claim(claim, value))
            .await
            .expect_problem(403, detail);
    }
}

#[tokio::test]
async fn a_role_may_be_one_of_several_groups() {
    let gateway = gateway();
    for (groups, may_publish) in [
        ("viewer", false),
        ("[viewer friends]", false),
        ("[friends admin viewer]", true),
        ("[\"deployer\", \"admin\"]", true),
    ] {
        let mut event = posted("/api/v1/templates/validate", TEMPLATE);
        event["requestContext"]["http"]["path"] = "/api/v1/templates".into();
        event["rawPath"] = "/api/v1/templates".into();
        event["requestContext"]["authorizer"]["jwt"]["claims"]["custom:role"] = groups.into();
        let status = answer(&gateway, event).await.status;
        assert_eq!(status != 403, may_publish, "{groups}: {status}");
    }
}

#[tokio::test]
async fn callers_with_aws_credentials_are_what_the_operator_says() {
    let mut signed = event("GET", "/api/v1/templates");
    signed["requestContext"]["authorizer"] = json!({"iam": {
        "accessKey": "AKIA…", "accountId": "111122223333", "callerId": "AROA…:session",
        "cognitoIdentity": null, "principalOrgId": "o-1", "userId": "AROA…:session",
        "userArn": "arn:aws:sts::111122223333:assumed-role/ci/session"
    }});
    answer(&gateway(), signed.clone())
        .await
        .expect_problem(403, "SLIPWAY_IAM_ROLE");
    let let_in = gateway_of(
        Callers {
            iam: Some(IamCallers {
                tenant: "ops".parse().unwrap(),
                role: Role::Viewer,
            }),
            ..callers()
        },
        false,
    );
    assert_eq!(answer(&let_in, signed.clone()).await.status, 200);
    signed["requestContext"]["http"]["method"] = "POST".into();
    signed["body"] = TEMPLATE.into();
    answer(&let_in, signed).await.expect_problem(403, "'viewer'");
}

#[tokio::test]
async fn what_is_open_needs_no_caller() {
    for path in ["/healthz", "/api/v1/openapi.json"] {
        let mut event = event("GET", path);
        event["requestContext"]
            .as_object_mut()
            .unwrap()
            .remove("authorizer");
        assert_eq!(answer(&gateway(), event).await.status, 200, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_outlast_the_function_is_answered_before_its_end() {
    let began = tokio::time::Instant::now();
    let refused = answer(&gateway_of(callers(), true), event("GET", "/api/v1/templates")).await;
    refused.expect_problem(503, "not finished in time");
    assert_eq!(began.elapsed(), Duration::from_millis(26_100));
}
