//! Requests of any shape get a problem document below 500.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::{Value, json};
use slipway_api::{Api, BearerToken, Resource, Streams};
use support::{app, call, deployment, router, send};

/// Texts that have broken somebody's parser, percent-encoded as they stand in an address.
const HOSTILE: &[&str] = &[
    "%00",
    "%FF%FE",
    "%C3%28",
    "%ED%A0%80",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    ".",
    "~",
    "%0d%0aX-Injected:%201",
    "%22%27%3B--",
    "%7B%7B%207*7%20%7D%7D",
    "%24%7Bjndi:ldap%7D",
    "a%2Fb",
    "a%7Cb",
    "%F0%9F%92%A5",
    "00000000-0000-0000-0000-000000000000",
    "8F14E45F-CEEA-467F-A0E6-2F6F0F1F4A1B",
    "8f14e45fceea467fa0e62f6f0f1f4a1b",
    "-1",
    "9999999999999999999999999999",
    "null",
    "true",
    "%",
    "%zz",
    "%2",
    "local",
    "%D8%A7",
];

fn long() -> String {
    "a".repeat(5000)
}

/// Every path with `{}` for what is hostile, and the methods that it has.
const PATHS: &[(&str, &[&str])] = &[
    ("/templates/{}", &["GET", "DELETE"]),
    ("/templates/{}/versions/1.0.0", &["GET", "DELETE"]),
    ("/templates/tiny/versions/{}", &["GET", "DELETE"]),
    ("/deployments/{}", &["GET", "DELETE"]),
    ("/deployments/{}/start", &["POST"]),
    ("/deployments/{}/stop", &["POST"]),
    ("/deployments/{}/sync", &["POST"]),
    ("/deployments/{}/retry", &["POST"]),
    ("/deployments/{}/upgrade", &["POST"]),
    ("/deployments/{}/rollback", &["POST"]),
    ("/deployments/{}/plan", &["GET", "POST"]),
    ("/deployments/{}/progress", &["GET"]),
    ("/deployments/{}/events", &["GET"]),
    ("/executions/{}", &["GET"]),
    ("/executions/{}/progress", &["GET"]),
    ("/executions/{}/cancel", &["POST"]),
    ("/executions/{}/steps/a/approve", &["POST"]),
    ("/jobs/{}", &["GET"]),
    ("/jobs/{}/execute", &["POST"]),
    ("/jobs/{}/cancel", &["POST"]),
    ("/jobs/{}/logs", &["GET"]),
    ("/clusters/{}", &["GET", "DELETE"]),
    ("/clusters/{}/health", &["GET"]),
    ("/clusters/{}/credentials", &["PUT"]),
];

#[tokio::test]
async fn names_and_ids_of_any_shape_are_answered() {
    let router = router();
    deployment(&router, "mine").await;
    let long = long();
    for (path, methods) in PATHS {
        for hostile in HOSTILE.iter().copied().chain([long.as_str()]) {
            for method in *methods {
                let answer = call(&router, method, &path.replace("{}", hostile), None).await;
                let status = answer.status.as_u16();
                assert!(
                    [400, 404, 422].contains(&status),
                    "{method} {path} {hostile}: {answer:?}"
                );
                answer.expect_problem(status);
            }
        }
    }
}

#[tokio::test]
async fn queries_of_any_shape_are_answered() {
    let router = router();
    let id = deployment(&router, "mine").await;
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    let execution = call(&router, "POST", "/executions", Some(&dag)).await.json()["id"].clone();
    let progress = format!("/executions/{}/progress", execution.as_str().unwrap());
    let events = format!("/deployments/{id}/events");
    let long = long();
    let lists = [
        "/templates",
        "/deployments",
        "/executions",
        "/jobs",
        "/clusters",
        &progress,
        &events,
    ];
    for list in lists {
        for key in ["cursor", "limit", "status", "template", "cluster", "detail"] {
            for hostile in HOSTILE.iter().copied().chain(["", long.as_str()]) {
                let answer = call(&router, "GET", &format!("{list}?{key}={hostile}"), None).await;
                match answer.status.as_u16() {
                    200 => assert!(answer.json().is_object()),
                    400 => drop(answer.expect_problem(400)),
                    _ => panic!("{list}?{key}={hostile}: {answer:?}"),
                }
            }
        }
        call(&router, "GET", &format!("{list}?limit=1&limit=2"), None).await;
    }
    let refused = call(&router, "GET", "/deployments?status=DONE", None).await;
    assert!(refused.expect_problem(400).detail.contains("ROLLING_BACK"));
    call(&router, "GET", "/deployments?cursor=AAAA!", None)
        .await
        .expect_problem(400);
    call(&router, "GET", "/deployments?limit=201", None)
        .await
        .expect_problem(400);
}

const CREATIONS: &[&str] = &[
    "/templates",
    "/templates/validate",
    "/deployments",
    "/executions",
    "/jobs",
    "/clusters",
    "/deployments/mine/upgrade",
    "/deployments/mine/rollback",
];

#[tokio::test]
async fn bodies_of_any_shape_are_answered() {
    let router = router();
    deployment(&router, "mine").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_map = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "true",
        "0",
        "\"text\"",
        "[]",
        "{",
        "}",
        "{]",
        "{\"a\":}",
        "nul",
        "{\"name\": 1e999}",
        "{\"name\": \"\\ud800\"}",
        "{\"name\": \"a\", \"name\": \"b\"}",
        "[1,2,3",
        "{\"name\":{\"name\":{}}}",
        "{\"steps\":[null]}",
        "{\"name\":\"x\",\"steps\":[{\"id\":\"a\",\"action\":\"nope\"}]}",
        "{\"components\":{\"a\":1}}",
        "{\"template\":\"tiny\",\"cluster\":\"\\u0000\"}",
        "&a [*a]",
        "{\"name\":\"x\",\"type\":\"kubeconfig\",\"kubeconfig\":\"\\u0000: [\"}",
        &deep,
        &deep_map,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        vec![0xff, 0xfe, 0x00],
        vec![0; 100],
        b"{\"name\": \"\xc3\x28\"}".to_vec(),
    ])
    .collect();
    for path in CREATIONS {
        for body in &bodies {
            for media in ["application/json", "application/yaml", "text/plain", "\u{fc}", ""] {
                let request = Request::post(format!("/api/v1{path}"))
                    .header("x-role", "admin")
                    .header("content-type", media.as_bytes())
                    .body(Body::from(body.clone()))
                    .unwrap();
                let answer = send(&router, request).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
                match answer.status.as_u16() {
                    status @ (400 | 409 | 422) => drop(answer.expect_problem(status)),
                    // An upgrade or rollback that says nothing is one.
                    202 if path.starts_with("/deployments/mine/") => {}
                    _ => panic!("{path} {media} {shown}: {answer:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused_unread() {
    let router = router();
    for (path, limit) in [
        ("/templates", 1 << 20),
        ("/deployments", 1 << 20),
        ("/jobs", 1 << 20),
        ("/executions", 4 << 20),
    ] {
        let announced = Request::post(format!("/api/v1{path}"))
            .header("x-role", "admin")
            .header("content-length", (limit + 1).to_string())
            .body(Body::empty())
            .unwrap();
        send(&router, announced).await.expect_problem(413);
        let sent = Request::post(format!("/api/v1{path}"))
            .header("x-role", "admin")
            .body(Body::from(vec![b' '; limit + 1]))
            .unwrap();
        send(&router, sent).await.expect_problem(413);
    }
    let mut large: Value = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    large["description"] = json!("d".repeat(2 << 20));
    let answer = call(&router, "POST", "/executions", Some(&large)).await;
    assert!(
        [201, 413, 422].contains(&answer.status.as_u16()),
        "{}",
        answer.status
    );
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let router = router();
    for path in [
        "/api/v1/nothing",
        "/api/v2/templates",
        "/api/v1/",
        "//",
        "/api/v1/templates/",
    ] {
        let request = Request::get(path)
            .header("x-role", "admin")
            .body(Body::empty())
            .unwrap();
        send(&router, request).await.expect_problem(404);
    }
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        let request = Request::builder()
            .method(&method)
            .uri("/api/v1/templates")
            .header("x-role", "admin")
            .body(Body::empty())
            .unwrap();
        let answer = send(&router, request).await;
        answer.expect_problem(405);
        assert!(answer.header("allow").contains("POST"), "{method}: {answer:?}");
    }
}

#[tokio::test]
async fn only_the_token_opens_the_api() {
    let api = Api::new(
        app(),
        Arc::new(BearerToken::new("secret-token")),
        Streams::EndWithTheLastEvent,
    );
    let router = slipway_api::router(&api, &Resource::ALL);
    let with = async |header: Option<&[u8]>| {
        let mut request = Request::get("/api/v1/templates");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        send(&router, request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(with(Some(b"Bearer secret-token")).await.status, 200);
    assert_eq!(with(Some(b"bearer secret-token")).await.status, 200);
    let wrong: [Option<&[u8]>; 7] = [
        None,
        Some(b""),
        Some(b"Bearer"),
        Some(b"Bearer secret-toke"),
        Some(b"Bearer secret-token2"),
        Some(b"Basic secret-token"),
        Some(b"Bearer \xff\xfe"),
    ];
    for header in wrong {
        let refused = with(header).await;
        refused.expect_problem(401);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
        assert!(!refused.text.contains("secret-toke"), "{refused:?}");
    }
}

/// Breaks on every call.
struct Broken;

impl slipway_api::Authenticator for Broken {
    fn authenticate(
        &self,
        _: &axum::http::request::Parts,
    ) -> Result<slipway_app::Caller, slipway_model::Problem> {
        panic!("broken on purpose")
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_that_does_not_tell_what_broke() {
    let api = Api::new(app(), Arc::new(Broken), Streams::EndWithTheLastEvent);
    let router = slipway_api::router(&api, &Resource::ALL);
    let answer = send(
        &router,
        Request::get("/api/v1/templates").body(Body::empty()).unwrap(),
    )
    .await;
    answer.expect_problem(500);
    assert!(!answer.text.contains("on purpose"));
}

#[tokio::test]
async fn a_page_that_points_its_own_name_at_this_machine_is_refused() {
    let router = router().layer(axum::middleware::from_fn(slipway_api::require_loopback_host));
    let with = async |host: &str| {
        let request = Request::get("/healthz")
            .header("host", host)
            .body(Body::empty())
            .unwrap();
        send(&router, request).await
    };
    assert_eq!(with("127.0.0.1:7117").await.status, 200);
    with("evil.example:7117").await.expect_problem(403);
    with("").await.expect_problem(403);
}
